"""How a photo comes to the page: looked at as soon as it is there, made visible, fetched from an address."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import gradio as gr
import numpy as np

from rmbg import encode
from rmbg.errors import RmbgError
from rmbg.fetch import fetch
from rmbg.photo import Photo, open_photo
from rmbg.settings import Settings
from rmbg.ui import viewer
from rmbg.ui.upload import SHOWN_BY_BROWSERS, Upload, cached

#: Addresses that are fetched at a time: each may take its twenty seconds, and nobody waits for a stranger's slow one.
AT_ONCE = 8


def check_upload(upload: Upload | None) -> tuple[Any, str]:
    """Say at once if a file is no picture; show those that browsers cannot show."""
    if upload is None:
        return gr.skip(), ""
    try:
        photo = upload.open()
    except RmbgError as error:
        return None, viewer.notice(str(error))
    return (gr.skip() if _is_shown(upload.name) else _as_png(photo)), ""


def load(address: str) -> tuple[Any, str]:
    """Fetch the picture at an address that the visitor typed; what is none is not kept."""
    settings = Settings.from_environ()
    given = address.strip()
    if not given:
        return gr.skip(), viewer.notice("Type the address of a picture first, such as https://example.org/photo.jpg.")
    try:
        data = fetch(given, max_bytes=settings.max_bytes, loopback_hosts=settings.result_hosts, plain_http=True)
        name = PurePosixPath(unquote(urlsplit(given).path)).name
        photo = open_photo(data, name=name or "photo", settings=settings)
    except RmbgError as error:
        return gr.skip(), viewer.notice(str(error))
    return (cached(data, f"{photo.name}{Path(name).suffix}") if _is_shown(name) else _as_png(photo)), ""


def _is_shown(name: str) -> bool:
    return Path(name).suffix.lower() in SHOWN_BY_BROWSERS


def _as_png(photo: Photo) -> str:
    alpha = [] if photo.alpha is None else [photo.alpha[..., None]]
    pixels = np.concatenate([photo.rgb, *alpha], axis=2)
    return cached(encode.encode(pixels, encode.FORMATS["png"]), f"{photo.name}.png")
