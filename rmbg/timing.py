"""Seconds of a picture on this machine, by phase."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

from rmbg import telemetry
from rmbg.telemetry import Phase


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
            with telemetry.phase(name):
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
