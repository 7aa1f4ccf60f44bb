"""Result of one photo of a batch, before it is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from rmbg.batch.outcome import Outcome
from rmbg.batch.recipe import Recipe
from rmbg.cutout import Cutout
from rmbg.providers.base import never_cancelled
from rmbg.settings import Settings


@dataclass(frozen=True)
class Result:
    """An encoded result.

    Attributes
    ----------
    data : bytes
        Content of the file.
    width, height : int
        Of the photo.
    provisional : bool
        As in `Cutout`.
    outcome : Outcome
    """

    data: bytes
    width: int
    height: int
    provisional: bool
    outcome: Outcome


def create_result(
    recipe: Recipe,
    name: str,
    cutout: Cutout,
    settings: Settings,
    *,
    called: bool = True,
    cancelled: Callable[[], bool] = never_cancelled,
) -> Result:
    """Render and encode the cutout of the input `name`; `called` is False if no provider has run for it."""
    data = recipe.encode(cutout, cancelled, settings)
    outcome = Outcome(name, "done", " ".join(cutout.notes))
    if called:
        outcome = replace(outcome, cost=cutout.cost, seconds=cutout.seconds, confidence=cutout.confidence)
    return Result(data, cutout.photo.width, cutout.photo.height, cutout.provisional, outcome)
