"""The one call that everything else goes through: a picture and a provider's name become a cutout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rmbg.cutout import Cutout
from rmbg.photo import open_photo
from rmbg.providers import Call, find
from rmbg.providers.base import never, silent
from rmbg.settings import Settings


def remove_background(
    source: Any,
    provider: str = "auto",
    options: Mapping[str, Any] | None = None,
    *,
    key: str | None = None,
    progress: Callable[[float | None, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    settings: Settings | None = None,
) -> Cutout:
    """Cut the subject out of a picture.

    Parameters
    ----------
    source : bytes, path, binary file object, PIL image, data URI or Photo
    provider : str
        Id of a provider, or ``auto`` for the best free one that is ready.
    options : mapping of str to value, optional
        Options of that provider; those left out have their defaults.
    key : str, optional
        A key for this request only; otherwise the environment is asked.
    progress : callable (fraction or None, text), optional
    cancelled : callable () -> bool, optional
        Asked between steps; once it says True the work ends with CancelledError.
    settings : Settings, optional
        By default those of the environment.

    Returns
    -------
    Cutout

    Raises
    ------
    RmbgError
        One of the errors of ``rmbg.errors``, with one sentence for the user.

    Examples
    --------
    >>> from rmbg import compose, encode, remove_background
    >>> cutout = remove_background("photo.jpg")                              # doctest: +SKIP
    >>> pixels = compose.render(cutout, compose.parse_background("#ffffff")) # doctest: +SKIP
    >>> encode.write("photo.png", encode.encode(pixels, encode.FORMATS["png"])) # doctest: +SKIP
    """
    settings = settings or Settings.from_environ()
    chosen = find(provider, settings)
    checked = chosen.info.parse_options(options or {})
    photo = open_photo(source, settings=settings)
    return chosen.cut(photo, checked, Call(settings, key, progress or silent, cancelled or never))
