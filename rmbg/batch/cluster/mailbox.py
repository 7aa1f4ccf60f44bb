"""Requests from the nodes of a cluster to the driver.

Ray cannot call a driver, so the requests pass through an actor on the driver's node, which the driver polls.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

#: Maximum time in seconds that `Mailbox.take` waits for a request.
TAKE_SECONDS = 0.2

#: Number of concurrent requests; each thread of an actor has at most one.
MAX_REQUESTS = 100_000


class Mailbox:
    """Asynchronous actor with the requests that the driver has not answered."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._requests: asyncio.Queue[tuple[int, tuple[Any, ...]]] = asyncio.Queue()
        self._answers: dict[int, asyncio.Future[Any]] = {}

    async def ask(self, request: tuple[Any, ...]) -> Any:
        """Pass a request to the driver and return its answer."""
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._requests.put((number, request))
        return await self._answers[number]

    async def take(self) -> list[tuple[int, tuple[Any, ...]]]:
        """Return the waiting requests with their numbers, after at most `TAKE_SECONDS`."""
        try:
            found = [await asyncio.wait_for(self._requests.get(), TAKE_SECONDS)]
        except asyncio.TimeoutError:
            return []
        while not self._requests.empty():
            found.append(self._requests.get_nowait())
        return found

    async def answer(self, number: int, value: Any) -> None:
        """Answer a request."""
        future = self._answers.pop(number)
        if not future.done():
            future.set_result(value)


class Driver:
    """The driver, as seen by an actor on a node.

    Parameters
    ----------
    mailbox : handle of a Mailbox
    """

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox

    def ask(self, kind: str, *arguments: Any) -> Any:
        """Return the answer to a request.

        Raises
        ------
        RmbgError
            The error that the driver has answered with.
        """
        import ray

        value = ray.get(self._mailbox.ask.remote((kind, *arguments)))
        if isinstance(value, BaseException):
            raise value
        return value
