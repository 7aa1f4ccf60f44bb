"""The first tab: one photo in, its cut-out, any number of looks at no further cost, one file out."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from rmbg import compose, encode
from rmbg.errors import CancelledError, RmbgError
from rmbg.providers import find
from rmbg.remove import remove_background
from rmbg.settings import Settings
from rmbg.ui import access, describe, intake, viewer
from rmbg.ui.look import BACKGROUNDS, VIEWS, Look
from rmbg.ui.session import PREVIEW_SIDE, Result, Session
from rmbg.ui.switch import buttons
from rmbg.ui.upload import Upload, photo_input

log = logging.getLogger(__name__)

#: Visitors who may wait for a service at the same time.
SERVICES_AT_ONCE = 4

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def build(session: gr.State, settings: Settings) -> None:
    """Lay out the tab and connect its parts."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=320):
            photo = photo_input(
                label="Photo",
                sources=["upload", "clipboard", "webcam"],
                height=250,
                elem_id="photo",
                buttons=[],
            )
            with gr.Row(equal_height=True):
                address = gr.Textbox(
                    label="Or the address of a picture", placeholder="https://…", scale=4, elem_id="address", max_lines=1
                )
                load = gr.Button("Load", scale=1, min_width=80, elem_id="load")
            provider = gr.Dropdown(describe.choices(settings), value="auto", label="Provider", elem_id="provider")
            line = gr.HTML(describe.line("auto", settings), elem_classes="bare", elem_id="provider-line")
            key, options = access.build(provider, settings)
            start = gr.Button("Remove background", variant="primary", size="lg", elem_id="start")
            cancel = gr.Button("Cancel", visible=False, size="lg", elem_id="cancel")
            message = gr.HTML("", elem_classes="bare", elem_id="message")
            _examples(photo)
        with gr.Column(scale=7, min_width=320):
            result = gr.HTML(viewer.EMPTY, elem_classes="bare", elem_id="result")
            facts = gr.HTML("", elem_classes="bare", elem_id="facts")
            with gr.Row(equal_height=True):
                view = gr.Radio(VIEWS, value="cutout", label="View", elem_id="view", scale=4, min_width=250)
                kind = gr.Radio(
                    BACKGROUNDS, value="transparent", label="Background", elem_id="background", scale=7, min_width=320
                )
            with gr.Row(visible=False) as colour_row:
                colour = gr.ColorPicker("#ffffff", label="Background colour", elem_id="colour")
            with gr.Row(visible=False) as gradient_row:
                top = gr.ColorPicker("#f8fafc", label="Colour at the top")
                bottom = gr.ColorPicker("#cbd5e1", label="Colour at the bottom")
            with gr.Row(visible=False) as image_row:
                image = photo_input(
                    label="Background picture",
                    sources=["upload", "clipboard"],
                    height=160,
                    buttons=[],
                    elem_id="background-picture",
                )
            with gr.Row(equal_height=True):
                form = gr.Dropdown(
                    [(f.title, f.id) for f in encode.available()],
                    value="png",
                    label="File format",
                    elem_id="format",
                    min_width=190,
                )
                crop = gr.Checkbox(False, label="Crop to the subject", elem_id="crop", min_width=170)
                save = gr.Button("Download", variant="primary", size="lg", interactive=False, elem_id="save", min_width=190)
            with gr.Row():
                quality = gr.Slider(
                    1, 100, value=encode.QUALITY, step=1, label="Quality", elem_id="quality", visible=False, min_width=190
                )
                margin = gr.Slider(
                    0, 50, value=5, step=1, label="Margin, % of the subject", visible=False, elem_id="margin", min_width=190
                )
            file = gr.DownloadButton("File", elem_id="file", elem_classes="offstage", visible="hidden")
            total = gr.HTML("", elem_classes="bare", elem_id="total")
            strip = gr.Gallery(
                label="This session",
                columns=None,
                height="auto",
                allow_preview=False,
                visible=False,
                elem_id="strip",
                buttons=[],
                format="webp",
            )

    look = [view, kind, colour, top, bottom, image, crop, margin]
    shown = [result, facts, message]
    private: dict[str, Any] = {"api_visibility": "private"}
    instant: dict[str, Any] = {**private, "queue": False, "show_progress": "hidden"}

    photo.upload(intake.check_upload, [photo], [photo, message], concurrency_limit=intake.AT_ONCE, **private)
    gr.on([address.submit, load.click], intake.load, [address], [photo, message], concurrency_limit=intake.AT_ONCE, **private)
    provider.change(partial(describe.line, settings=settings), provider, line, **instant)

    status = partial(describe.fresh, settings=settings)
    gr.on(None, partial(status, "auto"), None, [provider, line], **instant)  # when the page is opened

    # Who asks a service does not wait for those who use this machine: a click counts one of the two up. Gradio notices the
    # change of a state only in what went through its queue.
    turns = {"local": gr.State(0), "remote": gr.State(0)}
    lanes: dict[str, dict[str, Any]] = {
        "local": {"concurrency_id": "device", "concurrency_limit": 1},
        "remote": {"concurrency_limit": SERVICES_AT_ONCE},
    }
    begun = start.click(_begin, session, [start, cancel, message], **instant)
    counted = begun.then(
        _turn, [provider, *turns.values()], [*turns.values()], concurrency_limit=None, show_progress="hidden", **private
    )
    counted.failure(lambda: buttons(False), None, [start, cancel], **instant)  # the queue is full
    begun.then(None, js="() => rmbgShowResult()", **private)
    removals: list[Any] = [
        turn.change(
            _remove,
            [photo, provider, key, options, session, *look],
            [*shown, strip, total, save],
            show_progress="full",
            show_progress_on=[result],
            **lanes[kind],
            **private,
        )
        for kind, turn in turns.items()
    ]
    for removal in removals:
        removal.then(lambda: buttons(False), outputs=[start, cancel], **instant)
        removal.then(status, provider, [provider, line], **instant)
    cancel.click(_cancel, [session], [start, cancel, message, total, strip], cancels=removals, **instant)

    for part in (view, kind, colour, top, bottom, image, crop, margin):
        part.change(_show, [session, *look], shown, trigger_mode="always_last", concurrency_limit=None, **instant)
    kind.change(_rows, kind, [colour_row, gradient_row, image_row], **instant)
    form.change(lambda f: gr.update(visible=encode.FORMATS[f].lossy), form, quality, **instant)
    crop.change(lambda on: gr.update(visible=on), crop, margin, **instant)
    strip.select(_choose, [session, *look], shown, **instant)
    save.click(_save, [session, form, quality, *look], [file, message], concurrency_limit=2, **private).success(
        None, js="() => document.querySelector('#file').click()", **private
    )


