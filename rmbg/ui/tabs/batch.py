"""The Batch tab: many photos or a zip in, a table that fills, a zip out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from rmbg.images import encode
from rmbg.settings import Settings
from rmbg.ui.batch.uploads import limits, max_bytes
from rmbg.ui.components import consent_row, provider_options, provider_text, viewer
from rmbg.ui.components.files_input import FilesInput, files_input
from rmbg.ui.lanes import SERVICES_AT_ONCE
from rmbg.ui.session import Session
from rmbg.ui.tabs import batch_actions as actions
from rmbg.ui.tabs import remove, remove_actions
from rmbg.ui.templates import render

#: Seconds between two updates of the table.
POLL_SECONDS = 1.0

BACKGROUNDS = [("Transparent", "transparent"), ("White", "#ffffff"), ("Black", "#000000"), ("Color", "color")]

#: Passes the click on the button of a row on to the server. Each update replaces the rows, so the focus is set again.
OPEN_ROW = """element.addEventListener("click", (event) => {
    const button = event.target.closest("[data-open]");
    if (button) trigger("select", { index: button.dataset.open });
});
let focused = null;
document.addEventListener("focusin", (event) => (focused = element.contains(event.target) ? event.target.dataset.open : null));
new MutationObserver(() => {
    if (focused && document.activeElement === document.body) {
        element.querySelector(`[data-open="${focused}"]`)?.focus({ preventScroll: true });
    }
}).observe(element, { childList: true, subtree: true });"""

_PRIVATE: dict[str, Any] = {"api_visibility": "private"}
_INSTANT: dict[str, Any] = {**_PRIVATE, "queue": False, "show_progress": "hidden"}


@dataclass(frozen=True)
class Parts:
    """Components that other modules use: the field for files, the filter, the table, and the outputs of `actions.restore`."""

    files: FilesInput
    doubtful: gr.Checkbox
    table: gr.HTML
    restored: list[Any]


def build(session: gr.State, settings: Settings) -> Parts:
    """Create the components of the tab and connect their events."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=320):
            note = render("batch_limits.html", text=limits(settings), files=settings.batch_files, bytes=max_bytes(settings))
            gr.HTML(note, elem_classes="bare")
            files = files_input(label="Photos, a folder or a zip archive", height=170, elem_id="batch-files")
            provider = gr.Dropdown(provider_text.choices(settings), value="auto", label="Provider", elem_id="batch-provider")
            line = gr.HTML(provider_text.line("auto", settings), elem_classes="bare")
            key, options = provider_options.build(provider, settings, prefix="batch-")
            with gr.Row():
                form = gr.Dropdown(
                    [(f.title, f.id) for f in encode.available()],
                    value="png",
                    label="File format",
                    elem_id="batch-format",
                    min_width=160,
                )
                color = gr.ColorPicker("#ff8800", label="Color", visible=False, elem_id="batch-color", min_width=100)
            kind = gr.Radio(BACKGROUNDS, value="transparent", label="Background", elem_id="batch-background")
            start = gr.Button("Remove all backgrounds", variant="primary", size="lg", elem_id="batch-start")
            cancel = gr.Button("Cancel", visible=False, size="lg", elem_id="batch-cancel")
        with gr.Column(scale=9, min_width=320):
            message = gr.HTML("", elem_classes="bare", elem_id="batch-message")
            consent, yes, no = consent_row.consent_row(actions.PLACE)
            with gr.Row(equal_height=True):
                doubtful = gr.Checkbox(False, label="Doubtful and failed only", elem_id="batch-doubtful", min_width=180)
                again = gr.Button(
                    "Run doubtful photos again", size="sm", interactive=False, elem_id="batch-again", min_width=180
                )
                save = gr.Button(
                    "Download all (ZIP)", variant="primary", size="sm", interactive=False, elem_id="batch-save", min_width=180
                )
            table = gr.HTML(
                viewer.placeholder(
                    "The cutouts appear here in a table", "Drop photos, a folder or a zip archive", "Remove all backgrounds"
                ),
                elem_classes="bare",
                elem_id="batch-table",
                js_on_load=OPEN_ROW,
            )
            file = gr.DownloadButton("File", elem_id="batch-file", elem_classes="offstage", visible="hidden")
    timer = gr.Timer(POLL_SECONDS, active=False)

    shown = [table, start, cancel, save, again, timer]
    begun = [message, consent, *shown]
    selected = [provider, key, options, form, kind, color, doubtful]
    files.change(actions.chosen, [session, files], message, concurrency_limit=2, show_progress="hidden", **_PRIVATE)
    provider.change(partial(provider_text.line, settings=settings), provider, line, **_INSTANT)
    gr.on(None, partial(provider_text.refresh, "auto", settings), None, [provider, line], **_INSTANT)  # at page load
    kind.input(lambda value: gr.update(visible=value == "color"), kind, color, **_INSTANT)
    gr.on([provider.input, form.input, kind.input, color.input], actions.decline, session, [consent, message], **_INSTANT)
    # Planning reads archives and the manifest, so it goes through the queue; the run itself is in a thread of the batch.
    planned: dict[str, Any] = {"concurrency_limit": SERVICES_AT_ONCE, "show_progress": "hidden", **_PRIVATE}
    for clicked in (
        start.click(actions.start, [session, files, *selected], begun, **planned),
        again.click(actions.again, [session, *selected], begun, **planned),
    ):
        clicked.success(None, js="() => rmbgShowMessage('#batch-message')", **_PRIVATE)
    yes.click(actions.confirm, [session, key, options, doubtful], begun, **planned)
    no.click(actions.decline, session, [consent, message], **_INSTANT)
    cancel.click(actions.stop, session, cancel, **_INSTANT)
    timer.tick(actions.follow, [session, doubtful], [message, *shown], **_INSTANT)
    doubtful.input(actions.show, [session, doubtful], table, **_INSTANT)
    save.click(actions.save, session, file, concurrency_limit=2, **_PRIVATE).success(
        None, js="() => document.querySelector('#batch-file').click()", **_PRIVATE
    )
    return Parts(files, doubtful, table, [message, *shown])


def connect(tabs: gr.Tabs, session: gr.State, restored: Any, parts: Parts, removal: remove.Parts) -> None:
    """Show the batch of an earlier page after the event `restored`, and open its results in the Remove tab."""
    restored.then(actions.restore, [session, parts.doubtful], parts.restored, **_INSTANT)
    parts.table.select(
        open_row,
        [session, *removal.display],
        [tabs, removal.photo, *removal.restored],
        concurrency_limit=2,
        show_progress="hidden",
        **_PRIVATE,
    )


def open_row(event: gr.EventData, session: Session, *display: Any) -> tuple[Any, ...]:
    """Make a result of the batch the current one of the Remove tab, and select that tab; no provider runs."""
    index = event._data.get("index") if isinstance(event._data, dict) else None
    path = actions.adopt(session, index)
    return gr.Tabs(selected="remove"), path, *remove_actions.restore(session, *display)
