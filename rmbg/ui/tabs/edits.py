"""Events of the edits of a result in the Remove tab: retouching and clean-up. No provider runs."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import gradio as gr

from rmbg.errors import RmbgError
from rmbg.matting.edges import EdgeSettings
from rmbg.ui.components import clean_up, retouch, viewer
from rmbg.ui.session import Session
from rmbg.ui.tabs import remove_actions, strip

_PRIVATE: dict[str, Any] = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}

#: Number of controls of the clean-up.
CONTROLS = len(fields(EdgeSettings))


def connect_retouch(tools: retouch.Tools, session: gr.State, display: list[Any], shown: list[Any], gallery: gr.Gallery) -> None:
    """Connect the tools that retouch.

    Parameters
    ----------
    display : list of components
        Display options.
    shown : list of components
        Result, facts and message.
    gallery : gr.Gallery
        The strip.
    """
    # Each click sends the next stroke, once the last one is answered; Gradio may still count that event as running.
    tools.send.click(
        retouch.receive,
        [session, tools.stroke],
        tools.stroke,
        js="(session) => [session, rmbgRetouch.request()]",
        trigger_mode="multiple",
        **_PRIVATE,
    ).then(None, tools.stroke, js="(answer) => rmbgRetouch.answered(answer)", **_PRIVATE)
    tools.done.click(_show, [session, *display], [*shown, gallery], **_PRIVATE).then(
        None, js="() => rmbgRetouch.closed()", **_PRIVATE
    )


def connect_clean_up(
    section: clean_up.CleanUp, session: gr.State, display: list[Any], shown: list[Any], gallery: gr.Gallery
) -> None:
    """Connect the controls of the clean-up; parameters as of `connect_retouch`."""
    # drafts.js shows each change at once, and presses the button when the controls rest.
    section.send.click(
        apply,
        [session, section.result, *section.controls, *display],
        shown,
        js="(session, result, ...values) => [session, rmbgDrafts.result(), ...values]",
        trigger_mode="multiple",
        **_PRIVATE,
    ).then(None, js="() => rmbgDrafts.applied()", **_PRIVATE).then(_strip, session, gallery, **_PRIVATE)
    section.reset.click(None, None, section.controls, js=f"() => {json.dumps(clean_up.values())}", **_PRIVATE)
    # The settings belong to a result. While it is shown, the controls are ahead of the answers.
    result = gr.State("")
    # After the result is displayed, which the request would delay.
    js = "async (...values) => { await rmbgViewer.painted(); return values; }"
    shown[0].change(controls_of, [session, result], [result, *section.controls], js=js, **_PRIVATE)


def apply(session: Session, result_id: str, *values: Any) -> tuple[Any, Any, Any]:
    """Clean a result up with the values of the controls, which display options follow; updates of the page."""
    result = next((result for result in session.results if result.id == result_id), None)
    if result is None:
        return gr.skip(), gr.skip(), viewer.notice("There is no result. Remove a background first.")
    try:
        edges = clean_up.settings(*values[:CONTROLS])
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
    return [result.id, *clean_up.values(result.edits.edges)]


def _show(session: Session, *display: Any) -> tuple[Any, ...]:
    return *remove_actions.show(session, *display), _strip(session)


def _strip(session: Session) -> Any:
    return strip.update(session) if session.results else gr.skip()
