"""Background removal, for the page, the command line, comparison and benchmark; delivery of paid cutouts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rmbg.billing import recovery
from rmbg.billing.cost import total
from rmbg.cutout import OWN_MASK, Cutout
from rmbg.errors import NotReadyError
from rmbg.images.encode import FORMATS, encode
from rmbg.images.photo import Photo, open_photo
from rmbg.inference.catalog import VITMATTE
from rmbg.matting.edges import UNCHANGED, AlphaMatting, EdgeSettings
from rmbg.matting.retouch import read_mask
from rmbg.providers import RequestContext, file_name, find
from rmbg.providers.base import DeviceTurn, Preview, never_cancelled, no_progress, no_turn, run_directly
from rmbg.providers.local import local_cutout, model_status
from rmbg.runtime.messages import Message
from rmbg.runtime.telemetry import Timer
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


def remove_background(
    source: Any,
    provider: str = "auto",
    options: Mapping[str, Any] | None = None,
    *,
    mask: Any = None,
    edges: EdgeSettings = UNCHANGED,
    alpha_matting: AlphaMatting | None = None,
    key: str | None = None,
    progress: Callable[[float | None, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    settings: Settings | None = None,
    device: DeviceTurn = no_turn,
    preview: Preview | None = None,
) -> Cutout:
    """Remove the background of a picture.

    Parameters
    ----------
    source : bytes, path, binary file object, PIL image, data URI or Photo
    provider : str
        Id of a provider, or ``auto`` for the best free provider that is ready.
    options : mapping of str to value, optional
        Options of the provider. Missing ones have their defaults.
    mask : bytes, path, binary file object, PIL image, data URI or Photo, optional
        Used instead of a provider: gray, white where the subject is, or with transparency, in the aspect ratio of the photo.
    edges : EdgeSettings, optional
        Clean-up of the matte. ``Cutout.cleaned`` applies other settings later, without another run of the provider.
    alpha_matting : AlphaMatting, optional
        Alpha matting of the matte before the clean-up, which takes seconds a megapixel. By default there is none.
    key : str, optional
        API key for this request. By default it is read from the environment.
    progress : callable (fraction or None, text), optional
    cancelled : callable () -> bool, optional
        Called between steps; CancelledError is raised once it returns True.
    settings : Settings, optional
        By default those of the environment.
    device : callable (check) -> context manager, optional
        Held while a local network or the alpha matting runs.
    preview : Preview, optional
        Receives the cutout at screen size before the one at full size is computed, from local providers and for large photos.
        Not used with a mask, edge settings or alpha matting.

    Returns
    -------
    Cutout

    Raises
    ------
    RmbgError
        One of the errors of ``rmbg.errors``, with a message for the user.

    Examples
    --------
    >>> from rmbg import remove_background
    >>> cutout = remove_background("photo.jpg")  # doctest: +SKIP
    >>> cutout.save("card.jpg", background="#ffffff")  # doctest: +SKIP
    >>> cutout.cleaned(EdgeSettings(shift=-1)).save("tighter.png")  # doctest: +SKIP
    """
    settings = settings or Settings.from_environ()
    chosen = find(provider, settings, options)
    checked = chosen.info.parse_options(options or {})
    check_alpha_matting(alpha_matting, settings)
    photo = open_photo(source, settings=settings)
    context = RequestContext(settings, key, progress or no_progress, cancelled or never_cancelled, device=device)
    if mask is None and edges == UNCHANGED and alpha_matting is None:
        return run_directly(chosen, photo, checked, replace(context, preview=preview))
    cutout = run_directly(chosen, photo, checked, context) if mask is None else _masked(photo, mask, context)
    with keep_if_paid([cutout], settings):
        if alpha_matting is not None:
            with device(context.check):
                cutout = cutout.refined(
                    alpha_matting, progress=context.progress, cancelled=context.cancelled, environment=settings
                )
        return cutout.cleaned(edges)


def _masked(photo: Photo, mask: Any, context: RequestContext) -> Cutout:
    """Cutout of a photo by a mask that the user gave."""
    timer = Timer()
    matte = read_mask(mask, photo.width, photo.height, context.settings)
    return local_cutout(OWN_MASK, photo, lambda sized: matte, timer, context)


def check_alpha_matting(alpha_matting: AlphaMatting | None, settings: Settings) -> None:
    """Raise NotReadyError if the network of the alpha matting cannot run; called before a provider, which may be paid."""
    if alpha_matting is not None and alpha_matting.method == "vitmatte":
        status = model_status(VITMATTE, settings)
        if not status.usable:
            raise NotReadyError(Message("ViTMatte is not ready: {status}.", status=status.text))
