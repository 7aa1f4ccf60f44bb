"""Download what is at an address: only from where it may come from, only so much, only so long.

Used for addresses that people type and for those under which services leave their results. Neither may reach into the
network that this program runs in, nor fill its memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import httpcore
import httpx

from rmbg.errors import InputError, ServiceError
from rmbg.network import DeadlineError, Trip, client, is_this_machine

#: Redirects to follow at most; each is checked like the first address.
REDIRECTS = 5

HEADERS = {"User-Agent": "rmbg-studio", "Accept": "image/*, */*;q=0.5", "Accept-Encoding": "identity"}

_STATUS = {
    401: "wants a login",
    403: "does not give it out",
    404: "has nothing there",
    410: "does not have it any more",
    429: "has too many requests at the moment; try again later",
}


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
    """The bytes at `url`.

    Parameters
    ----------
    url : str
        An https address.
    max_bytes : int
        More than that is refused while it arrives.
    hosts : iterable of str, optional
        Where the address and every redirect may lead: ``host``, ``host:port``, ``.domain`` for all hosts below a domain,
        each with a ``/path`` that the address has to begin with, if need be. None: any host with a public address.
    loopback_hosts : iterable of str
        Names that may mean this machine, over plain http too.
    deadline : float
        Seconds for everything together.
    plain_http : bool
        Whether http is fine everywhere, as for addresses that people type.
    cancelled : callable () -> bool
        Whether the user has stopped it.

    Raises
    ------
    InputError
        The address is malformed, not allowed, or leads into a private network, or there is too much behind it.
    ServiceError
        The other side could not be reached, refused, failed or broke off.
    CancelledError
        The user has stopped it.
    """
    allowed = None if hosts is None else tuple(hosts)
    here = tuple(loopback_hosts)
    trip = Trip(deadline, cancelled)
    target = parse(url)
    with client(trip, headers=HEADERS) as session:
        for _ in range(REDIRECTS + 1):
            trip.loopback = matches(target, here)
            check(target, allowed, trip.loopback, plain_http)
            answer = _get(session, target, max_bytes)
            if isinstance(answer, bytes):
                return answer
            target = answer
    raise ServiceError(f"{target.host} sends from one address to the next, more than {REDIRECTS} times.")


def parse(url: str) -> httpx.URL:
    """A web address, or InputError."""
    try:
        parsed = httpx.URL(url.strip())
    except (httpx.InvalidURL, ValueError):
        parsed = httpx.URL()
    if parsed.scheme not in ("http", "https") or not parsed.host or (parsed.port or 1) not in range(1, 65536):
        raise InputError("That is no web address; it must look like https://example.com/photo.jpg.")
    if parsed.userinfo:
        raise InputError("The address holds a user name or password; give one without.")
    return parsed


def matches(url: httpx.URL, hosts: Iterable[str]) -> bool:
    """Whether one of `hosts` (see `fetch`) takes in `url`."""
    # Steps upwards would lead out of a path that is compared by its beginning.
    path = "/" if ".." in url.path.split("/") else url.path
    for entry in hosts:
        place, slash, prefix = entry.partition("/")
        names = (url.host, f"{url.host}:{url.port}", f"[{url.host}]")
        below = place.startswith(".") and url.host.endswith(place)
        if (place in names or below) and path.startswith(slash + prefix):
            return True
    return False


def check(url: httpx.URL, hosts: tuple[str, ...] | None, loopback: bool, plain_http: bool = False) -> None:
    """InputError unless `url` may be connected to; `loopback` says whether it may be this machine."""
    if hosts is not None and not matches(url, hosts):
        raise InputError(f"{url.host} is not one of the hosts that this may be fetched from.")
    if url.scheme != "https" and not (plain_http or loopback):
        raise InputError(f"The address at {url.host} is not secure; only https is fetched.")
    if loopback and url.scheme == "http" and not plain_http and not is_this_machine(url.host):
        raise InputError(f"The address at {url.host} is not secure; plain http is for this machine only.")


def _get(session: httpx.Client, url: httpx.URL, max_bytes: int) -> bytes | httpx.URL:
    """The body, or the address that it is said to be at instead."""
    try:
        with session.stream("GET", url) as response:
            if response.has_redirect_location:
                return parse(str(url.join(response.headers["Location"])))
            if response.status_code != 200:
                reason = _STATUS.get(response.status_code, "failed" if response.status_code >= 500 else "refuses to send it")
                raise ServiceError(f"{url.host} {reason} (HTTP {response.status_code}).")
            return _read(response, url.host, max_bytes)
    except DeadlineError as error:
        raise ServiceError(f"{url.host} is too slow: {error}") from None
    except (httpcore.TimeoutException, httpx.TimeoutException):
        raise ServiceError(f"{url.host} stopped answering.") from None
    except (httpcore.NetworkError, httpcore.ProtocolError, httpx.TransportError):
        raise ServiceError(f"{url.host} broke off before everything had arrived.") from None
    except (httpx.InvalidURL, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise ServiceError(f"{url.host} sends on to something that is no web address.") from None


def _read(response: httpx.Response, host: str, max_bytes: int) -> bytes:
    # Compressed bytes may unfold to any size; nobody asked for them, and pictures do not get smaller by it.
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ServiceError(f"{host} sends compressed data that was not asked for.")
    length = response.headers.get("Content-Length", "")
    body = bytearray()
    too_much = length.isdigit() and int(length) > max_bytes
    if not too_much:
        for chunk in response.iter_raw():
            body += chunk
            if too_much := len(body) > max_bytes:
                break
    if too_much:
        raise InputError(f"What is at {host} is larger than the limit of {max_bytes / 1e6:g} MB.")
    return bytes(body)
