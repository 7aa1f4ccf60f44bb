"""What things cost: own hardware by the hour, services by their price lists, projections to a month."""

from __future__ import annotations

from decimal import Decimal

from rmbg.cutout import Cost

MONTHLY_IMAGES = 100_000


def own_hardware(seconds: float, hourly_usd: Decimal) -> Cost:
    """What `seconds` of this machine cost at `hourly_usd` an hour: an estimate, as nobody sends a bill for it."""
    return Cost((Decimal(repr(seconds)) * hourly_usd / 3600).quantize(Decimal("1E-8")), "estimated")


def monthly(cost: Cost, images: int = MONTHLY_IMAGES) -> Decimal | None:
    """US dollars for `images` at the price of one; None where that price is unknown."""
    return None if cost.usd is None else cost.usd * images
