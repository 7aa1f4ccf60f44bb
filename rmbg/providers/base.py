"""Provider interface: static data, a status, one method from a photo to a cutout, and the context of a request."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from rmbg.billing.quote import Priced, quote
from rmbg.cutout import Cutout
from rmbg.errors import CancelledError, OptionError, check_text, printable
from rmbg.images.photo import Photo
from rmbg.runtime import telemetry
from rmbg.runtime.messages import Message
from rmbg.settings import Settings


@dataclass(frozen=True)
class Option:
    """One option of a provider: the data behind its form field, command-line option and validation.

    Attributes
    ----------
    name, title, help : str
        Identifier, label and explanation.
    default : bool, int, float or str
        Determines the kind of the option, unless it has `choices`.
    minimum, maximum : float or None
        Inclusive range of a number.
    choices : tuple of str
        Allowed values of a ``choice``.
    advanced : bool
        True for options of the protocol and other details, which the page shows in a section of their own.
    """

    name: str
    title: str
    default: Any
    help: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    advanced: bool = False

    @property
    def kind(self) -> str:
        """One of ``bool``, ``int``, ``float``, ``choice`` and ``text``."""
        return "choice" if self.choices else {str: "text"}.get(type(self.default), type(self.default).__name__)

    def parse(self, value: Any) -> Any:
        """Convert `value`, as text or already of the right type, to a value of this option.

        Raises
        ------
        OptionError
            If the value is invalid; the message names the valid values.
        """
        text = check_text(str(value), self.title).strip()
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


def choice(name: str, title: str, choices: tuple[str, ...], help: str) -> Option:
    """Return an option with the first of its choices as the default."""
    return Option(name, title, choices[0], help, choices=choices)


def advanced(*options: Option) -> tuple[Option, ...]:
    """Return options as those that the page shows in a section of their own."""
    return tuple(replace(option, advanced=True) for option in options)


@dataclass(frozen=True)
class ProviderInfo(Priced):
    """Static data of a provider; the page, the command line and the tables are generated from it.

    Attributes
    ----------
    model : str
        Network or endpoint.
    best_for : str
        Recommended use in three words; empty if there is none.
    license, license_url : str
        Permitted use of the results in one sentence, and the URL of the license.
    pixels : str
        Data use: where the photo is processed and stored. Public as ``pixels`` in the JSON output.
    input_size : str
        Input size of the network, such as ``1024 x 1024``.
    supports : tuple of str
        Capabilities such as ``offline`` and ``soft alpha``.
    options : tuple of Option
    key_name : str
        Environment variable of the API key; empty if no key is required.
    network : str
        For a service that the default cascade may call: the network in `AUTO` that it runs or that is closest in quality, or
        ``own`` for one of its own that is not worse than these. Empty for others, such as services of unknown quality, or that
        are announced or generative, or that return masks of low resolution.
    """

    model: str
    license: str
    license_url: str
    pixels: str
    best_for: str = ""
    input_size: str = ""
    supports: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()
    key_name: str = ""
    network: str = ""

    def parse_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the value of every option: validated from `given`, otherwise the default.

        Raises
        ------
        OptionError
            If a name is unknown or a value is invalid.
        """
        known = {option.name: option for option in self.options}
        for name in given:
            if name not in known:
                has = f"it has {', '.join(known)}" if known else "it has none"
                raise OptionError(f"{self.id} has no option {printable(name, 60)!r}; {has}.")
        return {name: option.parse(given.get(name, option.default)) for name, option in known.items()}


@dataclass(frozen=True)
class Status:
    """Readiness of a provider, shown before it is run.

    Attributes
    ----------
    state : {"ready", "download", "key", "licence", "unavailable"}
        ``download`` means that the first run downloads weights, ``key`` that an API key is missing, ``licence`` that a
        license has to be accepted first.
    text : str
        Description of the state, as the end of the sentence "NAME is not ready: ...".
    brief : str
        The same in a word for lists, such as the megabytes of a download; by default `text`.
    """

    state: Literal["ready", "download", "key", "licence", "unavailable"]
    text: str
    brief: str = ""

    @property
    def usable(self) -> bool:
        """True if the provider can run, possibly after a download."""
        return self.state in ("ready", "download")


READY = Status("ready", Message("ready"))


@dataclass(frozen=True)
class Execution:
    """Network of a provider and what runs it.

    Attributes
    ----------
    revision : str
        Checksum of the weights, or the endpoint of a service; empty if the weights are not downloaded yet.
    engine, device, precision : str
        On this machine; empty for a service.
    """

    revision: str
    engine: str = ""
    device: str = ""
    precision: str = ""


def no_progress(fraction: float | None, text: str) -> None:
    """Progress callback that discards its arguments."""


def never_cancelled() -> bool:
    """Cancellation callback of work that cannot be cancelled; always False."""
    return False


#: Non-reentrant context manager that holds the device. Its argument is called while it waits, and may raise.
DeviceTurn = Callable[[Callable[[], None]], AbstractContextManager[None]]


def no_turn(check: Callable[[], None]) -> AbstractContextManager[None]:
    """Return a turn without waiting, for a device that is not shared."""
    return nullcontext()


