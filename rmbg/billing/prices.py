"""Price list of the services, price of own hardware, and projection to a month."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from rmbg.billing.cost import Basis, Cost

MONTHLY_IMAGES = 100_000

#: Upper limit of a plausible charge for a picture, in dollars or in the service's own units.
MAX_AMOUNT = 1000


@dataclass(frozen=True)
class Price:
    """Entry of the price list.

    Attributes
    ----------
    usd : Decimal or None
        Price of one image in US dollars; None if the service has not published one.
    basis : str
        ``listed`` by the service, ``estimated`` if the price is only announced, or ``unknown``.
    seen : str
        Month in which the price was read (YYYY-MM).
    source : str
        URL of the price list.
    counted : Decimal
        Amount that one image counts against the budget until its cost is known.
    setting : str or None
        Field of ``Settings`` with the owner's negotiated price, which overrides `usd` if it is set.
    units, images : callable (options) -> number
        Number of units charged for one call, and number of images that it returns.
    """

    usd: Decimal | None
    basis: Basis
    seen: str
    source: str
    counted: Decimal
    setting: str | None = None
    units: Callable[[Mapping[str, Any]], Decimal] = lambda options: Decimal(1)
    images: Callable[[Mapping[str, Any]], int] = lambda options: 1


def _listed(usd: str, source: str, *, seen: str = "2026-11", basis: Basis = "listed", **more: Any) -> Price:
    return Price(Decimal(usd), basis, seen, source, Decimal(usd), **more)


#: remove.bg credits per picture by size; other sizes take one credit.
CREDITS = {"preview": Decimal("0.25")}


#: Prices by provider id. Update the month and the source together with a price.
PRICES: dict[str, Price] = {
    "fal-rmbg-2.0": _listed("0.018", "https://fal.ai/models/fal-ai/bria/background/remove"),
    "fal-replace": _listed(
        "0.023",
        "https://fal.ai/models/fal-ai/bria/background/replace",
        units=lambda options: Decimal(int(options.get("num_images", 1))),
        images=lambda options: int(options.get("num_images", 1)),
    ),
    "runware-rmbg-2.0": _listed("0.018", "https://runware.ai/docs/models/bria-rmbg-v2-0"),
    "runware-rembg-1.4": _listed("0.0013", "https://runware.ai/docs/models/rembg-v1-4"),
    # $0.02 to $0.05 a credit, depending on the volume; RMBG_REMOVEBG_CREDIT_USD overrides it. A full-size picture takes one.
    "removebg": _listed(
        "0.05",
        "https://www.remove.bg/pricing",
        setting="removebg_credit_usd",
        units=lambda options: CREDITS.get(str(options.get("size")), Decimal(1)),
    ),
    # Hugging Face passes on the price of its inference provider, fal, and reports no charge in the response.
    "hf-rmbg-2.0": Price(
        None, "unknown", "2026-11", "https://huggingface.co/docs/inference-providers/pricing", Decimal("0.018")
    ),
    "gigarouter-rmbg-1.4": _listed("0.000047", "https://gigarouter.ai/models", basis="estimated"),
}


def amount(value: Any) -> Decimal | None:
    """Parse an amount in a service's response; None if it is invalid or implausible."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() and 0 <= number <= MAX_AMOUNT else None


def own_hardware(seconds: float, hourly_usd: Decimal) -> Cost:
    """Estimated cost of `seconds` on this machine at `hourly_usd` an hour."""
    return Cost((Decimal(repr(seconds)) * hourly_usd / 3600).quantize(Decimal("1E-8")), "estimated")


def monthly(cost: Cost, images: int = MONTHLY_IMAGES) -> Decimal | None:
    """US dollars for `images` images at the cost of one; None if that cost is unknown."""
    return None if cost.usd is None else cost.usd * images
