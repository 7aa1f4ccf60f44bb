"""Prices of all services, each alone and after the built-in network."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from rmbg.billing.cost import Cost
from rmbg.billing.quote import monthly, price_of, quote
from rmbg.providers import PROVIDERS
from rmbg.providers.cascade import THRESHOLD, doubtful_share
from rmbg.settings import Settings


@dataclass(frozen=True)
class ServicePrice:
    """Price of a service for one picture with default options.

    Attributes
    ----------
    id, title : str
    cost : Cost
        Listed, estimated or unknown.
    after_builtin : Cost
        Expected cost in a cascade that sends a photo to the service only if the result of the built-in network is doubtful.
    seen, source : str
        Month in which the price was read (YYYY-MM), or empty, and its price list.
    free : str
        Free tier, or empty.
    """

    id: str
    title: str
    cost: Cost
    after_builtin: Cost
    seen: str
    source: str
    free: str

    def fields(self) -> dict[str, Decimal | str | None]:
        """Return the fields of the JSON and CSV output; None for what is unknown."""
        return {
            "id": self.id,
            "title": self.title,
            "usd": self.cost.usd,
            "usd_1000": monthly(self.cost, 1000),
            "usd_100000": monthly(self.cost),
            "usd_after_builtin": self.after_builtin.usd,
            "usd_100000_after_builtin": monthly(self.after_builtin),
            "basis": self.cost.basis,
            "seen": self.seen or None,
            "source": self.source,
            "free": self.free or None,
        }


def service_prices(settings: Settings) -> list[ServicePrice]:
    """Return the prices of all services, cheapest first and unknown prices last."""
    found = []
    for info in (provider.info for provider in PROVIDERS.values()):
        price = price_of(info, settings)
        if price is not None:
            quoted = quote(info, {}, settings)
            usd = quoted.cost.usd
            after = Cost(None, "unknown") if usd is None else Cost(doubtful_share(THRESHOLD) * usd, "estimated")
            found.append(ServicePrice(info.id, info.title, quoted.cost, after, quoted.seen, price.source, price.free))
    return sorted(found, key=lambda row: (row.cost.usd is None, row.cost.usd or 0, row.id))
