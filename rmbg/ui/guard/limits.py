"""Limits for each network of a shared server: open and unfinished requests, calls, and uploads."""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator

from starlette.types import Scope

from rmbg.ui.guard.checks import Refused
from rmbg.ui.guard.connections import address_of, networks_of, shared
from rmbg.ui.lanes import Lane
from rmbg.ui.languages import t

#: Concurrent direct calls, which bypass Gradio's queue and its concurrency limits, and requests for the page.
DIRECT_AT_ONCE, PAGES_AT_ONCE = 8, 2

#: Limits for one network: open requests, at least one for each open page; those whose body is not complete; direct calls that
#: run or wait; calls in the queue.
REQUESTS_PER_NETWORK, UNFINISHED_PER_NETWORK, DIRECT_PER_NETWORK, QUEUED_PER_NETWORK = 150, 32, 24, 16

#: Direct calls that run or wait on the whole server.
DIRECT_WAITING = 128

#: Calls and opened pages of one network: so many at once, and so many a second afterwards. Each takes 10 ms of the event loop.
CALLS_AT_ONCE, CALLS_PER_SECOND = 200, 5

#: Seconds of the sliding window in which the uploads of one network are added up.
UPLOAD_WINDOW = 600

TOO_MANY = "Too many requests from your address. Wait a moment and try again."


class Limits:
    """Counters of the requests of each network. They apply while the server is shared.

    Parameters
    ----------
    upload_bytes : int
        Bytes that one network may upload within `UPLOAD_WINDOW` seconds.
    queued : callable () -> list of Scope
        Returns the scopes of the calls that wait in the queue or run.
    """

    def __init__(self, upload_bytes: int, queued: Callable[[], list[Scope]]) -> None:
        self._upload_bytes, self._queued = upload_bytes, queued
        self._direct, self._pages = Lane(DIRECT_AT_ONCE), Lane(PAGES_AT_ONCE)
        self._open: Counter[str] = Counter()
        self._unfinished: Counter[str] = Counter()
        self._waiting: Counter[str] = Counter()
        self._calls: dict[str, float] = {}
        self._uploaded: dict[str, deque[tuple[float, int]]] = {}

    def request(self, address: str) -> contextlib.AbstractContextManager[None]:
        """Count an open request for the duration of the block; raises Refused above the limit."""
        return self._counted(self._open, address, REQUESTS_PER_NETWORK)

    def unfinished(self, address: str) -> contextlib.AbstractContextManager[None]:
        """Count a request whose body is not complete for the duration of the block; raises Refused above the limit."""
        return self._counted(self._unfinished, address, UNFINISHED_PER_NETWORK)

    async def direct_call(self, address: str) -> contextlib.ExitStack:
        """Wait for a slot of the direct calls, which is held until the result is closed; raises Refused above the limits."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._counted(self._waiting, address, DIRECT_PER_NETWORK))
            if self._direct.waiting >= DIRECT_WAITING:
                raise Refused(429, "The server is busy. Wait a moment and try again.")
            stack.enter_context(await self._direct.slot())
            return stack.pop_all()

    async def page(self) -> contextlib.ExitStack:
        """Wait until the page or its configuration can be built, which takes 0.1 s; held until the result is closed."""
        return await self._pages.slot()

    def check_queue(self, address: str) -> None:
        """Raise Refused if the queue has too many calls of the network."""
        queued = [networks_of(address_of(other)) for other in self._queued()]
        for network, factor in networks_of(address).items():
            count = sum(network in others for others in queued)
            if count >= QUEUED_PER_NETWORK * factor and shared():
                text = "{count} calls from your address are in the queue already. Wait until they end and try again."
                raise Refused(429, t(text, count=count))

    def count_call(self, address: str) -> None:
        """Add a call or an opened page; raises Refused if its network has sent too many in the last seconds.

        The value of a network is the time at which its calls so far are within `CALLS_PER_SECOND` (generic cell rate algorithm,
        ITU-T I.371).
        """
        if not shared():
            return
        now = time.monotonic()
        self._calls = {network: due for network, due in self._calls.items() if due > now}
        due = {
            network: self._calls.get(network, now) + 1 / (CALLS_PER_SECOND * factor)
            for network, factor in networks_of(address).items()
        }
        if max(due.values()) > now + CALLS_AT_ONCE / CALLS_PER_SECOND:
            raise Refused(429, TOO_MANY)
        self._calls.update(due)

    def count_upload(self, address: str, size: int) -> None:
        """Add an upload of `size` bytes; raises Refused if those of the window would exceed the limit."""
        if not shared():
            return
        now = time.monotonic()
        for expired in [name for name, uploads in self._uploaded.items() if uploads[-1][0] < now - UPLOAD_WINDOW]:
            del self._uploaded[expired]
        for network, factor in networks_of(address).items():
            recent = [upload for since, upload in self._uploaded.get(network, ()) if since >= now - UPLOAD_WINDOW]
            if recent and sum(recent) + size > self._upload_bytes * factor:
                raise Refused(429, "The upload limit of your address is reached. Wait ten minutes and try again.")
        for network in networks_of(address):
            uploads = self._uploaded.setdefault(network, deque())
            while uploads and uploads[0][0] < now - UPLOAD_WINDOW:
                uploads.popleft()
            uploads.append((now, size))

    @contextlib.contextmanager
    def _counted(self, counter: Counter[str], address: str, limit: int) -> Iterator[None]:
        """Count a request for as long as it lasts."""
        networks = networks_of(address)
        if any(counter[network] >= limit * factor for network, factor in networks.items()) and shared():
            raise Refused(429, TOO_MANY)
        counter.update(networks.keys())
        try:
            yield
        finally:
            counter.subtract(networks.keys())
            for network in networks:
                if not counter[network]:
                    del counter[network]
