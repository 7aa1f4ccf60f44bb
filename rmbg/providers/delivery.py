"""Delivery of paid cutouts: if it fails, they are saved in the recovery folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from rmbg.billing import recovery
from rmbg.billing.cost import total
from rmbg.cutout import OWN_MASK, Cutout
from rmbg.images.encode import FORMATS, encode
from rmbg.providers import file_name, find
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
    paid = [cutout for cutout in cutouts if _is_paid(cutout)]
    if not paid:
        yield
        return

    def files() -> dict[str, bytes]:
        return {f"{c.photo.name}-{file_name(c.provider)}.png": encode(c.render(), FORMATS["png"]) for c in paid}

    with recovery.kept(files, total([cutout.cost for cutout in paid]), settings):
        yield


def _is_paid(cutout: Cutout) -> bool:
    """True if a service has processed the photo; the answer of a cascade may have cost nothing."""
    providers = [step.provider for step in cutout.steps if step.cost is not None] or [cutout.provider]
    return any(name != OWN_MASK and find(name).info.kind == "remote" for name in providers)
