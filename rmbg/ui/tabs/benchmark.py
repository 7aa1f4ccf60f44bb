"""The Benchmark tab: quality, seconds and cost of providers on a data set with ground-truth mattes."""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import gradio as gr

from rmbg.benchmark.dataset import Dataset, open_dataset
from rmbg.benchmark.journal import Journal
from rmbg.benchmark.report import write_report
from rmbg.benchmark.run import expected_charge, run
from rmbg.benchmark.summary import summarize, unknown_charges, without_figures
from rmbg.billing.quote import Estimate
from rmbg.errors import OptionError
from rmbg.providers import ready_providers
from rmbg.runtime.cancellation import CancellationToken
from rmbg.runtime.files import EXAMPLES
from rmbg.runtime.messages import Message, megabytes
from rmbg.settings import Settings
from rmbg.ui.components import providers, viewer
from rmbg.ui.components.inputs import store_file
from rmbg.ui.components.providers import key_fields, keys_by_id, selection
from rmbg.ui.consent import Charge
from rmbg.ui.lanes import DEVICE, SERVICES_AT_ONCE
from rmbg.ui.languages import t
from rmbg.ui.runs import INSTANT, PRIVATE, buttons, run_number, stopping
from rmbg.ui.session import Session
from rmbg.ui.templates import render

#: Name of this tab in the consent of a visitor, and prefix of its element ids.
PLACE = "measure"

FILES = ("report.html", "results.csv", "results.json")
SOURCES = [("Examples of this project", "examples"), ("My own zip", "zip")]


