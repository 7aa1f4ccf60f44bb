"""Price list of the services, and the price of a call before it is sent, for estimates, consent, the ledger and tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from datetime import date
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import Any, Literal

from rmbg.billing.cost import Basis, Cost, dollars
from rmbg.errors import OptionError, alternatives, printable, reason
from rmbg.runtime.files import read_toml
from rmbg.runtime.messages import Message, OwnerMessage
from rmbg.settings import INVALID, Settings

MONTHLY_IMAGES = 100_000

#: Upper limit of a plausible charge for a picture, in dollars or in the service's own units.
MAX_AMOUNT = 1000

#: Months after which the price of a service may have changed.
MAX_AGE = 6

#: File in the data folder with the owner's prices, see `Settings.prices`.
OWN_PRICES = "prices.toml"


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
    free : str
        Free tier, such as ``10 pictures a month``; empty if there is none or it is not known.
    counted : Decimal
        Amount that one image counts against the budget until its cost is known.
    setting : str or None
        Field of ``Settings`` with the owner's negotiated price, which overrides `usd` and that of ``prices.toml`` if it is set.
    units, images : callable (options) -> number
        Number of units charged for one call, None if it is unknown, and number of images that the call returns.
    """

    usd: Decimal | None
    basis: Basis
    seen: str
    source: str
    counted: Decimal
    setting: str | None = None
    units: Callable[[Mapping[str, Any]], Decimal | None] = lambda options: Decimal(1)
    images: Callable[[Mapping[str, Any]], int] = lambda options: 1
    free: str = ""


def _unknown(source: str, counted: str, *, seen: str = "2026-11", **more: Any) -> Price:
    return Price(None, "unknown", seen, source, Decimal(counted), **more)


def _listed(usd: str, source: str, *, seen: str = "2026-11", basis: Basis = "listed", **more: Any) -> Price:
    return Price(Decimal(usd), basis, seen, source, Decimal(usd), **more)


def _preview_quarter(options: Mapping[str, Any]) -> Decimal:
    """Credits for a picture: a quarter for the size ``preview``, otherwise one."""
    return Decimal("0.25") if options.get("size") == "preview" else Decimal(1)


#: Variants of BiRefNet with a listed price at Runware.
PRICED_VARIANTS = ("matting", "general", "massive", "portrait")


#: Prices by provider id. Update the month and the source together with a price.
PRICES: dict[str, Price] = {
    "fal-rmbg-2.0": _listed("0.018", "https://fal.ai/models/fal-ai/bria/background/remove"),
    # Listed as $0 per second of computation, which contradicts the charges that users report.
    "fal-birefnet": _unknown("https://fal.ai/models/fal-ai/birefnet/v2", "0.005"),
    # Per megapixel; photos are sent with at most one.
    "fal-ben2": _listed("0.025", "https://fal.ai/models/fal-ai/ben/v2/image"),
    "fal-pixelcut": _listed("0.016", "https://fal.ai/models/pixelcut/background-removal"),
    "fal-ideogram": _listed("0.01", "https://fal.ai/models/fal-ai/ideogram/remove-background"),
    "fal-sam-3": _listed("0.005", "https://fal.ai/models/fal-ai/sam-3/image"),
    "fal-replace": _listed(
        "0.023",
        "https://fal.ai/models/fal-ai/bria/background/replace",
        units=lambda options: Decimal(int(options.get("num_images", 1))),
        images=lambda options: int(options.get("num_images", 1)),
    ),
    "runware-birefnet": _listed(
        "0.0006",
        "https://runware.ai/docs/models/birefnet-matting",
        units=lambda options: Decimal(1) if options.get("variant", "matting") in PRICED_VARIANTS else None,
    ),
    "runware-rmbg-2.0": _listed("0.018", "https://runware.ai/docs/models/bria-rmbg-v2-0"),
    "runware-rembg-1.4": _listed("0.0013", "https://runware.ai/docs/models/rembg-v1-4"),
    "runware-ideogram": _listed("0.01", "https://runware.ai/docs/models/ideogram-remove-background"),
    "bria-rmbg-2.0": _listed("0.018", "https://bria.ai/pricing", seen="2026-09", free="100 pictures"),
    "photoroom": _listed(
        "0.02",
        "https://www.photoroom.com/api/pricing",
        seen="2026-05",
        units=_preview_quarter,
        free="10 pictures a month, tests with a watermark",
    ),
    # A credit is said to be a fraction of a cent; the price list could not be read.
    "pixian": _unknown(
        "https://pixian.ai/pricing",
        "0.01",
        units=lambda options: Decimal(0) if options.get("test") else Decimal(1),
        free="tests with a watermark",
    ),
    "recraft": _listed("0.01", "https://www.recraft.ai/docs/api-reference/pricing"),
    # EUR 0.05 to 0.10, depending on the volume, by reports of others.
    "withoutbg": _unknown("https://withoutbg.com/pricing", "0.12"),
    # Seconds of a GPU; the hardware of the model could not be found.
    "replicate-birefnet": _unknown("https://replicate.com/pricing", "0.01"),
    # $0.02 to $0.05 a credit, depending on the volume; RMBG_REMOVEBG_CREDIT_USD overrides it. A full-size picture takes one.
    "removebg": _listed(
        "0.05",
        "https://www.remove.bg/pricing",
        setting="removebg_credit_usd",
        units=_preview_quarter,
        free="50 previews a month",
    ),
    # Hugging Face passes on the price of its inference provider, fal, and reports no charge in the response.
    "hf-rmbg-2.0": _unknown("https://huggingface.co/docs/inference-providers/pricing", "0.018"),
    "gigarouter-rmbg-1.4": _listed("0.000047", "https://gigarouter.ai/models", basis="estimated"),
}


