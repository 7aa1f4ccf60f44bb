"""Lanes are FIFO, and cancelled work releases its slot."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from rmbg.errors import CancelledError, NotReadyError
from rmbg.runtime.cancellation import CancellationToken
from rmbg.ui.lanes import MAX_WAITING, Lane

TIMEOUT = 60


def not_cancelled() -> None:
    """Cancellation check that never raises."""


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
            while len(lane._queue) <= waiting:
                threading.Event().wait(0.005)
    for thread in threads:
        thread.join(TIMEOUT)
    assert order == list(range(6)) and not lane._queue


def test_cancelled_wait_leaves_the_queue():
    lane, token = Lane(1), CancellationToken()
    with lane.turn(not_cancelled):
        threading.Timer(0.1, token.cancel).start()
        with pytest.raises(CancelledError), lane.turn(token.check):
            raise AssertionError("not reached")
        assert len(lane._queue) == 1
    with lane.turn(not_cancelled):
        pass


def test_full_lane_is_an_error():
    lane = Lane(2)
    places = [lane._join() for _ in range(2 + MAX_WAITING)]
    with pytest.raises(NotReadyError, match="busy"), lane.turn(not_cancelled):
        raise AssertionError("not reached")
    lane._leave(places[0])
    lane._join()


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
        assert not lane._queue
        await lane.run(CancellationToken(), calls.append, 2)

    run(scenario())
    assert calls == [2] and not lane._queue


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
        assert token.cancelled() and len(lane._queue) == 1
        release.set()
        while lane._queue:
            await asyncio.sleep(0.01)

    run(asyncio.wait_for(scenario(), TIMEOUT))


def test_exception_is_raised_and_releases_the_slot():
    lane = Lane(1)

    def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        run(lane.run(CancellationToken(), fail))
    assert not lane._queue
