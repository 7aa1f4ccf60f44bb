"""The third tab: providers over a data set with true mattes; quality, seconds and cost in one report."""

from __future__ import annotations

import html
import logging
import threading
from hashlib import sha256
from pathlib import Path
from typing import Any

import gradio as gr

from rmbg.benchmark.dataset import Dataset, open_dataset
from rmbg.benchmark.journal import Journal
from rmbg.benchmark.report import write_report
from rmbg.benchmark.run import expected_usd, ready, run
from rmbg.benchmark.summary import summarise
from rmbg.errors import CancelledError, OptionError, RmbgError
from rmbg.prices import in_words
from rmbg.settings import Settings
from rmbg.ui import viewer
from rmbg.ui.provider_boxes import boxes, key_fields, split, withdrawn
from rmbg.ui.remove_tab import EXAMPLES
from rmbg.ui.session import Session
from rmbg.ui.switch import buttons, stopping
from rmbg.ui.upload import cached

log = logging.getLogger(__name__)

EMPTY = (
    '<div class="viewer empty"><div class="invitation"><strong>The report appears here</strong><span>Scores against true '
    "mattes, seconds and cost: on the examples of this project, or on a zip of your own.</span></div></div>"
)
LAYOUT = (
    '<p class="note">A zip with <code>CATEGORY/im/*</code> (photos) and <code>CATEGORY/gt/*</code> (their true alpha, 8-bit '
    "grey, same size and name), at most {megabytes:g} MB; <code>python -m rmbg benchmark FOLDER</code> takes more. A run that "
    "was stopped goes on where it was, and nothing is paid for twice.</p>"
)
FILES = ("report.html", "results.csv", "results.json")
SOURCES = [("Examples of this project", "examples"), ("My own zip", "zip")]


def build(session: gr.State, settings: Settings) -> None:
    """Lay out the tab and connect its parts."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=320):
            source = gr.Radio(SOURCES, value="examples", label="Data set", elem_id="dataset")
            archive = gr.File(label="Zip", file_types=[".zip"], visible=False, elem_id="dataset-zip", height=120)
            gr.HTML(LAYOUT.format(megabytes=settings.max_bytes / 1e6), elem_classes="bare")
            checks = boxes("measure", settings)
            keys = key_fields("measure", checks, settings)
            start = gr.Button("Measure", variant="primary", size="lg", elem_id="measure-start")
            cancel = gr.Button("Cancel", visible=False, size="lg", elem_id="measure-cancel")
            with gr.Row(visible=False) as consent:
                yes = gr.Button("Yes, send and pay", variant="primary", elem_id="measure-yes")
                no = gr.Button("No", elem_id="measure-no")
            message = gr.HTML("", elem_classes="bare", elem_id="measure-message")
        with gr.Column(scale=9, min_width=320):
            report = gr.HTML(EMPTY, elem_classes="bare", elem_id="report")
            with gr.Row(visible=False) as files:
                page = gr.DownloadButton("Report (HTML)", elem_id="report-html")
                table = gr.DownloadButton("Results (CSV)", elem_id="report-csv")
                data = gr.DownloadButton("Results (JSON)", elem_id="report-json")

    private: dict[str, Any] = {"api_visibility": "private"}
    instant: dict[str, Any] = {**private, "queue": False, "show_progress": "hidden"}
    work: dict[str, Any] = {
        "inputs": [session, source, archive, *checks, *keys],
        "outputs": [report, files, page, table, data, consent, message],
        "concurrency_id": "benchmark",
        "concurrency_limit": 1,
        "show_progress": "full",
        "show_progress_on": [report],
        **private,
    }
    source.input(lambda chosen: gr.update(visible=chosen == "zip"), source, archive, **instant)
    # A yes is to the pictures and the providers that it was asked about.
    gr.on([source.input, archive.change, *(check.input for check in checks)], withdrawn, None, [consent, message], **instant)
    for button, action in ((start, measure), (yes, measure_paid)):
        begun = button.click(_begin, session, [start, cancel, consent, message], **instant)
        begun.then(action, **work).then(lambda: buttons(False), None, [start, cancel], **instant)
    no.click(withdrawn, None, [consent, message], **instant)
    cancel.click(_stop, [session], [cancel], **instant)


def _begin(session: Session) -> tuple[Any, ...]:
    """The switch is new with the click: who stops while others are measuring stops what has not begun yet."""
    session.stop_measuring = threading.Event()
    return *buttons(True), *withdrawn()


def _stop(session: Session) -> Any:
    session.stop_measuring.set()
    return stopping()


def measure(
    session: Session, source: str, archive: str | None, *rest: Any, progress: gr.Progress = gr.Progress()
) -> tuple[Any, ...]:
    """Measure what is free; what may be charged waits for a yes."""
    return _measure(session, source, archive, *split(rest), progress, paid=False)


def measure_paid(
    session: Session, source: str, archive: str | None, *rest: Any, progress: gr.Progress = gr.Progress()
) -> tuple[Any, ...]:
    """Measure after the yes."""
    return _measure(session, source, archive, *split(rest), progress, paid=True)


def _measure(
    session: Session,
    source: str,
    archive: str | None,
    ids: list[str],
    keys: dict[str, str],
    progress: gr.Progress,
    *,
    paid: bool,
) -> tuple[Any, ...]:
    stopped = session.stop_measuring.is_set

    def show(fraction: float | None, text: str) -> None:
        progress(fraction or 0.0, desc=text)

    try:
        settings = Settings.from_environ()
        if not ids:
            raise OptionError("Choose at least one provider to measure.")
        if source == "zip" and not archive:
            raise OptionError("Choose a zip first.")
        ready(ids, settings, keys)
        path = EXAMPLES if source == "examples" else Path(str(archive))
        dataset = open_dataset(path, settings=settings, progress=show, cancelled=stopped)
        journal = Journal(_folder(dataset, session, settings))
        price = in_words(*expected_usd(dataset, ids, journal))
        if price and not paid:
            return _ask(dataset, price)
        run(dataset, ids, journal, settings=settings, keys=keys, progress=show, cancelled=stopped)
        page = write_report(summarise(dataset, ids, journal), journal, settings=settings)
    except CancelledError as error:
        return _only(viewer.notice(str(error), "info"))
    except RmbgError as error:
        return _only(viewer.notice(str(error)))
    except Exception:
        log.exception("Benchmark of %s failed", ids)
        return _only(viewer.notice(viewer.OUR_FAULT))
    # The page carries its own style sheet and may load nothing; in a frame of its own neither meets the app's.
    markup = html.escape(page.read_text(encoding="utf-8"))
    frame = f'<iframe class="report" sandbox="" title="Report" srcdoc="{markup}"></iframe>'
    files = (cached((page.parent / name).read_bytes(), f"{dataset.name}-{name}") for name in FILES)
    return (frame, gr.update(visible=True), *files, gr.update(visible=False), "")


def _only(message: str) -> tuple[Any, ...]:
    return (*(gr.skip() for _ in range(5)), gr.update(visible=False), message)


def _ask(dataset: Dataset, price: str) -> tuple[Any, ...]:
    text = f"This sends pictures of {dataset.name} to paid services and is expected to cost {price}."
    return (*(gr.skip() for _ in range(5)), gr.update(visible=True), viewer.notice(text, "info"))


def _folder(dataset: Dataset, session: Session, settings: Settings) -> Path:
    """Where the results of this data set are kept: for good on one's own machine, as long as the visit on a shared one."""
    name = sha256("".join(sample.digest for sample in dataset.samples).encode()).hexdigest()[:16]
    return (session.own_folder() if settings.shared else settings.data / "benchmarks") / name
