"""Edits of a result in the Remove tab besides its retouching: clean-up, alpha matting, own mask. No provider runs."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from rmbg.errors import OptionError, RmbgError
from rmbg.inference.catalog import VITMATTE
from rmbg.matting.edges import RANGES, UNCHANGED, AlphaMatting, EdgeSettings
from rmbg.matting.retouch import read_mask
from rmbg.providers.local import model_status
from rmbg.remove import check_alpha_matting
from rmbg.runtime.cancellation import CancellationToken
from rmbg.settings import Settings
from rmbg.ui.components import viewer
from rmbg.ui.components.inputs import Upload, photo_input
from rmbg.ui.lanes import DEVICE
from rmbg.ui.languages import status_text, t
from rmbg.ui.results import Result
from rmbg.ui.runs import INSTANT, PRIVATE, buttons, run_number, shown_progress
from rmbg.ui.session import Session
from rmbg.ui.tabs import remove_actions, strip
from rmbg.ui.templates import render

NO_RESULT = "There is no result. Remove a background first."

#: Arguments of events that wait for the device of local providers.
ON_DEVICE: dict[str, Any] = {"concurrency_id": "device", "concurrency_limit": 1, **PRIVATE}

#: Concurrent own masks that are decoded.
MASKS_AT_ONCE = 2

#: Updates of result, facts, message and strip that change nothing.
UNCHANGED_PAGE = gr.skip(), gr.skip(), gr.skip(), gr.skip()

#: Labels of the options, which have the names of the command line, in the order in which they are applied.
LABELS = {
    "largest": "Keep the largest region only",
    "specks": "Remove specks, pixels",
    "holes": "Fill holes, pixels",
    "smooth": "Smooth the outline, px",
    "shift": "Shift the edge, px",
    "feather": "Feather, px",
    "invert": "Invert",
}

#: Number of controls of the clean-up.
CONTROLS = len(LABELS)

#: Methods of alpha matting.
METHODS = [("Closed-form", "closed-form"), ("ViTMatte", "vitmatte")]

#: Labels of the numbers of `AlphaMatting`, which have the names of rembg.
NUMBERS = {
    "foreground_threshold": "Foreground threshold",
    "background_threshold": "Background threshold",
    "erode_size": "Erode size",
}

#: Number of settings of alpha matting.
SETTINGS = 1 + len(NUMBERS)


def build_clean_up(session: gr.State, display: list[Any], page: list[Any]) -> None:
    """Create the collapsed section of the clean-up; the arguments are those of `build_mask_tools`."""
    fields: dict[str, Any] = {}

    def slider(name: str) -> None:
        low, high, _ = RANGES[name]
        fields[name] = gr.Slider(low, high, value=0, step=0.5, label=LABELS[name], elem_id=f"clean-{name}", min_width=150)

    with gr.Accordion("Clean-up", open=False, elem_id="clean-up"):
        with gr.Row():
            for name in ("smooth", "shift", "feather"):
                slider(name)
        with gr.Row(equal_height=True):
            for name in ("specks", "holes"):
                fields[name] = gr.Number(0, label=LABELS[name], precision=0, minimum=0, elem_id=f"clean-{name}", min_width=150)
        with gr.Row():
            for name in ("largest", "invert"):
                fields[name] = gr.Checkbox(False, label=LABELS[name], elem_id=f"clean-{name}", min_width=150)
        reset = gr.Button("Reset the clean-up", size="sm", elem_id="clean-reset")
    send = gr.Button("Apply the clean-up", elem_id="clean-send", visible="hidden")
    result = gr.Textbox("", label="Result", visible="hidden")
    controls = [fields[name] for name in asdict(UNCHANGED)]

    # drafts.js shows each change at once, and presses the button when the controls rest.
    send.click(
        apply,
        [session, result, *controls, *display],
        page[:3],
        js="(session, result, ...values) => [session, rmbgDrafts.result(), ...values]",
        trigger_mode="multiple",
        **INSTANT,
    ).then(None, js="() => rmbgDrafts.applied()", **INSTANT).then(strip.kept, session, page[3], **INSTANT)
    reset.click(None, None, controls, js="() => rmbgDrafts.reset()", **INSTANT)
    # The settings belong to a result. While it is shown, the controls are ahead of the answers.
    shown = gr.State("")
    # After the result is displayed, which the request would delay.
    js = "async (...values) => { await rmbgViewer.painted(); return values; }"
    page[0].change(controls_of, [session, shown], [shown, *controls], js=js, **INSTANT)


def edges_of(*values: Any) -> EdgeSettings:
    """Return the settings of the controls; an empty number is zero. Raises OptionError if a value is out of range."""
    defaults = asdict(UNCHANGED)
    return EdgeSettings(
        **{name: defaults[name] if value is None else value for name, value in zip(defaults, values, strict=True)}
    )


def apply(session: Session, result_id: str, *values: Any) -> tuple[Any, Any, Any]:
    """Clean a result up with the values of the controls, which display options follow; updates of the page."""
    result = next((result for result in session.results if result.id == result_id), None)
    if result is None:
        return _failed(OptionError(NO_RESULT))[:3]
    try:
        edges = edges_of(*values[:CONTROLS])
    except RmbgError as error:
        return _failed(error)[:3]
    result.edit(lambda edits: replace(edits, edges=edges))
    return remove_actions.show(session, *values[CONTROLS:])


def controls_of(session: Session, shown: str) -> list[Any]:
    """Updates of the id of the displayed result and of the controls, if it is another one than `shown`."""
    result = session.current
    if result is not None:
        result.displayed.set()
    if result is None or result.id == shown:
        return [gr.skip()] * (1 + CONTROLS)
    return [result.id, *asdict(result.edits.edges).values()]


def build_mask_tools(session: gr.State, display: list[Any], page: list[Any], settings: Settings) -> None:
    """Create the collapsed section of alpha matting and the visitor's own mask, and connect its events.

    Parameters
    ----------
    display : list of components
        Display options.
    page : list of components
        Result, facts, message and strip.
    """
    default = AlphaMatting()
    with gr.Accordion("Alpha matting and own mask", open=False, elem_id="mask-tools"):
        with gr.Row(equal_height=True):
            method = gr.Radio(METHODS, value=default.method, label="Method", elem_id="matting-method", scale=3, min_width=290)
            numbers = [
                gr.Number(
                    getattr(default, name),
                    label=label,
                    precision=0,
                    minimum=RANGES[name][0],
                    maximum=RANGES[name][1],
                    elem_id=f"matting-{name.replace('_', '-')}",
                    scale=2,
                    min_width=110,
                )
                for name, label in NUMBERS.items()
            ]
        status = gr.HTML(status_line(settings), elem_classes="bare", elem_id="matting-status")
        start = gr.Button("Compute the edge from the photo (slow)", size="sm", elem_id="matting-start")
        cancel = gr.Button("Cancel", visible=False, size="sm", elem_id="matting-cancel")
        with gr.Row(equal_height=False):
            own = photo_input(label="Own mask", sources=["upload"], height=110, buttons=[], elem_id="own-mask", min_width=220)
            provided = gr.Button("Restore the provider's mask", size="sm", elem_id="mask-restore", min_width=160)

    run = run_number()
    both = [start, cancel]
    matted = start.click(_begin, session, [run, *both, page[2]], **INSTANT).then(
        refine, [run, session, method, *numbers, *display], page, show_progress_on=[page[0]], **ON_DEVICE
    )
    matted.then(lambda session: buttons(session.mattings.active), session, both, **INSTANT)
    matted.then(partial(status_line, settings), None, status, **INSTANT)
    cancel.click(_stop, session, [*both, page[2]], cancels=[matted], **INSTANT)
    own.upload(
        own_mask,
        [session, own, *display],
        [own, *page],
        concurrency_limit=MASKS_AT_ONCE,
        show_progress_on=[page[0]],
        **PRIVATE,
    )
    provided.click(restore, [session, *display], page, **INSTANT)


def parse(method: str, *numbers: float | None) -> AlphaMatting:
    """Return the settings of the controls; an empty number has its default. Raises OptionError if a value is out of range."""
    given = {name: value for name, value in zip(NUMBERS, numbers, strict=True) if value is not None}
    return AlphaMatting(**given, method=method)  # type: ignore[arg-type]


def status_line(settings: Settings) -> str:
    """Return the HTML of the readiness and the license of ViTMatte."""
    status = status_text(model_status(VITMATTE, settings))
    return render("note.html", text=t("ViTMatte: {status}. License: {license}", status=status, license=t(VITMATTE.license)))


def _begin(session: Session) -> tuple[Any, ...]:
    return session.mattings.start(), *buttons(True), ""


def _stop(session: Session) -> tuple[Any, ...]:
    return *buttons(False), viewer.notice(session.mattings.cancel(wait=False), "info")


def refine(run: int | None, session: Session, *values: Any, progress: gr.Progress = gr.Progress()) -> tuple[Any, Any, Any, Any]:
    """Apply alpha matting to the mask of the current result."""
    result = session.current

    def matted(token: CancellationToken) -> tuple[Any, Any, Any, Any]:
        matting, settings = parse(*values[:SETTINGS]), Settings.from_environ()
        if result is None:
            raise OptionError(NO_RESULT)
        check_alpha_matting(matting, settings)
        progress(0.0, desc=t("Waiting for this machine"))
        with DEVICE.turn(token.check):
            cutout = result.coarse().refined(
                matting,
                progress=shown_progress(progress),
                cancelled=token.cancelled,
                environment=settings,
            )
        result.replace_mask(cutout, refined=True)
        return page_of(session, result, values[SETTINGS:])

    return session.mattings.run(run, matted, _failed, UNCHANGED_PAGE)


def own_mask(session: Session, upload: Upload | None, *display: Any) -> tuple[Any, ...]:
    """Use an uploaded mask for the current result; the field is emptied."""
    result = session.current
    try:
        if upload is None or result is None:
            raise OptionError(NO_RESULT)
        matte = read_mask(Path(upload.path), result.width, result.height)
        result.replace_mask(result.coarse().with_matte(matte))
    except RmbgError as error:
        return None, *_failed(error)
    finally:
        if upload is not None:
            upload.release()
    return None, *page_of(session, result, display)


def restore(session: Session, *display: Any) -> tuple[Any, ...]:
    """Use the provider's mask again."""
    result = session.current
    if result is None:
        return _failed(OptionError(NO_RESULT))
    result.replace_mask(None)
    return page_of(session, result, display)


def page_of(session: Session, result: Result | None, display: Any) -> tuple[Any, Any, Any, Any]:
    """Updates of the page after a result was edited."""
    if result is None or session.current is not result:
        return UNCHANGED_PAGE
    return *remove_actions.show(session, *display), strip.update(session)


def _failed(error: RmbgError) -> tuple[Any, Any, Any, Any]:
    return gr.skip(), gr.skip(), viewer.failure(error), gr.skip()
