"""Event handlers of the Replace tab: the run, its cancellation, selection of a picture."""

from __future__ import annotations

import base64
import contextlib
import logging
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from rmbg.billing.quote import quote
from rmbg.errors import CancelledError, RmbgError, reason
from rmbg.images import encode
from rmbg.images.photo import Photo
from rmbg.replace import INFO, Replaced, pixels, replace_background
from rmbg.settings import Settings
from rmbg.ui.cancellation import buttons
from rmbg.ui.components import provider_text, viewer
from rmbg.ui.components.photo_input import Upload, store_file
from rmbg.ui.consent import ConsentError, charges_of
from rmbg.ui.languages import t
from rmbg.ui.replacement import Picture, Replacement
from rmbg.ui.session import Session
from rmbg.ui.shrink import PREVIEW_SIDE, thumbnail
from rmbg.ui.templates import render

log = logging.getLogger(__name__)

#: Name of this tab in the consent of a visitor, and prefix of its element ids.
PLACE = "replace"

#: Longest side of a thumbnail, in pixels.
THUMBNAIL_SIDE = 200

REMOVED = "This picture was removed to make room for newer files. Generate it again."
NOT_STORED = "The server cannot store these pictures, which were paid for. Click each picture below to download it now."


#: Number of updates of a run: result, gallery, download, facts, message, total.
UPDATES = 6

#: Number of updates that `restore` returns.
RESTORED = UPDATES + 3


def price_line(options: dict[str, Any]) -> str:
    """Return the expected price of all pictures, expected seconds, license, recipient of the photo."""
    try:
        price = quote(INFO, INFO.parse_options(options), Settings.from_environ())
    except RmbgError as error:
        return viewer.notice(str(error))
    return provider_text.summary(
        INFO, t("{price}, about {seconds} s.", price=t(price.details()), seconds=f"{INFO.seconds:g}"), Settings.from_environ()
    )


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
            return tuple(gr.skip() for _ in range(UPDATES))
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
            progress=lambda done, text: progress(done or 0.0, desc=t(text)),
            cancelled=token.cancelled,
        )
        session.spend.add(INFO.id, replaced.cost, len(replaced.pictures))
        return _show(session, replaced, prompt)
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
    return (*(gr.skip() for _ in range(UPDATES - 2)), viewer.notice(text, kind), viewer.total(session))


def _show(session: Session, replaced: Replaced, prompt: str) -> tuple[Any, ...]:
    """Keep the pictures in the session; updates that show the first one, and the thumbnails of several."""
    try:
        photo = _small(replaced.photo.flattened(), replaced.photo.name, PREVIEW_SIDE)
        pictures = tuple(_picture(picture) for picture in replaced.pictures)
    except (OSError, RmbgError) as error:
        log.warning("Pictures could not be stored: %s", reason(error))
        hidden = gr.update(visible=False)
        note = viewer.notice(NOT_STORED, "info")
        return "", hidden, hidden, _facts(replaced) + _inline(replaced), note, viewer.total(session)
    session.check_deleted()
    session.replacement = Replacement(prompt, photo, pictures, _facts(replaced))
    return *_kept(session.replacement), "", viewer.total(session)


def _kept(replacement: Replacement) -> tuple[Any, Any, Any, str]:
    """Updates of result, gallery, download and facts."""
    pictures = replacement.pictures
    numbers = (t("{number} of {total}", number=number, total=len(pictures)) for number in range(1, len(pictures) + 1))
    captions = list(zip((picture.thumbnail for picture in pictures), numbers, strict=True))
    return (
        _html(replacement, 0),
        gr.update(value=captions, visible=len(pictures) > 1, selected_index=None),
        gr.update(value=pictures[0].path, visible=True),
        replacement.facts,
    )


def _picture(picture: Photo) -> Picture:
    full = pixels(picture)
    return Picture(
        picture.width,
        picture.height,
        path=store_file(encode.encode(full, encode.FORMATS["png"]), f"{picture.name}.png"),
        preview=_small(full, picture.name, PREVIEW_SIDE),
        thumbnail=_small(full, picture.name, THUMBNAIL_SIDE),
    )


def _small(full: np.ndarray, name: str, side: int) -> str:
    """Store a picture of at most `side` pixels a side; returns its path."""
    data = encode.encode(np.asarray(thumbnail(full, side)), encode.FORMATS["webp-lossy"], quality=88, quick=True)
    return store_file(data, f"{name}.webp")


def _html(replacement: Replacement, number: int) -> str:
    picture = replacement.pictures[number]
    return render(
        "replaced.html",
        width=picture.width,
        height=picture.height,
        label=t("Picture {number} of {total}", number=number + 1, total=len(replacement.pictures)),
        uri=_file_uri(picture.preview),
        photo=_file_uri(replacement.photo),
    )


def _file_uri(path: str) -> str:
    return f"data:image/webp;base64,{base64.b64encode(Path(path).read_bytes()).decode()}"


def select(event: gr.EventData, session: Session) -> tuple[Any, Any]:
    """Show another picture of the run."""
    replacement = session.replacement
    index = event._data.get("index") if isinstance(event._data, dict) else None
    if replacement is None or not isinstance(index, int) or not 0 <= index < len(replacement.pictures):
        return gr.skip(), gr.skip()
    try:
        return _html(replacement, index), gr.update(value=replacement.pictures[index].path)
    except OSError:  # removed to make room for newer files
        return viewer.notice(REMOVED), gr.update(visible=False)


def restore(session: Session) -> tuple[Any, ...]:
    """Updates for the pictures of an earlier page: those of a run, then of description, start and cancel."""
    active = buttons(session.replacements.active)
    shown: tuple[Any, ...] = (gr.skip(),) * (UPDATES - 2)
    prompt = gr.skip()
    if session.replacement is not None:
        prompt = session.replacement.prompt
        with contextlib.suppress(OSError):  # the files were removed to make room for newer ones
            shown = _kept(session.replacement)
    return *shown, "", viewer.total(session), prompt, *active


def _inline(replaced: Replaced) -> str:
    """Return the pictures as data URIs, for pictures that cannot be stored on disk."""
    shown = [(p.name, viewer.data_uri(pixels(p)), viewer.data_uri(pixels(p), "png")) for p in replaced.pictures]
    return render("pictures.html", pictures=shown)


def _facts(replaced: Replaced) -> str:
    """Return the line with seed, seconds, size and cost."""
    first = replaced.pictures[0]
    seed = t("seed unknown") if replaced.seed is None else t("seed {seed}", seed=replaced.seed)
    parts = [INFO.title, seed, f"{replaced.seconds:.1f} s", f"{first.width} × {first.height}", t(str(replaced.cost))]
    return viewer.fact_line(parts, replaced.notes)


def cancel(session: Session) -> tuple[Any, Any, str, str]:
    """Cancel the run and show its final message, which contains what it may have been charged."""
    message = session.replacements.cancel()
    return (*buttons(False), viewer.notice(message, "info"), viewer.total(session))
