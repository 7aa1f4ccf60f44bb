"""Delivery of paid cutouts: if it fails, they are saved in the recovery folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from decimal import Decimal

from rmbg.billing import recovery
from rmbg.billing.cost import Cost
from rmbg.cutout import Cutout
from rmbg.images.encode import FORMATS, encode
from rmbg.providers import find
from rmbg.settings import Settings


@contextlib.contextmanager
def keep_if_paid(cutouts: Sequence[Cutout], settings: Settings) -> Iterator[None]:
    """Save the cutouts of remote providers in the recovery folder if the block, which delivers them, fails.

    Raises
    ------
    OutputError
        If the block failed and there were such cutouts; the message states their paths and cost. Without such cutouts, the
        error of the block is raised unchanged.
    KeyboardInterrupt
        With the same message, if the block was interrupted.
    """
    paid = [cutout for cutout in cutouts if find(cutout.provider).info.kind == "remote"]
    if not paid:
        yield
        return

    def files() -> dict[str, bytes]:
        return {f"{c.photo.name}-{c.provider}.png": encode(c.render(), FORMATS["png"]) for c in paid}

    with recovery.kept(files, total([cutout.cost for cutout in paid]), settings):
        yield


def total(costs: Sequence[Cost]) -> Cost:
    """Return the sum of costs; unknown if one of them is unknown."""
    if len(costs) == 1:
        return costs[0]
    known = [cost.usd for cost in costs if cost.usd is not None]
    if len(known) < len(costs):
        return Cost(None, "unknown")
    return Cost(sum(known, Decimal(0)), "charged" if all(cost.basis == "charged" for cost in costs) else "listed")
