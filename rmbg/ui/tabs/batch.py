"""The Batch tab: many photos or a zip in, a table that fills, a zip out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

import gradio as gr

from rmbg.batch.plan import Recipe
from rmbg.billing.cost import Cost
from rmbg.cutout import confidence_level
from rmbg.errors import InputError, RmbgError
from rmbg.images import encode
from rmbg.providers import find
from rmbg.settings import Settings
from rmbg.ui import pictures
from rmbg.ui.batch import Batch, Request, Row, UploadSource, limits, max_bytes
from rmbg.ui.components import load_photo, providers, viewer
from rmbg.ui.components.inputs import FilesInput, Upload, files_input
from rmbg.ui.components.rendering import RenderOptions
from rmbg.ui.consent import charges_of
from rmbg.ui.lanes import SERVICES_AT_ONCE
from rmbg.ui.languages import page_error, t
from rmbg.ui.runs import INSTANT, PRIVATE, buttons, stopping
from rmbg.ui.session import Session
from rmbg.ui.tabs import remove, remove_actions
from rmbg.ui.templates import render

#: Number of updates that `page` returns: table, start, stop, download, second attempt, timer.
SHOWN = 6

CHANGED = "The photos or the settings have changed since you were asked. Start the batch again."

STATES = {"done": "Done", "nothing": "No subject found", "failed": "Failed", "charged": "Failed, possibly charged"}


def chosen(session: Session, uploads: list[Upload]) -> str:
    """Return the HTML of a message about new uploads, empty if they are valid."""
    if not uploads:
        return ""
    try:
        count = len(UploadSource(uploads, Settings.from_environ()).entries())
    except RmbgError as error:
        return viewer.notice(str(error))
    return viewer.notice(t("{count} photos ready. Press Remove all backgrounds.", count=count), "info")


def start(
    session: Session,
    uploads: list[Upload],
    provider: str,
    key: str,
    options: dict[str, Any],
    form: str,
    kind: str,
    color: str,
    doubtful: bool,
    *,
    again: bool = False,
) -> tuple[Any, ...]:
    """Start the batch of the uploads, or ask for the consent to its cost; updates of message, consent and `page`.

    With `again` it is the current batch, of which the doubtful photos are processed.
    """
    try:
        batch = _batch_of(session, [] if again else uploads)
        names = batch.doubtful if again else None
        if again and not names:
            raise InputError("No photo is doubtful. Nothing is to be done again.")
        found = find(provider, options=options)
        background = RenderOptions(kind=kind, color=color).background(session, full=True)
        recipe = Recipe(found, found.info.parse_options(options), encode.format_named(form), background)
        return _begin(session, batch, batch.prepare(recipe, names), key, doubtful)
    except RmbgError as error:
        return _refused(str(error))


def confirm(session: Session, key: str, options: dict[str, Any], doubtful: bool) -> tuple[Any, ...]:
    """Accept the cost that was shown, and start the run that it is for; updates as of `start`."""
    batch = session.batch
    request = None if batch is None else batch.pending
    try:
        if batch is None or request is None or request.recipe.provider.info.parse_options(options) != request.recipe.options:
            decline(session)
            return _refused(CHANGED)
        batch.start(request, key)
    except RmbgError as error:
        return _refused(str(error))
    return "", gr.update(visible=False), *page(batch, doubtful)


def decline(session: Session) -> tuple[Any, str]:
    """Discard the question; updates of the consent and the message."""
    if session.batch is not None:
        session.batch.pending = None
    return gr.update(visible=False), ""


def stop(session: Session) -> Any:
    """Stop the batch; photos that are being paid for are finished."""
    if session.batch is not None:
        session.batch.cancel()
    return stopping()


def follow(session: Session, doubtful: bool, *, restored: bool = False) -> tuple[Any, ...]:
    """Updates of the message and `page`: while a batch runs, once after its end, and for a page that was `restored`."""
    batch = session.batch
    if batch is None:
        return *(gr.skip(),) * SHOWN, gr.Timer(active=False)
    redraw = restored or not batch.running or batch.shown != (batch.revision, doubtful)
    message = gr.skip() if batch.running else viewer.notice(_final(batch), "error" if batch.halted else "info")
    return message, *page(batch, doubtful, redraw=redraw)


def page(batch: Batch, doubtful: bool, *, redraw: bool = True) -> tuple[Any, ...]:
    """Updates of table, start, stop, download, second attempt and timer."""
    running, done = batch.running, any(row.file for row in batch.rows)
    begin, end = buttons(running)
    return (
        table(batch, doubtful) if redraw else gr.skip(),
        begin,
        stopping() if batch.stopping else end,
        gr.update(interactive=done and not running),
        gr.update(interactive=bool(batch.doubtful) and not running),
        gr.Timer(active=running),
    )


def show(session: Session, doubtful: bool) -> Any:
    """Return the table with all rows, or the doubtful and failed ones only."""
    return gr.skip() if session.batch is None else table(session.batch, doubtful)


def table(batch: Batch, doubtful: bool) -> str:
    """Return the HTML of the rows and of the progress."""
    batch.shown = batch.revision, doubtful
    rows = batch.rows
    listed = [
        (index, row) for index, row in enumerate(rows) if not doubtful or row.doubtful or row.state not in ("done", "new")
    ]
    return render(
        "batch_table.html",
        rows=listed,
        total=len(rows),
        finished=sum(row.state != "new" for row in rows),
        parts=_progress(rows),
        empty=t("No photo is doubtful or failed so far."),
        status=lambda row: t(STATES.get(row.state, "Waiting" if batch.running else "Not processed")),
        level=lambda row: confidence_level(row.confidence),
        title=lambda name: find(name).info.title,
        url=pictures.url,
    )


def save(session: Session) -> Any:
    """Pack all results into a zip archive for download."""
    batch = session.batch
    rows = [row for row in batch.rows if row.file] if batch is not None else []
    if batch is None or not rows:
        raise page_error("There are no results to download. Start the batch first.")
    try:
        return gr.update(value=pictures.write(session.owner, (batch.result(row) for row in rows)))
    except RmbgError as error:
        raise page_error(error) from None


def _batch_of(session: Session, uploads: list[Upload]) -> Batch:
    """Return the batch of the uploads: the current one if it has these, or if there are no uploads, otherwise a new one."""
    batch = session.batch
    if batch is not None and (not uploads or batch.has(uploads) or batch.running):
        return batch
    return session.new_batch(uploads)


def _begin(session: Session, batch: Batch, request: Request, key: str, doubtful: bool) -> tuple[Any, ...]:
    """Start a run that is free of charge, or ask for the consent to another one."""
    info = request.recipe.provider.info
    if not request.tasks:
        text = "All these photos have a result of this provider with these settings. Choose another provider or other settings."
        return viewer.notice(text, "info"), gr.update(visible=False), *page(batch, doubtful)
    charges = charges_of(info, request.recipe.options, key, Settings.from_environ()) if request.estimate else ()
    if charges:
        batch.pending = request
        text = t(
            "This sends {count} photos to {service}. Expected charge for all: {price}.",
            count=request.photos,
            service=charges[0].title,
            price=t(str(request.estimate)),
        )
        return viewer.notice(text, "info"), gr.update(visible=True), *page(batch, doubtful)
    batch.start(request, key)
    return "", gr.update(visible=False), *page(batch, doubtful)


def _refused(text: str) -> tuple[Any, ...]:
    return viewer.notice(text), gr.update(visible=False), *(gr.skip(),) * SHOWN


def _progress(rows: list[Row]) -> list[str]:
    """Return the counters of a batch as texts."""
    finished = sum(row.state != "new" for row in rows)
    failed = sum(row.state not in ("new", "done") for row in rows)
    low = sum(confidence_level(row.confidence) == "low" for row in rows)
    costs = [row.cost for row in rows if row.cost is not None]
    parts = [t("{count} of {total} photos", count=finished, total=len(rows))]
    parts += [t("{count} without a result", count=failed)] if failed else []
    parts += [t("{count} with low confidence", count=low)] if low else []
    return parts + ([_cost(costs)] if costs else [])


def _cost(costs: list[Cost]) -> str:
    """Return the sums of the costs by their basis, and the number of unknown ones."""
    sums: dict[Any, Decimal] = {}
    for cost in costs:
        if cost.usd is not None:
            sums[cost.basis] = sums.get(cost.basis, Decimal(0)) + cost.usd
    unknown = sum(cost.usd is None for cost in costs)
    parts = [t(str(Cost(usd, basis))) for basis, usd in sums.items()]
    return ", ".join([*parts, *([t("{count} of unknown cost", count=unknown)] if unknown else [])])


def _final(batch: Batch) -> str:
    """Return the message after the end of a run."""
    if batch.message:
        return batch.message
    rows = batch.rows
    done = sum(bool(row.file) for row in rows)
    text = t("Done: {count} of {total} photos have a result.", count=done, total=len(rows))
    doubtful = len(batch.doubtful)
    if doubtful:
        text += " " + t(
            "{count} are doubtful. Choose another provider and run them again, or open them in the Remove tab.", count=doubtful
        )
    return text


# The Batch tab: many photos or a zip in, a table that fills, a zip out.


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


@dataclass(frozen=True)
class Parts:
    """Components that other modules use: the field for files, the filter, the table, and the outputs of `follow`."""

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
            provider = gr.Dropdown(
                providers.choices_with_best(settings), value="auto", label="Provider", elem_id="batch-provider"
            )
            line = gr.HTML(providers.line("auto", settings), elem_classes="bare")
            key, options = providers.build_provider_options(provider, settings, prefix="batch-")
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
            start_button = gr.Button("Remove all backgrounds", variant="primary", size="lg", elem_id="batch-start")
            cancel = gr.Button("Cancel", visible=False, size="lg", elem_id="batch-cancel")
        with gr.Column(scale=9, min_width=320):
            message = gr.HTML("", elem_classes="bare", elem_id="batch-message")
            consent, yes, no = providers.consent_row("batch")
            with gr.Row(equal_height=True):
                doubtful = gr.Checkbox(False, label="Doubtful and failed only", elem_id="batch-doubtful", min_width=180)
                again_button = gr.Button(
                    "Run doubtful photos again", size="sm", interactive=False, elem_id="batch-again", min_width=180
                )
                save_button = gr.Button(
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

    shown = [table, start_button, cancel, save_button, again_button, timer]
    begun = [message, consent, *shown]
    selected = [provider, key, options, form, kind, color, doubtful]
    files.change(chosen, [session, files], message, concurrency_limit=2, show_progress="hidden", **PRIVATE)
    provider.change(partial(providers.line, settings=settings), provider, line, **INSTANT)
    gr.on(None, partial(providers.refresh, "auto", settings), None, [provider, line], **INSTANT)  # at page load
    kind.input(lambda value: gr.update(visible=value == "color"), kind, color, **INSTANT)
    gr.on([provider.input, form.input, kind.input, color.input], decline, session, [consent, message], **INSTANT)
    # Planning reads archives and the manifest, so it goes through the queue; the run itself is in a thread of the batch.
    planned: dict[str, Any] = {"concurrency_limit": SERVICES_AT_ONCE, "show_progress": "hidden", **PRIVATE}
    for clicked in (
        start_button.click(start, [session, files, *selected], begun, **planned),
        again_button.click(partial(start, again=True), [session, files, *selected], begun, **planned),
    ):
        clicked.success(None, js="() => rmbgShowMessage('#batch-message')", **PRIVATE)
    yes.click(confirm, [session, key, options, doubtful], begun, **planned)
    no.click(decline, session, [consent, message], **INSTANT)
    cancel.click(stop, session, cancel, **INSTANT)
    timer.tick(follow, [session, doubtful], [message, *shown], **INSTANT)
    doubtful.input(show, [session, doubtful], table, **INSTANT)
    save_button.click(save, session, file, concurrency_limit=2, **PRIVATE).success(
        None, js="() => document.querySelector('#batch-file').click()", **PRIVATE
    )
    return Parts(files, doubtful, table, [message, *shown])


def connect(tabs: gr.Tabs, session: gr.State, restored: Any, parts: Parts, removal: remove.Parts) -> None:
    """Show the batch of an earlier page after the event `restored`, and open its results in the Remove tab."""
    restored.then(partial(follow, restored=True), [session, parts.doubtful], parts.restored, **INSTANT)
    parts.table.select(
        open_row,
        [session, *removal.display],
        [tabs, removal.photo, *removal.restored],
        concurrency_limit=2,
        show_progress="hidden",
        **PRIVATE,
    )


def open_row(event: gr.EventData, session: Session, *display: Any) -> tuple[Any, ...]:
    """Make a result of the batch the current one of the Remove tab, and select that tab; no provider runs.

    Raises
    ------
    gr.Error
        If there is no such row, or it has no result.
    """
    batch, index = session.batch, event._data.get("index") if isinstance(event._data, dict) else None
    rows = [] if batch is None else batch.rows
    if batch is None or not isinstance(index, str) or not re.fullmatch("[0-9]{1,6}", index) or int(index) >= len(rows):
        raise page_error("There is no such photo. Reload the page.")
    try:
        cutout, upload = batch.cutout(rows[int(index)].name)
        path = upload.path if load_photo.is_shown(upload.name) else load_photo.as_png(cutout.photo)
        session.adopt(session.keep(cutout, counted=True), path)
    except RmbgError as error:
        raise page_error(error) from None
    return gr.Tabs(selected="remove"), path, *remove_actions.restore(session, *display)
