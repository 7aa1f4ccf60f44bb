"""The Replace tab: generated backgrounds by fal, from a photo and a description or a reference picture."""

from __future__ import annotations

import base64
import contextlib
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from rmbg.billing import api_keys
from rmbg.billing.quote import quote
from rmbg.errors import OptionError, RmbgError, reason
from rmbg.images import encode
from rmbg.images.photo import Photo
from rmbg.replace import INFO, Replaced, pixels, replace_background
from rmbg.runtime.cancellation import CancellationToken
from rmbg.settings import Settings
from rmbg.ui.components import providers, viewer
from rmbg.ui.components.inputs import PhotoInput, Upload, photo_input, store_file
from rmbg.ui.components.providers import key_field
from rmbg.ui.consent import charges_of
from rmbg.ui.lanes import SERVICES_AT_ONCE
from rmbg.ui.languages import t
from rmbg.ui.results import PREVIEW_SIDE, Picture, Replacement, thumbnail
from rmbg.ui.runs import INSTANT, PRIVATE, buttons, run_number
from rmbg.ui.session import Session
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


def price_line(options: dict[str, Any]) -> str:
    """Return the expected price of all pictures, expected seconds, license, recipient of the photo."""
    try:
        price = quote(INFO, INFO.parse_options(options), Settings.from_environ())
    except RmbgError as error:
        return viewer.notice(str(error))
    return providers.summary(
        INFO, t("{price}, about {seconds} s.", price=t(price.details()), seconds=f"{INFO.seconds:g}"), Settings.from_environ()
    )


def begin(session: Session) -> tuple[Any, ...]:
    """Start a run and clear the message."""
    return session.replacements.start(), *buttons(True), ""


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

    def generate(token: CancellationToken) -> tuple[Any, ...]:
        if upload is None:
            raise OptionError("Choose a photo first: upload or paste one.")
        if bool(prompt.strip()) == (reference is not None):
            raise OptionError("Describe the new background or choose a picture of a similar one, but not both.")
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

    def failed(error: RmbgError) -> tuple[Any, ...]:
        session.spend.add(INFO.id, error.cost)
        return *(gr.skip(),) * (UPDATES - 2), viewer.failure(error), viewer.total(session)

    return session.replacements.run(run, generate, failed, (gr.skip(),) * UPDATES, paid=True)


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


# The Replace tab: generated backgrounds by fal, from a photo and a description or a reference picture.


@dataclass(frozen=True)
class Parts:
    """Components that other modules use.

    Attributes
    ----------
    photo, reference : PhotoInput
    restored : list of components
        Outputs of `restore`.
    """

    photo: PhotoInput
    reference: PhotoInput
    restored: list[Any]


def build(session: gr.State, settings: Settings) -> Parts:
    """Create the components of the tab and connect their events."""
    label, note = providers.key_labels(INFO, settings)
    server_key = api_keys.available(INFO.key_name, settings)
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=320):
            gr.HTML(render("replace_intro.html", server_key=server_key), elem_classes="bare", elem_id="replace-intro")
            key = key_field("replace-key", label=label, info=note)
            photo = photo_input(label="Photo", sources=["upload", "clipboard"], height=230, elem_id="replace-photo", buttons=[])
            prompt = gr.Textbox(
                label="Description of the new background",
                placeholder="on a wooden table at a window",
                lines=2,
                max_lines=4,
                elem_id="replace-prompt",
            )
            with gr.Accordion("Or a picture of a similar background", open=False, elem_id="replace-like"):
                reference = photo_input(
                    label="Picture of a similar background",
                    sources=["upload", "clipboard"],
                    height=160,
                    buttons=[],
                    elem_id="replace-reference",
                )
            options = gr.State({})
            price = gr.HTML(price_line({}), elem_classes="bare", elem_id="replace-price", render=False)
            providers.draw_options(INFO, options, price, price_line, prefix="replace-option")
            price.render()
            start = gr.Button("Generate pictures", variant="primary", size="lg", elem_id="replace-start")
            cancel_button = gr.Button("Cancel", visible=False, size="lg", elem_id="replace-cancel")
            message = gr.HTML("", elem_classes="bare", elem_id="replace-message")
            consent = providers.restarting_row(PLACE, session, start, message)
        with gr.Column(scale=7, min_width=320):
            result = gr.HTML(
                viewer.placeholder(
                    "The picture appears here", "Choose a photo and describe the new background", "Generate pictures"
                ),
                elem_classes="bare",
                elem_id="replace-result",
            )
            gallery = gr.Gallery(
                label="All pictures of this run",
                columns=4,
                height="auto",
                allow_preview=False,
                visible=False,
                elem_id="replace-gallery",
                buttons=[],
                format="webp",
            )
            save = gr.DownloadButton("Download this picture (PNG)", visible=False, variant="primary", elem_id="replace-save")
            facts = gr.HTML("", elem_classes="bare", elem_id="replace-facts")
            total = gr.HTML("", elem_classes="bare", elem_id="replace-total")

    shown = [result, gallery, save, facts, message, total]
    run = run_number()
    started = start.click(begin, session, [run, start, cancel_button, message], **INSTANT)
    replacement = started.then(
        replace,
        [run, photo, prompt, reference, key, options, session],
        shown,
        show_progress="full",
        show_progress_on=[result],
        concurrency_limit=SERVICES_AT_ONCE,
        **PRIVATE,
    )
    replacement.then(lambda session: buttons(session.replacements.active), session, [start, cancel_button], **INSTANT)
    replacement.then(partial(providers.update, PLACE), session, consent, **INSTANT)
    # Gradio keeps the state of the checkbox, but a new picture is shown first.
    reset = "() => document.querySelectorAll('#replace-result .toggle input').forEach((box) => (box.checked = false))"
    replacement.then(None, js=reset, **INSTANT)
    cancel_button.click(cancel, [session], [start, cancel_button, message, total], cancels=[replacement], **INSTANT)
    gallery.select(select, session, [result, save], **INSTANT)
    return Parts(photo, reference, [*shown, prompt, start, cancel_button])
