"""Controls that replace the mask of a result: alpha matting, and a mask of the visitor's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from rmbg.inference.catalog import VITMATTE
from rmbg.matting.edges import RANGES, AlphaMatting
from rmbg.providers.local import model_status
from rmbg.settings import Settings
from rmbg.ui.components.photo_input import photo_input
from rmbg.ui.languages import t
from rmbg.ui.messages import status_text
from rmbg.ui.templates import render

METHODS = [("Closed-form", "closed-form"), ("ViTMatte", "vitmatte")]

#: Labels of the numbers of `AlphaMatting`, which have the names of rembg.
NUMBERS = {
    "foreground_threshold": "Foreground threshold",
    "background_threshold": "Background threshold",
    "erode_size": "Erode size",
}


@dataclass(frozen=True)
class MaskTools:
    """Components of the section.

    Attributes
    ----------
    settings : list of components
        Method and numbers, in the order of `parse`.
    status : gr.HTML
        Readiness and license of ViTMatte.
    start, cancel, restore : gr.Button
    own : PhotoInput
        The visitor's own mask.
    """

    settings: list[Any]
    status: gr.HTML
    start: gr.Button
    cancel: gr.Button
    own: gr.Image
    restore: gr.Button


def build(settings: Settings) -> MaskTools:
    """Create the collapsed section."""
    default = AlphaMatting()
    with gr.Accordion("Alpha matting and own mask", open=False, elem_id="mask-tools"):
        with gr.Row(equal_height=True):
            method = gr.Radio(METHODS, value=default.method, label="Method", elem_id="matting-method", scale=3, min_width=290)
            numbers = [
                gr.Number(
                    getattr(default, name),
                    label=label,
                    precision=0,
                    minimum=RANGES[name][0],
                    maximum=RANGES[name][1],
                    elem_id=f"matting-{name.replace('_', '-')}",
                    scale=2,
                    min_width=110,
                )
                for name, label in NUMBERS.items()
            ]
        status = gr.HTML(status_line(settings), elem_classes="bare", elem_id="matting-status")
        start = gr.Button("Compute the edge from the photo (slow)", size="sm", elem_id="matting-start")
        cancel = gr.Button("Cancel", visible=False, size="sm", elem_id="matting-cancel")
        with gr.Row(equal_height=False):
            own = photo_input(label="Own mask", sources=["upload"], height=110, buttons=[], elem_id="own-mask", min_width=220)
            restore = gr.Button("Restore the provider's mask", size="sm", elem_id="mask-restore", min_width=160)
    return MaskTools([method, *numbers], status, start, cancel, own, restore)


def parse(method: str, *numbers: float | None) -> AlphaMatting:
    """Return the settings of the controls; an empty number has its default. Raises OptionError if a value is out of range."""
    given = {name: value for name, value in zip(NUMBERS, numbers, strict=True) if value is not None}
    return AlphaMatting(**given, method=method)  # type: ignore[arg-type]


def status_line(settings: Settings) -> str:
    """Return the HTML of the readiness and the license of ViTMatte."""
    status = status_text(model_status(VITMATTE, settings))
    return render("note.html", text=t("ViTMatte: {status}. License: {license}", status=status, license=t(VITMATTE.license)))
