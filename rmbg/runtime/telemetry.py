"""Seconds of a picture by phase, and events for metrics and logs, which are discarded without a listener."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Literal, Protocol

from rmbg.billing.cost import Cost
from rmbg.errors import CancelledError, InputError, NotReadyError, RmbgError

#: Phases of a removal that are timed separately.
Phase = Literal["queue", "download", "load", "inference", "post-processing"]

#: End of a call. ``invalid`` is a photo or option that cannot be used, ``error`` a bug.
State = Literal["done", "cancelled", "invalid", "not ready", "failed", "error"]


@dataclass
class Call:
    """Call of one provider for one photo.

    Attributes
    ----------
    provider : str
    state : str
        See `State`.
    seconds : float
    cost : Cost or None
        None if nothing was charged, and for a provider whose calls of others have costs of their own.
    """

    provider: str
    state: State = "error"
    seconds: float = 0.0
    cost: Cost | None = None


class Listener(Protocol):
    """Receives all events, in the threads in which they occur."""

    def called(self, call: Call) -> None: ...

    def timed(self, phase: Phase, seconds: float) -> None: ...


#: End of a call by exception; other exceptions of the package are ``failed``.
STATES: dict[type[RmbgError], State] = {CancelledError: "cancelled", InputError: "invalid", NotReadyError: "not ready"}

#: The listeners of this process.
LISTENERS: list[Listener] = []


@contextmanager
def call(provider: str, *, composite: bool = False) -> Iterator[Call]:
    """Report the call of a provider in the block, which sets the cost; errors are raised unchanged.

    The costs of a `composite` provider are those of the providers that it calls.
    """
    event, started = Call(provider), time.perf_counter()
    try:
        yield event
        event.state = "done"
    except RmbgError as error:
        event.state = next((state for kind, state in STATES.items() if isinstance(error, kind)), "failed")
        event.cost = error.cost
        raise
    finally:
        event.seconds = time.perf_counter() - started
        event.cost = None if composite else event.cost
        for listener in LISTENERS:
            listener.called(event)


@contextmanager
def phase(name: Phase) -> Iterator[None]:
    """Report the seconds of the block, also if it raises."""
    started = time.perf_counter()
    try:
        yield
    finally:
        for listener in LISTENERS:
            listener.timed(name, time.perf_counter() - started)


@dataclass(frozen=True)
class Timings:
    """Seconds of one picture by phase.

    Attributes
    ----------
    download : float
        Of the weights, including their verification.
    load : float
        Of the network, including its compilation.
    queue : float
        Until other pictures released the network.
    inference : float
        Run of the network.
    processing : float
        The rest: input of the network, refinement of the matte, foreground.
    """

    download: float = 0.0
    load: float = 0.0
    queue: float = 0.0
    inference: float = 0.0
    processing: float = 0.0

    @property
    def warm(self) -> float:
        """Seconds that every picture takes: inference and processing. The cost of own hardware is computed from it."""
        return self.inference + self.processing

    def summary(self) -> dict[str, float]:
        """Return the seconds as a JSON object."""
        return {name: round(value, 3) for name, value in asdict(self).items()}


def add_timings(parts: Sequence[Timings], total: float) -> Timings:
    """Add up the phases of several runs; `processing` is the rest of `total`, which includes calls of services."""
    sums = {name: sum(getattr(part, name) for part in parts) for name in ("download", "load", "queue", "inference")}
    return Timings(**sums, processing=max(0.0, total - sum(sums.values())))


@dataclass
class Timer:
    """Clock of one picture that adds up the seconds of phases; they must not be nested."""

    started: float = field(default_factory=time.perf_counter)
    seconds: dict[Phase, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Add the seconds in the context to a phase, also if it raises, and report them to the listeners of telemetry."""
        started = time.perf_counter()
        try:
            with phase(name):
                yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    @contextmanager
    def excluded(self) -> Iterator[None]:
        """Exclude the seconds in the context: work for the display, without which the result is the same."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.started += time.perf_counter() - started

    def stop(self) -> tuple[float, Timings]:
        """Return the seconds since the start, and their parts."""
        total = time.perf_counter() - self.started
        return total, Timings(**self.seconds, processing=max(0.0, total - sum(self.seconds.values())))
