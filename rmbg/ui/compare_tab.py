"""The second tab: one photo at several providers, side by side; agreement, cost, a blind vote, files."""

from __future__ import annotations

from typing import Any

import gradio as gr

from rmbg.settings import Settings
from rmbg.ui import compare_actions as actions
from rmbg.ui import compare_view
from rmbg.ui.look import VIEWS
from rmbg.ui.provider_boxes import boxes, key_fields, withdrawn
from rmbg.ui.switch import buttons
from rmbg.ui.upload import photo_input

BACKGROUNDS = [
    ("Transparent", "transparent"),
    ("White", "#ffffff"),
    ("Black", "#000000"),
    ("Colour", "colour"),
    ("Blur", "blur"),
]

MODES = [("Difference", "difference"), ("Slider", "slider")]


def build(session: gr.State, settings: Settings) -> None:
    """Lay out the tab and connect its parts."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=320):
            photo = photo_input(label="Photo", sources=["upload", "clipboard"], height=230, elem_id="compare-photo", buttons=[])
            checks = boxes("compare", settings)
            keys = key_fields("compare", checks, settings)
            blind = gr.Checkbox(False, label="Blind: hide the names until I have voted", elem_id="blind")
            price = gr.HTML(
                actions.price_line(settings, *(check.value for check in checks)), elem_classes="bare", elem_id="price"
            )
            start = gr.Button("Compare", variant="primary", size="lg", elem_id="compare-start")
            cancel = gr.Button("Cancel", visible=False, size="lg", elem_id="compare-cancel")
            with gr.Row(visible=False) as consent:
                yes = gr.Button("Yes, send and pay", variant="primary", elem_id="compare-yes")
                no = gr.Button("No", elem_id="compare-no")
            message = gr.HTML("", elem_classes="bare", elem_id="compare-message")
        with gr.Column(scale=9, min_width=320):
            with gr.Row(equal_height=True):
                view = gr.Radio(VIEWS, value="cutout", label="View of all", elem_id="compare-view", scale=4, min_width=250)
                kind = gr.Radio(
                    BACKGROUNDS,
                    value="transparent",
                    label="Background of all",
                    elem_id="compare-background",
                    scale=7,
                    min_width=320,
                )
                colour = gr.ColorPicker("#ff8800", label="Colour", visible=False, elem_id="compare-colour", scale=1)
            gr.HTML(compare_view.TOOLBAR, elem_classes="bare")
            grid = gr.HTML(compare_view.EMPTY, elem_classes="bare", elem_id="grid")
            with gr.Group(visible=False) as ballot:
                vote = gr.Radio([], label="Which result is best?", elem_id="vote")
                cast = gr.Button("Vote and show the names", variant="primary", elem_id="cast")
            with gr.Column(visible=False) as details:
                reference = gr.Dropdown([], label="Reference", elem_id="reference")
                table = gr.HTML("", elem_classes="bare", elem_id="figures")
                with gr.Row():
                    save_zip = gr.Button("All cut-outs (ZIP)", elem_id="save-zip")
                    save_sheet = gr.Button("Contact sheet (PNG)", elem_id="save-sheet")
                    save_csv = gr.Button("Table (CSV)", elem_id="save-csv")
            with gr.Column(visible=False) as two:
                with gr.Row(equal_height=True):
                    first = gr.Dropdown([], label="One result", elem_id="first")
                    second = gr.Dropdown([], label="and another", elem_id="second")
                    mode = gr.Radio(MODES, value="difference", label="Shown as", elem_id="mode")
                pair = gr.HTML("", elem_classes="bare", elem_id="pair")
            with gr.Accordion("Ratings from blind votes", open=False) as rated:
                ratings = gr.HTML("", elem_classes="bare", elem_id="ratings")
                save_votes = gr.Button("Votes (CSV)", elem_id="save-votes")
            file = gr.DownloadButton("File", elem_id="compare-file", elem_classes="offstage", visible="hidden")

    look = [view, kind, colour]
    shown = [grid, table, pair]
    detail = [reference, first, second, mode]
    controls = [details, two, ballot, vote, reference, first, second]
    private: dict[str, Any] = {"api_visibility": "private"}
    instant: dict[str, Any] = {**private, "queue": False, "show_progress": "hidden"}

    for check in checks:
        # A yes is to the choice that it was asked about.
        check.input(lambda *on: (actions.price_line(settings, *on), *withdrawn()), checks, [price, consent, message], **instant)
    no.click(withdrawn, outputs=[consent, message], **instant)
    work: dict[str, Any] = {
        "inputs": [photo, session, blind, *look, *checks, *keys],
        "outputs": [*shown, *controls, message],
        # Comparisons wait for the device like all other work on it.
        "concurrency_id": "device",
        "concurrency_limit": 1,
        "show_progress": "hidden",
        **private,
    }
    asked = start.click(actions.first_look, [photo, session, *checks], [message, consent, start, cancel], **instant)
    agreed = yes.click(actions.agreed, session, [message, consent, start, cancel], **instant)
    running, paid = asked.then(actions.begin, **work), agreed.then(actions.begin_paid, **work)
    for event in (running, paid):
        event.then(lambda: buttons(False), outputs=[start, cancel], **instant)
    cancel.click(actions.stop, [session], [cancel], **instant)

    parts: list[Any] = [*look, *detail]
    for part in parts:
        part.input(
            actions.show, [session, *look, *detail], shown, trigger_mode="always_last", concurrency_limit=None, **instant
        )
    kind.input(lambda chosen_kind: gr.update(visible=chosen_kind == "colour"), kind, colour, **instant)
    rated.expand(actions.ratings, None, ratings, **instant)
    cast.click(actions.vote, [session, vote, *look], [*shown, *controls, ratings, message], **private)
    for button, maker in (
        (save_zip, actions.save_zip),
        (save_sheet, actions.save_sheet),
        (save_csv, actions.save_csv),
        (save_votes, actions.save_votes),
    ):
        button.click(maker, [session, kind, colour, reference], file, concurrency_limit=2, **private).success(
            None, js="() => document.querySelector('#compare-file').click()", **private
        )
