"""Tools that retouch the result with a brush, and the requests in which the page sends its strokes.

``stroke_canvas.js`` draws the strokes in the browser, and ``stroke_sync.js`` sends them. Each request replaces the end of the
list that the server has: ``keep`` is the number of strokes at its beginning that stay, ``stroke`` the one that follows, if any.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gradio as gr

from rmbg.errors import OptionError
from rmbg.matting.strokes import MAX_STROKES, Stroke, check_strokes, parse_stroke
from rmbg.providers.sam2 import SAM2
from rmbg.settings import Settings
from rmbg.ui.edits import Edits
from rmbg.ui.languages import t
from rmbg.ui.messages import status_text, visitor_text
from rmbg.ui.results import Result
from rmbg.ui.session import Session
from rmbg.ui.templates import render

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
    send : gr.Button
        Pressed by ``stroke_sync.js`` to send a stroke.
    stroke : gr.Textbox
        Request and answer.
    done : gr.Button
        Closes the tools.
    mode : gr.Radio
    status : gr.HTML
        Readiness of SAM 2.
    send_point : gr.Button
        Pressed by ``retouch.js`` to send the point of a click.
    point : gr.Textbox
        Point and answer.
    """

    send: gr.Button
    stroke: gr.Textbox
    done: gr.Button
    mode: gr.Radio
    status: gr.HTML
    send_point: gr.Button
    point: gr.Textbox


def build(settings: Settings) -> Tools:
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
    # retouch.js presses the second button, and copies the text of the first one, which is in the visitor's language.
    gr.Button("Retouch", elem_id="retouch-label", visible="hidden")
    send = gr.Button("Send a stroke", elem_id="retouch-send", visible="hidden")
    stroke = gr.Textbox("", label="Stroke", visible="hidden")
    send_point = gr.Button("Send a point", elem_id="retouch-send-point", visible="hidden")
    point = gr.Textbox("", label="Point", visible="hidden")
    return Tools(send, stroke, done, mode, status, send_point, point)


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
