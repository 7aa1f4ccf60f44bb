"""The last step of every provider that runs on this machine."""

from __future__ import annotations

import time

import numpy as np

from rmbg import prices
from rmbg.cutout import Cutout, finish
from rmbg.photo import Photo
from rmbg.providers.base import Call


def finished(
    provider: str,
    photo: Photo,
    matte: np.ndarray,
    started: float,
    call: Call,
    *,
    engine: str,
    device: str,
    precision: str,
    notes: tuple[str, ...] = (),
) -> Cutout:
    """The cutout of a matte at the photo's size: colours estimated, own alpha applied, this machine's seconds and cost.

    Parameters
    ----------
    provider : str
        Id.
    photo : Photo
    matte : float array (H, W)
        Alpha in [0, 1].
    started : float
        ``time.perf_counter()`` when the provider began.
    call : Call
    engine, device, precision : str
        What ran the network.
    notes : tuple of str
        What the user should know, besides what there is to say about the photo.
    """
    matte, foreground = finish(photo, matte)
    seconds = time.perf_counter() - started
    return Cutout(
        photo=photo,
        matte=matte,
        foreground=foreground,
        provider=provider,
        seconds=seconds,
        cost=prices.own_hardware(seconds, call.settings.hourly_usd),
        engine=engine,
        device=device,
        precision=precision,
        notes=photo.notes + notes,
    )
