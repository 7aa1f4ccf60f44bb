"""What one visitor's session has cost, by provider and basis."""

from __future__ import annotations

from decimal import Decimal

from rmbg.cutout import Basis, Cost, dollars
from rmbg.prices import MONTHLY_IMAGES, monthly
from rmbg.providers import PROVIDERS
from rmbg.replace import INFO as REPLACE


class Spend:
    """Counts and dollars; what is unknown is counted and never taken for nothing."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, Basis], tuple[int, Decimal]] = {}

    def add(self, provider: str, cost: Cost | None, pictures: int = 1) -> None:
        """Add what came of one call: None for one that cost nothing because it failed."""
        if cost is not None:
            count, usd = self._lines.get((provider, cost.basis), (0, Decimal(0)))
            self._lines[provider, cost.basis] = count + pictures, usd + (cost.usd or Decimal(0))

    def line(self) -> str:
        """One line for the page, empty at first."""
        if not self._lines:
            return ""
        by_provider: dict[str, list[str]] = {}
        for (provider, basis), (count, usd) in sorted(self._lines.items()):
            by_provider.setdefault(provider, []).append(_words(basis, count, usd))
        parts = [f"{_title(provider)}: {', '.join(words)}" for provider, words in by_provider.items()]
        return "This session: " + "; ".join(parts)


def projection(cost: Cost, pictures: int = 1) -> str:
    """What a month of such pictures would cost, as words; empty where nobody knows."""
    month = monthly(cost)
    return "" if month is None else f"{grouped(month / pictures)} for {MONTHLY_IMAGES:,} a month"


def grouped(usd: Decimal) -> str:
    """Dollars with commas between thousands, without cents from ten dollars on."""
    return f"${usd:,.0f}" if usd >= 10 else dollars(usd)


def _words(basis: Basis, count: int, usd: Decimal) -> str:
    images = f"{count} picture{'s' if count > 1 else ''}"
    if basis == "unknown":
        return f"{images} at unknown cost"
    return f"{images}, {dollars(usd)} {basis} ({projection(Cost(usd, basis), count)})"


def _title(provider: str) -> str:
    return REPLACE.title if provider == REPLACE.id else PROVIDERS[provider].info.title
