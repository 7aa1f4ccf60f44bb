"""Controls of the finishing of a cutout: canvas, place of the subject, shadows, outline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from rmbg.render.canvas import PRESETS
from rmbg.ui.components.render_options import OTHER_SIZE, PHOTO_SIZE, RenderOptions

SIZES = [
    ("Size of the photo", PHOTO_SIZE),
    *((preset.title, name) for name, preset in PRESETS.items()),
    ("Other…", OTHER_SIZE),
]
SHADOWS = [("None", "none"), ("Soft", "soft"), ("On the ground", "contact"), ("Both", "both")]
FITS = [("Fill", "cover"), ("Whole picture", "contain")]


@dataclass(frozen=True)
class FinishingControls:
    """Components of the finishing.

    Attributes
    ----------
    canvas : gr.Dropdown
    padding : gr.Slider
    values : list of components
        In the order of the fields of `RenderOptions`, from ``canvas`` on.
    """

    canvas: gr.Dropdown
    padding: gr.Slider
    values: list[Any]


def size() -> tuple[gr.Dropdown, gr.Textbox]:
    """Create the choice of the canvas and the field of another size."""
    with gr.Column(scale=3, min_width=150, elem_id="canvas-choice"):
        canvas = gr.Dropdown(SIZES, value=PHOTO_SIZE, label="Size", show_label=False, container=False, elem_id="canvas")
        other = gr.Textbox(
            RenderOptions.size,
            label="Width x height in pixels",
            show_label=False,
            container=False,
            max_lines=1,
            max_length=20,
            elem_id="canvas-size",
        )
    return canvas, other


def build(canvas: gr.Dropdown, other: gr.Textbox) -> FinishingControls:
    """Create the other controls, below those that are always shown."""
    default = RenderOptions()

    def slider(low: float, high: float, value: float, label: str, name: str, step: float = 1) -> gr.Slider:
        return gr.Slider(low, high, value=value, step=step, label=label, elem_id=name, min_width=120)

    with gr.Accordion("Place, shadow and outline", open=False, elem_id="finishing"):
        with gr.Row(elem_classes="for-canvas"):
            padding = slider(0, 40, default.padding, "Padding, %", "padding")
            scale = slider(10, 300, default.scale, "Scale, %", "scale")
            right = slider(-100, 100, default.x, "Right, %", "place-x")
            down = slider(-100, 100, default.y, "Down, %", "place-y")
        with gr.Row():
            shadow = gr.Radio(SHADOWS, value=default.shadow, label="Shadow", elem_id="shadow", min_width=250)
        with gr.Row(elem_classes="for-shadow"):
            strength = slider(0, 100, default.strength, "Strength, %", "shadow-strength")
            distance = slider(-20, 20, default.distance, "Distance, %", "shadow-distance", 0.5)
            blur = slider(0, 15, default.blur, "Softness, %", "shadow-blur", 0.5)
        with gr.Row():
            outline = slider(0, 5, default.outline, "Outline, %", "outline", 0.1)
            color = gr.ColorPicker(default.outline_color, label="Outline color", elem_id="outline-color", min_width=120)
            angle = slider(0, 360, default.angle, "Gradient angle, °", "angle", 5)
        with gr.Row(elem_classes="for-picture"):
            fit = gr.Radio(FITS, value=default.fit, label="Picture", elem_id="picture-fit", min_width=120)
            across = slider(0, 100, default.across, "Left to right, %", "picture-x")
            along = slider(0, 100, default.along, "Top to bottom, %", "picture-y")
    place, effects = [padding, scale, right, down], [shadow, strength, distance, blur, outline, color]
    values = [canvas, other, *place, *effects, angle, fit, across, along]
    return FinishingControls(canvas, padding, values)


def choose_canvas(canvas: str, kind: str) -> tuple[Any, Any]:
    """Set the background and the padding that a preset prescribes; returns updates of both."""
    preset = PRESETS.get(canvas)
    if preset is None:
        return gr.skip(), gr.skip()
    white = preset.background is not None and kind == "transparent"
    return gr.update(value="#ffffff") if white else gr.skip(), gr.update(value=preset.canvas.padding.value)


def scene_canvases() -> dict[str, list[Any]]:
    """Return width, height and alignment of the presets, for ``finishing.js``."""
    return {name: [preset.canvas.width, preset.canvas.height, preset.canvas.align] for name, preset in PRESETS.items()}
