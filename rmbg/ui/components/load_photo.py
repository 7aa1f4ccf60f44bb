"""Photo input of the Remove tab: checks uploads, converts formats that browsers cannot show, downloads from a URL."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import gradio as gr
import numpy as np

from rmbg.errors import RmbgError
from rmbg.images import encode
from rmbg.images.photo import Photo, open_photo
from rmbg.net.download import fetch
from rmbg.settings import Settings
from rmbg.ui.components import viewer
from rmbg.ui.components.inputs import DECODED, SHOWN_BY_BROWSERS, Upload, store_file

#: Concurrent downloads and checks of uploads; a slow server may block a download until its timeout.
CONCURRENT_LOADS = 8


def check_upload(upload: Upload | None) -> tuple[Any, str]:
    """Validate a new upload; returns an update of the photo and an error message.

    The photo is replaced by a PNG if browsers cannot show its format, and cleared if it is not a picture.
    """
    if upload is None:
        return gr.skip(), ""
    try:
        photo = upload.open()
    except RmbgError as error:
        return None, viewer.notice(str(error))
    if not is_shown(upload.name):
        return as_png(photo), ""
    DECODED.put(upload.path, photo)
    return gr.skip(), ""


def load(address: str) -> tuple[Any, str]:
    """Download a picture from the URL `address`; returns an update of the photo and an error message."""
    settings = Settings.from_environ()
    url = address.strip()
    if not url:
        return gr.skip(), viewer.notice("Enter the URL of a picture first, such as https://example.org/photo.jpg.")
    try:
        data = fetch(url, max_bytes=settings.max_bytes, loopback_hosts=settings.photo_hosts, plain_http=True)
        name = PurePosixPath(unquote(urlsplit(url).path)).name
        photo = open_photo(data, name=name or "photo", settings=settings)
    except RmbgError as error:
        return gr.skip(), viewer.notice(str(error))
    if not is_shown(name):
        return as_png(photo), ""
    path = store_file(data, f"{photo.name}{Path(name).suffix}")
    DECODED.put(path, photo)
    return path, ""


def is_shown(name: str) -> bool:
    """True if browsers can show a file with this name."""
    return Path(name).suffix.lower() in SHOWN_BY_BROWSERS


def as_png(photo: Photo) -> str:
    """Store a photo as PNG with the visitor's files and return its path."""
    alpha = [] if photo.alpha is None else [photo.alpha[..., None]]
    pixels = np.concatenate([photo.rgb, *alpha], axis=2)
    return store_file(encode.encode(pixels, encode.FORMATS["png"]), f"{photo.name}.png")
