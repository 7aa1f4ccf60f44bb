"""Final step of the providers that run on this machine: from a matte to a cutout with time and cost."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rmbg.billing import prices
from rmbg.cutout import Cutout
from rmbg.images.photo import Photo
from rmbg.images.shrink import shrink_photo
from rmbg.matting.finish import finish
from rmbg.providers.base import RequestContext
from rmbg.timing import Timer

#: Pixels of the photo for each pixel of a preview below which there is no preview: the full size follows at once.
PREVIEW_RATIO = 1.5


def local_cutout(
    provider: str,
    photo: Photo,
    matte: Callable[[Photo], np.ndarray],
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

    A preview that `context` requests is computed before, and its seconds are not counted.

    Parameters
    ----------
    provider : str
        Provider id.
    photo : Photo
    matte : callable (photo) -> float array (H, W)
        Returns alpha in [0, 1] at the size of its argument: the photo, or a smaller copy of it.
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

    def cutout(sized: Photo, alpha: np.ndarray) -> Cutout:
        alpha, foreground = finish(sized, alpha)
        seconds, timings = timer.stop()
        return Cutout(
            photo=sized,
            matte=alpha,
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

    if context.preview is not None:
        with timer.excluded():
            small = shrink_photo(photo, context.preview.side)
            if photo.width * photo.height >= PREVIEW_RATIO * small.width * small.height:
                context.preview.show(cutout(small, matte(small)), photo.width, photo.height)
        context.check()
    alpha = matte(photo)
    context.check()
    context.progress(None, "Estimating the foreground colors")
    return cutout(photo, alpha)