#: Call of one provider on behalf of another one; the arguments are the provider and those of ``Provider.cut``.
Runner = Callable[["Provider", Photo, Mapping[str, Any], "RequestContext"], Cutout]


def run_directly(provider: Provider, photo: Photo, options: Mapping[str, Any], context: RequestContext) -> Cutout:
    """Call a provider without a record that survives the process; the call is an event of `telemetry`."""
    with telemetry.call(provider.info.id, composite=provider.composite) as call:
        cutout = provider.cut(photo, options, context)
        call.cost = cutout.cost
        return cutout


@dataclass(frozen=True)
class PaidJob:
    """Paid job that another process can resume if this one is killed.

    Attributes
    ----------
    id : str
        UUID of the job, the same in all processes.
    handle : str
        Identifier of the job at the service, stored by an earlier process; empty if it has not been accepted yet.
    keep : callable (handle)
        Stores the handle as soon as the service has accepted the job.
    """

    id: str
    handle: str
    keep: Callable[[str], None]


@dataclass(frozen=True)
class Preview:
    """Receiver of the cutout at screen size, before the one at full size is computed.

    Attributes
    ----------
    side : int
        Longest side in pixels.
    show : callable (cutout, width, height)
        Receives the cutout, whose seconds and cost are not final, and the size of the photo; called at most once.
    """

    side: int
    show: Callable[[Cutout, int, int], None]


@dataclass(frozen=True)
class RequestContext:
    """Settings, key and callbacks of one request.

    Attributes
    ----------
    settings : Settings
    key : str or None
        API key for this request only.
    progress : callable (fraction or None, text)
        Receives the current step; a fraction of None means that the duration is unknown.
    cancelled : callable () -> bool
        Returns True once the user has cancelled the request.
    job : PaidJob or None
        Set if another process may resume the paid request.
    device : callable (check) -> context manager
        Held by a local provider while its network runs, and by one that calls others while a local one runs.
    run_paid : callable (provider, photo, options, context) -> Cutout
        Used by a provider that calls others for the paid ones.
    preview : Preview or None
        Used by local providers for photos that are much larger than a preview.
    """

    settings: Settings = field(default_factory=Settings.from_environ)
    key: str | None = field(default=None, repr=False)
    progress: Callable[[float | None, str], None] = no_progress
    cancelled: Callable[[], bool] = never_cancelled
    job: PaidJob | None = None
    device: DeviceTurn = no_turn
    run_paid: Runner = run_directly
    preview: Preview | None = None

    def check(self) -> None:
        """Raise CancelledError if the user has cancelled the request; to be called between steps."""
        if self.cancelled():
            raise CancelledError("Stopped.")


class Provider(ABC):
    """Base class of all providers."""

    info: ProviderInfo

    #: True if `cut` calls other providers, the paid ones through ``RequestContext.run_paid``.
    composite = False

    #: True if each process of a batch may load the network, which is small and runs on the CPU.
    small_network = False

    #: Resumption of a paid job whose process was killed: "by id" if the service recognizes a repeated UUID, "by handle" if the
    #: service returns an identifier of the job.
    resumes: Literal["never", "by id", "by handle"] = "never"

    def status(self, settings: Settings) -> Status:
        """Return the current status; fast, and without network access."""
        return READY

    def executions(self, settings: Settings) -> tuple[Execution, ...]:
        """Return the networks that the next call runs, without network access.

        Raises
        ------
        NotReadyError
            If the settings name an engine or a device that is not available.
        """
        return (Execution(self.info.model),)

    def checksums(self, options: Mapping[str, Any], settings: Settings) -> tuple[str, ...]:
        """Return a checksum of each own model that a call with these options may run, as their ids do not identify them.

        Raises
        ------
        ModelError
            If a file cannot be read.
        """
        return ()

    def warm_up(self, context: RequestContext) -> None:  # noqa: B027 - most providers have nothing to warm up
        """Load the network and run it once if it has not run in this process, so that the next run takes its usual time.

        Raises
        ------
        RmbgError
            As `cut`.
        """

    @abstractmethod
    def cut(self, photo: Photo, options: Mapping[str, Any], context: RequestContext) -> Cutout:
        """Remove the background of `photo`.

        Parameters
        ----------
        photo : Photo
        options : mapping of str to Any
            A validated value for every option of ``info``.
        context : RequestContext

        Raises
        ------
        RmbgError
            If no cutout can be made.
        """


def describe(info: ProviderInfo, status: Status, settings: Settings) -> dict[str, Any]:
    """Return a provider as a JSON object, for ``rmbg providers --json`` and the API."""
    price = quote(info, {}, settings)
    return {
        **{name: getattr(info, name) for name in ("id", "title", "kind", "model")},
        "status": {"state": status.state, "text": status.text},
        "price": {
            "usd": None if info.kind == "local" or price.cost.usd is None else float(price.cost.usd),
            "basis": price.cost.basis,
            "seen": price.seen or None,
        },
        "licence": info.license,
        "licence_url": info.license_url,
        "pixels": info.pixels,
        "best_for": info.best_for,
        "input_size": info.input_size,
        "supports": list(info.supports),
        "options": [
            {name: getattr(option, name) for name in ("name", "kind", "default", "help", "minimum", "maximum")}
            | {"choices": list(option.choices)}
            for option in info.options
        ],
    }
