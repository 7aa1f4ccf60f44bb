"""Final step of the providers that run on this machine: from a matte to a cutout with time and cost."""

from __future__ import annotations

import numpy as np

from rmbg.billing import prices
from rmbg.cutout import Cutout
from rmbg.images.photo import Photo
from rmbg.matting.finish import finish
from rmbg.providers.base import RequestContext
from rmbg.timing import Timer


def local_cutout(
    provider: str,
    photo: Photo,
    matte: np.ndarray,
    timer: Timer,
    context: RequestContext,
    *,
    engine: str,
    device: str,
    precision: str,
    notes: tuple[str, ...] = (),
    confidence: float | None = None,
) -> Cutout:
    """Build the cutout of a matte: estimate foreground colors, apply the photo's own alpha, add run time and cost.

    Parameters
    ----------
    provider : str
        Provider id.
    photo : Photo
    matte : float array (H, W)
        Alpha in [0, 1] at the size of the photo.
    timer : Timer
        Started with the provider.
    context : RequestContext
    engine, device, precision : str
        Execution plan of the network.
    notes : tuple of str
        Messages to the user, appended to those of the photo.
    confidence : float, optional
        Predicted IoU with the true matte.

    Returns
    -------
    Cutout
    """
    matte, foreground = finish(photo, matte)
    seconds, timings = timer.stop()
    return Cutout(
        photo=photo,
        matte=matte,
        foreground=foreground,
        provider=provider,
        seconds=seconds,
        cost=prices.own_hardware(timings.warm, context.settings.hourly_usd),
        engine=engine,
        device=device,
        precision=precision,
        notes=photo.notes + notes,
        timings=timings,
        confidence=confidence,
    )
