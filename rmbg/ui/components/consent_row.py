"""Buttons that accept or decline the cost of a paid call."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr

from rmbg.ui.session import Session

_INSTANT: dict[str, Any] = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}


def consent_row(prefix: str) -> tuple[gr.Row, gr.Button, gr.Button]:
    """Create a hidden row with the buttons ``prefix-yes`` and ``prefix-no``; returns row and buttons."""
    with gr.Row(visible=False, equal_height=True) as row:
        yes = gr.Button("Yes, send and pay", variant="primary", elem_id=f"{prefix}-yes")
        no = gr.Button("No", elem_id=f"{prefix}-no")
    return row, yes, no


def restarting_row(prefix: str, session: gr.State, start: gr.Button, message: gr.HTML) -> gr.Row:
    """Create a row whose consent is given for `prefix` and then repeats the click on `start`."""
    row, yes, no = consent_row(prefix)
    accepted = yes.click(partial(_accept, prefix), session, [row, message], **_INSTANT)
    accepted.success(None, js=f"() => document.querySelector('#{start.elem_id}')?.click()", **_INSTANT)
    no.click(partial(hide, prefix), session, [row, message], **_INSTANT)
    return row


def _accept(prefix: str, session: Session) -> tuple[Any, str]:
    session.consent.accept(prefix)
    return gr.update(visible=False), ""


def hide(prefix: str, session: Session) -> tuple[Any, str]:
    """Discard a pending request for consent; updates that hide the row and clear the message above it."""
    session.consent.decline(prefix)
    return gr.update(visible=False), ""


def update(prefix: str, session: Session) -> Any:
    """Update that shows the row while a consent is requested."""
    return gr.update(visible=session.consent.pending(prefix))
