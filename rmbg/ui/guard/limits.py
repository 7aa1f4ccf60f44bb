"""Limits for each client address of a shared server: open requests, direct calls, calls in the queue, and uploads."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator

from starlette.types import Scope

from rmbg.settings import Settings
from rmbg.ui.guard.checks import Refused
from rmbg.ui.languages import t

#: Concurrent direct calls; they bypass Gradio's queue and its concurrency limits.
DIRECT_AT_ONCE = 8

#: Limits for one address: open requests, at least one for each open page; direct calls that run or wait; calls in the queue.
REQUESTS_PER_ADDRESS, DIRECT_PER_ADDRESS, QUEUED_PER_ADDRESS = 150, 24, 16

#: Direct calls that run or wait on the whole server.
DIRECT_WAITING = 40

#: Seconds of the sliding window in which the uploads of one address are added up.
UPLOAD_WINDOW = 600


def address_of(scope: Scope) -> str:
    """Return the address of the client of a request."""
    return (scope.get("client") or ("", 0))[0]


def _shared() -> bool:
    return Settings.from_environ().shared  # a request that a reverse proxy has forwarded may set it


class Limits:
    """Counters of the requests of each address. They apply while the server is shared.

    Parameters
    ----------
    upload_bytes : int
        Bytes that one address may upload within `UPLOAD_WINDOW` seconds.
    queued : callable () -> list of Scope
        Returns the scopes of the calls that wait in the queue or run.
    """

    def __init__(self, upload_bytes: int, queued: Callable[[], list[Scope]]) -> None:
        self._upload_bytes, self._queued = upload_bytes, queued
        self._direct = asyncio.Semaphore(DIRECT_AT_ONCE)
        self._open: Counter[str] = Counter()
        self._waiting: Counter[str] = Counter()
        self._uploaded: dict[str, deque[tuple[float, int]]] = {}

    def request(self, address: str) -> contextlib.AbstractContextManager[None]:
        """Count an open request for the duration of the block; raises Refused above the limit."""
        return self._counted(self._open, address, REQUESTS_PER_ADDRESS)

    @contextlib.asynccontextmanager
    async def direct_call(self, address: str) -> AsyncIterator[None]:
        """Wait for a slot of the direct calls and hold it for the duration of the block; raises Refused above the limits."""
        with self._counted(self._waiting, address, DIRECT_PER_ADDRESS):
            if self._waiting.total() > DIRECT_WAITING:
                raise Refused(429, "The server is busy. Wait a moment and try again.")
            async with self._direct:
                yield

    def check_queue(self, address: str) -> None:
        """Raise Refused if the queue has too many calls of the address."""
        if not _shared():
            return
        queued = sum(address_of(other) == address for other in self._queued())
        if queued >= QUEUED_PER_ADDRESS:
            text = "{count} calls from your address are in the queue already. Wait until they end and try again."
            raise Refused(429, t(text, count=queued))

    def count_upload(self, address: str, size: int) -> None:
        """Add an upload of `size` bytes; raises Refused if those of the window would exceed the limit."""
        if not _shared():
            return
        now = time.monotonic()
        for expired in [name for name, uploads in self._uploaded.items() if uploads[-1][0] < now - UPLOAD_WINDOW]:
            del self._uploaded[expired]
        recent = self._uploaded.setdefault(address, deque())
        while recent and recent[0][0] < now - UPLOAD_WINDOW:
            recent.popleft()
        if recent and sum(upload for _, upload in recent) + size > self._upload_bytes:
            raise Refused(429, "The upload limit of your address is reached. Wait ten minutes and try again.")
        recent.append((now, size))

    @contextlib.contextmanager
    def _counted(self, counter: Counter[str], address: str, limit: int) -> Iterator[None]:
        """Count a request for as long as it lasts."""
        if counter[address] >= limit and _shared():
            raise Refused(429, "Too many requests from your address are open. Wait a moment and try again.")
        counter[address] += 1
        try:
            yield
        finally:
            counter[address] -= 1
            if not counter[address]:
                del counter[address]