def amount(value: Any) -> Decimal | None:
    """Parse an amount in a service's response; None if it is invalid or implausible."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() and 0 <= number <= MAX_AMOUNT else None


def price_of(info: Priced, settings: Settings) -> Price | None:
    """Return the price of a provider: the owner's, or else that of the price list; None for own hardware.

    Raises
    ------
    OptionError
        If the file of the owner's prices is invalid.
    """
    price = info.price
    if price is None:
        return None
    own = None if price.setting is None else getattr(settings, price.setting)
    if own is not None:
        return replace(price, usd=own, counted=own, seen="")
    fields = _own_prices(settings.prices or settings.data / OWN_PRICES, required=settings.prices is not None).get(info.id)
    return price if fields is None else replace(price, **fields)


@cache
def _own_prices(path: Path, *, required: bool) -> Mapping[str, Mapping[str, Any]]:
    """Fields of `Price` by the id of the service, in a file that is read once; empty if it may be missing."""
    try:
        return {name: _own_price(name, entry) for name, entry in read_toml(path).items()}
    except OSError as error:
        if isinstance(error, (FileNotFoundError, NotADirectoryError)) and not required:
            return {}
        problem = f"cannot be read: {reason(error)}. Correct RMBG_PRICES or make the file readable."
    except OptionError as error:
        problem = f"is invalid: {error}."
    except ValueError as error:
        problem = f"is not a TOML file ({reason(error)}). Correct or delete it."
    raise OptionError(OwnerMessage(f"The price list {path} {problem}", INVALID))


def _own_price(name: str, entry: Any) -> dict[str, Any]:
    """Check an entry of the owner's prices; OptionError if it is invalid."""
    if name not in PRICES:
        raise OptionError(f"there is no price of {printable(name, 40)!r}; choose from {alternatives(name, PRICES)}")
    if not isinstance(entry, dict) or not {"usd", "seen"} <= set(entry) <= {"usd", "seen", "source"}:
        raise OptionError(f"{name} must have usd and seen, and may have source")
    usd, seen, source = amount(entry["usd"]), entry["seen"], entry.get("source", OWN_PRICES)
    if usd is None:
        text = printable(str(entry["usd"]), 40)
        raise OptionError(f"usd of {name} is {text!r}; it must be an amount of dollars from 0 to {MAX_AMOUNT}")
    if not (isinstance(seen, str) and re.fullmatch("[0-9]{4}-(0[1-9]|1[0-2])", seen)):
        raise OptionError(f"seen of {name} is {printable(str(seen), 40)!r}; it must be a month such as 2026-11")
    if not isinstance(source, str):
        raise OptionError(f"source of {name} is {printable(str(source), 40)!r}; it must be text")
    return {"usd": usd, "counted": usd, "basis": "listed", "seen": seen, "source": source}


