"""Connections to the outside: guarded, with a deadline, and stoppable.

httpx speaks HTTP; this is what lies below it. The name is resolved here, the address is checked here, and the connection
goes to the very address that was checked, so that a name cannot mean one machine when it is checked and another when it
is used. TLS still verifies the certificate against the name.
"""

from __future__ import annotations

import functools
import ipaddress
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from socket import AI_NUMERICSERV, SOCK_STREAM, gaierror, getaddrinfo
from typing import Any

import httpcore
import httpx

from rmbg.errors import CancelledError, InputError, ServiceError

#: Seconds between two looks at whether the user has stopped the work.
GLANCE = 0.2

#: Bytes that are sent between two such looks.
PIECE = 65_536

#: Longest time to wait for one address to accept a connection.
CONNECT_SECONDS = 10.0


class DeadlineError(ServiceError):
    """The other side did not answer within the time given for all of it."""


class UnreachableError(ServiceError):
    """No connection came about; nothing was sent."""


@dataclass
class Trip:
    """The limits of one exchange, however many requests it takes, and what became of it.

    Attributes
    ----------
    seconds : float
        Time for all of it together, counted from here.
    cancelled : callable () -> bool
        Whether the user has stopped the work.
    guarded : bool
        Whether only public addresses may be connected to.
    loopback : bool
        Whether this machine's own addresses are excepted from that.
    sent : bool
        Whether a byte of a request has left. As long as it is False nothing can have happened on the other side.
    """

    seconds: float
    cancelled: Callable[[], bool] = lambda: False
    guarded: bool = True
    loopback: bool = False
    sent: bool = False
    ends: float = field(init=False)

    def __post_init__(self) -> None:
        self.ends = time.monotonic() + self.seconds

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.ends - time.monotonic()

    def check(self) -> None:
        """Raise if the user has stopped the work or its time is over."""
        if self.cancelled():
            raise CancelledError("Stopped.")
        if self.left <= 0:
            raise DeadlineError(f"There was no full answer within {self.seconds:g} seconds.")

    def sleep(self, seconds: float) -> None:
        """Wait, but no longer than the trip lasts, and wake up when the user stops it."""
        until = min(time.monotonic() + seconds, self.ends)
        while (rest := until - time.monotonic()) > 0:
            self.check()
            time.sleep(min(rest, GLANCE))
        self.check()


def client(trip: Trip, *, read_seconds: float = 30.0, headers: dict[str, str] | None = None) -> httpx.Client:
    """An httpx client all of whose requests belong to `trip`.

    It follows no redirect and looks at no proxy settings: a proxy would resolve names where nobody checks them.
    """
    return httpx.Client(
        transport=_Transport(trip),
        timeout=httpx.Timeout(read_seconds, connect=CONNECT_SECONDS),
        headers=headers,
        follow_redirects=False,
        trust_env=False,
    )


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the internet, and not to this machine, its network or a special use."""
    ip = _unwrapped(address)
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or getattr(ip, "is_site_local", False))


def is_loopback(address: str) -> bool:
    """Whether an IP address is this machine."""
    return _unwrapped(address).is_loopback


def is_this_machine(host: str) -> bool:
    """Whether a host is written as an address of this machine, so that nobody needs to be asked where it is."""
    try:
        return host == "localhost" or is_loopback(host)
    except ValueError:
        return False


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def _unwrapped(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address, or the IPv4 address that an IPv6 one stands for."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else ip)
    return ip


def _resolve(host: str, port: int, trip: Trip) -> list[str]:
    """The addresses of a name. The system's resolver knows no deadline, so it is left behind in its thread if it dawdles."""
    found: list[Any] = []

    def ask() -> None:
        try:
            answers = getaddrinfo(host, port, type=SOCK_STREAM, flags=AI_NUMERICSERV)
            found.append(list(dict.fromkeys(str(a[4][0]) for a in answers)))
        except (gaierror, UnicodeError, OSError) as error:
            found.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(GLANCE)
        trip.check()
    if isinstance(found[0], Exception):
        raise UnreachableError(f"There is no machine named {host}.")
    return found[0]


@functools.cache
def _tls() -> ssl.SSLContext:
    """Certificates are checked against certifi's list, or that of SSL_CERT_FILE; reading it takes a while."""
    return httpx.create_ssl_context()


class _Backend(httpcore.NetworkBackend):
    """Opens connections as the trip allows."""

    def __init__(self, trip: Trip) -> None:
        self._trip = trip
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        trip = self._trip
        trip.check()
        addresses = _resolve(host, port, trip)
        if trip.guarded:
            addresses = [a for a in addresses if is_public(a) or (trip.loopback and is_loopback(a))]
            if not addresses:
                raise InputError(f"{host} is an address inside a private network; only public ones are fetched.")
        for address in addresses:
            try:
                wait = min(timeout or CONNECT_SECONDS, max(trip.left, 0.01))
                stream = self._plain.connect_tcp(address, port, wait, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                trip.check()
            else:
                return _Stream(stream, trip)
        raise UnreachableError(f"{host} accepts no connection.")


class _Stream(httpcore.NetworkStream):
    """A connection that keeps to the trip's deadline and looks up now and then."""

    def __init__(self, stream: httpcore.NetworkStream, trip: Trip) -> None:
        self._stream = stream
        self._trip = trip

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        silent_until = time.monotonic() + (timeout or self._trip.seconds)
        while True:
            self._trip.check()
            rest = min(silent_until - time.monotonic(), self._trip.left)
            try:
                return self._stream.read(max_bytes, max(min(rest, GLANCE), 0.01))
            except httpcore.ReadTimeout:
                if time.monotonic() >= silent_until:
                    raise

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # In pieces: a photo may take longer than the trip lasts, or than the user waits, on a line that is slow but not silent.
        view = memoryview(buffer)
        for start in range(0, len(view), PIECE):
            self._trip.check()
            self._trip.sent = True
            wait = min(timeout or self._trip.seconds, max(self._trip.left, 0.01))
            try:
                self._stream.write(bytes(view[start : start + PIECE]), wait)
            except httpcore.WriteTimeout:
                self._trip.check()
                raise

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        wait = min(timeout or CONNECT_SECONDS, max(self._trip.left, 0.01))
        try:
            return _Stream(self._stream.start_tls(ssl_context, server_hostname, wait), self._trip)
        except (httpcore.ConnectError, httpcore.ConnectTimeout, ssl.SSLError, OSError):
            raise UnreachableError(
                f"There is no secure connection to {server_hostname}: its certificate does not hold."
            ) from None

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Transport(httpx.BaseTransport):
    """httpx on connections of our own; httpx's own transport has no place to pass them in."""

    def __init__(self, trip: Trip) -> None:
        self._pool = httpcore.ConnectionPool(ssl_context=_tls(), network_backend=_Backend(trip))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        response = self._pool.handle_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(response.status, headers=response.headers, stream=_Body(response), extensions=response.extensions)

    def close(self) -> None:
        self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        yield from self._response.iter_stream()

    def close(self) -> None:
        self._response.close()
