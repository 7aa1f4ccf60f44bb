"""Outcome of one photo of a batch."""

from __future__ import annotations

from dataclasses import dataclass

from rmbg.batch.manifest import State
from rmbg.billing.cost import Cost
from rmbg.errors import RmbgError


class HaltError(RmbgError):
    """No further photo can be processed; the current one is left for the next run."""


@dataclass(frozen=True)
class Outcome:
    """Outcome of one photo.

    Attributes
    ----------
    name : str
    state : str
    message : str
        Reason of a failure, or notes on a result.
    unchanged : bool
        True if the result of an earlier run is still current.
    systematic : bool
        True for a failure of the provider, which may affect the next photos as well.
    cost : Cost or None
        Cost of the call for this photo; None if there was none in this run, or none that is charged.
    seconds : float
        Duration of the provider's run; 0 if there was none.
    confidence : float or None
        As in `Cutout`.
    """

    name: str
    state: State
    message: str = ""
    unchanged: bool = False
    systematic: bool = False
    cost: Cost | None = None
    seconds: float = 0.0
    confidence: float | None = None