def own_hardware(seconds: float, hourly_usd: Decimal) -> Cost:
    """Estimated cost of `seconds` on this machine at `hourly_usd` an hour."""
    return Cost((Decimal(repr(seconds)) * hourly_usd / 3600).quantize(Decimal("1E-8")), "estimated")


def monthly(cost: Cost, images: int = MONTHLY_IMAGES) -> Decimal | None:
    """US dollars for `images` images at the cost of one; None if that cost is unknown."""
    return None if cost.usd is None else cost.usd * images


def read_in(month: str, today: date | None = None) -> str:
    """Return a text with the month of a price: ``seen 2026-11``, or ``price of 2026-05`` if it is older than six months.

    Parameters
    ----------
    month : str
        YYYY-MM, of which the first day counts; empty for an empty text.
    today : date, optional
    """
    today = today or date.today()
    year, index = divmod(12 * today.year + today.month - 1 - MAX_AGE, 12)
    old = f"{month}-01" < f"{year}-{index + 1:02}-{today.day:02}"
    return Message("price of {month}" if old else "seen {month}", month=month) if month else ""


@dataclass(frozen=True)
class Priced:
    """Fields of ``ProviderInfo`` that determine the price.

    Attributes
    ----------
    id, title : str
        Public identifier and display name.
    kind : {"local", "remote"}
        ``local`` providers run on this machine, ``remote`` ones upload the photo to a service.
    price : Price or None
        Entry of the price list; None for own hardware, which is priced by run time, and with `pricing`.
    seconds : float or None
        Typical run time for a photo of a few megapixels; for local providers on two CPU cores.
    pricing : callable (options, settings) -> Quote, or None
        Price of a provider that calls others.
    """

    id: str
    title: str
    kind: Literal["local", "remote"]
    _: KW_ONLY
    price: Price | None = None
    seconds: float | None = None
    pricing: Callable[[Mapping[str, Any], Settings], Quote] | None = None

    @property
    def price_seen(self) -> str:
        """Month in which the price was read (YYYY-MM); empty if there is none."""
        return self.price.seen if self.price and self.price.usd is not None else ""


@dataclass(frozen=True)
class Quote:
    """Expected price of one call.

    Attributes
    ----------
    cost : Cost
        Expected cost of all images of the call.
    reserve : Decimal
        Dollars that the call counts against the budget until its cost is known; zero for local providers.
    images : int
        Number of images that the call returns.
    local : bool
        True if the provider runs on this machine.
    seen : str
        Month in which the price was read (YYYY-MM), the first one of several prices, or empty.
    most : Decimal or None
        Highest price in dollars, if it depends on the photo.
    steps : str
        Providers that are called in turn, each with its price; empty for a single one.
    """

    cost: Cost
    reserve: Decimal
    images: int = 1
    local: bool = False
    seen: str = ""
    most: Decimal | None = None
    steps: str = ""

    def __str__(self) -> str:
        """Return a text such as ``$0.018 listed``, ``$0.00003 estimated`` or ``price unknown``."""
        return Message("price unknown") if self.cost.usd is None else _at_most(str(self.cost), self.most)

    def brief(self) -> str:
        """Return the price alone: ``$0.018``, ``free`` for a local provider, or ``price unknown``."""
        return Message("free") if self.local else Message("price unknown") if self.cost.usd is None else dollars(self.cost.usd)

    def details(self, today: date | None = None) -> str:
        """Return the steps, the price, its basis, its month (see `read_in`) and the cost of a month.

        Such as ``$0.018 a picture (listed, seen 2026-11), $1,800 for 100,000 a month``.
        """
        if self.steps:
            return Message("{title}: {text}", title=self.steps, text=replace(self, steps="").details(today))
        if self.cost.usd is None:
            return Message("price unknown before the call")
        usd = dollars(self.cost.usd)
        if self.local:
            return Message("about {usd} a picture of this machine's time (estimated)", usd=usd)
        basis: str = Message(self.cost.basis)
        if self.seen:
            basis = Message("{basis}, {month}", basis=basis, month=read_in(self.seen, today))
        price: str = Message("{usd} a picture", usd=usd) if self.images == 1 else usd
        if self.most is not None:
            price = _at_most(Message("{price} on average", price=price), self.most)
        return Message("{price} ({basis}), {monthly}", price=price, basis=basis, monthly=projection(self.cost, self.images))


