"""What a provider is: data about it, its status, and one method that turns a photo into a cutout."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from rmbg.cutout import Basis, Cutout
from rmbg.errors import CancelledError, OptionError, printable
from rmbg.photo import Photo
from rmbg.settings import Settings


@dataclass(frozen=True)
class Option:
    """One option of a provider, with all that a form, a command line and a check need to know.

    Attributes
    ----------
    name, title, help : str
    kind : str
        ``bool``, ``int``, ``float``, ``choice`` or ``text``.
    default : Any
    minimum, maximum : float or None
        Inclusive range of a number.
    choices : tuple of str
        For ``choice``.
    """

    name: str
    title: str
    kind: Literal["bool", "int", "float", "choice", "text"]
    default: Any
    help: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()

    def parse(self, value: Any) -> Any:
        """`value`, given as text or as what it should be, as a value of this option.

        Raises
        ------
        OptionError
            If it cannot be one; the message says what can.
        """
        text = str(value).strip()
        if self.kind == "bool":
            known = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
            if text.lower() not in known:
                raise OptionError(f"{self.name} is {printable(text, 60)!r}; it must be true or false.")
            return known[text.lower()]
        if self.kind == "choice":
            if text not in self.choices:
                raise OptionError(f"{self.name} is {printable(text, 60)!r}; it must be one of {', '.join(self.choices)}.")
            return text
        if self.kind == "text":
            return str(value)
        return self._number(text)

    def _number(self, text: str) -> int | float:
        number: int | float | None
        try:
            number = int(text) if self.kind == "int" else float(text)
        except ValueError:
            number = None
        low, high = self.minimum, self.maximum
        if number is None or number != number or (low is not None and number < low) or (high is not None and number > high):
            kind = "a whole number" if self.kind == "int" else "a number"
            if low is not None and high is not None:
                kind += f" from {low:g} to {high:g}"
            raise OptionError(f"{self.name} is {printable(text, 60)!r}; it must be {kind}.")
        return number


@dataclass(frozen=True)
class ProviderInfo:
    """Everything there is to say about a provider; pages, command line and tables are made from it.

    Attributes
    ----------
    id, title : str
    kind : str
        ``local`` runs on this machine, ``remote`` sends the photo away.
    model : str
        The network or endpoint behind it.
    licence, licence_url : str
        What one may do with the results, in a sentence, and where that is written.
    pixels : str
        Where the photo goes, in a sentence.
    price_usd, price_basis : Decimal or None, str
        Expected price of one image; None with ``estimated`` for own hardware, whose price follows from the seconds.
    price_seen : str
        Month in which the price was read (YYYY-MM); empty for own hardware.
    seconds : float or None
        What to expect for a photo of a few megapixels, on two CPU cores for local providers.
    input_size : str
        What the network sees, such as ``1024 x 1024``.
    supports : tuple of str
        Words such as ``offline``, ``soft alpha``.
    options : tuple of Option
    key_name : str
        Environment variable of the key; empty where none is needed.
    """

    id: str
    title: str
    kind: Literal["local", "remote"]
    model: str
    licence: str
    licence_url: str
    pixels: str
    price_usd: Decimal | None = None
    price_basis: Basis = "estimated"
    price_seen: str = ""
    seconds: float | None = None
    input_size: str = ""
    supports: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()
    key_name: str = ""

    def parse_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All options with their values: those in `given` checked, the others at their defaults.

        Raises
        ------
        OptionError
            If a name or a value is unknown.
        """
        known = {option.name: option for option in self.options}
        for name in given:
            if name not in known:
                has = f"it has {', '.join(known)}" if known else "it has none"
                raise OptionError(f"{self.id} has no option {printable(name, 60)!r}; {has}.")
        return {name: option.parse(given.get(name, option.default)) for name, option in known.items()}


@dataclass(frozen=True)
class Status:
    """Whether a provider can run now, told before the click.

    ``ready``, ``download`` (runs after fetching weights), ``key`` (needs a key), ``licence`` (needs accepting one),
    ``unavailable``; `text` says it in words.
    """

    state: Literal["ready", "download", "key", "licence", "unavailable"]
    text: str

    @property
    def usable(self) -> bool:
        """Whether a click on Remove can work, if need be after a download."""
        return self.state in ("ready", "download")


READY = Status("ready", "ready")


def silent(fraction: float | None, text: str) -> None:
    """Progress that nobody looks at."""


def never() -> bool:
    """Work that nobody stops."""
    return False


@dataclass(frozen=True)
class Call:
    """What one request brings along besides photo and options; it lives as long as the request.

    Attributes
    ----------
    settings : Settings
    key : str or None
        A key given for this request only.
    progress : callable (fraction or None, text)
        Told what is going on; a fraction of None means that nobody knows how long it takes.
    cancelled : callable () -> bool
        Whether the user has stopped it.
    """

    settings: Settings = field(default_factory=Settings.from_environ)
    key: str | None = field(default=None, repr=False)
    progress: Callable[[float | None, str], None] = silent
    cancelled: Callable[[], bool] = never

    def check(self) -> None:
        """Raise CancelledError if the user has stopped the request; called between steps."""
        if self.cancelled():
            raise CancelledError("Stopped.")


class Provider(ABC):
    """Something that turns a photo into a cutout."""

    info: ProviderInfo

    def status(self, settings: Settings) -> Status:
        """Whether it can run now; quick, without network."""
        return READY

    @abstractmethod
    def cut(self, photo: Photo, options: Mapping[str, Any], call: Call) -> Cutout:
        """One cutout of `photo`.

        `options` holds every option of ``info`` with a checked value. Raises an RmbgError if it does not work.
        """
