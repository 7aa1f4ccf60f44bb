"""Results that are zoomed and moved together: in panes side by side, or two under a slider."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from rmbg.cutout import Cutout
from rmbg.errors import RmbgError
from rmbg.render.picture import View
from rmbg.ui import pictures
from rmbg.ui.components.viewer import data_uri
from rmbg.ui.languages import t
from rmbg.ui.messages import visitor_text
from rmbg.ui.results import Result
from rmbg.ui.templates import render

VIEWS: tuple[View, ...] = ("cutout", "mask", "original")


@dataclass(frozen=True)
class Layer:
    """Pictures of one result or photo as URLs, and their labels, both by view; ``blur`` is the blurred background."""

    pictures: dict[str, str]
    labels: dict[str, str]


@dataclass(frozen=True)
class PaneContent:
    """Content of one pane.

    Attributes
    ----------
    name, details : str
    pictures : Layer or None
    text : str
        Shown if `pictures` is None, otherwise the label of the stage.
    notes : tuple of str
    choice : str
        Value of `Comparison.choices` for the button that continues with this result; empty for none.
    size : (width, height), optional
        If it differs from the size of the other panes.
    """

    name: str
    details: str
    pictures: Layer | None
    text: str
    notes: tuple[str, ...] = ()
    choice: str = ""
    size: tuple[int, int] | None = None


def layer(cutout: Cutout, name: str, stored: Callable[[], dict[str, str]], original: str = "") -> Layer:
    """Return the layer of a result.

    Parameters
    ----------
    cutout : Cutout
        At screen size.
    name : str
        Of the result on the page; no file name or URL contains it.
    stored : callable () -> dict
        Writes the pictures and returns their paths by view.
    original : str, optional
        URL of the photo, if it is not among these pictures.
    """
    labels = {"cutout": t("Cutout by {name}", name=name), "mask": t("Mask by {name}", name=name), "original": t("The photo")}
    try:
        urls = {view: pictures.url(path) for view, path in stored().items()}
    except RmbgError:  # the server cannot write files
        urls = {view: data_uri(draw(), "webp-lossy") for view, draw in pictures.drawings(cutout).items()}
    return Layer({"original": original, **urls}, labels)


def photo_layer(url: str) -> Layer:
    """Return the layer of a photo, which is the same in all views."""
    return Layer(dict.fromkeys(VIEWS, url), dict.fromkeys(VIEWS, t("The photo")))


def scene(panes: Sequence[tuple[Layer, ...]], size: tuple[int, int], full: tuple[int, int]) -> str:
    """Return the scene of a viewer as JSON, see ``viewer.js``.

    Parameters
    ----------
    panes : sequence of tuples
        One tuple for each stage: a layer, and the layer before it under a slider.
    size, full : (width, height)
        Of the pictures, and of the photo.
    """

    def described(layers: tuple[Layer, ...]) -> dict[str, Any]:
        first, *others = ({"pictures": layer.pictures, "labels": layer.labels} for layer in layers)
        return {**first, "before": others[0]} if others else first

    content = {
        "panes": [described(layers) for layers in panes],
        "size": size,
        "full": full,
        "box": [0, 0, *size],
        "options": {"view": "cutout", "kind": "transparent"},
        "opaque": [],
    }
    return json.dumps(content, sort_keys=True)


def grid(contents: Sequence[PaneContent], size: tuple[int, int], full: tuple[int, int], keys: str) -> str:
    """Return panes side by side; `keys` is the element id of the description of their keys."""
    layers = [(content.pictures,) for content in contents if content.pictures is not None]
    return render(
        "compare_grid.html", width=size[0], height=size[1], panes=contents, scene=scene(layers, size, full), keys=keys
    )


def slider(first: Layer, second: Layer, names: tuple[str, str], size: tuple[int, int], full: tuple[int, int], keys: str) -> str:
    """Return two results of one size under a slider; `keys` is the element id of the description of its keys."""
    return render(
        "result_slider.html", width=size[0], height=size[1], scene=scene([(second, first)], size, full), labels=names, keys=keys
    )


def part_loader(name: str, load: Callable[..., str], session: gr.State, inputs: Sequence[Any]) -> None:
    """Create the hidden components by which the viewer `name` of ``viewer.js`` requests parts at full size.

    Parameters
    ----------
    load : callable (session, area, *inputs) -> str
        Returns the answer as JSON, see `answer`.
    """
    instant: dict[str, Any] = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}
    button = gr.Button("Load a part at full size", elem_id=f"{name}-part", visible="hidden")
    area = gr.Textbox("", label="Part of the picture", visible="hidden")
    button.click(
        load,
        [session, area, *inputs],
        area,
        js=f"(session, area, ...others) => [session, rmbgViewers.{name}.area(), ...others]",
        **instant,
    ).then(None, area, js=f"(answer) => rmbgViewers.{name}.showPart(answer)", **instant)


def answer(layers: Sequence[tuple[Result, View]], area: str, view: View) -> str:
    """Store a part of each of several results at full size; returns JSON with their URLs, or an error message.

    Parameters
    ----------
    layers : sequence of (Result, view)
        In the order of the layers on the page.
    area : str
        The text that `pictures.Part` parses.
    view : str
        The view of the page, which the answer repeats.
    """
    try:
        if not layers:
            return json.dumps({"error": t("There are no results. Run a comparison first.")})
        part = pictures.Part.parse(area, layers[0][0].width, layers[0][0].height)
        urls = [pictures.url(path) for path in pictures.parts(layers, part)]
    except RmbgError as error:
        return json.dumps({"error": visitor_text(error)})
    return json.dumps({"area": area, "view": view, "pictures": urls})
