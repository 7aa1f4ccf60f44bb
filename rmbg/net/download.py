"""Downloads from URLs, with limits on hosts, size and time.

Used for URLs that users enter, for URLs of results at services, and for weights. Restricted to public addresses, to prevent
server-side request forgery (SSRF).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rmbg.errors import InputError, ServiceError
from rmbg.net.exchange import DeadlineError, Exchange, is_this_machine
from rmbg.runtime.messages import Message, megabytes

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

#: Maximum number of redirects. Each target is checked like the first URL.
MAX_REDIRECTS = 5

HEADERS = {"User-Agent": "rmbg-studio", "Accept": "image/*, */*;q=0.5", "Accept-Encoding": "identity"}

_STATUS = {
    401: "{host} requires a login (HTTP {status}).",
    403: "{host} denied access to the file (HTTP {status}).",
    404: "{host} has no file at this address (HTTP {status}).",
    410: "{host} has removed the file (HTTP {status}).",
    429: "{host} received too many requests; try again later (HTTP {status}).",
}
_FAILED, _REFUSED = "{host} failed (HTTP {status}).", "{host} refused the request (HTTP {status})."


class TemporaryError(ServiceError):
    """The server failed or the connection was lost; a retry may succeed."""


def fetch(
    url: str,
    *,
    max_bytes: int,
    loopback_hosts: Iterable[str] = (),
    deadline: float = 20.0,
    plain_http: bool = False,
    cancelled: Callable[[], bool] = lambda: False,
) -> bytes:
    """Download the content of `url`.

    Parameters
    ----------
    url : str
        An https URL.
    max_bytes : int
        Size limit; a larger download is aborted.
    loopback_hosts : iterable of str
        Hosts that may be on this machine and may use plain http, in the format of `matches`. All others have to have a public
        address.
    deadline : float
        Time limit of the download, including redirects, in seconds.
    plain_http : bool
        Allow http for all hosts.
    cancelled : callable () -> bool
        Returns True once the download is cancelled.

    Raises
    ------
    InputError
        If the URL is malformed, not allowed or in a private network, or the content exceeds `max_bytes`.
    ServiceError
        If the server cannot be reached or fails, the connection is lost, or the deadline has passed.
    CancelledError
        If the download is cancelled.
    """
    exchange = Exchange(deadline, cancelled)

    def read(response: httpx.Response) -> bytes:
        return b"".join(_chunks(response, max_bytes))

    return _follow(url, read, exchange, loopback_hosts, plain_http)


def fetch_file(
    url: str,
    path: Path,
    *,
    max_bytes: int,
    loopback_hosts: Iterable[str] = (),
    deadline: float,
    progress: Callable[[float | None], None],
) -> None:
    """Download the content of `url` to a file; a file that an interrupted download has left is continued.

    Parameters
    ----------
    url, max_bytes, loopback_hosts, deadline
        As for `fetch`.
    path : Path
        Its content after an error is the first part of the file.
    progress : callable (fraction or None)
        May raise to cancel the download.

    Raises
    ------
    InputError, ServiceError
        As `fetch`.
    OSError
        If the file cannot be written.
    """

    def read(response: httpx.Response) -> bool:
        """Append the body to the file; False if it is not the remaining part."""
        start = path.stat().st_size if path.exists() else 0
        if response.status_code == 200:
            start = 0
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            path.unlink(missing_ok=True)
            return False
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdigit() else None
        with open(path, "ab" if start else "wb") as file:
            for chunk in _chunks(response, max_bytes - start):
                file.write(chunk)
                start += len(chunk)
                progress(min(1.0, start / total) if total else None)
        return True

    complete = False
    while not complete:
        start = path.stat().st_size if path.exists() else 0
        headers = {"Range": f"bytes={start}-"} if start else {}
        statuses = (200, 206, 416) if start else (200,)
        complete = _follow(url, read, Exchange(deadline), loopback_hosts, headers=headers, statuses=statuses)


def _follow(
    url: str,
    read: Callable[[httpx.Response], T],
    exchange: Exchange,
    loopback_hosts: Iterable[str],
    plain_http: bool = False,
    headers: dict[str, str] | None = None,
    statuses: tuple[int, ...] = (200,),
) -> T:
    """Follow the redirects of `url`, and return what `read` makes of the response."""
    from rmbg.net.transport import open_client  # deferred, as httpx takes a tenth of a second to import

    local = tuple(loopback_hosts)
    target = parse(url)
    found: list[T] = []
    with open_client(exchange, headers={**HEADERS, **(headers or {})}) as client:
        for _ in range(MAX_REDIRECTS + 1):
            exchange.loopback = matches(target, local)
            check(target, exchange.loopback, plain_http)
            redirect = _get(client, target, statuses, lambda response: found.append(read(response)))
            if redirect is None:
                return found[0]
            target = redirect
    raise ServiceError(f"{target.host} redirected more than {MAX_REDIRECTS} times.")


def parse(url: str) -> httpx.URL:
    """Parse an http or https URL; InputError if it is malformed or contains credentials."""
    import httpx

    try:
        parsed = httpx.URL(url.strip())
        # httpx decodes host names on access, which raises for some, such as "xn--".
        valid = parsed.scheme in ("http", "https") and parsed.host and (parsed.port or 1) in range(1, 65536)
    except (httpx.InvalidURL, ValueError):
        valid = False
    if not valid:
        raise InputError("This is not a valid web address. Enter one such as https://example.com/photo.jpg.")
    if parsed.userinfo:
        raise InputError("The address contains a user name or password. Remove it and try again.")
    return parsed


def matches(url: httpx.URL, hosts: Iterable[str]) -> bool:
    """True if `url` matches an entry of `hosts`.

    An entry is ``host`` on the default port of the scheme, ``host:port``, or ``.domain`` for all subdomains, with an optional
    ``/path`` prefix.
    """
    # A path with ".." could leave the allowed prefix.
    path = "/" if ".." in url.path.split("/") else url.path
    host = f"[{url.host}]" if ":" in url.host else url.host
    default_port = {"http": 80, "https": 443}.get(url.scheme)
    for entry in hosts:
        authority, slash, prefix = entry.partition("/")
        name, _, port = authority.rpartition(":")
        if not port.isdigit():
            name, port = authority, str(default_port)
        host_matches = host == name or (name.startswith(".") and host.endswith(name))
        if host_matches and port == str(url.port or default_port) and path.startswith(slash + prefix):
            return True
    return False


def check(url: httpx.URL, loopback: bool, plain_http: bool = False) -> None:
    """Raise InputError if `url` is not encrypted; `loopback` is True if it may be on this machine."""
    if url.scheme != "https" and not (plain_http or loopback):
        raise InputError(Message("The address at {host} is not encrypted. Use an https address.", host=url.host))
    if loopback and url.scheme == "http" and not plain_http and not is_this_machine(url.host):
        raise InputError(
            Message(
                "The address at {host} is not encrypted. Use https; plain http is allowed for this machine only.", host=url.host
            )
        )


def _get(
    client: httpx.Client, url: httpx.URL, statuses: tuple[int, ...], read: Callable[[httpx.Response], None]
) -> httpx.URL | None:
    """Call `read` with the response, or return the target of a redirect."""
    import httpcore
    import httpx

    try:
        with client.stream("GET", url) as response:
            if response.has_redirect_location:
                return parse(str(url.join(response.headers["Location"])))
            if response.status_code not in statuses:
                reason = _STATUS.get(response.status_code, _FAILED if response.status_code >= 500 else _REFUSED)
                kind = TemporaryError if response.status_code == 429 or response.status_code >= 500 else ServiceError
                raise kind(Message(reason, host=url.host, status=response.status_code))
            read(response)
            return None
    except DeadlineError as error:
        raise ServiceError(Message("{host} is too slow: {error}", host=url.host, error=str(error))) from None
    except (httpcore.TimeoutException, httpx.TimeoutException):
        raise TemporaryError(Message("{service} stopped responding.", service=url.host)) from None
    except (httpcore.NetworkError, httpcore.ProtocolError, httpx.TransportError):
        raise TemporaryError(Message("The connection to {host} was lost during the download.", host=url.host)) from None
    except (httpx.InvalidURL, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise ServiceError(f"{url.host} redirected to an invalid address.") from None


def _chunks(response: httpx.Response, max_bytes: int) -> Iterator[bytes]:
    """The body in parts, of at most `max_bytes` together."""
    host = response.url.host
    # A compressed body could exceed any limit after decompression (zip bomb), and was not requested.
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ServiceError(f"{host} sent a compressed response, which is not accepted.")
    length = response.headers.get("Content-Length", "")
    left = max_bytes
    too_large = length.isdigit() and int(length) > left
    if not too_large:
        for chunk in response.iter_raw():
            left -= len(chunk)
            if too_large := left < 0:
                break
            yield chunk
    if too_large:
        raise InputError(
            Message("The file at {host} is larger than the limit of {limit}.", host=host, limit=megabytes(max_bytes))
        )
