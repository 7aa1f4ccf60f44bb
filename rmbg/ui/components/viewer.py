"""HTML of results: viewer, panes side by side, two results under a slider, facts, notices."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import gradio as gr
import numpy as np
from markupsafe import Markup

from rmbg.cutout import Cutout
from rmbg.errors import CancelledError, OptionError, RmbgError
from rmbg.images import encode
from rmbg.matting.matte import bounding_box
from rmbg.matting.retouch import to_json
from rmbg.providers.builtin import LOW_CONFIDENCE_MEANING, LOW_CONFIDENCE_NOTE
from rmbg.render.canvas import PRESETS
from rmbg.render.picture import View
from rmbg.runtime.messages import joined, megabytes
from rmbg.ui import pictures
from rmbg.ui.components.rendering import RenderOptions
from rmbg.ui.consent import ConsentError, projection
from rmbg.ui.languages import markup, t, visitor_text
from rmbg.ui.results import Result
from rmbg.ui.runs import INSTANT
from rmbg.ui.session import MAX_RESULTS, Session
from rmbg.ui.storage import storage
from rmbg.ui.templates import render

#: Phases of fewer seconds are left out.
LEAST = 0.005


def by_phase(cutout: Cutout) -> str:
    """Return the seconds of each phase, such as "inference 0.21, post-processing 0.34"; empty for a service."""
    if cutout.timings is None:
        return ""
    names = {
        "download": t("model download"),
        "load": t("loading"),
        "queue": t("waiting"),
        "inference": t("inference"),
        "processing": t("post-processing"),
    }
    return ", ".join(f"{names[name]} {value:.2f}" for name, value in asdict(cutout.timings).items() if value >= LEAST)


#: Message above a result with low confidence; a button in it opens the retouch tools.
DOUBT = joined(LOW_CONFIDENCE_MEANING, "Retouch the result, try another provider, or crop the photo closer to the subject.")

#: Message for unexpected exceptions, which are logged with a traceback.


def data_uri(pixels: np.ndarray, format: str = "") -> str:
    """Encode pixels as a data URI; by default JPEG without and WebP with an alpha channel."""
    file_format = encode.FORMATS[format or ("webp-lossy" if pixels.ndim == 3 and pixels.shape[2] == 4 else "jpeg")]
    data = encode.encode(pixels, file_format, quality=88, quick=True)
    return f"data:{file_format.mime};base64,{base64.b64encode(data).decode()}"


def placeholder(title: str, text: str, button: str = "") -> str:
    """Return the HTML shown before the first result: `text`, without a period, and the name of the button to press."""
    said = (
        t("{text}.", text=t(text))
        if not button
        else markup("{text}, then press {button}.", text=t(text), button=Markup("<em>{}</em>").format(t(button)))
    )
    return render("placeholder.html", title=t(title), text=said)


def empty() -> str:
    """Return the HTML of the Remove tab without a result."""
    return placeholder("The cutout appears here", "Drop or paste a photo, or select an example", "Remove background")


def result(result: Result, options: RenderOptions, session: Session) -> str:
    """Return the viewer of a result, in which the browser composes view, background, crop and finishing.

    The scene, a JSON object in the HTML, has the URLs of the pictures; ``viewer.js`` loads them.
    """
    cutout = result.preview
    rows, columns = bounding_box(cutout.matte)
    name = cutout.photo.name

    def stored(cutout: Cutout) -> dict[str, str]:
        paths = pictures.previews(result, cutout)
        background = None if options.image is None else session.background(options.image.path)
        if options.image is not None and background is not None:
            paths["image"] = pictures.backdrop(result, background, options.image.path)
        return paths

    labels = {
        "cutout": t("The cutout of {name}", name=name),
        "mask": t("The mask of {name}", name=name),
        "original": t("The photo of {name}", name=name),
    }
    strokes = [to_json(stroke) for stroke in result.edits.strokes]
    scene = {
        "result": result.id,
        "edition": result.edition,
        "strokes": strokes,
        "pictures": _urls(cutout, stored),
        "unretouched": _urls(result.unretouched, lambda cutout: pictures.unretouched(result, cutout)) if strokes else {},
        "labels": labels,
        "size": [cutout.width, cutout.height],
        "full": [result.width, result.height],
        "box": [columns.start, rows.start, columns.stop, rows.stop],
        "options": {key: value for key, value in asdict(options).items() if key != "image"},
        "canvases": {
            name: [preset.canvas.width, preset.canvas.height, preset.canvas.align] for name, preset in PRESETS.items()
        },
        "opaque": [form.id for form in encode.available() if not form.alpha],
    }
    return render(
        "viewer.html",
        width=cutout.width,
        height=cutout.height,
        label=labels[options.view],
        scene=json.dumps(scene, sort_keys=True),
    )


def _urls(cutout: Cutout, stored: Callable[[Cutout], dict[str, str]]) -> dict[str, str]:
    """Return the URLs of the pictures that `stored` writes.

    They are data URIs if the server cannot write files, so that a paid result is displayed in any case.
    """
    try:
        return {name: pictures.url(path) for name, path in stored(cutout).items()}
    except RmbgError:
        return {name: data_uri(draw(), "webp-lossy") for name, draw in pictures.drawings(cutout).items()}


def facts(result: Result, title: str) -> str:
    """Return the line below a result: photo, confidence, provider, seconds, size, cost, engine; and the notes.

    Of a preview, seconds and cost are not known yet.
    """
    cutout: Cutout = result.facts
    if not result.computed:
        size = f"{result.width} × {result.height}"
        parts = [title, size, t("The cutout at full size is being computed…")]
        return render("facts.html", cutout=cutout, parts=parts, notes=[], preview=result.id)
    phases = by_phase(cutout)
    parts = [
        title,
        f"{cutout.seconds:.2f} s" + (f" ({phases})" if phases else ""),
        f"{result.width} × {result.height}",
        ", ".join(t(part) for part in (str(cutout.cost), projection(cutout.cost)) if part),
        " ".join(p for p in (cutout.engine, cutout.device, cutout.precision) if p),
    ]
    notes = [note for note in cutout.notes if note != LOW_CONFIDENCE_NOTE]  # part of the message above the result
    return render("facts.html", cutout=cutout, parts=[part for part in parts if part], notes=notes, preview="")


def result_message(result: Result) -> str:
    """Return the message above a result with low confidence, or of one that is kept in memory only; usually empty."""
    doubt = result.facts.confidence_level == "low"
    return notice(joined(DOUBT if doubt else "", result.note), "warning" if doubt else "info", retouch=doubt)


def fact_line(parts: Iterable[str], notes: Iterable[str]) -> str:
    """Return non-empty facts in one line, with the notes below it."""
    return render("facts.html", cutout=None, parts=[part for part in parts if part], notes=notes, preview="")


def total(session: Session) -> str:
    """Return the spend of the session, and the number of evicted results."""
    line = render("total.html", text=session.spend.line())
    if not session.removed:
        return line
    note = t(
        "{count} older results were removed to make room: this server keeps at most {results} results and {size} per visitor.",
        count=session.removed,
        results=MAX_RESULTS,
        size=megabytes(storage().session_bytes),
    )
    return line + render("notes.html", notes=[note])


def notice(message: str, kind: str = "error", *, retouch: bool = False) -> str:
    """Return a message of kind ``error``, ``warning`` or ``info``, which ``outcome.js`` announces; empty without a message.

    With `retouch` it has a button that opens the retouch tools.
    """
    return render("notice.html", message=visitor_text(message), kind=kind, retouch=retouch) if message else ""


def failure(error: RmbgError) -> str:
    """Return the message of an error, which is only information if the visitor has stopped the run or is asked for consent."""
    return notice(str(error), "info" if isinstance(error, (CancelledError, ConsentError)) else "error")


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


def layer(cutout: Cutout, name: str, stored: Callable[[Cutout], dict[str, str]], original: str = "") -> Layer:
    """Return the layer of a result.

    Parameters
    ----------
    cutout : Cutout
        At screen size.
    name : str
        Of the result on the page; no file name or URL contains it.
    stored : callable (Cutout) -> dict
        Writes the pictures and returns their paths by view.
    original : str, optional
        URL of the photo, if it is not among these pictures.
    """
    labels = {"cutout": t("Cutout by {name}", name=name), "mask": t("Mask by {name}", name=name), "original": t("The photo")}
    return Layer({"original": original, **_urls(cutout, stored)}, labels)


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


def request(
    name: str,
    handler: Callable[..., Any],
    session: gr.State,
    inputs: Sequence[Any],
    outputs: Sequence[Any] = (),
    **options: Any,
) -> Any:
    """Create the hidden button `name` by which ``rmbgAsk`` sends a text to the server; returns its event.

    Parameters
    ----------
    handler : callable (session, text, *inputs) -> str or tuple
        Returns the answer as JSON, with the updates of `outputs` after it.
    **options
        Of the event; by default `INSTANT`.
    """
    button = gr.Button(elem_id=name, visible="hidden")
    text = gr.Textbox("", visible="hidden")
    asked = f"rmbgRequests['{name}']"
    js = f"(session, text, ...others) => [session, {asked}.text, ...others]"
    event: Any = button.click(handler, [session, text, *inputs], [text, *outputs], js=js, **(options or INSTANT))
    event.then(None, text, js=f"(answer) => {asked}.answered(answer)", **INSTANT)
    return event


def answer(layers: Sequence[tuple[Result, View]], area: str, view: View, limit: int = pictures.PANE_PART_SIDE) -> str:
    """Store a part of each of several results at full size; returns JSON with their URLs, or an error message.

    Parameters
    ----------
    layers : sequence of (Result, view)
        In the order of the layers on the page.
    area : str
        The text that `pictures.Part` parses.
    view : str
        The view of the page, which the answer repeats.
    limit : int
        Of the width of the pictures in pixels.
    """

    def stored() -> dict[str, Any]:
        if not layers:
            raise OptionError("There are no results. Run a comparison first.")
        part = pictures.Part.parse(area, layers[0][0].width, layers[0][0].height)
        return {"area": area, "view": view, "pictures": [pictures.url(path) for path in pictures.parts(layers, part, limit)]}

    return as_json(stored)


def as_json(compute: Callable[[], dict[str, Any]]) -> str:
    """Return what `compute` returns as JSON for the scripts of the page; after an `RmbgError`, its message as ``error``."""
    try:
        return json.dumps(compute())
    except RmbgError as error:
        return json.dumps({"error": visitor_text(error)})