def build(session: gr.State, settings: Settings) -> None:
    """Create the components of the tab and connect their events."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=320):
            source = gr.Radio(SOURCES, value="examples", label="Data set", elem_id="dataset")
            archive = gr.File(label="Zip", file_types=[".zip"], visible=False, elem_id="dataset-zip", height=120)
            gr.HTML(render("dataset_layout.html", limit=megabytes(settings.max_bytes)), elem_classes="bare")
            selected = selection(PLACE, settings)
            keys = key_fields(PLACE, settings)
            start = gr.Button("Measure", variant="primary", size="lg", elem_id="measure-start")
            cancel = gr.Button("Cancel", visible=False, size="lg", elem_id="measure-cancel")
            message = gr.HTML("", elem_classes="bare", elem_id="measure-message")
            consent, yes, no = providers.consent_row(PLACE)
        with gr.Column(scale=9, min_width=320):
            report = gr.HTML(
                viewer.placeholder(
                    "The report appears here",
                    "Choose providers and a data set, which is the examples of this project or a zip of your own",
                    "Measure",
                ),
                elem_classes="bare",
                elem_id="report",
            )
            with gr.Row(visible=False) as files:
                page = gr.DownloadButton("Report (HTML)", elem_id="report-html")
                table = gr.DownloadButton("Results (CSV)", elem_id="report-csv")
                data = gr.DownloadButton("Results (JSON)", elem_id="report-json")

    run_id = run_number()
    work: dict[str, Any] = {
        "inputs": [run_id, session, source, archive, selected, *keys],
        "outputs": [report, files, page, table, data, consent, message],
        "show_progress": "full",
        "show_progress_on": [report],
        **PRIVATE,
    }
    source.input(lambda chosen: gr.update(visible=chosen == "zip"), source, archive, **INSTANT)
    # Changing the data set or the selection invalidates the consent.
    hide_consent = partial(providers.hide, PLACE)
    changes = [source.input, archive.change, selected.input]
    gr.on(changes, hide_consent, session, [consent, message], trigger_mode="always_last", **INSTANT)
    # Separate limits, so that local benchmarks do not wait for those that use services.
    for button, begin, action, limit in (
        (start, _begin, measure, 1),
        (yes, _confirm, partial(measure, paid=True), SERVICES_AT_ONCE),
    ):
        started = button.click(begin, session, [run_id, start, cancel, consent, message], **INSTANT)
        started.then(action, concurrency_limit=limit, **work).then(
            lambda session: buttons(session.measurements.active), session, [start, cancel], **INSTANT
        )
    no.click(hide_consent, session, [consent, message], **INSTANT)
    cancel.click(_stop, [session], [cancel], **INSTANT)


def _begin(session: Session) -> tuple[Any, ...]:
    return session.measurements.start(), *buttons(True), *providers.hide(PLACE, session)


def _confirm(session: Session) -> tuple[Any, ...]:
    """Accept the cost that was shown, and start the run."""
    session.consent.accept(PLACE)
    return _begin(session)


def _stop(session: Session) -> Any:
    session.measurements.cancel(wait=False)
    return stopping()


def measure(
    run_id: int | None,
    session: Session,
    source: str,
    archive: str | None,
    ids: list[str],
    *keys: str,
    progress: gr.Progress = gr.Progress(),
    paid: bool = False,
) -> tuple[Any, ...]:
    """Run a benchmark, which is free of charge unless the visitor has given the consent to a `paid` one.

    Returns the updates of the page; a request that must not run leaves it unchanged.
    """
    return session.measurements.run(
        run_id,
        lambda token: _measure(session, token, source, archive, ids, keys_by_id(keys), progress, paid=paid),
        lambda error: _message_only(viewer.failure(error)),
        (gr.skip(),) * 7,
        paid=paid,
    )


def _measure(
    session: Session,
    token: CancellationToken,
    source: str,
    archive: str | None,
    ids: list[str],
    keys: dict[str, str],
    progress: gr.Progress,
    *,
    paid: bool,
) -> tuple[Any, ...]:
    def show(fraction: float | None, text: str) -> None:
        progress(fraction or 0.0, desc=t(text))

    settings = Settings.from_environ()
    if not ids:
        raise OptionError("Choose at least one provider to measure.")
    if source == "zip" and not archive:
        raise OptionError("Choose a zip first.")
    ready_providers(ids, settings, keys)
    path = EXAMPLES if source == "examples" else Path(str(archive))
    dataset = open_dataset(path, settings=settings, progress=show, cancelled=token.cancelled)
    journal = Journal(_folder(dataset, session, settings), settings)
    charge = expected_charge(dataset, ids, journal, settings)
    agreed = [Charge(f"{journal.folder.name} {','.join(sorted(ids))}", str(charge), charge.usd)]
    if charge and not (paid and session.consent.covers(agreed)):
        session.consent.request(PLACE, agreed)
        return _request_consent(dataset, charge)
    run(
        dataset,
        ids,
        journal,
        settings=settings,
        keys=keys,
        progress=show,
        cancelled=token.cancelled,
        device=DEVICE.for_client(),
    )
    summary = summarize(dataset, ids, journal)
    page = write_report(summary, journal, settings=settings)
    frame = render("report_frame.html", report=page.read_text(encoding="utf-8"))
    files = (store_file((page.parent / name).read_bytes(), f"{dataset.name}-{name}") for name in FILES)
    messages = (*without_figures(summary).values(), *unknown_charges(summary))
    failures = "".join(viewer.notice(message) for message in messages)
    return (frame, gr.update(visible=True), *files, gr.update(visible=False), failures)


def _message_only(message: str) -> tuple[Any, ...]:
    return (*(gr.skip() for _ in range(5)), gr.update(visible=False), message)


def _request_consent(dataset: Dataset, charge: Estimate) -> tuple[Any, ...]:
    text = Message(
        "This sends pictures of {name} to paid services and is expected to cost {price}.", name=dataset.name, price=str(charge)
    )
    return (*(gr.skip() for _ in range(5)), gr.update(visible=True), viewer.notice(text, "info"))


def _folder(dataset: Dataset, session: Session, settings: Settings) -> Path:
    """Folder of the results of a data set: permanent on a private server, that of the session on a shared one."""
    name = sha256("".join(sample.digest for sample in dataset.samples).encode()).hexdigest()[:16]
    return (session.own_folder() if settings.shared else settings.data / "benchmarks") / name
