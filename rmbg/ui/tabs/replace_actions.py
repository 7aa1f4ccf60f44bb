"""Event handlers of the Replace tab: the run, its cancellation, selection of a picture."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np

from rmbg.billing.quote import quote
from rmbg.errors import CancelledError, RmbgError, reason
from rmbg.images import encode
from rmbg.replace import INFO, Replaced, pixels, replace_background
from rmbg.settings import Settings
from rmbg.ui.cancellation import buttons
from rmbg.ui.components import provider_text, viewer
from rmbg.ui.components.photo_input import Upload, store_file
from rmbg.ui.consent import ConsentError, charges_of
from rmbg.ui.results import PREVIEW_SIDE, thumbnail
from rmbg.ui.session import Session
from rmbg.ui.templates import render

log = logging.getLogger(__name__)

#: Name of this tab in the consent of a visitor, and prefix of its element ids.
PLACE = "replace"

#: Longest side of a thumbnail, in pixels.
THUMBNAIL_SIDE = 200

NOT_STORED = "The server cannot store these pictures, which were paid for. Click each picture below to download it now."


@dataclass(frozen=True)
class Picture:
    """One generated picture: the HTML that shows it beside the photo, its file, and the file of its thumbnail."""

    html: str
    path: str
    thumbnail: str


def price_line(options: dict[str, Any]) -> str:
    """Return the expected price of all pictures, expected seconds, license, recipient of the photo."""
    try:
        price = quote(INFO, INFO.parse_options(options), Settings.from_environ())
    except RmbgError as error:
        return viewer.notice(str(error))
    return provider_text.summary(INFO, f"{price.details()}, about {INFO.seconds:g} s.", Settings.from_environ())


def begin(session: Session) -> tuple[Any, ...]:
    """Start a run and clear the message."""
    return session.replacements.start(), *buttons(True), ""


def after(session: Session) -> tuple[Any, Any]:
    """Updates of the buttons after a run has ended; another run may be active by then."""
    return buttons(session.replacements.active)


def replace(
    run: int | None,
    upload: Upload | None,
    prompt: str,
    reference: Upload | None,
    key: str,
    options: dict[str, Any],
    session: Session,
    progress: gr.Progress = gr.Progress(),
) -> tuple[Any, ...]:
    """Call fal once and return the updates of the page."""
    message = ""
    token = None
    try:
        token = session.replacements.begin(run, paid=True)
        if token is None:
            return tuple(gr.skip() for _ in range(7))
        if upload is None:
            return _message_only(session, "Choose a photo first: upload or paste one.")
        if bool(prompt.strip()) == (reference is not None):
            return _message_only(session, "Describe the new background or choose a picture of a similar one, but not both.")
        session.consent.require(PLACE, charges_of(INFO, options, key, Settings.from_environ()))
        replaced = replace_background(
            upload.open(),
            prompt,
            None if reference is None else reference.open(),
            options,
            key=key,
            progress=lambda done, text: progress(done or 0.0, desc=text),
            cancelled=token.cancelled,
        )
        session.spend.add(INFO.id, replaced.cost, len(replaced.pictures))
        return _show(session, replaced)
    except RmbgError as error:
        message = str(error)
        session.spend.add(INFO.id, error.cost)
        return _message_only(session, message, "info" if isinstance(error, (CancelledError, ConsentError)) else "error")
    except Exception:
        log.exception("Replacing the background failed")
        return _message_only(session, viewer.INTERNAL_ERROR)
    finally:
        if token is not None:
            token.end(message)


def _message_only(session: Session, text: str, kind: str = "error") -> tuple[Any, ...]:
    return (*(gr.skip() for _ in range(5)), viewer.notice(text, kind), viewer.total(session))


def _show(session: Session, replaced: Replaced) -> tuple[Any, ...]:
    """Updates that show the first picture, and the thumbnails of several."""
    try:
        pictures = [_picture(replaced, number) for number in range(len(replaced.pictures))]
    except (OSError, RmbgError) as error:
        log.warning("Pictures could not be stored: %s", reason(error))
        hidden = gr.update(visible=False)
        note = viewer.notice(NOT_STORED, "info")
        return [], "", hidden, hidden, _facts(replaced) + _inline(replaced), note, viewer.total(session)
    captions = [(picture.thumbnail, f"{number} of {len(pictures)}") for number, picture in enumerate(pictures, start=1)]
    return (
        pictures,
        pictures[0].html,
        gr.update(value=captions, visible=len(pictures) > 1, selected_index=None),
        gr.update(value=pictures[0].path, visible=True),
        _facts(replaced),
        "",
        viewer.total(session),
    )


def _picture(replaced: Replaced, number: int) -> Picture:
    picture = replaced.pictures[number]
    full = pixels(picture)
    small = np.asarray(thumbnail(full, THUMBNAIL_SIDE))
    return Picture(
        html=render(
            "replaced.html",
            width=picture.width,
            height=picture.height,
            label=f"Picture {number + 1} of {len(replaced.pictures)}",
            uri=viewer.data_uri(np.asarray(thumbnail(full, PREVIEW_SIDE))),
            photo=viewer.data_uri(np.asarray(thumbnail(replaced.photo.flattened(), PREVIEW_SIDE))),
        ),
        path=store_file(encode.encode(full, encode.FORMATS["png"]), f"{picture.name}.png"),
        thumbnail=store_file(encode.encode(small, encode.FORMATS["webp-lossy"], quick=True), f"{picture.name}.webp"),
    )


def select(event: gr.EventData, pictures: list[Picture]) -> tuple[Any, Any]:
    """Show another picture of the run."""
    index = event._data.get("index") if isinstance(event._data, dict) else None
    if not isinstance(index, int) or not 0 <= index < len(pictures):
        return gr.skip(), gr.skip()
    return pictures[index].html, gr.update(value=pictures[index].path)


def _inline(replaced: Replaced) -> str:
    """Return the pictures as data URIs, for pictures that cannot be stored on disk."""
    shown = [(p.name, viewer.data_uri(pixels(p)), viewer.data_uri(pixels(p), "png")) for p in replaced.pictures]
    return render("pictures.html", pictures=shown)


def _facts(replaced: Replaced) -> str:
    """Return the line with seed, seconds, size and cost."""
    first = replaced.pictures[0]
    seed = "seed unknown" if replaced.seed is None else f"seed {replaced.seed}"
    parts = [INFO.title, seed, f"{replaced.seconds:.1f} s", f"{first.width} × {first.height}", str(replaced.cost)]
    return viewer.fact_line(parts, replaced.notes)


def cancel(session: Session) -> tuple[Any, Any, str, str]:
    """Cancel the run and show its final message, which contains what it may have been charged."""
    message = session.replacements.cancel()
    return (*buttons(False), viewer.notice(message, "info"), viewer.total(session))