def quote(info: Priced, options: Mapping[str, Any], settings: Settings) -> Quote:
    """Quote the price of one call of a provider.

    Parameters
    ----------
    info : ProviderInfo
    options : mapping
        Validated options of the provider; missing options have their defaults.
    settings : Settings
        Contains the price of an hour of this machine and the owner's prices.
    """
    if info.pricing is not None:
        return info.pricing(options, settings)
    price = price_of(info, settings)
    if price is None:
        return Quote(own_hardware(info.seconds or 1.0, settings.hourly_usd), Decimal(0), local=True)
    units = price.units(options)
    if units is None or (price.usd is None and units != 0):
        return Quote(Cost(None, "unknown"), price.counted, price.images(options))
    cost = Cost(units * (price.usd or 0), "listed" if price.usd is None else price.basis)
    return Quote(cost, units * price.counted, price.images(options), seen="" if price.usd is None else price.seen)


@dataclass(frozen=True)
class Estimate:
    """Expected charge of several calls; falsy if none of them is charged.

    Attributes
    ----------
    usd : Decimal
        Sum of the known prices.
    unknown : tuple of str
        Titles of the services whose price is unknown.
    most : Decimal or None
        Highest possible sum of the known prices, if they depend on the photos.
    steps : tuple of str
        For each provider that calls others, those and their prices.
    """

    usd: Decimal = Decimal(0)
    unknown: tuple[str, ...] = ()
    most: Decimal | None = None
    steps: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.usd or self.most or self.unknown)

    def __str__(self) -> str:
        """Return a text such as ``about $0.02 and an unknown price at A and B``."""
        known = _at_most(Message("about {usd}", usd=dollars(self.usd)), self.most) if self.usd or self.most else ""
        if not self.unknown:
            return known
        unknown = Message("an unknown price at {services}", services=", ".join(self.unknown))
        return Message("{known} and {unknown}", known=known, unknown=unknown) if known else unknown


def estimate(calls: Iterable[tuple[Priced, int]], settings: Settings) -> Estimate:
    """Estimate the charge of a number of calls of each provider with default options; local calls are free."""
    usd, most, unknown, steps = Decimal(0), Decimal(0), [], []
    for info, count in calls:
        if info.kind == "local" or not count:
            continue
        price = quote(info, {}, settings)
        if price.local:
            continue
        if price.steps:
            steps.append(price.steps)
        if price.cost.usd is None:
            unknown.append(info.title)
        else:
            usd += count * price.cost.usd
            most += count * (price.cost.usd if price.most is None else price.most)
    return Estimate(usd, tuple(unknown), most if most > usd else None, tuple(steps))


def projection(cost: Cost, images: int = 1) -> str:
    """Return a text with the monthly cost, such as ``$1,800 for 100,000 a month``; empty if the cost is unknown."""
    month = monthly(cost)
    return "" if month is None else Message("{usd} for 100,000 a month", usd=dollars(month / images))


def _at_most(price: str, usd: Decimal | None) -> str:
    """Return a text such as ``$0.01 listed, at most $0.02``, with the limit rounded up; `price` without a limit."""
    if not usd:
        return price
    limit = dollars(usd.quantize(Decimal(1).scaleb(usd.adjusted() - 1), ROUND_CEILING))
    return Message("{price}, at most {limit}", price=price, limit=limit)
