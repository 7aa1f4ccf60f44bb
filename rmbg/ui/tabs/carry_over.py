"""Hands photos and results from one tab to another; no provider is called."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from rmbg.ui.components.inputs import PhotoInput, Upload
from rmbg.ui.languages import page_error
from rmbg.ui.runs import INSTANT, PRIVATE
from rmbg.ui.session import Session
from rmbg.ui.tabs import compare, remove, remove_actions


def connect(tabs: gr.Tabs, session: gr.State, removal: remove.Parts, comparison: compare.Parts, replaced: PhotoInput) -> None:
    """Connect the buttons of the Remove tab that pass its photo on, and the buttons of the results in Compare."""
    for button, tab, photo in (
        (removal.to_compare, "compare", comparison.photo),
        (removal.to_replace, "replace", replaced),
    ):
        button.click(partial(_pass_photo, tab), removal.photo, [tabs, photo], **INSTANT)
    comparison.grid.select(
        use,
        [session, *removal.display],
        [tabs, removal.photo, *removal.restored],
        concurrency_limit=2,
        show_progress="hidden",
        **PRIVATE,
    )


def _pass_photo(tab: str, upload: Upload | None) -> tuple[Any, Any]:
    """Select the tab, with the photo if there is one."""
    return gr.Tabs(selected=tab), gr.skip() if upload is None else upload.path


def use(event: gr.EventData, session: Session, *display: Any) -> tuple[Any, ...]:
    """Make a result of the comparison, which is paid for already, the current one of the Remove tab, and select that tab."""
    comparison = session.comparison
    choice = event._data.get("index") if isinstance(event._data, dict) else None
    if comparison is None or not comparison.complete or comparison.hidden or not isinstance(choice, str):
        raise page_error("There is no such result. Run the comparison again.")
    provider = comparison.provider_of(choice)
    if provider is None:
        raise page_error("There is no such result. Run the comparison again.")
    session.adopt(comparison.give(provider), comparison.upload)
    photo = comparison.upload if Path(comparison.upload).is_file() else gr.skip()
    return gr.Tabs(selected="remove"), photo, *remove_actions.restore(session, *display)
