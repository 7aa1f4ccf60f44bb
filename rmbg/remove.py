"""Background removal: the call that the page, the command line, comparison and benchmark use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rmbg.cutout import Cutout
from rmbg.images.photo import open_photo
from rmbg.matting.edges import UNCHANGED, AlphaMatting, EdgeSettings
from rmbg.providers import RequestContext, find
from rmbg.providers.base import DeviceTurn, never_cancelled, no_progress, no_turn
from rmbg.providers.delivery import keep_if_paid
from rmbg.settings import Settings


def remove_background(
    source: Any,
    provider: str = "auto",
    options: Mapping[str, Any] | None = None,
    *,
    edges: EdgeSettings = UNCHANGED,
    alpha_matting: AlphaMatting | None = None,
    key: str | None = None,
    progress: Callable[[float | None, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    settings: Settings | None = None,
    device: DeviceTurn = no_turn,
) -> Cutout:
    """Remove the background of a picture.

    Parameters
    ----------
    source : bytes, path, binary file object, PIL image, data URI or Photo
    provider : str
        Id of a provider, or ``auto`` for the best free provider that is ready.
    options : mapping of str to value, optional
        Options of the provider. Missing ones have their defaults.
    edges : EdgeSettings, optional
        Clean-up of the matte. ``Cutout.cleaned`` applies other settings later, without another run of the provider.
    alpha_matting : AlphaMatting, optional
        Alpha matting of the provider's matte before the clean-up, which takes seconds a megapixel. By default there is none.
    key : str, optional
        API key for this request. By default it is read from the environment.
    progress : callable (fraction or None, text), optional
    cancelled : callable () -> bool, optional
        Called between steps; CancelledError is raised once it returns True.
    settings : Settings, optional
        By default those of the environment.
    device : callable (check) -> context manager, optional
        Held by a cascade while it runs a local provider.

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
    photo = open_photo(source, settings=settings)
    context = RequestContext(settings, key, progress or no_progress, cancelled or never_cancelled, device=device)
    cutout = chosen.cut(photo, checked, context)
    if edges == UNCHANGED and alpha_matting is None:
        return cutout
    with keep_if_paid([cutout], settings):
        if alpha_matting is not None:
            cutout = cutout.refined(alpha_matting, progress=context.progress, cancelled=context.cancelled)
        return cutout.cleaned(edges)
