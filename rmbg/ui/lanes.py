"""Fair, cancellable semaphores for shared resources: this machine's device, and requests to services.

The concurrency limits of Gradio's queue apply to a whole function. A function that uses either the device or a service, by
its arguments, waits in the lane of that resource instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import anyio.to_thread

from rmbg.errors import NotReadyError
from rmbg.runtime import telemetry
from rmbg.runtime.cancellation import CancellationToken

P = ParamSpec("P")
T = TypeVar("T")

#: Requests that may wait in one lane.
MAX_WAITING = 32

#: Seconds between two checks for a cancellation, or for a free slot in `Lane.run`.
POLL_SECONDS = 0.05

#: Concurrent requests that use services.
SERVICES_AT_ONCE = 4


class Lane:
    """FIFO semaphore with a bounded queue; waiting can be cancelled.

    Parameters
    ----------
    slots : int
        Concurrent holders.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._changed = threading.Condition()
        self._queue: list[object] = []

    @contextlib.contextmanager
    def turn(self, check: Callable[[], None], *, bounded: bool = True) -> Iterator[None]:
        """Hold a slot for the duration of the block; blocks the thread until one is free.

        Parameters
        ----------
        check : callable () -> None
            Called while waiting; an exception that it raises leaves the queue.
        bounded : bool
            Reject the request if too many are waiting. False for callers whose number is limited elsewhere.

        Raises
        ------
        NotReadyError
            If too many requests are waiting.
        """
        ticket = self._join(bounded=bounded)
        try:
            with telemetry.phase("queue"), self._changed:
                while not self._holds_slot(ticket):
                    self._changed.wait(POLL_SECONDS)
                    check()
            yield
        finally:
            self._leave(ticket)

    async def run(self, token: CancellationToken, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `work` in a thread once a slot is free, and return its result; waiting occupies no thread.

        A task that is cancelled while it waits leaves the queue. A task that is cancelled afterwards cancels `token`, and the
        slot is released when the thread ends.
        """
        ticket = self._join()
        try:
            with telemetry.phase("queue"):
                while not self._holds_slot(ticket):
                    await asyncio.sleep(POLL_SECONDS)
        except BaseException:
            self._leave(ticket)
            raise
        call: Any = functools.partial(work, *args, **kwargs)
        thread = asyncio.ensure_future(anyio.to_thread.run_sync(call))
        thread.add_done_callback(lambda _: self._leave(ticket))
        try:
            return await asyncio.shield(thread)
        except asyncio.CancelledError:
            token.cancel(wait=False)
            raise

    @property
    def waiting(self) -> int:
        """Number of requests that wait for a slot."""
        with self._changed:
            return max(0, len(self._queue) - self._slots)

    def _join(self, *, bounded: bool = True) -> object:
        with self._changed:
            if bounded and len(self._queue) >= self._slots + MAX_WAITING:
                raise NotReadyError("The server is busy. Try again in a minute.")
            ticket = object()
            self._queue.append(ticket)
            return ticket

    def _leave(self, ticket: object) -> None:
        with self._changed:
            self._queue.remove(ticket)
            self._changed.notify_all()

    def _holds_slot(self, ticket: object) -> bool:
        return any(ticket is holder for holder in self._queue[: self._slots])


#: Local networks of the page and the API: one runs at a time.
DEVICE = Lane(1)

#: API calls that use services.
SERVICES = Lane(SERVICES_AT_ONCE)

#: Photos of all batches that are decoded at a time, by local providers and by services. The batches take turns by the photo.
BATCH_LOCAL, BATCH_SERVICES = Lane(2), Lane(SERVICES_AT_ONCE)

#: API comparisons with local providers only. They hold the decoded photo while they wait for the device.
LOCAL_COMPARISONS = Lane(2)
