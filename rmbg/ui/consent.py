"""Spend of one session, and the consent of its visitor to paid calls, which the server checks before each of them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from rmbg.billing import api_keys
from rmbg.billing.cost import Basis, Cost
from rmbg.billing.quote import Estimate, projection, quote
from rmbg.errors import RmbgError
from rmbg.providers import find
from rmbg.providers.base import ProviderInfo
from rmbg.replace import INFO as REPLACE
from rmbg.runtime.messages import Message
from rmbg.settings import Settings
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


class ConsentError(RmbgError):
    """The visitor has to accept the cost of a call first; the message states recipient and cost."""


@dataclass(frozen=True)
class Charge:
    """Recipient and price of a paid call: what a consent covers.

    Attributes
    ----------
    provider : str
        Id of the provider, or of a set of calls.
    title : str
    usd : Decimal or None
        Expected price of the call; None if it is unknown.
    most : Decimal or None
        Highest price of the call, if it depends on the photo.
    """

    provider: str
    title: str
    usd: Decimal | None
    most: Decimal | None = None


class Consent:
    """Charges that a visitor has accepted. Another provider or price is another charge, which requires a new consent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[str, frozenset[Charge]] = {}
        self._accepted: set[Charge] = set()

    def request(self, place: str, charges: Iterable[Charge]) -> None:
        """Make these the charges that the next `accept` of `place`, a tab of the page, applies to."""
        with self._lock:
            self._asked[place] = frozenset(charges)

    def accept(self, place: str) -> None:
        """Accept the charges of the last `request`."""
        with self._lock:
            self._accepted |= self._asked.pop(place, frozenset())

    def decline(self, place: str) -> None:
        """Discard the last `request`; what was accepted before stays accepted."""
        with self._lock:
            self._asked.pop(place, None)

    def pending(self, place: str, providers: set[str] | None = None) -> bool:
        """True between `request` and `accept` or `decline`, for charges of exactly `providers` if they are given."""
        with self._lock:
            asked = self._asked.get(place, frozenset())
            return bool(asked) and (providers is None or {charge.provider for charge in asked} == providers)

    def covers(self, charges: Iterable[Charge]) -> bool:
        """True if all charges have been accepted."""
        with self._lock:
            return self._accepted.issuperset(charges)

    def require(self, place: str, charges: Sequence[Charge]) -> None:
        """Check that all charges have been accepted, and request the consent otherwise.

        Raises
        ------
        ConsentError
            If one of them has not been accepted.
        """
        if not self.covers(charges):
            self.request(place, charges)
            raise ConsentError(describe(charges))
        self.decline(place)


def charge_of(info: ProviderInfo, options: Mapping[str, Any], settings: Settings) -> Charge:
    """Return the charge of one call of a service with these options."""
    price = quote(info, info.parse_options(options), settings)
    title = Message("{title}: {text}", title=info.title, text=price.steps) if price.steps else info.title
    return Charge(info.id, title, price.cost.usd, price.most)


def charges_of(info: ProviderInfo, options: Mapping[str, Any], key: str, settings: Settings) -> tuple[Charge, ...]:
    """Return the charges of one call; none for a local provider, and without a key, as the call then fails unsent."""
    if info.kind == "local" or (info.pricing and quote(info, info.parse_options(options), settings).local):
        return ()
    usable = not info.key_name or key.strip() or api_keys.available(info.key_name, settings)
    return (charge_of(info, options, settings),) if usable else ()


def total(charges: Sequence[Charge]) -> Estimate:
    """Return the sum of the charges; falsy if nothing is charged."""
    known = sum((charge.usd for charge in charges if charge.usd is not None), Decimal(0))
    most = sum((charge.usd if charge.most is None else charge.most for charge in charges if charge.usd is not None), Decimal(0))
    return Estimate(known, tuple(charge.title for charge in charges if charge.usd is None), most if most > known else None)


def times(charge: Charge, count: int) -> Charge:
    """Return the charge of one call for each of `count` photos."""
    if count == 1:
        return charge
    return Charge(f"{charge.provider} for {count} photos", charge.title, None if charge.usd is None else count * charge.usd)


def describe(charges: Sequence[Charge], count: int = 1) -> str:
    """Return recipients and expected cost of `count` photos in two sentences."""
    services, price = ", ".join(t(charge.title) for charge in charges), str(total(charges))
    if count == 1:
        return Message("This sends your photo to {services}. Expected charge: {price}.", services=services, price=price)
    return Message(
        "This sends your {count} photos to {services}. Expected charge: {price}.", count=count, services=services, price=price
    )
