"""Price of a cascade: expected for the usual share of doubtful answers, and at most."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from rmbg.billing.cost import Cost
from rmbg.billing.quote import Quote, quote
from rmbg.providers.base import Provider
from rmbg.settings import Settings

#: Shares of the photos whose built-in result is below a threshold, as (threshold, share); ``python -m benchmarks.cascade``.
BUILTIN_SHARES = (
    (0.0, 0.0), (0.3, 0.0), (0.5, 0.06), (0.6, 0.08), (0.7, 0.13), (0.75, 0.18), (0.8, 0.22), (0.85, 0.26), (0.9, 0.33),
    (0.94, 0.52), (0.96, 0.79), (1.0, 1.0),
)  # fmt: skip

#: The same for the next answer on these photos, whose quality is estimated.
FURTHER_SHARES = ((0.0, 0.0), (0.8, 0.12), (0.85, 0.35), (0.9, 0.82), (0.95, 1.0), (1.0, 1.0))


def quote_steps(providers: Iterable[Provider], threshold: float, limit: Decimal, settings: Settings) -> Quote:
    """Return the price of one photo: expected, and at most.

    Only services that are ready and whose price is within `limit` count; a local quote is returned if there are none.

    Parameters
    ----------
    providers : iterable of Provider
        The steps.
    threshold : float
        Required confidence in [0, 1].
    limit : Decimal
        Limit for one photo in dollars.
    settings : Settings
    """
    expected, most, own, reached = Decimal(0), Decimal(0), Decimal(0), Decimal(1)
    services: list[str] = []
    first, unknown, seen = "", False, ""
    for provider in providers:
        info = provider.info
        price = quote(info, info.parse_options({}), settings)
        if provider.status(settings).state != "ready" or price.reserve > limit:
            continue
        usd = reached * (price.cost.usd or Decimal(0))
        if info.kind == "local":
            own += usd
            first = first or ("" if services else info.title)
        else:
            services.append(info.title)
            seen = max(seen, price.seen)
            unknown |= price.cost.usd is None
            # A failed step costs nothing, so that a later one may be within the limit although the sum is not.
            expected += usd if most + price.reserve <= limit else 0
            most += price.reserve
        reached *= doubtful_share(threshold, BUILTIN_SHARES if info.id == "builtin" else FURTHER_SHARES)
    if not services:
        return Quote(Cost(own, "estimated"), Decimal(0), local=True)
    most = min(most, limit)
    recipients = ", then ".join(services) + (f", if the result of {first} is doubtful" if first else "")
    cost = Cost(None, "unknown") if unknown else Cost(expected, "estimated")
    return Quote(cost, most, seen=seen, most=None if unknown else most, recipients=recipients)


def doubtful_share(threshold: float, table: Sequence[tuple[float, float]] = BUILTIN_SHARES) -> Decimal:
    """Expected share of the photos with a result below `threshold`, interpolated in a table."""
    thresholds, shares = zip(*table, strict=True)
    return dollars_of(round(float(np.interp(threshold, thresholds, shares)), 4))


def dollars_of(value: Any) -> Decimal:
    """Return the value of an option as an exact amount."""
    return Decimal(str(value))
