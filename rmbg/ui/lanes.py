"""Fair, cancellable semaphores for shared resources: this machine's device, its memory, and requests to services.

The concurrency limits of Gradio's queue apply to a whole function. A function that uses either the device or a service, by
its arguments, waits in the lane of that resource instead.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import anyio.to_thread

from rmbg.errors import NotReadyError
from rmbg.images.photo import Photo
from rmbg.runtime import telemetry
from rmbg.runtime.cancellation import CancellationToken
from rmbg.runtime.threads import cpu_count
from rmbg.ui.guard.connections import CLIENT, network_of, shared
from rmbg.ui.storage import visitor

P = ParamSpec("P")
T = TypeVar("T")

#: Requests that may wait in one lane.
MAX_WAITING = 32

#: Seconds between two checks for a cancellation, or for a free slot in `Lane.run`.
POLL_SECONDS = 0.05

#: Concurrent requests that use services.
SERVICES_AT_ONCE = 4


@dataclass(frozen=True)
class Client:
    """Client of the server.

    Attributes
    ----------
    network : str
        Network of its address, see `network_of`.
    visitor : str
        Session hash; empty outside of events.
    """

    network: str
    visitor: str

    @classmethod
    def current(cls) -> Client:
        """Return the client whose request or event is being handled."""
        return cls(network_of(CLIENT.get()), visitor())


class FairQueue(list[T]):
    """List of what waits, in the order in which it is served: fair between networks, and between the visitors of each.

    Self-clocked fair queueing (Golestani, IEEE INFOCOM 1994): an item is inserted by the time at which it would be done if the
    networks took turns. A network whose visitors all wait advances by one for each of them, so that they share its turns.

    Parameters
    ----------
    client_of : callable (item) -> Client
    """

    def __init__(self, client_of: Callable[[T], Client]) -> None:
        super().__init__()
        self._client_of = client_of
        self._time = 0
        self._times: list[int] = []  # of the items, ascending
        self._last: dict[Client, int] = {}  # of the last item of each client

    def append(self, item: T) -> None:
        """Insert an item at its place."""
        client = self._client_of(item)
        self._last = {name: time for name, time in self._last.items() if time > self._time}
        visitors = {other.visitor for other in map(self._client_of, self) if other.network == client.network}
        time = max(self._time, self._last.get(client, 0)) + len(visitors | {client.visitor})
        place = bisect.bisect_right(self._times, time)
        self._last[client] = time
        self._times.insert(place, time)
        self.insert(place, item)

    def remove(self, item: T) -> None:
        """Remove an item, the first one if it is served."""
        place = self.index(item)
        if place == 0:
            self._time = self._times[0]
        del self[place], self._times[place]


@dataclass(eq=False)
class _Ticket:
    client: Client
    holds_slot: bool = False


class Lane:
    """Fair semaphore with a bounded queue; waiting can be cancelled.

    Parameters
    ----------
    slots : int
        Concurrent holders.
    reserve : bool
        On a shared server one network holds at most half of the slots. False for work so short that the others need not wait.
    """

    def __init__(self, slots: int, *, reserve: bool = True) -> None:
        self._slots, self._reserve = slots, reserve
        self._changed = threading.Condition()
        self._holding: list[_Ticket] = []
        self._waiting: FairQueue[_Ticket] = FairQueue(lambda ticket: ticket.client)

    @contextlib.contextmanager
    def turn(self, check: Callable[[], None], *, bounded: bool = True, client: Client | None = None) -> Iterator[None]:
        """Hold a slot for the duration of the block; blocks the thread until one is free.

        Parameters
        ----------
        check : callable () -> None
            Called while waiting; an exception that it raises leaves the queue.
        bounded : bool
            Reject the request if too many are waiting. False for callers whose number is limited elsewhere.
        client : Client, optional
            By default the current one.

        Raises
        ------
        NotReadyError
            If too many requests are waiting.
        """
        ticket = self._join(client or Client.current(), bounded=bounded)
        try:
            with telemetry.phase("queue"), self._changed:
                while not ticket.holds_slot:
                    self._changed.wait(POLL_SECONDS)
                    check()
            yield
        finally:
            self._leave(ticket)

    def for_client(self) -> Callable[[Callable[[], None]], contextlib.AbstractContextManager[None]]:
        """Return `turn` for the current client, to be called in other threads."""
        return functools.partial(self.turn, client=Client.current())

    async def slot(self) -> contextlib.ExitStack:
        """Wait for a slot, which is held until the result is closed; for callers whose number is limited elsewhere."""
        with contextlib.ExitStack() as stack:
            ticket = self._join(Client.current(), bounded=False)
            stack.callback(self._leave, ticket)
            while not ticket.holds_slot:
                await asyncio.sleep(POLL_SECONDS)
            return stack.pop_all()

    async def run(self, token: CancellationToken, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `work` in a thread once a slot is free, and return its result; waiting occupies no thread.

        A task that is cancelled while it waits leaves the queue. A task that is cancelled afterwards cancels `token`, and the
        slot is released when the thread ends.
        """
        ticket = self._join(Client.current())
        try:
            with telemetry.phase("queue"):
                while not ticket.holds_slot:
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
    def busy(self) -> bool:
        """True if there is more than one request, with those that wait."""
        with self._changed:
            return len(self._holding) + len(self._waiting) > 1

    @property
    def waiting(self) -> int:
        """Number of requests that wait for a slot."""
        with self._changed:
            return len(self._waiting)

    def _join(self, client: Client, *, bounded: bool = True) -> _Ticket:
        with self._changed:
            same = sum(other.client.network == client.network for other in self._waiting)
            if bounded and (len(self._waiting) >= MAX_WAITING or (same >= MAX_WAITING // 2 and shared())):
                raise NotReadyError("The server is busy. Try again in a minute.")
            ticket = _Ticket(client)
            self._waiting.append(ticket)
            self._fill()
            return ticket

    def _leave(self, ticket: _Ticket) -> None:
        with self._changed:
            (self._holding if ticket.holds_slot else self._waiting).remove(ticket)
            self._fill()
            self._changed.notify_all()

    def _fill(self) -> None:
        """Give the free slots to those that wait."""
        for ticket in list(self._waiting):
            if len(self._holding) == self._slots:
                return
            same = sum(other.client.network == ticket.client.network for other in self._holding)
            if not self._reserve or 2 * same < self._slots or same == 0 or not shared():
                self._waiting.remove(ticket)
                self._holding.append(ticket)
                ticket.holds_slot = True


#: Networks on this machine, of the page and the API: one runs at a time.
DEVICE = Lane(1)

#: API calls with local providers only. They hold the decoded photo while they wait for the device.
LOCAL = Lane(4)

#: Requests of remove.bg's API for small networks: one on each core.
CORES = Lane(cpu_count(), reserve=False)

#: Photos of the API with more than `LARGE_PIXELS`, one at a time: rendering and encoding take gigabytes.
LARGE, LARGE_PIXELS = Lane(1), 16_000_000

#: API calls that use services.
SERVICES = Lane(SERVICES_AT_ONCE)

#: Photos of all batches that are decoded at a time, by local providers and by services. The batches take turns by the photo.
BATCH_LOCAL, BATCH_SERVICES = Lane(2), Lane(SERVICES_AT_ONCE)


def memory_for(photo: Photo, check: Callable[[], None]) -> contextlib.AbstractContextManager[None]:
    """Return a context that holds the memory for the cutout of a photo after waiting for it, as `Lane.turn` does."""
    large = photo.width * photo.height > LARGE_PIXELS
    return LARGE.turn(check) if large else contextlib.nullcontext()
