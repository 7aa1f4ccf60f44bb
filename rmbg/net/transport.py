"""httpx transport with an address filter, an overall deadline and cancellation.

The host name is resolved once, and the connection uses the IP address that was checked, which prevents DNS rebinding. TLS
verifies the certificate against the host name.
"""

from __future__ import annotations

import functools
import ipaddress
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from socket import AF_INET, AF_INET6, AI_NUMERICSERV, SOCK_DGRAM, SOCK_STREAM, gaierror, getaddrinfo, socket
from typing import Any

import httpcore
import httpx

from rmbg.errors import InputError
from rmbg.net.exchange import POLL_INTERVAL, Exchange, UnreachableError, is_loopback
from rmbg.runtime.messages import Message

#: Bytes sent between two checks for cancellation.
CHUNK_SIZE = 65_536

#: Timeout of a connection to one IP address in seconds.
CONNECT_TIMEOUT = 10.0


def open_client(exchange: Exchange, *, read_seconds: float = 30.0, headers: dict[str, str] | None = None) -> httpx.Client:
    """Return an httpx client whose requests share the limits of `exchange`.

    Redirects are not followed. Proxy settings are ignored, because a proxy would resolve names without the address filter.
    """
    return httpx.Client(
        transport=_Transport(exchange),
        timeout=httpx.Timeout(read_seconds, connect=CONNECT_TIMEOUT),
        headers=headers,
        follow_redirects=False,
        trust_env=False,
    )


#: Networks without public hosts that `ipaddress` classifies as global in some or all versions of Python. IPv4: protocol
#: assignments, including cloud metadata services, 6to4 relays, and the platform address of Azure. IPv6: Teredo and other
#: protocol assignments, documentation, 6to4.
_SPECIAL = tuple(
    map(
        ipaddress.ip_network,
        ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    )
)

#: IPv6 global unicast range. IPv4-mapped and NAT64 addresses (::ffff:0:0/96, 64:ff9b::/96) are outside it.
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")


def is_public(address: str) -> bool:
    """True if an IP address is public, and neither private nor reserved for a special use."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip not in _GLOBAL_UNICAST:
        return False
    special = any(ip.version == network.version and ip in network for network in _SPECIAL)
    return ip.is_global and not (special or ip.is_multicast or ip.is_reserved)


def is_own(address: str) -> bool:
    """True if an IP address belongs to an interface of this machine.

    A firewall may protect a service on a public address of this machine, but it does not filter local connections.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    try:
        with socket(AF_INET6 if ip.version == 6 else AF_INET, SOCK_DGRAM) as probe:
            probe.connect((address, 9))  # UDP: selects the source address, sends nothing
            return ipaddress.ip_address(probe.getsockname()[0].partition("%")[0]) == ip
    except OSError:  # no route to the address
        return False


def _resolve(host: str, port: int, exchange: Exchange) -> list[str]:
    """Resolve a host name; the deadline and cancellation apply.

    The system's resolver has no timeout. It runs in a daemon thread, which is abandoned at the deadline.
    """
    outcome: list[Any] = []

    def lookup() -> None:
        try:
            records = getaddrinfo(host, port, type=SOCK_STREAM, flags=AI_NUMERICSERV)
            outcome.append(list(dict.fromkeys(str(record[4][0]) for record in records)))
        except (gaierror, UnicodeError, OSError) as error:
            outcome.append(error)

    thread = threading.Thread(target=lookup, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(POLL_INTERVAL)
        exchange.check()
    if isinstance(outcome[0], Exception):
        raise UnreachableError(
            Message("The host name {host} cannot be resolved. Check the address and the network connection.", host=host)
        )
    return outcome[0]


@functools.cache
def _tls() -> ssl.SSLContext:
    """TLS context with the certificates of certifi or of ``SSL_CERT_FILE``; cached, because loading them is slow."""
    return httpx.create_ssl_context()


class _Backend(httpcore.NetworkBackend):
    """Network backend that applies the limits of an exchange to each connection."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        exchange = self._exchange
        exchange.check()
        addresses = _resolve(host, port, exchange)
        if exchange.guarded:
            addresses = [a for a in addresses if (exchange.loopback if is_loopback(a) or is_own(a) else is_public(a))]
            if not addresses:
                raise InputError(Message("{host} is in a private network or on this machine. Use a public address.", host=host))
        for address in addresses:
            try:
                wait = min(timeout or CONNECT_TIMEOUT, max(exchange.remaining, 0.01))
                stream = self._plain.connect_tcp(address, port, wait, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                exchange.check()
            else:
                return _Stream(stream, exchange)
        raise UnreachableError(Message("{host} refused the connection or did not respond.", host=host))


class _Stream(httpcore.NetworkStream):
    """Network stream that checks the deadline and cancellation during reads and writes."""

    def __init__(self, stream: httpcore.NetworkStream, exchange: Exchange) -> None:
        self._stream = stream
        self._exchange = exchange

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        timeout_at = time.monotonic() + (timeout or self._exchange.seconds)
        while True:
            self._exchange.check()
            remaining = min(timeout_at - time.monotonic(), self._exchange.remaining)
            try:
                return self._stream.read(max_bytes, max(min(remaining, POLL_INTERVAL), 0.01))
            except httpcore.ReadTimeout:
                if time.monotonic() >= timeout_at:
                    raise

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # In chunks, so that the deadline and cancellation also apply to a slow upload.
        view = memoryview(buffer)
        for start in range(0, len(view), CHUNK_SIZE):
            self._exchange.check()
            self._exchange.sent = True
            wait = min(timeout or self._exchange.seconds, max(self._exchange.remaining, 0.01))
            try:
                self._stream.write(bytes(view[start : start + CHUNK_SIZE]), wait)
            except httpcore.WriteTimeout:
                self._exchange.check()
                raise

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        wait = min(timeout or CONNECT_TIMEOUT, max(self._exchange.remaining, 0.01))
        try:
            return _Stream(self._stream.start_tls(ssl_context, server_hostname, wait), self._exchange)
        except (httpcore.ConnectError, httpcore.ConnectTimeout, ssl.SSLError, OSError):
            raise UnreachableError(
                Message("The TLS connection to {host} failed: its certificate is invalid or not trusted.", host=server_hostname)
            ) from None

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Transport(httpx.BaseTransport):
    """httpx transport with a custom network backend, which `httpx.HTTPTransport` does not accept."""

    def __init__(self, exchange: Exchange) -> None:
        self._pool = httpcore.ConnectionPool(ssl_context=_tls(), network_backend=_Backend(exchange))

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
