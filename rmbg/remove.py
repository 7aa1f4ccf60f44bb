"""Background removal: the call that the page, the command line, comparison and benchmark use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from rmbg.cutout import OWN_MASK, Cutout
from rmbg.errors import NotReadyError
from rmbg.images.photo import Photo, open_photo
from rmbg.inference.catalog import VITMATTE
from rmbg.matting.edges import UNCHANGED, AlphaMatting, EdgeSettings
from rmbg.matting.own_mask import read_mask
from rmbg.message import Message
from rmbg.providers import RequestContext, find
from rmbg.providers.base import DeviceTurn, Preview, never_cancelled, no_progress, no_turn, run_directly
from rmbg.providers.delivery import keep_if_paid
from rmbg.providers.local import model_status
from rmbg.providers.local_cutout import local_cutout
from rmbg.settings import Settings
from rmbg.timing import Timer


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
        Held by a cascade while it runs a local provider, and for alpha matting after a remote one.
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
    remote = mask is None and chosen.info.kind == "remote"
    check_alpha_matting(alpha_matting, settings)
    photo = open_photo(source, settings=settings)
    context = RequestContext(settings, key, progress or no_progress, cancelled or never_cancelled, device=device)
    if mask is None and edges == UNCHANGED and alpha_matting is None:
        return run_directly(chosen, photo, checked, replace(context, preview=preview))
    cutout = run_directly(chosen, photo, checked, context) if mask is None else _masked(photo, mask, context)
    with keep_if_paid([cutout], settings):
        if alpha_matting is not None:
            with device(context.check) if remote else nullcontext():
                cutout = cutout.refined(
                    alpha_matting, progress=context.progress, cancelled=context.cancelled, environment=settings
                )
        return cutout.cleaned(edges)


def _masked(photo: Photo, mask: Any, context: RequestContext) -> Cutout:
    """Cutout of a photo by a mask that the user gave."""
    timer = Timer()
    matte = read_mask(mask, photo.width, photo.height, context.settings)
    return local_cutout(OWN_MASK, photo, lambda sized: matte, timer, context, engine="", device="", precision="")


def check_alpha_matting(alpha_matting: AlphaMatting | None, settings: Settings) -> None:
    """Raise NotReadyError if the network of the alpha matting cannot run; called before a provider, which may be paid."""
    if alpha_matting is not None and alpha_matting.method == "vitmatte":
        status = model_status(VITMATTE, settings)
        if not status.usable:
            raise NotReadyError(Message("ViTMatte is not ready: {status}.", status=status.text))
