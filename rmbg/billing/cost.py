"""Cost of one image and its basis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, get_args

from rmbg.runtime.messages import Message

Basis = Literal["charged", "listed", "estimated", "unknown"]

#: Text of a known cost by its basis.
_TEXTS: dict[Basis, str] = {"charged": "{usd} charged", "listed": "{usd} listed", "estimated": "{usd} estimated"}

#: Databases store amounts as integers in units of 10^-12 dollars, so that sums in SQLite are exact.
UNITS_PER_USD = Decimal(10) ** 12


@dataclass(frozen=True)
class Cost:
    """Cost of one image in US dollars and the basis of the figure.

    Attributes
    ----------
    usd : Decimal or None
        None, not zero, if the cost is unknown.
    basis : str
        ``charged``, reported by the service; ``listed``, from its price list; ``estimated``, for own hardware or an announced
        price; or ``unknown``.
    """

    usd: Decimal | None
    basis: Basis

    def __post_init__(self) -> None:
        if self.basis not in get_args(Basis):
            raise ValueError(f"The basis of a cost is one of {', '.join(get_args(Basis))}, not {self.basis!r}.")
        if (self.usd is None) != (self.basis == "unknown"):
            raise ValueError("The amount of a cost is None if and only if its basis is 'unknown'.")

    def __str__(self) -> str:
        if self.usd is None:
            return Message("cost unknown")
        return Message(_TEXTS[self.basis], usd=dollars(self.usd))


def total(costs: Sequence[Cost]) -> Cost:
    """Return the sum of costs with the least certain of their bases; unknown if one of them is unknown."""
    if any(cost.usd is None for cost in costs):
        return Cost(None, "unknown")
    bases: tuple[Basis, ...] = get_args(Basis)
    basis: Basis = max((cost.basis for cost in costs), key=bases.index, default="charged")
    return Cost(sum((cost.usd for cost in costs if cost.usd is not None), Decimal(0)), basis)


def dollars(usd: Decimal | None) -> str:
    """Format an amount, such as ``$0.018`` or ``$1,800``; a dash if it is unknown.

    Two significant digits or two decimals, whichever is more, at most eight decimals, and no cents from $100 on.
    """
    if usd is None:
        return "–"
    if usd == 0:
        return "$0"
    if usd >= 100:
        return f"${usd:,.0f}"
    places = min(8, max(2, 1 - usd.adjusted()))
    text = f"{usd:.{places}f}"
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0").ljust(2, "0")
    return f"${whole}.{fraction}"
