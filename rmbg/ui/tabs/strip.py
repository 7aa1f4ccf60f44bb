"""The strip of the Remove tab: thumbnails of the session's results, newest first, with download and deletion."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from rmbg.errors import RmbgError
from rmbg.images import encode
from rmbg.message import Message
from rmbg.providers import find
from rmbg.ui.components import viewer
from rmbg.ui.results import Result
from rmbg.ui.session import Session
from rmbg.ui.shrink import PREVIEW_SIDE
from rmbg.ui.storage import storage


@dataclass(frozen=True)
class Strip:
    """The components of the strip."""

    gallery: gr.Gallery
    save_all: gr.Button
    delete: gr.Button
    delete_all: gr.Button
    confirmed: gr.Button


def build() -> Strip:
    """Create the components; style.css shows the buttons below a gallery with pictures only."""
    gallery = gr.Gallery(
        label="This session",
        columns=None,
        height="auto",
        allow_preview=False,
        visible=False,
        elem_id="strip",
        buttons=[],
        format="webp",
    )
    with gr.Row(elem_id="strip-actions"):
        save_all = gr.Button("Download all (ZIP)", size="sm", elem_id="strip-zip", min_width=120)
        delete = gr.Button("Delete the shown result", size="sm", elem_id="strip-delete", min_width=120)
        delete_all = gr.Button("Delete all results", size="sm", elem_id="strip-clear", min_width=120)
    with gr.Row(visible=False, elem_id="strip-question") as question:
        confirmed = gr.Button("Yes, delete all results", size="sm", variant="stop", elem_id="strip-yes", min_width=120)
        kept = gr.Button("Keep them", size="sm", elem_id="strip-no", min_width=120)
    instant: dict[str, Any] = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}
    delete_all.click(lambda: gr.update(visible=True), None, question, **instant)
    for answer in (confirmed, kept):
        answer.click(lambda: gr.update(visible=False), None, question, **instant)
    return Strip(gallery, save_all, delete, delete_all, confirmed)


def update(session: Session) -> Any:
    """Update of the gallery with all stored results, newest first."""
    session.strip = [result for result in session.results[::-1] if result.is_stored()]
    try:
        pictures = [(_thumbnail(result), f"{result.facts.photo.name}, {title(result)}") for result in session.strip]
    except RmbgError:  # a full disk must not hide the result itself
        return gr.skip()
    return gr.update(value=pictures, visible=bool(pictures), selected_index=None)


def title(result: Result) -> str:
    """Return the title of the result's provider."""
    return find(result.facts.provider).info.title


def _thumbnail(result: Result) -> str:
    """Return the path of a result's picture for the strip, rendered at the first call and after edits."""
    edits = result.edits
    if edits is not result.thumbnail_edits and result.thumbnail:
        storage().discard(Path(result.thumbnail))
    if not Path(result.thumbnail).is_file():
        image = Image.fromarray(result.preview.render())
        image.thumbnail((PREVIEW_SIDE // 6, PREVIEW_SIDE // 6))
        data = encode.encode(np.asarray(image), encode.FORMATS["webp-lossy"], quick=True)
        result.thumbnail = storage().store(data, f"{result.facts.photo.name}.webp")
        result.thumbnail_edits = edits
    return result.thumbnail


def delete_shown(session: Session) -> tuple[Any, ...]:
    """Delete the current result; updates of result, facts, download, message and gallery."""
    result = session.current
    if result is None:
        return *(gr.skip(),) * 3, viewer.notice("No result is shown. Select one in the strip first."), gr.skip()
    return _delete(session, [result], Message("The result of {name} was deleted.", name=result.facts.photo.name))


def delete_all(session: Session) -> tuple[Any, ...]:
    """Delete all results of the session; updates as of `delete_shown`."""
    return _delete(session, list(session.results), "All results of this session were deleted.")


def _delete(session: Session, results: list[Result], text: str) -> tuple[Any, ...]:
    session.delete(results)
    stage = (gr.skip(),) * 3 if session.current is not None else empty_stage()
    return *stage, viewer.notice(text, "info"), update(session)


def empty_stage() -> tuple[Any, Any, Any]:
    """Updates of result, facts and download without a current result."""
    return viewer.empty(), "", gr.update(interactive=False)
