"""One run of a visitor's batch before it starts."""

from __future__ import annotations

from dataclasses import dataclass

from rmbg.batch.recipe import Recipe
from rmbg.billing.quote import Estimate


@dataclass(frozen=True)
class Request:
    """One run of a batch: what is asked for, and what it is expected to cost.

    Attributes
    ----------
    recipe : Recipe
    names : collection of str or None
        Photos to process; None for all.
    tasks, photos : int
        Photos to process, and photos among them that are sent to a service.
    estimate : Estimate
        Expected charge.
    """

    recipe: Recipe
    names: frozenset[str] | None
    tasks: int
    photos: int
    estimate: Estimate
