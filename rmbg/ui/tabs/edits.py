"""Events of the edits of a result in the Remove tab: retouching, clean-up, and other masks. No provider runs."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from rmbg.errors import NotReadyError, OptionError, RmbgError
from rmbg.matting.edges import EdgeSettings
from rmbg.matting.retouch import read_mask
from rmbg.providers.base import RequestContext
from rmbg.providers.sam2 import SAM2, mask_at
from rmbg.remove import check_alpha_matting
from rmbg.runtime.cancellation import CancellationToken
from rmbg.runtime.messages import Message
from rmbg.settings import Settings
from rmbg.ui.components import editing, viewer
from rmbg.ui.components.inputs import Upload
from rmbg.ui.lanes import DEVICE
from rmbg.ui.languages import t, visitor_text
from rmbg.ui.results import Result
from rmbg.ui.runs import buttons, run_number, shown_progress
from rmbg.ui.session import Session
from rmbg.ui.tabs import remove_actions, strip

_PRIVATE: dict[str, Any] = {"api_visibility": "private"}
_INSTANT: dict[str, Any] = {**_PRIVATE, "queue": False, "show_progress": "hidden"}

NO_RESULT = "There is no result. Remove a background first."

#: Number of controls of the clean-up.
CONTROLS = len(fields(EdgeSettings))

#: Number of settings of alpha matting.
SETTINGS = 1 + len(editing.NUMBERS)

#: Concurrent own masks that are decoded.
MASKS_AT_ONCE = 2


def connect(
    tools: editing.Tools,
    section: editing.CleanUp,
    masks: editing.MaskTools,
    session: gr.State,
    display: list[Any],
    page: list[Any],
    settings: Settings,
) -> None:
    """Connect the tools that retouch, the clean-up, and the controls that replace the mask.

    Parameters
    ----------
    display : list of components
        Display options.
    page : list of components
        Result, facts, message and strip.
    """
    # The next stroke is sent once the last one is answered; Gradio may still count that event as running.
    viewer.request("retouch-send", editing.receive, session, [], trigger_mode="multiple", **_INSTANT)
    tools.done.click(_show, [session, *display], page, **_INSTANT).then(None, js="() => rmbgRetouch.closed()", **_INSTANT)

    # drafts.js shows each change at once, and presses the button when the controls rest.
    section.send.click(
        apply,
        [session, section.result, *section.controls, *display],
        page[:3],
        js="(session, result, ...values) => [session, rmbgDrafts.result(), ...values]",
        trigger_mode="multiple",
        **_INSTANT,
    ).then(None, js="() => rmbgDrafts.applied()", **_INSTANT).then(_strip, session, page[3], **_INSTANT)
    section.reset.click(None, None, section.controls, js=f"() => {json.dumps(editing.values())}", **_INSTANT)
    # The settings belong to a result. While it is shown, the controls are ahead of the answers.
    result = gr.State("")
    # After the result is displayed, which the request would delay.
    js = "async (...values) => { await rmbgViewer.painted(); return values; }"
    page[0].change(controls_of, [session, result], [result, *section.controls], js=js, **_INSTANT)

    run = run_number()
    both = [masks.start, masks.cancel]
    device: dict[str, Any] = {
        "concurrency_id": "device",
        "concurrency_limit": 1,
        "show_progress_on": [page[0]],
        **_PRIVATE,
    }
    matted = masks.start.click(_begin, session, [run, *both, page[2]], **_INSTANT).then(
        refine, [run, session, *masks.settings, *display], page, **device
    )
    matted.then(lambda session: buttons(session.mattings.active), session, both, **_INSTANT)
    matted.then(partial(editing.status_line, settings), None, masks.status, **_INSTANT)
    masks.cancel.click(_stop, session, [*both, page[2]], cancels=[matted], **_INSTANT)
    masks.own.upload(
        own_mask,
        [session, masks.own, *display],
        [masks.own, *page],
        concurrency_limit=MASKS_AT_ONCE,
        show_progress_on=[page[0]],
        **_PRIVATE,
    )
    masks.restore.click(restore, [session, *display], page, **_INSTANT)
    chosen = viewer.request("retouch-send-point", select, session, display, page, **device)
    ready = partial(editing.updates, settings)
    chosen.then(ready, None, [tools.mode, tools.status], **_INSTANT)
    gr.on(None, ready, None, [tools.mode, tools.status], **_INSTANT)  # at page load


def apply(session: Session, result_id: str, *values: Any) -> tuple[Any, Any, Any]:
    """Clean a result up with the values of the controls, which display options follow; updates of the page."""
    result = next((result for result in session.results if result.id == result_id), None)
    if result is None:
        return gr.skip(), gr.skip(), viewer.notice(NO_RESULT)
    try:
        edges = editing.settings(*values[:CONTROLS])
    except RmbgError as error:
        return gr.skip(), gr.skip(), viewer.notice(str(error))
    result.edit(lambda edits: replace(edits, edges=edges))
    return remove_actions.show(session, *values[CONTROLS:])


def controls_of(session: Session, shown: str) -> list[Any]:
    """Updates of the id of the displayed result and of the controls, if it is another one than `shown`."""
    result = session.current
    if result is not None:
        result.displayed.set()
    if result is None or result.id == shown:
        return [gr.skip()] * (1 + CONTROLS)
    return [result.id, *editing.values(result.edits.edges)]


def _show(session: Session, *display: Any) -> tuple[Any, ...]:
    return *remove_actions.show(session, *display), _strip(session)


def _strip(session: Session) -> Any:
    return strip.update(session) if session.results else gr.skip()


def _begin(session: Session) -> tuple[Any, ...]:
    return session.mattings.start(), *buttons(True), ""


def _stop(session: Session) -> tuple[Any, ...]:
    return *buttons(False), viewer.notice(session.mattings.cancel(wait=False), "info")


def refine(run: int | None, session: Session, *values: Any, progress: gr.Progress = gr.Progress()) -> tuple[Any, Any, Any, Any]:
    """Apply alpha matting to the mask of the current result."""
    result = session.current

    def matted(token: CancellationToken) -> tuple[Any, Any, Any, Any]:
        matting, settings = editing.parse(*values[:SETTINGS]), Settings.from_environ()
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
        return _page(session, result, values[SETTINGS:])

    return session.mattings.run(run, matted, _failed, (gr.skip(),) * 4)


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
    return None, *_page(session, result, display)


def restore(session: Session, *display: Any) -> tuple[Any, ...]:
    """Use the provider's mask again."""
    result = session.current
    if result is None:
        return _failed(OptionError(NO_RESULT))
    result.replace_mask(None)
    return _page(session, result, display)


def select(session: Session, text: str, *display: Any, progress: gr.Progress = gr.Progress()) -> tuple[Any, ...]:
    """Add the object at a point to the mask, or remove it; `text` is the request of ``retouch.js``.

    Returns the answer, JSON with an error message if it was rejected, and updates of the page.
    """
    unchanged = (gr.skip(),) * 4

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
        return json.dumps({"error": ""}), *_page(session, result, display)

    def failed(error: RmbgError) -> tuple[Any, ...]:
        return json.dumps({"error": visitor_text(error)}), *unchanged

    busy = json.dumps({"error": t("Another change of the mask is running. Wait for its end.")}), *unchanged
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


def _page(session: Session, result: Result, display: Any) -> tuple[Any, Any, Any, Any]:
    """Updates of the page after the mask of a result was replaced."""
    if session.current is not result:
        return tuple(gr.skip() for _ in range(4))
    page = remove_actions.show(session, *display)
    return *page, strip.update(session)


def _failed(error: RmbgError) -> tuple[Any, Any, Any, Any]:
    return gr.skip(), gr.skip(), viewer.failure(error), gr.skip()
