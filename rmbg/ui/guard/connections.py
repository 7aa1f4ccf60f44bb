"""Clients and their connections: addresses, networks, and deadlines of a connection without a complete request.

Uvicorn closes a connection that is idle after a response, and has no other deadline.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import os
import time
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from starlette.types import Scope

from rmbg.settings import Settings

#: Seconds within which the headers of a request must arrive.
HEADER_SECONDS = 10.0

#: Seconds that a body or the reading of a response may take besides those at the minimum rate, which is in bytes per second.
GRACE_SECONDS, MINIMUM_RATE = 20.0, 2_000

#: Seconds between two checks of all connections.
CHECK_SECONDS = 1.0

#: Connections of one network without a request in progress.
IDLE_PER_NETWORK = 150

#: The limits of an IPv6 /48 are those of a /64 times this.
SITE_FACTOR = 2

#: The address of the client whose request or event is being handled, or the name of its key.
CLIENT: ContextVar[str] = ContextVar("client", default="")


def address_of(scope: Scope) -> str:
    """Return the address of the client of a request."""
    return (scope.get("client") or ("", 0))[0]


@functools.lru_cache(4096)
def networks_of(address: str) -> dict[str, int]:
    """Return the networks that share the limits of a client, with the factor by which they apply to it.

    A subscriber has one IPv4 address, or at least a /64 of IPv6 addresses, and often a /56 or a /48 (RFC 6177).
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return {address: 1}
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.version == 4:
        return {str(ip): 1}
    subscriber, site = (ipaddress.ip_network((int(ip), prefix), strict=False) for prefix in (64, 48))
    return {str(subscriber): 1, str(site): SITE_FACTOR}


def network_of(address: str) -> str:
    """Return the smallest of the networks of a client."""
    return next(iter(networks_of(address)))


def shared() -> bool:
    """True if the server is shared, which a request that a reverse proxy has forwarded may change."""
    return _shared(os.environ.get("RMBG_SHARED"), os.environ.get("SPACE_ID"))


@functools.lru_cache
def _shared(*variables: str | None) -> bool:
    return Settings.from_environ().shared


@dataclass(frozen=True)
class _Wait:
    """What a connection waits for, since when: the client reads `unsent` bytes, or sends the next request after `cycle`."""

    since: float
    cycle: Any
    unsent: int

    def continues(self, other: _Wait) -> bool:
        return self.cycle is other.cycle and bool(self.unsent) == bool(other.unsent) and other.unsent <= self.unsent

    def is_over(self, other: _Wait) -> bool:
        seconds = other.since - self.since
        if self.unsent:
            return seconds > GRACE_SECONDS + (self.unsent - other.unsent) / MINIMUM_RATE
        return seconds > HEADER_SECONDS


async def watch(server: Callable[[], Any], trusted: Callable[[str], bool]) -> None:
    """Close the connections of clients that are too slow, and those above the limit of their network.

    Parameters
    ----------
    server : callable () -> uvicorn.Server or None
        None before its start.
    trusted : callable (address) -> bool
        True for reverse proxies, which have no limit.
    """
    waits: weakref.WeakKeyDictionary[Any, _Wait] = weakref.WeakKeyDictionary()
    while (running := server()) is None:
        await asyncio.sleep(CHECK_SECONDS / 20)
    running.config.http_protocol_class = _limited(running.config.http_protocol_class, trusted)
    while True:
        for connection in list(running.server_state.connections):
            wait = _Wait(time.monotonic(), getattr(connection, "cycle", None), connection.transport.get_write_buffer_size())
            begun = waits.get(connection)
            if not wait.unsent and not _is_idle(connection):
                waits.pop(connection, None)
            elif begun is None or not begun.continues(wait):
                waits[connection] = wait
            elif begun.is_over(wait):
                connection.transport.abort()
        await asyncio.sleep(CHECK_SECONDS)


def _is_idle(connection: Any) -> bool:
    """True if no request is in progress."""
    cycle = getattr(connection, "cycle", None)
    return cycle is None or cycle.response_complete


def _limited(protocol: type[Any], trusted: Callable[[str], bool]) -> type[Any]:
    """Return Uvicorn's class of connections with a limit for those of one network that have no request in progress."""

    class Connection(protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            address = address_of({"client": self.client})
            idle = [address_of({"client": c.client}) for c in list(self.connections) if _is_idle(c)]
            over = any(
                sum(network in networks_of(other) for other in idle) > IDLE_PER_NETWORK * factor
                for network, factor in networks_of(address).items()
            )
            if over and not trusted(address) and shared():
                transport.abort()

    return Connection
