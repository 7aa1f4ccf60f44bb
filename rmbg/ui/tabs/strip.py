"""The strip of the Remove tab: thumbnails of the session's results, newest first, and two of them compared."""

from __future__ import annotations

from typing import Any

import gradio as gr

from rmbg.errors import RmbgError
from rmbg.providers import find
from rmbg.render.picture import View
from rmbg.runtime.messages import Message
from rmbg.ui import pictures
from rmbg.ui.components import viewer
from rmbg.ui.components.viewer import PaneContent
from rmbg.ui.languages import t
from rmbg.ui.results import Result
from rmbg.ui.runs import INSTANT
from rmbg.ui.session import Session


def build_gallery() -> gr.Gallery:
    """Create the gallery, which `build_strip` renders."""
    return gr.Gallery(
        label="This session",
        columns=None,
        height="auto",
        allow_preview=False,
        visible=False,
        elem_id="strip",
        buttons=[],
        format="webp",
        render=False,
    )


def build_strip(session: gr.State, gallery: gr.Gallery, page: list[Any]) -> gr.Button:
    """Create the components, connect their events, and return the button that downloads all results.

    style.css shows the buttons below a gallery with pictures only. `page` are result, facts, download and message.
    """
    gallery.render()
    with gr.Row(elem_id="strip-actions"):
        save_all = gr.Button("Download all (ZIP)", size="sm", elem_id="strip-zip", min_width=120)
        delete = gr.Button("Delete the shown result", size="sm", elem_id="strip-delete", min_width=120)
        ask = gr.Button("Delete all results", size="sm", elem_id="strip-clear", min_width=120)
    with gr.Row(visible=False, elem_id="strip-question") as question:
        confirmed = gr.Button("Yes, delete all results", size="sm", variant="stop", elem_id="strip-yes", min_width=120)
        kept = gr.Button("Keep them", size="sm", elem_id="strip-no", min_width=120)
    ask.click(lambda: gr.update(visible=True), None, question, **INSTANT)
    for answer in (confirmed, kept):
        answer.click(lambda: gr.update(visible=False), None, question, **INSTANT)
    for button, action in ((delete, delete_shown), (confirmed, delete_all)):
        button.click(action, session, [*page, gallery], **INSTANT)
    return save_all


def update(session: Session) -> Any:
    """Update of the gallery with all stored results, newest first."""
    session.strip = [result for result in session.results[::-1] if result.is_stored()]
    try:
        shown = [(pictures.in_strip(result), f"{result.facts.photo.name}, {title(result)}") for result in session.strip]
    except RmbgError:  # a full disk must not hide the result itself
        return gr.skip()
    return gr.update(value=shown, visible=bool(shown), selected_index=None)


def kept(session: Session) -> Any:
    """Update of the gallery if there are results."""
    return update(session) if session.results else gr.skip()


def title(result: Result) -> str:
    """Return the title of the result's provider."""
    return find(result.facts.provider).info.title


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


MODES = [("Slider", "slider"), ("Side by side", "panes")]

#: Element id of the description of the keys.
KEYS = "strip-keys"


def build_pair(session: gr.State, gallery: gr.Gallery, view: gr.Radio) -> None:
    """Create the section below the strip and connect its events; `view` is the view of the Remove tab, which it shares."""
    with gr.Accordion("Compare two results", open=False, visible=False, elem_id="strip-compare") as section:
        with gr.Row(equal_height=True):
            first = gr.Dropdown([], label="First result", elem_id="strip-first", min_width=190)
            second = gr.Dropdown([], label="Second result", elem_id="strip-second", min_width=190)
            mode = gr.Radio(MODES, value="slider", label="Comparison", elem_id="strip-mode", min_width=190)
        pair = gr.HTML("", elem_classes="bare", elem_id="strip-pair")
    chosen = [session, first, second, mode]
    opened = gr.State(False)  # a closed section is not rendered
    changed = gallery.change(refresh, [session, opened, first, second], [section, first, second], **INSTANT)
    changed.then(lambda is_open, *chosen: show(*chosen) if is_open else "", [opened, *chosen], pair, **INSTANT)
    section.expand(lambda: True, None, opened, **INSTANT)
    section.collapse(lambda: False, None, opened, **INSTANT)
    gr.on([section.expand, first.input, second.input, mode.input], show, chosen, pair, trigger_mode="always_last", **INSTANT)
    viewer.request("strip-part", part, session, [view, first, second, mode])


def refresh(session: Session, opened: bool, first: str | None, second: str | None) -> tuple[Any, Any, Any]:
    """Updates of the section and of both dropdowns; the newest result is the second one, unless others were chosen."""
    choices = [(_name(result, number), result.id) for number, result in enumerate(session.strip, start=1)]
    ids = [result.id for result in session.strip]
    chosen = [value if opened and value in ids else None for value in (first, second)]
    for place in (1, 0):
        chosen[place] = chosen[place] or next((name for name in ids if name not in chosen), None)
    dropdowns = [gr.update(choices=choices, value=value) for value in chosen]
    return gr.update(visible=len(ids) > 1), dropdowns[0], dropdowns[1]


def show(session: Session, first: str | None, second: str | None, mode: str) -> str:
    """Render two results. Those of photos of different size are always side by side."""
    results = _results(session, first, second)
    if len(results) < 2:
        return ""
    names = [_name(result, session.strip.index(result) + 1) for result in results]
    try:
        return _slider(results, names) if _under_slider(results, mode) else _panes(results, names)
    except RmbgError as error:  # a result was removed to make room
        return viewer.notice(str(error))
    finally:
        for result in results:
            if result is not session.current:
                result.release()


def part(session: Session, area: str, view: View, first: str | None, second: str | None, mode: str) -> str:
    """Store a part of both results at full size; returns JSON for the viewer, see `panes.answer`."""
    results = _results(session, first, second)
    shown = results[::-1] if _under_slider(results, mode) else results
    return viewer.answer([(result, view) for result in shown], area, view)


def _results(session: Session, *ids: str | None) -> list[Result]:
    by_id = {result.id: result for result in session.strip}
    return [by_id[name] for name in ids if name in by_id]


def _under_slider(results: list[Result], mode: str) -> bool:
    return mode == "slider" and len({(result.width, result.height) for result in results}) == 1


def _name(result: Result, number: int) -> str:
    return f"{number}. {result.facts.photo.name}, {title(result)}"


def _layer(result: Result, name: str) -> viewer.Layer:
    return viewer.layer(result.preview, name, lambda cutout: pictures.previews(result, cutout))


def _slider(results: list[Result], names: list[str]) -> str:
    first, second = (_layer(result, name) for result, name in zip(results, names, strict=True))
    cutout = results[0].preview
    full = results[0].width, results[0].height
    return viewer.slider(first, second, (names[0], names[1]), (cutout.width, cutout.height), full, KEYS)


def _panes(results: list[Result], names: list[str]) -> str:
    sizes = [(result.preview.width, result.preview.height) for result in results]
    full = results[0].width, results[0].height
    if full != (results[1].width, results[1].height):
        full = sizes[0]  # parts of photos of different size do not correspond: the previews are zoomed
    contents = [
        PaneContent(name, "", _layer(result, name), t("Result {name}", name=name), size=size)
        for result, name, size in zip(results, names, sizes, strict=True)
    ]
    return viewer.grid(contents, sizes[0], full, KEYS)
