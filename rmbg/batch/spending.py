"""Spending limit of a batch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from decimal import Decimal

from rmbg.billing.cost import Cost, dollars
from rmbg.errors import CancelledError, NotReadyError
from rmbg.message import Message

#: Calls run concurrently while the limit covers all of them at this multiple of their price. Closer to the limit, and until
#: the first price is known, calls are serialized, so that a price increase is recorded before the next call is sent.
HEADROOM = 10

#: Seconds between two checks for cancellation while a call waits for another one.
POLL_INTERVAL = 0.1


class LimitReachedError(NotReadyError):
    """The next call could exceed the limit."""


class SpendingLimit:
    """Limit of the total cost of concurrent calls, by reserving the price of each call before it is sent; thread-safe.

    Parameters
    ----------
    limit : Decimal or None
        Maximum total cost in dollars, including earlier runs; None for no limit.
    spent : Decimal
        Cost of earlier runs in dollars.
    price : Decimal
        Expected price of a call in dollars.
    highest : Decimal
        Highest cost of a call in earlier runs, in dollars.
    """

    def __init__(self, limit: Decimal | None, spent: Decimal, price: Decimal, highest: Decimal = Decimal(0)) -> None:
        self.limit = limit
        self.spent = spent
        self._prices = {"": max(price, highest)}
        self._known = {""} if highest > 0 else set[str]()
        self._reserved = Decimal(0)
        self._running = 0
        self._changed = threading.Condition()

    def add_service(self, service: str, price: Decimal, highest: Decimal) -> None:
        """Register a further service with its expected price and its highest cost of earlier runs, unless it is known."""
        with self._changed:
            if service not in self._prices:
                self._prices[service] = max(price, highest)
                self._known |= {service} if highest > 0 else set()

    def reserve(self, cancelled: Callable[[], bool], service: str = "") -> Decimal:
        """Reserve the price of one call, and wait for running calls if the limit is near.

        Parameters
        ----------
        cancelled : callable () -> bool
        service : str
            A service of `add_service`; by default the one of the constructor.

        Returns
        -------
        Decimal
            Reserved dollars, to be passed to `settle`.

        Raises
        ------
        LimitReachedError
            If another call could exceed the limit.
        CancelledError
            If `cancelled` returns True while the call waits.
        """
        with self._changed:
            while not self._allows(service):
                if cancelled():
                    raise CancelledError("Stopped.")
                if not self._running:
                    raise LimitReachedError(self._refusal(service))
                self._changed.wait(POLL_INTERVAL)
            self._reserved += self._prices[service]
            self._running += 1
            return self._prices[service]

    def settle(self, reserved: Decimal, cost: Cost | None, service: str = "") -> None:
        """Replace a reservation by the cost of the call; None if nothing was charged."""
        with self._changed:
            self._reserved -= reserved
            self._running -= 1
            if cost is not None:
                self.spent += reserved if cost.usd is None else cost.usd
                self._known |= {service} if cost.usd is not None else set()
                self._prices[service] = max(self._prices[service], cost.usd or Decimal(0))
            self._changed.notify_all()

    def _allows(self, service: str) -> bool:
        if self.limit is None:
            return True
        left = self.limit - self.spent - self._reserved
        alone = not self._running
        headroom = service in self._known and left >= HEADROOM * max(self._prices.values())
        return left >= self._prices[service] and (alone or headroom)

    def _refusal(self, service: str) -> str:
        limit = dollars(self.limit or Decimal(0))
        spent, price = dollars(self.spent), dollars(self._prices[service])
        text = "The limit of {limit} is reached: {spent} are spent, and a photo costs {price}."
        return Message(text, owner=" Increase --max-cost to continue.", limit=limit, spent=spent, price=price)
