"""The retouch tools: strokes of a brush, which the page sends one by one, and objects that SAM 2 finds at a click."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr
import numpy as np

from rmbg.errors import NotReadyError, OptionError, RmbgError
from rmbg.matting.retouch import MAX_STROKES, Stroke, check_strokes, parse_stroke
from rmbg.providers.base import RequestContext
from rmbg.providers.sam import SAM2, mask_at
from rmbg.runtime.cancellation import CancellationToken
from rmbg.runtime.messages import Message
from rmbg.settings import Settings
from rmbg.ui.components import viewer
from rmbg.ui.lanes import DEVICE
from rmbg.ui.languages import status_text, t, visitor_text
from rmbg.ui.results import Edits, Result
from rmbg.ui.runs import INSTANT, shown_progress
from rmbg.ui.session import Session
from rmbg.ui.tabs.edits import ON_DEVICE, UNCHANGED_PAGE, page_of
from rmbg.ui.templates import render

#: Modes of the brush.
MODES = [("Keep", "keep"), ("Erase", "erase")]

#: Modes in which a click adds the object at a point to the mask, or removes it; they need SAM 2.
OBJECT_MODES = [("Add object", "subject"), ("Remove object", "background")]

#: Smallest, largest and first diameter of the brush in pixels of the screen.
BRUSH = (4, 300, 40)

INVALID = "The retouching is invalid. Reload the page."


def build(settings: Settings) -> tuple[gr.Radio, gr.HTML, gr.Button]:
    """Create the tools, which ``retouch.css`` shows while they are open; returns mode, readiness of SAM 2 and "Done"."""
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
    return mode, status, done


def connect(
    tools: tuple[gr.Radio, gr.HTML, gr.Button], session: gr.State, display: list[Any], page: list[Any], settings: Settings
) -> None:
    """Connect the events of `build`; the other arguments are those of `edits.build_mask_tools`."""
    mode, status, done = tools
    # The next stroke is sent once the last one is answered; Gradio may still count that event as running.
    viewer.request("retouch-send", receive, session, [], trigger_mode="multiple", **INSTANT)
    done.click(lambda session, *display: page_of(session, session.current, display), [session, *display], page, **INSTANT).then(
        None, js="() => rmbgRetouch.closed()", **INSTANT
    )
    chosen = viewer.request("retouch-send-point", select, session, display, page, show_progress_on=[page[0]], **ON_DEVICE)
    ready = partial(updates, settings)
    chosen.then(ready, None, [mode, status], **INSTANT)
    gr.on(None, ready, None, [mode, status], **INSTANT)  # at page load


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


def select(session: Session, text: str, *display: Any, progress: gr.Progress = gr.Progress()) -> tuple[Any, ...]:
    """Add the object at a point to the mask, or remove it; `text` is the request of ``retouch.js``.

    Returns the answer, JSON with an error message if it was rejected, and updates of the page.
    """

    def selected(token: CancellationToken) -> tuple[Any, ...]:
        name, subject, x, y = parse_point(text)
        result = session.current
        if result is None or result.id != name:
            raise OptionError("This result was deleted. Remove the background of the photo again.")
        settings = Settings.from_environ()
        status = SAM2.status(settings)
        if not status.usable:
            raise NotReadyError(Message("SAM 2 is not ready: {status}.", status=status.text))
        progress(0.0, desc=t("Waiting for this machine"))
        with DEVICE.turn(token.check):
            cutout = result.coarse()
            shown = shown_progress(progress)
            found = mask_at(cutout.photo, (x, y), RequestContext(settings, None, shown, token.cancelled))
        matte = np.maximum(cutout.matte, found) if subject else np.minimum(cutout.matte, 1 - found)
        own = cutout.photo.alpha
        if own is not None:  # already in the matte, and multiplied in again by `with_matte`
            alpha = own.astype(np.float32) / np.float32(255)
            matte = np.divide(np.minimum(matte, alpha), alpha, out=np.zeros_like(matte), where=alpha > 0)
        result.replace_mask(cutout.with_matte(matte))
        return json.dumps({"error": ""}), *page_of(session, result, display)

    def failed(error: RmbgError) -> tuple[Any, ...]:
        return json.dumps({"error": visitor_text(error)}), *UNCHANGED_PAGE

    busy = json.dumps({"error": t("Another change of the mask is running. Wait for its end.")}), *UNCHANGED_PAGE
    return session.mattings.run(session.mattings.start(), selected, failed, busy)


def parse_point(text: str) -> tuple[str, bool, float, float]:
    """Return the result, whether the point is on the subject, and x and y as fractions, from a JSON list.

    Raises
    ------
    OptionError
        If the text has another form.
    """
    try:
        name, subject, *point = json.loads(text)
        valid = isinstance(name, str) and isinstance(subject, bool) and len(point) == 2
        x, y = (float(value) for value in point if isinstance(value, (int, float)) and not isinstance(value, bool))
    except (ValueError, TypeError, RecursionError, OverflowError):
        valid, name, subject, x, y = False, "", False, 0.0, 0.0
    if not valid or not (0 <= x <= 1 and 0 <= y <= 1):
        raise OptionError(Message("The point is invalid. Click on the photo."))
    return name, subject, x, y
