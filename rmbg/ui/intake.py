"""How a photo comes to the page: looked at as soon as it is there, made visible, fetched from an address."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from rmbg import encode
from rmbg.errors import RmbgError
from rmbg.fetch import fetch
from rmbg.photo import stem
from rmbg.settings import Settings
from rmbg.ui import viewer
from rmbg.ui.upload import SHOWN_BY_BROWSERS, Upload, cached


def check_upload(upload: Upload | None) -> tuple[Any, str]:
    """Say at once if a file is no picture; show those that browsers cannot show."""
    if upload is None:
        return gr.skip(), ""
    try:
        photo = upload.open()
    except RmbgError as error:
        return None, viewer.notice(str(error))
    if Path(upload.name).suffix.lower() in SHOWN_BY_BROWSERS:
        return gr.skip(), ""
    alpha = [] if photo.alpha is None else [photo.alpha[..., None]]
    shown = encode.encode(np.concatenate([photo.rgb, *alpha], axis=2), encode.FORMATS["png"])
    return cached(shown, f"{stem(upload.name)}.png"), ""


def load(address: str) -> tuple[Any, str]:
    """Fetch the picture at an address that the visitor typed."""
    settings = Settings.from_environ()
    given = address.strip()
    if not given:
        return gr.skip(), viewer.notice("Type the address of a picture first, such as https://example.org/photo.jpg.")
    try:
        data = fetch(given, max_bytes=settings.max_bytes, loopback_hosts=settings.result_hosts, plain_http=True)
        name = Path(given.partition("?")[0]).name or "photo"
        path = cached(data, name)
        shown, message = check_upload(Upload(path, name))
    except RmbgError as error:
        return gr.skip(), viewer.notice(str(error))
    return (path if shown == gr.skip() else shown), message
