"""The Compare tab: cutouts of several providers side by side, with agreement, cost, blind vote and downloads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from rmbg.settings import Settings
from rmbg.ui.components import providers, viewer
from rmbg.ui.components.inputs import PhotoInput, Upload, photo_input
from rmbg.ui.components.providers import key_fields, selection
from rmbg.ui.components.rendering import VIEWS
from rmbg.ui.lanes import SERVICES_AT_ONCE
from rmbg.ui.runs import INSTANT, PRIVATE, buttons, run_number
from rmbg.ui.session import Session
from rmbg.ui.tabs import compare_actions as actions
from rmbg.ui.tabs import compare_run, compare_view

BACKGROUNDS = [
    ("Transparent", "transparent"),
    ("White", "#ffffff"),
    ("Black", "#000000"),
    ("Color", "color"),
    ("Blur", "blur"),
]

#: Concurrent comparisons with local providers only. They hold the decoded photo while they wait for the device.
LOCAL_AT_ONCE = 2

MODES = [("Difference", "difference"), ("Slider", "slider")]


#: Passes the click on a pane's button on to the server.
USE_ONE = """element.addEventListener("click", (event) => {
    const button = event.target.closest("[data-use]");
    if (button) trigger("select", { index: button.dataset.use });
});"""


@dataclass(frozen=True)
class Parts:
    """Components that other modules use.

    Attributes
    ----------
    photo : PhotoInput
    grid : gr.HTML
        Its select event has the value of a result as its index.
    restored : list of components
        Outputs of `compare_actions.restore`.
    """

    photo: PhotoInput
    grid: gr.HTML
    restored: list[Any]


def build(session: gr.State, settings: Settings) -> Parts:
    """Create the components of the tab and connect their events."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=320):
            photo = photo_input(label="Photo", sources=["upload", "clipboard"], height=230, elem_id="compare-photo", buttons=[])
            with gr.Row():
                add = gr.Button("Add another photo", size="sm", elem_id="compare-add", min_width=120)
                only = gr.Button("Use one photo only", size="sm", elem_id="compare-only", min_width=120)
            added = gr.HTML(compare_view.listed(Session()), elem_classes="bare", elem_id="compare-photos")
            selected = selection(compare_run.PLACE, settings, count=3)
            offer = providers.build_second_provider(len(selected.value) < 2)
            keys = key_fields(compare_run.PLACE, settings)
            blind = gr.Checkbox(False, label="Blind: hide the names until the vote", elem_id="blind")
            price = gr.HTML(compare_run.price_line(settings, 1, selected.value), elem_classes="bare", elem_id="price")
            start = gr.Button("Compare", variant="primary", size="lg", elem_id="compare-start")
            cancel = gr.Button("Cancel", visible=False, size="lg", elem_id="compare-cancel")
            message = gr.HTML("", elem_classes="bare", elem_id="compare-message")
            consent, yes, no = providers.consent_row(compare_run.PLACE)
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
                color = gr.ColorPicker("#ff8800", label="Color", elem_id="compare-color", scale=1)
            grid = gr.HTML(
                viewer.placeholder(
                    "The cutouts appear here side by side", "Choose a photo and two or more providers", "Compare"
                ),
                elem_classes="bare",
                elem_id="grid",
                js_on_load=USE_ONE,
            )
            all_photos = gr.HTML("", elem_classes="bare", elem_id="all-photos", js_on_load=compare_view.SHOW_PHOTO)
            with gr.Group(visible=False) as ballot:
                vote = gr.Radio([], label="Which result is best?", elem_id="vote")
                cast = gr.Button("Vote and show the names", variant="primary", elem_id="cast")
            with gr.Column(visible=False) as details:
                reference = gr.Dropdown([], label="Reference", elem_id="reference")
                table = gr.HTML("", elem_classes="bare", elem_id="figures")
                with gr.Row():
                    save_zip = gr.Button("All cutouts (ZIP)", elem_id="save-zip")
                    save_sheet = gr.Button("Contact sheet (PNG)", elem_id="save-sheet")
                    save_csv = gr.Button("Table (CSV)", elem_id="save-csv")
            with gr.Column(visible=False) as pair_column:
                with gr.Row(equal_height=True):
                    first = gr.Dropdown([], label="First result", elem_id="first")
                    second = gr.Dropdown([], label="Second result", elem_id="second")
                    mode = gr.Radio(MODES, value="difference", label="Comparison", elem_id="mode")
                pair = gr.HTML("", elem_classes="bare", elem_id="pair")
            with gr.Accordion("Ratings from blind votes", open=False) as ratings_panel:
                ratings = gr.HTML("", elem_classes="bare", elem_id="ratings")
                save_votes = gr.Button("Votes (CSV)", elem_id="save-votes")
            ratings_open = gr.Checkbox(False, visible="hidden")  # set by the script of the vote
            file = gr.DownloadButton("File", elem_id="compare-file", elem_classes="offstage", visible="hidden")

    shown = [grid, table, pair, all_photos]
    detail: list[Any] = [reference, first, second, mode]
    controls = [details, pair_column, ballot, vote, reference, first, second]

    hide_consent = partial(providers.hide, compare_run.PLACE)

    def select(session: Session, photo: Upload | None, ids: list[str]) -> tuple[Any, ...]:
        """Updates after a change of the selection, which invalidates the consent to other charges."""
        return offer.shown(ids), priced(session, photo, ids), *compare_run.invalidate(settings, session, photo, ids)

    def priced(session: Session, photo: Upload | None, ids: list[str]) -> str:
        return compare_run.price_line(settings, max(1, len(compare_view.uploads(session, photo))), ids)

    def listed(change: Callable[..., tuple[Any, str]], session: Session, photo: Upload | None) -> tuple[Any, ...]:
        """Updates after a change of the list of photos, which invalidates the consent."""
        field, text = change(session, photo)
        return field, compare_view.listed(session), hide_consent(session)[0], text

    changed: dict[str, Any] = {
        "inputs": [session, photo, selected],
        "outputs": [offer.panel, price, consent, message],
        **INSTANT,
    }
    selected.input(select, trigger_mode="always_last", **changed)  # providers may be selected faster than this is answered
    counted: dict[str, Any] = {"inputs": [session, photo, selected], "outputs": price, **INSTANT}
    photo.change(priced, **counted)
    listing: dict[str, Any] = {"outputs": [photo, added, consent, message], **INSTANT}
    add.click(partial(listed, compare_view.add), [session, photo], **listing).then(priced, **counted)
    only.click(partial(listed, compare_view.clear), [session, photo], **listing).then(priced, **counted)
    offer.choice.input(providers.add, [offer.choice, selected], selected, **INSTANT).then(select, **changed)
    gr.on(
        None, partial(providers.refresh_second_provider, settings), None, [offer.note, offer.choice], **INSTANT
    )  # at page load
    no.click(hide_consent, session, [consent, message], **INSTANT)
    run = run_number()
    work: dict[str, Any] = {
        "inputs": [run, photo, session, blind, selected, *keys],
        "outputs": [*shown, *controls, message],
        "show_progress": "hidden",
        **PRIVATE,
    }
    started = [run, message, consent, start, cancel]
    checked = start.click(compare_run.check_request, [photo, session, blind, selected, *keys], started, **INSTANT)
    confirmed = yes.click(compare_run.confirm, session, started, **INSTANT)
    # Separate limits, so that local comparisons do not wait for those that use services.
    free = checked.then(compare_run.begin, concurrency_limit=LOCAL_AT_ONCE, **work)
    paid = confirmed.then(partial(compare_run.begin, paid=True), concurrency_limit=SERVICES_AT_ONCE, **work)
    for event in (free, paid):
        event.then(lambda session: buttons(session.comparisons.active), session, [start, cancel], **INSTANT)
    cancel.click(actions.stop, [session], [cancel], **INSTANT)

    # The browser composes view and background from pictures that it has.
    gr.on(
        [component.change for component in (view, kind, color)],
        None,
        [view, kind, color],
        js="(...values) => rmbgSetPanes(...values)",
        **PRIVATE,
    )
    viewer.request("grid-part", actions.part_of_grid, session, [view])
    viewer.request("pair-part", actions.part_of_pair, session, [view, first, second])
    for component in detail:
        component.input(
            actions.show, [session, *detail], [table, pair], trigger_mode="always_last", concurrency_limit=None, **INSTANT
        )
    all_photos.select(actions.select_photo, session, [*shown, *controls, message], **INSTANT)
    ratings_panel.expand(actions.ratings, None, ratings, **INSTANT)
    cast.click(
        actions.vote,
        [session, vote, ratings_open, *detail],
        [*shown, *controls, ratings, message],
        js="(session, vote, open, ...detail) => "
        "[session, vote, Boolean(document.querySelector('#ratings')?.offsetParent), ...detail]",
        **PRIVATE,
    )
    for button, what in ((save_zip, "zip"), (save_sheet, "sheet"), (save_csv, "csv"), (save_votes, "votes")):
        button.click(
            partial(actions.save, what), [session, kind, color, reference], file, concurrency_limit=2, **PRIVATE
        ).success(None, js="() => document.querySelector('#compare-file').click()", **PRIVATE)
    return Parts(photo, grid, [*shown, *controls, message, start, cancel, added])
