"""Lanes are fair between networks and visitors, and cancelled work releases its slot."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from rmbg.errors import CancelledError, NotReadyError
from rmbg.runtime.cancellation import CancellationToken
from rmbg.ui.lanes import MAX_WAITING, Client, FairQueue, Lane

TIMEOUT = 60


def not_cancelled() -> None:
    """Cancellation check that never raises."""


def is_empty(lane: Lane) -> bool:
    return not lane._holding and not lane.waiting


def test_slots_are_assigned_in_the_order_of_arrival():
    lane, order = Lane(1), []
    arrived = threading.Semaphore(0)

    def work(number: int) -> None:
        place = lane.turn(not_cancelled)
        arrived.release()
        with place:
            order.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    with lane.turn(not_cancelled):
        for waiting, thread in enumerate(threads, 1):
            thread.start()
            assert arrived.acquire(timeout=TIMEOUT)
            while lane.waiting < waiting:
                threading.Event().wait(0.005)
    for thread in threads:
        thread.join(TIMEOUT)
    assert order == list(range(6)) and is_empty(lane)


def served(*clients: str) -> str:
    """Return the order in which items are served that arrive in this one: network in upper case, visitor in lower case."""
    queue: FairQueue[str] = FairQueue(lambda item: Client(item[0], item[1]))
    for client in clients:
        queue.append(client)
    order = []
    while queue:
        order.append(queue[0])
        queue.remove(queue[0])
    return " ".join(order)


def test_visitor_who_sends_one_does_not_wait_for_all_of_another_one():
    assert served("Aa", "Aa", "Aa", "Aa", "Bb") == "Aa Bb Aa Aa Aa"
    assert served("Aa", "Aa", "Aa", "Ab") == "Aa Aa Ab Aa", "visitors of one network"


def test_network_with_many_visitors_has_the_turns_of_one():
    visitors = [f"A{name}" for name in "abcdefgh"]
    assert served(*visitors, "Bb").split().index("Bb") == 1
    assert served(*visitors, "Bb", "Bb", "Bb").split().index("Bb") == 1


def test_client_who_sends_again_at_once_does_not_overtake():
    queue: FairQueue[str] = FairQueue(lambda item: Client(item[0], item[1]))
    for client in ("Aa1", "Bb1"):
        queue.append(client)
    order = []
    for number in range(2, 6):
        queue.append(f"Aa{number}")
        order.append(queue[0])
        queue.remove(queue[0])
    assert order == ["Aa1", "Bb1", "Aa2", "Aa3"]


def test_network_holds_half_of_the_slots_of_a_shared_server(monkeypatch):
    lane, one, two = Lane(4), Client("A", "a"), Client("B", "b")
    for shared, held in (("1", 2), ("0", 4)):
        monkeypatch.setenv("RMBG_SHARED", shared)
        tickets = [lane._join(one) for _ in range(6)]
        assert sum(ticket.holds_slot for ticket in tickets) == held
        tickets.append(lane._join(two))
        assert tickets[-1].holds_slot == (shared == "1")
        for ticket in tickets:
            lane._leave(ticket)
    assert is_empty(lane)


def test_network_may_fill_half_of_the_waiting_places(monkeypatch):
    monkeypatch.setenv("RMBG_SHARED", "1")
    lane, one = Lane(1), Client("A", "a")
    for _ in range(1 + MAX_WAITING // 2):
        lane._join(one)
    with pytest.raises(NotReadyError, match="busy"):
        lane._join(one)
    lane._join(Client("B", "b"))


def test_cancelled_wait_leaves_the_queue():
    lane, token = Lane(1), CancellationToken()
    with lane.turn(not_cancelled):
        threading.Timer(0.1, token.cancel).start()
        with pytest.raises(CancelledError), lane.turn(token.check):
            raise AssertionError("not reached")
        assert not lane.waiting and len(lane._holding) == 1
    with lane.turn(not_cancelled):
        pass


def test_full_lane_is_an_error():
    lane = Lane(2)
    places = [lane._join(Client.current()) for _ in range(2 + MAX_WAITING)]
    with pytest.raises(NotReadyError, match="busy"), lane.turn(not_cancelled):
        raise AssertionError("not reached")
    lane._leave(places[0])
    lane._join(Client.current())


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in a thread: Playwright leaves an event loop running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def test_task_cancelled_while_waiting_does_not_run():
    lane, calls = Lane(1), []

    async def scenario() -> None:
        with lane.turn(not_cancelled):
            task = asyncio.ensure_future(lane.run(CancellationToken(), calls.append, 1))
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert is_empty(lane)
        await lane.run(CancellationToken(), calls.append, 2)

    run(scenario())
    assert calls == [2] and is_empty(lane)


def test_task_cancelled_while_running_keeps_its_slot_until_the_thread_ends():
    lane, token = Lane(1), CancellationToken()
    started, release = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        assert release.wait(TIMEOUT)

    async def scenario() -> None:
        task = asyncio.ensure_future(lane.run(token, work))
        while not started.is_set():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert token.cancelled() and len(lane._holding) == 1
        release.set()
        while not is_empty(lane):
            await asyncio.sleep(0.01)

    run(asyncio.wait_for(scenario(), TIMEOUT))


def test_exception_is_raised_and_releases_the_slot():
    lane = Lane(1)

    def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        run(lane.run(CancellationToken(), fail))
    assert is_empty(lane)
