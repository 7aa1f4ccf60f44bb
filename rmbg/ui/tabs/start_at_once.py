"""Start of a removal without a click, when a photo was uploaded, pasted, dropped, loaded or selected.

Only local providers that are ready are started this way: they cost nothing and download nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import gradio as gr

from rmbg.errors import OptionError
from rmbg.providers import find
from rmbg.settings import Settings
from rmbg.ui.cancellation import buttons
from rmbg.ui.components.photo_input import Upload
from rmbg.ui.session import Session
from rmbg.ui.tabs.remove_actions import choose

_PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


def switch() -> gr.Checkbox:
    """Return the checkbox that turns the automatic start on and off; the browser keeps the choice."""
    box = gr.Checkbox(True, label="Start at once if the provider is free and ready", elem_id="at-once")
    gr.on(None, None, None, box, js="() => rmbgAtOnce.load()", **_PRIVATE)  # at page load
    box.input(None, box, None, js="(on) => rmbgAtOnce.store(on)", **_PRIVATE)
    return box


def connect(
    loads: Iterable[Any],
    session: gr.State,
    box: gr.Checkbox,
    provider: gr.Dropdown,
    photo: gr.Image,
    started: list[Any],
) -> None:
    """Start a removal after each of the events `loads`, if `box` is checked.

    Parameters
    ----------
    started : list of components
        Number of the run, start and cancel buttons, message, result, facts, download.
    """
    kind = gr.Textbox("", visible="hidden")  # not that of a click on the start button, which may be answered at the same time
    for load in loads:
        event = load.then(start, [session, box, provider, photo], [*started, kind], queue=False, **_PRIVATE)
        event.then(None, kind, js="(kind) => rmbgRun(kind)", **_PRIVATE)


def start(session: Session, at_once: bool, provider: str, upload: Upload | None) -> tuple[Any, ...]:
    """Start a run for a new photo and return the updates of the page; a run of an earlier photo is cancelled if it is free.

    The run is bound to the provider that was checked here. A later change of the selection has no effect on it. The last value
    is the kind of the provider, empty without a run.
    """
    unchanged = upload is None or (session.photo is not None and session.photo.path == upload.path)
    session.photo = upload
    chosen = "" if unchanged or not at_once else free_and_ready(provider)
    number = session.removals.restart(chosen) if chosen else None
    begun = (gr.skip(),) * 4 if number is None else (number, *buttons(True), "")
    return *begun, *choose(session, upload), "" if number is None else "local"


def free_and_ready(provider: str) -> str:
    """Return the id of a local provider that needs no download, key or license; empty for all others."""
    settings = Settings.from_environ()
    try:
        chosen = find(provider, settings)
    except OptionError:
        return ""
    return chosen.info.id if chosen.info.kind == "local" and chosen.status(settings).state == "ready" else ""
