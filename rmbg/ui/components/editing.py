"""Controls of the edits of a result: clean-up, alpha matting, own mask, brush; and the requests that send its strokes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import gradio as gr

from rmbg.errors import OptionError
from rmbg.inference.catalog import VITMATTE
from rmbg.matting.edges import RANGES, UNCHANGED, AlphaMatting, EdgeSettings
from rmbg.matting.retouch import MAX_STROKES, Stroke, check_strokes, parse_stroke
from rmbg.providers.local import model_status
from rmbg.providers.sam2 import SAM2
from rmbg.settings import Settings
from rmbg.ui.components.inputs import photo_input
from rmbg.ui.languages import status_text, t, visitor_text
from rmbg.ui.results import Edits, Result
from rmbg.ui.session import Session
from rmbg.ui.templates import render

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


@dataclass(frozen=True)
class CleanUp:
    """Components of the section.

    Attributes
    ----------
    controls : list of components
        In the order of `EdgeSettings`.
    reset : gr.Button
    send : gr.Button
        Pressed by ``drafts.js`` when the controls have changed.
    result : gr.Textbox
        Id of the result that they belong to.
    """

    controls: list[Any]
    reset: gr.Button
    send: gr.Button
    result: gr.Textbox


def build_clean_up() -> CleanUp:
    """Create the collapsed section."""
    controls: dict[str, Any] = {}

    def slider(name: str) -> None:
        low, high, _ = RANGES[name]
        controls[name] = gr.Slider(low, high, value=0, step=0.5, label=LABELS[name], elem_id=f"clean-{name}", min_width=150)

    with gr.Accordion("Clean-up", open=False, elem_id="clean-up"):
        with gr.Row():
            for name in ("smooth", "shift", "feather"):
                slider(name)
        with gr.Row(equal_height=True):
            for name in ("specks", "holes"):
                controls[name] = gr.Number(
                    0, label=LABELS[name], precision=0, minimum=0, elem_id=f"clean-{name}", min_width=150
                )
        with gr.Row():
            for name in ("largest", "invert"):
                controls[name] = gr.Checkbox(False, label=LABELS[name], elem_id=f"clean-{name}", min_width=150)
        reset = gr.Button("Reset the clean-up", size="sm", elem_id="clean-reset")
    send = gr.Button("Apply the clean-up", elem_id="clean-send", visible="hidden")
    result = gr.Textbox("", label="Result", visible="hidden")
    return CleanUp([controls[name] for name in asdict(UNCHANGED)], reset, send, result)


def settings(*values: Any) -> EdgeSettings:
    """Return the settings of the controls; an empty number is zero. Raises OptionError if a value is out of range."""
    defaults = asdict(UNCHANGED)
    return EdgeSettings(
        **{name: defaults[name] if value is None else value for name, value in zip(defaults, values, strict=True)}
    )


def values(edges: EdgeSettings = UNCHANGED) -> list[Any]:
    """Return the values of the controls for settings."""
    return list(asdict(edges).values())


#: Methods of alpha matting.
METHODS = [("Closed-form", "closed-form"), ("ViTMatte", "vitmatte")]

#: Labels of the numbers of `AlphaMatting`, which have the names of rembg.
NUMBERS = {
    "foreground_threshold": "Foreground threshold",
    "background_threshold": "Background threshold",
    "erode_size": "Erode size",
}


@dataclass(frozen=True)
class MaskTools:
    """Components of the section.

    Attributes
    ----------
    settings : list of components
        Method and numbers, in the order of `parse`.
    status : gr.HTML
        Readiness and license of ViTMatte.
    start, cancel, restore : gr.Button
    own : PhotoInput
        The visitor's own mask.
    """

    settings: list[Any]
    status: gr.HTML
    start: gr.Button
    cancel: gr.Button
    own: gr.Image
    restore: gr.Button


def build_mask_tools(settings: Settings) -> MaskTools:
    """Create the collapsed section."""
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
            restore = gr.Button("Restore the provider's mask", size="sm", elem_id="mask-restore", min_width=160)
    return MaskTools([method, *numbers], status, start, cancel, own, restore)


def parse(method: str, *numbers: float | None) -> AlphaMatting:
    """Return the settings of the controls; an empty number has its default. Raises OptionError if a value is out of range."""
    given = {name: value for name, value in zip(NUMBERS, numbers, strict=True) if value is not None}
    return AlphaMatting(**given, method=method)  # type: ignore[arg-type]


def status_line(settings: Settings) -> str:
    """Return the HTML of the readiness and the license of ViTMatte."""
    status = status_text(model_status(VITMATTE, settings))
    return render("note.html", text=t("ViTMatte: {status}. License: {license}", status=status, license=t(VITMATTE.license)))


#: Modes of the brush.
MODES = [("Keep", "keep"), ("Erase", "erase")]

#: Modes in which a click adds the object at a point to the mask, or removes it; they need SAM 2.
OBJECT_MODES = [("Add object", "subject"), ("Remove object", "background")]

#: Smallest, largest and first diameter of the brush in pixels of the screen.
BRUSH = (4, 300, 40)

INVALID = "The retouching is invalid. Reload the page."


@dataclass(frozen=True)
class Tools:
    """Components of the tools that have events of the server.

    Attributes
    ----------
    done : gr.Button
        Closes the tools.
    mode : gr.Radio
    status : gr.HTML
        Readiness of SAM 2.
    """

    done: gr.Button
    mode: gr.Radio
    status: gr.HTML


def build_retouch(settings: Settings) -> Tools:
    """Create the tools, which ``retouch.css`` shows while they are open."""
    low, high, first = BRUSH
    with gr.Row(elem_id="retouch", equal_height=True):
        choices, line = _modes(settings)
        mode = gr.Radio(choices, value="keep", label="Brush", interactive=True, elem_id="retouch-mode", scale=6, min_width=220)
        gr.Slider(
            low, high, value=first, step=1, label="Brush size", interactive=True, elem_id="retouch-size", scale=4, min_width=200
        )
        with gr.Row(elem_id="retouch-actions"):
            for label, action in (("Undo", "undo"), ("Redo", "redo"), ("Undo all", "clear")):
                gr.Button(label, size="sm", elem_id=f"retouch-{action}", min_width=0)
            done = gr.Button("Done", size="sm", variant="primary", elem_id="retouch-done", min_width=0)
        status = gr.HTML(line, elem_classes="bare", elem_id="retouch-status")
    return Tools(done, mode, status)


def updates(settings: Settings) -> tuple[Any, str]:
    """Updates of the modes and of the readiness of SAM 2, whose weights may be downloaded while the page is open."""
    choices, line = _modes(settings)
    return gr.update(choices=choices), line


def _modes(settings: Settings) -> tuple[list[tuple[str, str]], str]:
    """Modes that can be chosen, and HTML with the reason if SAM 2 is not ready."""
    status = SAM2.status(settings)
    text = "" if status.state == "ready" else t("Objects are found by SAM 2: {status}.", status=status_text(status))
    return MODES + (OBJECT_MODES if status.usable else []), render("note.html", text=text) if text else ""


def receive(session: Session, text: str) -> str:
    """Change the strokes of a result; returns JSON with their number, and an error message if the request was rejected.

    Parameters
    ----------
    text : str
        A JSON object with the fields ``number`` of the request, which the answer repeats, ``result``, ``keep`` and ``stroke``.
    """
    answer: dict[str, Any] = {}
    try:
        request = _parse(text)
        answer["number"] = request["number"]
        result = next((result for result in session.results if result.id == request["result"]), None)
        if result is None:
            raise OptionError("This result was deleted. Remove the background of the photo again.")
        added = () if request["stroke"] is None else (parse_stroke(request["stroke"], result.width, result.height),)
        answer["strokes"] = len(result.edits.strokes)
        result.edit(partial(_changed, result, request["keep"], added))
        answer["strokes"] = request["keep"] + len(added)
    except OptionError as error:
        answer["error"] = visitor_text(error)
    return json.dumps(answer)


def _changed(result: Result, keep: int, added: tuple[Stroke, ...], edits: Edits) -> Edits:
    """Edits of a result with the first `keep` strokes and the `added` ones."""
    strokes = (*edits.strokes[:keep], *added)
    if len(strokes) != keep + len(added):
        raise OptionError(INVALID)
    check_strokes(strokes, result.width, result.height)
    return replace(edits, strokes=strokes)


def _parse(text: str) -> dict[str, Any]:
    """Decode a request; raises OptionError if it has another form."""
    try:
        request = json.loads(text, parse_constant=_reject)
    except (ValueError, RecursionError):
        raise OptionError(INVALID) from None
    if not isinstance(request, dict) or set(request) != {"number", "result", "keep", "stroke"}:
        raise OptionError(INVALID)
    for name, limit in (("number", 2**31), ("keep", MAX_STROKES)):
        if type(request[name]) is not int or not 0 <= request[name] <= limit:
            raise OptionError(INVALID)
    return request


def _reject(constant: str) -> None:
    raise ValueError(constant)
