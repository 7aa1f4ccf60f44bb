"""Controls of the clean-up of a result: largest region, specks, holes, outline, edge."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import gradio as gr

from rmbg.matting.edges import RANGES, UNCHANGED, EdgeSettings

#: Labels of the options, which have the names of the command line, in the order in which they are applied.
LABELS = {
    "largest": "Keep the largest region only",
    "specks": "Remove specks, pixels",
    "holes": "Fill holes, pixels",
    "smooth": "Smooth the outline, px",
    "shift": "Shift the edge, px",
    "feather": "Feather, px",
    "invert": "Invert",
}


@dataclass(frozen=True)
class CleanUp:
    """Components of the section.

    Attributes
    ----------
    controls : list of components
        In the order of `EdgeSettings`.
    reset : gr.Button
    send : gr.Button
        Pressed by ``drafts.js`` when the controls have changed.
    result : gr.Textbox
        Id of the result that they belong to.
    """

    controls: list[Any]
    reset: gr.Button
    send: gr.Button
    result: gr.Textbox


def build() -> CleanUp:
    """Create the collapsed section."""
    controls: dict[str, Any] = {}

    def slider(name: str) -> None:
        low, high, _ = RANGES[name]
        controls[name] = gr.Slider(low, high, value=0, step=0.5, label=LABELS[name], elem_id=f"clean-{name}", min_width=150)

    with gr.Accordion("Clean-up", open=False, elem_id="clean-up"):
        with gr.Row():
            for name in ("smooth", "shift", "feather"):
                slider(name)
        with gr.Row(equal_height=True):
            for name in ("specks", "holes"):
                controls[name] = gr.Number(
                    0, label=LABELS[name], precision=0, minimum=0, elem_id=f"clean-{name}", min_width=150
                )
        with gr.Row():
            for name in ("largest", "invert"):
                controls[name] = gr.Checkbox(False, label=LABELS[name], elem_id=f"clean-{name}", min_width=150)
        reset = gr.Button("Reset the clean-up", size="sm", elem_id="clean-reset")
    send = gr.Button("Apply the clean-up", elem_id="clean-send", visible="hidden")
    result = gr.Textbox("", label="Result", visible="hidden")
    return CleanUp([controls[name] for name in asdict(UNCHANGED)], reset, send, result)


def settings(*values: Any) -> EdgeSettings:
    """Return the settings of the controls; an empty number is zero. Raises OptionError if a value is out of range."""
    defaults = asdict(UNCHANGED)
    return EdgeSettings(
        **{name: defaults[name] if value is None else value for name, value in zip(defaults, values, strict=True)}
    )


def values(edges: EdgeSettings = UNCHANGED) -> list[Any]:
    """Return the values of the controls for settings."""
    return list(asdict(edges).values())