def _examples(photo: gr.Image) -> None:
    pictures = sorted(EXAMPLES.glob("*/im/*.jpg"))
    if pictures:
        gr.Examples([[str(p)] for p in pictures], [photo], label="Examples", examples_per_page=12, elem_id="examples")


def _begin(session: Session) -> tuple[Any, ...]:
    session.removing.arm()
    return *buttons(True), ""


def _turn(provider: str, local: int, remote: int) -> tuple[int, int]:
    return (local + 1, remote) if find(provider).info.kind == "local" else (local, remote + 1)


def _remove(
    upload: Upload | None,
    provider: str,
    key: str,
    options: dict[str, Any],
    session: Session,
    *look: Any,
    progress: gr.Progress = gr.Progress(),
) -> tuple[Any, ...]:
    """Run the provider once; all other functions of this tab only look at what came out."""
    if upload is None:
        return _failed("Choose a photo first: upload one, paste one, or take an example.")
    words = ""
    try:
        session.removing.begin(paid=find(provider).info.kind == "remote")
        photo = upload.open()
        cutout = remove_background(
            photo,
            provider,
            options,
            key=key,
            progress=lambda done, text: progress(done or 0.0, desc=text),
            cancelled=session.removing.stopped,
        )
        result = session.add(cutout)
        page = _page(session, result, Look(*look))
        words = "It was ready before it could be stopped: it is the newest of this session's results."
    except RmbgError as error:
        stopped = isinstance(error, CancelledError)
        words = str(error)
        session.spend.add(provider, error.cost)
        return _failed(words, "info" if stopped else "error", viewer.total(session))
    except Exception:
        log.exception("Removal by %s failed", provider)
        return _failed(viewer.OUR_FAULT)
    finally:
        session.removing.end(words)
    return (*page, _strip(session), viewer.total(session), gr.update(interactive=True))


