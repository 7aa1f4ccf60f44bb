"""What things cost: own hardware by the hour, services by their price lists, projections to a month."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from rmbg.cutout import Basis, Cost, dollars

MONTHLY_IMAGES = 100_000

#: A service that says it took more for a picture, in dollars or in units of its own, has said something else.
LARGEST = 1000


@dataclass(frozen=True)
class Price:
    """A line of the price list.

    Attributes
    ----------
    usd : Decimal or None
        Of one image; None where nobody has published one.
    basis : str
        ``listed`` by the service, ``estimated`` by it for later, ``unknown``.
    seen : str
        Month in which it was read (YYYY-MM).
    source : str
        Where it was read.
    counted : Decimal
        What one image counts against the budget as long as the service has not said what it took.
    """

    usd: Decimal | None
    basis: Basis
    seen: str
    source: str
    counted: Decimal


def _listed(usd: str, source: str, *, seen: str = "2026-11", basis: Basis = "listed") -> Price:
    return Price(Decimal(usd), basis, seen, source, Decimal(usd))


#: The price list. Change a price together with its month and its source.
PRICES: dict[str, Price] = {
    "fal-rmbg-2.0": _listed("0.018", "https://fal.ai/models/fal-ai/bria/background/remove"),
    "fal-replace": _listed("0.023", "https://fal.ai/models/fal-ai/bria/background/replace"),
    "runware-rmbg-2.0": _listed("0.018", "https://runware.ai/docs/models/bria-rmbg-v2-0"),
    "runware-rembg-1.4": _listed("0.0013", "https://runware.ai/docs/models/rembg-v1-4"),
    # 0.02 to 0.05 a credit, by how many one buys; a full-size picture takes one. RMBG_REMOVEBG_CREDIT_USD sets one's own.
    "removebg": _listed("0.05", "https://www.remove.bg/pricing"),
    # Hugging Face bills the price of the service behind it, which is fal, and says nothing with the answer.
    "hf-rmbg-2.0": Price(
        None, "unknown", "2026-11", "https://huggingface.co/docs/inference-providers/pricing", Decimal("0.018")
    ),
    "gigarouter-rmbg-1.4": _listed("0.000047", "https://gigarouter.ai/models", basis="estimated"),
}


def amount(value: Any) -> Decimal | None:
    """A number of dollars or of units as a service gives it; None if it is none."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() and 0 <= number <= LARGEST else None


def own_hardware(seconds: float, hourly_usd: Decimal) -> Cost:
    """What `seconds` of this machine cost at `hourly_usd` an hour: an estimate, as nobody sends a bill for it."""
    return Cost((Decimal(repr(seconds)) * hourly_usd / 3600).quantize(Decimal("1E-8")), "estimated")


def monthly(cost: Cost, images: int = MONTHLY_IMAGES) -> Decimal | None:
    """US dollars for `images` at the price of one; None where that price is unknown."""
    return None if cost.usd is None else cost.usd * images


def in_words(usd: Decimal, unknown: Sequence[str]) -> str:
    """``about $0.02 and an unknown price at A and B``: what is expected to be charged, before anybody is asked to agree to it.

    Parameters
    ----------
    usd : Decimal
        What is expected of those whose price is known.
    unknown : sequence of str
        Who may charge something that nobody knows.

    Returns
    -------
    str
        Empty where nothing is charged.
    """
    parts = ([f"about {dollars(usd)}"] if usd else []) + ([f"an unknown price at {' and '.join(unknown)}"] if unknown else [])
    return " and ".join(parts)
