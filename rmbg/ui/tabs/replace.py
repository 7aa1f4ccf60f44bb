"""The Replace tab: generated backgrounds by fal, from a photo and a description or a reference picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from rmbg.billing import api_keys
from rmbg.replace import INFO
from rmbg.settings import Settings
from rmbg.ui.cancellation import run_number
from rmbg.ui.components import consent_row, provider_options, viewer
from rmbg.ui.components.key_field import key_field
from rmbg.ui.components.photo_input import PhotoInput, photo_input
from rmbg.ui.lanes import SERVICES_AT_ONCE
from rmbg.ui.tabs import replace_actions as actions
from rmbg.ui.templates import render


@dataclass(frozen=True)
class Parts:
    """Components that other modules use.

    Attributes
    ----------
    photo, reference : PhotoInput
    restored : list of components
        Outputs of `replace_actions.restore`.
    """

    photo: PhotoInput
    reference: PhotoInput
    restored: list[Any]


def build(session: gr.State, settings: Settings) -> Parts:
    """Create the components of the tab and connect their events."""
    label, note = provider_options.key_labels(INFO, settings)
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
            price = gr.HTML(actions.price_line({}), elem_classes="bare", elem_id="replace-price", render=False)
            provider_options.draw_options(INFO, options, price, actions.price_line, prefix="replace-option")
            price.render()
            start = gr.Button("Generate pictures", variant="primary", size="lg", elem_id="replace-start")
            cancel = gr.Button("Cancel", visible=False, size="lg", elem_id="replace-cancel")
            message = gr.HTML("", elem_classes="bare", elem_id="replace-message")
            consent = consent_row.restarting_row(actions.PLACE, session, start, message)
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
    private: dict[str, Any] = {"api_visibility": "private"}
    instant: dict[str, Any] = {**private, "queue": False, "show_progress": "hidden"}
    run = run_number()
    started = start.click(actions.begin, session, [run, start, cancel, message], **instant)
    replacement = started.then(
        actions.replace,
        [run, photo, prompt, reference, key, options, session],
        shown,
        show_progress="full",
        show_progress_on=[result],
        concurrency_limit=SERVICES_AT_ONCE,
        **private,
    )
    replacement.then(actions.after, session, [start, cancel], **instant)
    replacement.then(partial(consent_row.update, actions.PLACE), session, consent, **instant)
    # Gradio keeps the state of the checkbox, but a new picture is shown first.
    reset = "() => document.querySelectorAll('#replace-result .toggle input').forEach((box) => (box.checked = false))"
    replacement.then(None, js=reset, **instant)
    cancel.click(actions.cancel, [session], [start, cancel, message, total], cancels=[replacement], **instant)
    gallery.select(actions.select, session, [result, save], **instant)
    return Parts(photo, reference, [*shown, prompt, start, cancel])