def _failed(text: str, kind: str = "error", total: str | None = None) -> tuple[Any, ...]:
    spent = gr.skip() if total is None else total
    return gr.skip(), gr.skip(), viewer.notice(text, kind), gr.skip(), spent, gr.skip()


def _cancel(session: Session) -> tuple[Any, ...]:
    """Stop what runs, and say what became of the money where there is any in it."""
    words = session.removing.stop()
    return (
        *buttons(False),
        viewer.notice(words, "info"),
        viewer.total(session),
        _strip(session) if session.results else gr.skip(),
    )


def _show(session: Session, *look: Any) -> tuple[Any, Any, str]:
    """The current result in another look."""
    if session.current is None:
        return gr.skip(), gr.skip(), ""
    try:
        return _page(session, session.current, Look(*look))
    except RmbgError as error:
        return gr.skip(), gr.skip(), viewer.notice(str(error))


def _choose(event: gr.SelectData, session: Session, *look: Any) -> tuple[Any, Any, str]:
    """Come back to an earlier result of the session."""
    newest_first = session.results[::-1]
    if isinstance(event.index, int) and event.index < len(newest_first):
        session.current = newest_first[event.index]
    return _show(session, *look)


def _page(session: Session, result: Result, look: Look) -> tuple[str, str, str]:
    preview, crop = result.preview, look.margin_share()
    after = compose.render(preview, look.background(session, full=False), view=look.view, crop=crop)
    before = compose.render(preview, view="original", crop=crop)
    label = {"cutout": "The cut-out", "mask": "The mask: white is kept", "original": "The photo"}[look.view]
    title = find(preview.provider).info.title
    return viewer.compare(before, after, f"{label} of {preview.photo.name}"), viewer.facts(result, title), ""


def _strip(session: Session) -> Any:
    thumbs = []
    for result in session.results[::-1]:
        thumb = Image.fromarray(compose.render(result.preview))
        thumb.thumbnail((PREVIEW_SIDE // 6, PREVIEW_SIDE // 6))
        thumbs.append((thumb, f"{result.preview.photo.name} · {find(result.preview.provider).info.title}"))
    return gr.update(value=thumbs, visible=True)


def _rows(kind: str) -> tuple[Any, Any, Any]:
    return tuple(gr.update(visible=kind == name) for name in ("colour", "gradient", "image"))  # type: ignore[return-value]


def _save(session: Session, form: str, quality: int, *look: Any) -> tuple[Any, str]:
    """Make the full-size file of what is on the screen."""
    if session.current is None:
        raise gr.Error("Remove a background first; then there is something to download.", print_exception=False)
    try:
        chosen, wanted = encode.format_named(form), Look(*look)
        cutout = session.current.full()
        pixels = compose.render(cutout, wanted.background(session, full=True), view=wanted.view, crop=wanted.margin_share())
        data = encode.encode(pixels, chosen, quality=int(quality), matte_colour=compose.colour(wanted.colour))
        path = session.download_folder() / f"{cutout.photo.name}-{wanted.view}{chosen.suffix}"
        encode.write(path, data)
    except RmbgError as error:
        raise gr.Error(str(error), print_exception=False) from None
    return gr.update(value=str(path)), ""
