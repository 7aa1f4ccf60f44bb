"""The tab for made-up backgrounds: a photo and a prompt or a reference picture go to fal, pictures come back."""

from __future__ import annotations

import html
import logging
from typing import Any

import gradio as gr

from rmbg import encode
from rmbg.cutout import dollars
from rmbg.errors import CancelledError, RmbgError
from rmbg.replace import INFO, Replaced, expected, pixels, replace_background
from rmbg.settings import Settings
from rmbg.ui import access, describe, viewer
from rmbg.ui.key_field import key_field
from rmbg.ui.session import Session
from rmbg.ui.spend import projection
from rmbg.ui.switch import buttons
from rmbg.ui.upload import Upload, cached, photo_input

log = logging.getLogger(__name__)


def build(session: gr.State, settings: Settings) -> None:
    """Lay out the tab and connect its parts."""
    label, fate = access.key_words(INFO, settings)
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=320):
            photo = photo_input(label="Photo", sources=["upload", "clipboard"], height=230, elem_id="replace-photo", buttons=[])
            prompt = gr.Textbox(
                label="New background",
                placeholder="on a wooden table at a window",
                lines=2,
                max_lines=4,
                elem_id="replace-prompt",
            )
            with gr.Accordion("Or a picture that it should be like", open=False, elem_id="replace-like"):
                reference = photo_input(
                    label="Reference picture",
                    sources=["upload", "clipboard"],
                    height=160,
                    buttons=[],
                    elem_id="replace-reference",
                )
            options = gr.State({})
            price = gr.HTML(_price({}), elem_classes="bare", elem_id="replace-price", render=False)
            access.draw_options(INFO, options, price, _price)
            key = key_field("replace-key", label=label, info=fate)
            price.render()
            start = gr.Button("Make pictures", variant="primary", size="lg", elem_id="replace-start")
            cancel = gr.Button("Cancel", visible=False, size="lg", elem_id="replace-cancel")
            message = gr.HTML("", elem_classes="bare", elem_id="replace-message")
        with gr.Column(scale=7, min_width=320):
            gallery = gr.Gallery(
                label="Results",
                columns=2,
                height=560,
                object_fit="contain",
                elem_id="replace-gallery",
                buttons=["download", "fullscreen"],
            )
            facts = gr.HTML("", elem_classes="bare", elem_id="replace-facts")
            total = gr.HTML("", elem_classes="bare", elem_id="replace-total")

    private: dict[str, Any] = {"api_visibility": "private"}
    instant: dict[str, Any] = {**private, "queue": False, "show_progress": "hidden"}
    begun = start.click(_begin, session, [start, cancel, message], **instant)
    running = begun.then(
        _replace,
        [photo, prompt, reference, key, options, session],
        [gallery, facts, message, total],
        show_progress="full",
        show_progress_on=[gallery],
        concurrency_limit=4,
        **private,
    )
    running.then(lambda: buttons(False), outputs=[start, cancel], **instant)
    cancel.click(_cancel, [session], [start, cancel, message, total], cancels=[running], **instant)


def _price(options: dict[str, Any]) -> str:
    """What the pictures should cost together, and where the photo goes."""
    try:
        cost = expected(INFO.parse_options(options))
    except RmbgError as error:
        return viewer.notice(str(error))
    assert cost.usd is not None
    text = f"{dollars(cost.usd)} ({cost.basis}, seen {INFO.price_seen}), {projection(cost)}, about {INFO.seconds:g} s."
    return (
        f'<div class="provider-line"><p>{html.escape(text)}</p><p>{html.escape(INFO.pixels)} {describe.licence(INFO)}</p></div>'
    )


def _begin(session: Session) -> tuple[Any, ...]:
    session.replacing.arm()
    return *buttons(True), ""


def _replace(
    upload: Upload | None,
    prompt: str,
    reference: Upload | None,
    key: str,
    options: dict[str, Any],
    session: Session,
    progress: gr.Progress = gr.Progress(),
) -> tuple[Any, ...]:
    """Ask fal once."""
    if upload is None:
        return gr.skip(), gr.skip(), viewer.notice("Choose a photo first: upload one or paste one."), gr.skip()
    words = ""
    try:
        session.replacing.begin(paid=True)
        replaced = replace_background(
            upload.open(),
            prompt,
            None if reference is None else reference.open(),
            options,
            key=key,
            progress=lambda done, text: progress(done or 0.0, desc=text),
            cancelled=session.replacing.stopped,
        )
        session.spend.add(INFO.id, replaced.cost, len(replaced.pictures))
        files = [_file(replaced, number) for number in range(len(replaced.pictures))]
    except RmbgError as error:
        words = str(error)
        session.spend.add(INFO.id, error.cost)
        kind = "info" if isinstance(error, CancelledError) else "error"
        return gr.skip(), gr.skip(), viewer.notice(words, kind), viewer.total(session)
    except Exception:
        log.exception("Replacing the background failed")
        return gr.skip(), gr.skip(), viewer.notice(viewer.OUR_FAULT), gr.skip()
    finally:
        session.replacing.end(words)
    return files, _facts(replaced), "", viewer.total(session)


def _file(replaced: Replaced, number: int) -> tuple[str, str]:
    picture = replaced.pictures[number]
    data = encode.encode(pixels(picture), encode.FORMATS["png"])
    return cached(data, f"{picture.name}.png"), f"{number + 1} of {len(replaced.pictures)}"


def _facts(replaced: Replaced) -> str:
    """Seed, size, seconds and cost of what came back."""
    first = replaced.pictures[0]
    seed = "seed unknown" if replaced.seed is None else f"seed {replaced.seed}"
    parts = [INFO.title, seed, f"{replaced.seconds:.1f} s", f"{first.width} × {first.height}", str(replaced.cost)]
    line = "".join(f"<span>{html.escape(part)}</span>" for part in parts)
    return f'<div class="facts">{line}</div>{viewer.notes(replaced.notes)}'


def _cancel(session: Session) -> tuple[Any, Any, str, str]:
    words = session.replacing.stop()
    return (*buttons(False), viewer.notice(words, "info"), viewer.total(session))
