"""Spend of one session, by provider and basis of the price."""

from __future__ import annotations

import threading
from decimal import Decimal

from rmbg.billing.cost import Basis, Cost
from rmbg.billing.quote import projection
from rmbg.providers import find
from rmbg.replace import INFO as REPLACE
from rmbg.ui.languages import t


class Spend:
    """Pictures and dollars by provider and basis. Pictures of unknown cost are counted separately, not as zero."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, Basis], tuple[int, Decimal]] = {}
        self._lock = threading.Lock()  # a removal and a comparison of one visitor run at the same time

    def add(self, provider: str, cost: Cost | None, pictures: int = 1) -> None:
        """Add the cost of one call; None for a failed call without a charge adds nothing."""
        if cost is None:
            return
        with self._lock:
            count, usd = self._lines.get((provider, cost.basis), (0, Decimal(0)))
            self._lines[provider, cost.basis] = count + pictures, usd + (cost.usd or Decimal(0))

    def line(self) -> str:
        """Return the total in one line, empty before the first call."""
        with self._lock:
            lines = sorted(self._lines.items())
        if not lines:
            return ""
        by_provider: dict[str, list[str]] = {}
        for (provider, basis), (count, usd) in lines:
            by_provider.setdefault(provider, []).append(_describe(basis, count, usd))
        parts = [f"{_title(provider)}: {', '.join(sums)}" for provider, sums in by_provider.items()]
        return t("This session: {sums}", sums="; ".join(parts))


def _describe(basis: Basis, count: int, usd: Decimal) -> str:
    if basis == "unknown":
        return t("{count} pictures at unknown cost", count=count)
    cost = Cost(usd, basis)
    return f"{t('{count} pictures', count=count)}, {t(str(cost))} ({t(projection(cost, count))})"


def _title(provider: str) -> str:
    return REPLACE.title if provider == REPLACE.id else find(provider).info.title
