"""Two results of the strip, under one slider or side by side; no provider is called."""

from __future__ import annotations

from typing import Any

import gradio as gr

from rmbg.errors import RmbgError
from rmbg.render.picture import View
from rmbg.ui import pictures
from rmbg.ui.components import panes, viewer
from rmbg.ui.components.panes import PaneContent
from rmbg.ui.languages import t
from rmbg.ui.results import Result
from rmbg.ui.session import Session
from rmbg.ui.tabs import strip

MODES = [("Slider", "slider"), ("Side by side", "panes")]

#: Element id of the description of the keys.
KEYS = "strip-keys"


def build(session: gr.State, gallery: gr.Gallery, view: gr.Radio) -> None:
    """Create the section below the strip and connect its events; `view` is the view of the Remove tab, which it shares."""
    with gr.Accordion("Compare two results", open=False, visible=False, elem_id="strip-compare") as section:
        with gr.Row(equal_height=True):
            first = gr.Dropdown([], label="First result", elem_id="strip-first", min_width=190)
            second = gr.Dropdown([], label="Second result", elem_id="strip-second", min_width=190)
            mode = gr.Radio(MODES, value="slider", label="Comparison", elem_id="strip-mode", min_width=190)
        pair = gr.HTML("", elem_classes="bare", elem_id="strip-pair")
    instant: dict[str, Any] = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}
    chosen = [session, first, second, mode]
    opened = gr.State(False)  # a closed section is not rendered
    changed = gallery.change(refresh, [session, opened, first, second], [section, first, second], **instant)
    changed.then(lambda is_open, *chosen: show(*chosen) if is_open else "", [opened, *chosen], pair, **instant)
    section.expand(lambda: True, None, opened, **instant)
    section.collapse(lambda: False, None, opened, **instant)
    gr.on([section.expand, first.input, second.input, mode.input], show, chosen, pair, trigger_mode="always_last", **instant)
    panes.part_loader("strip", part, session, [view, first, second, mode])


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
    return panes.answer([(result, view) for result in shown], area, view)


def _results(session: Session, *ids: str | None) -> list[Result]:
    by_id = {result.id: result for result in session.strip}
    return [by_id[name] for name in ids if name in by_id]


def _under_slider(results: list[Result], mode: str) -> bool:
    return mode == "slider" and len({(result.width, result.height) for result in results}) == 1


def _name(result: Result, number: int) -> str:
    return f"{number}. {result.facts.photo.name}, {strip.title(result)}"


def _layer(result: Result, name: str) -> panes.Layer:
    cutout = result.preview
    return panes.layer(cutout, name, lambda: pictures.previews(result, cutout))


def _slider(results: list[Result], names: list[str]) -> str:
    first, second = (_layer(result, name) for result, name in zip(results, names, strict=True))
    cutout = results[0].preview
    full = results[0].width, results[0].height
    return panes.slider(first, second, (names[0], names[1]), (cutout.width, cutout.height), full, KEYS)


def _panes(results: list[Result], names: list[str]) -> str:
    sizes = [(result.preview.width, result.preview.height) for result in results]
    full = results[0].width, results[0].height
    if full != (results[1].width, results[1].height):
        full = sizes[0]  # parts of photos of different size do not correspond: the previews are zoomed
    contents = [
        PaneContent(name, "", _layer(result, name), t("Result {name}", name=name), size=size)
        for result, name, size in zip(results, names, sizes, strict=True)
    ]
    return panes.grid(contents, sizes[0], full, KEYS)
