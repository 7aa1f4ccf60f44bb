"""Downloads from untrusted URLs, with limits on hosts, size and time.

Used for URLs that users enter and for URLs of results at services. Restricted to public addresses, to prevent server-side
request forgery (SSRF).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from rmbg.errors import InputError, ServiceError
from rmbg.net.exchange import DeadlineError, Exchange, is_this_machine
from rmbg.runtime.messages import Message, megabytes

if TYPE_CHECKING:
    import httpx

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
    hosts: Iterable[str] | None = None,
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
    hosts : iterable of str, optional
        Allowed hosts of the URL and of each redirect: ``host`` on the default port of the scheme, ``host:port``, or
        ``.domain`` for all subdomains, each with an optional ``/path`` prefix. None allows any host with a public address.
    loopback_hosts : iterable of str
        Hosts, in the same format, that may be on this machine and may use plain http.
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
    from rmbg.net.transport import open_client  # deferred, as httpx takes a tenth of a second to import

    allowed = None if hosts is None else tuple(hosts)
    local = tuple(loopback_hosts)
    exchange = Exchange(deadline, cancelled)
    target = parse(url)
    with open_client(exchange, headers=HEADERS) as client:
        for _ in range(MAX_REDIRECTS + 1):
            exchange.loopback = matches(target, local)
            check(target, allowed, exchange.loopback, plain_http)
            content = _get(client, target, max_bytes)
            if isinstance(content, bytes):
                return content
            target = content
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
    """True if `url` matches an entry of `hosts`, in the format of `fetch`."""
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


def check(url: httpx.URL, hosts: tuple[str, ...] | None, loopback: bool, plain_http: bool = False) -> None:
    """Raise InputError if `url` is not allowed; `loopback` is True if it may be on this machine."""
    if hosts is not None and not matches(url, hosts):
        raise InputError(Message("{host} is not one of the hosts that are allowed here.", host=url.host))
    if url.scheme != "https" and not (plain_http or loopback):
        raise InputError(Message("The address at {host} is not encrypted. Use an https address.", host=url.host))
    if loopback and url.scheme == "http" and not plain_http and not is_this_machine(url.host):
        raise InputError(
            Message(
                "The address at {host} is not encrypted. Use https; plain http is allowed for this machine only.", host=url.host
            )
        )


def _get(client: httpx.Client, url: httpx.URL, max_bytes: int) -> bytes | httpx.URL:
    """Return the body of the response, or the target of a redirect."""
    import httpcore
    import httpx

    try:
        with client.stream("GET", url) as response:
            if response.has_redirect_location:
                return parse(str(url.join(response.headers["Location"])))
            if response.status_code != 200:
                reason = _STATUS.get(response.status_code, _FAILED if response.status_code >= 500 else _REFUSED)
                kind = TemporaryError if response.status_code == 429 or response.status_code >= 500 else ServiceError
                raise kind(Message(reason, host=url.host, status=response.status_code))
            return _read(response, url.host, max_bytes)
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


def _read(response: httpx.Response, host: str, max_bytes: int) -> bytes:
    # A compressed body could exceed any limit after decompression (zip bomb), and was not requested.
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ServiceError(f"{host} sent a compressed response, which is not accepted.")
    length = response.headers.get("Content-Length", "")
    body = bytearray()
    too_large = length.isdigit() and int(length) > max_bytes
    if not too_large:
        for chunk in response.iter_raw():
            body += chunk
            if too_large := len(body) > max_bytes:
                break
    if too_large:
        raise InputError(
            Message("The file at {host} is larger than the limit of {limit}.", host=host, limit=megabytes(max_bytes))
        )
    return bytes(body)
