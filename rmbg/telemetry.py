"""Events for metrics and logs: calls of providers, and seconds by phase. Without a listener they are discarded."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
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


#: The listeners of this process.
LISTENERS: list[Listener] = []


@contextlib.contextmanager
def call(provider: str, *, composite: bool = False) -> Iterator[Call]:
    """Report the call of a provider in the block, which sets the cost; errors are raised unchanged.

    The costs of a `composite` provider are those of the providers that it calls.
    """
    event, started = Call(provider), time.perf_counter()
    try:
        yield event
        event.state = "done"
    except RmbgError as error:
        event.state, event.cost = _state(error), error.cost
        raise
    finally:
        event.seconds = time.perf_counter() - started
        event.cost = None if composite else event.cost
        for listener in LISTENERS:
            listener.called(event)


@contextlib.contextmanager
def phase(name: Phase) -> Iterator[None]:
    """Report the seconds of the block, also if it raises."""
    started = time.perf_counter()
    try:
        yield
    finally:
        for listener in LISTENERS:
            listener.timed(name, time.perf_counter() - started)


def _state(error: RmbgError) -> State:
    if isinstance(error, CancelledError):
        return "cancelled"
    if isinstance(error, InputError):
        return "invalid"
    return "not ready" if isinstance(error, NotReadyError) else "failed"
