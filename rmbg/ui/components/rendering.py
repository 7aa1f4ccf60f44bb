"""Rendering options of the Remove tab: view, background, crop, finishing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import gradio as gr

from rmbg.errors import OptionError
from rmbg.images.pixels import parse_color
from rmbg.render import backgrounds
from rmbg.render.canvas import PRESETS, Canvas, parse_canvas
from rmbg.render.finishing import ContactShadow, Finishing, Outline, Shadow
from rmbg.render.notation import Length
from rmbg.render.picture import View
from rmbg.ui.components.inputs import Upload
from rmbg.ui.session import Session

VIEWS = [("Cutout", "cutout"), ("Mask", "mask"), ("Original", "original")]
#: Colors of the swatches.
COLORS = [
    ("White", "#ffffff"),
    ("Black", "#000000"),
    ("Gray", "#9ca3af"),
    ("Red", "#dc2626"),
    ("Yellow", "#facc15"),
    ("Green", "#16a34a"),
    ("Blue", "#2563eb"),
]
BACKGROUNDS = [
    ("Transparent", "transparent"),
    *COLORS,
    ("Other color…", "color"),
    ("Gradient", "gradient"),
    ("Blur", "blur"),
    ("Picture", "image"),
]

#: Values of the choice of the canvas beside the ids of presets.
PHOTO_SIZE, OTHER_SIZE = "photo", "other"


@dataclass(frozen=True)
class RenderOptions:
    """Rendering options of a cutout. A change does not call the provider again.

    Attributes
    ----------
    kind : str
        A value of `BACKGROUNDS`: a kind, or the color of a swatch.
    color : str
        For the kind ``color``, and behind transparent parts in file formats without alpha.
    top, bottom : str
        Colors of a gradient.
    image : Upload or None
        For the kind ``image``.
    margin : float
        Around the subject, in percent of its longer side, if `crop`.
    canvas : str
        Id of a preset, `PHOTO_SIZE` or `OTHER_SIZE`; with a canvas, `crop` has no effect.
    size : str
        ``WIDTHxHEIGHT`` of another size.
    padding, scale, x, y : float
        Place of the subject on the canvas, in percent as in `Canvas`.
    shadow : str
        ``none``, ``soft``, ``contact`` or ``both``.
    strength, distance, blur : float
        Opacity of the shadows; offset and standard deviation of the soft one in percent of the subject's longer side.
    outline : float
        Width in percent of the subject's longer side; 0 for none.
    outline_color : str
    angle : float
        Of a gradient, in degrees.
    fit : str
        ``cover`` or ``contain``, of a picture.
    across, along : float
        Place of a picture in percent of the space from left to right and from top to bottom.
    """

    view: View = "cutout"
    kind: str = "transparent"
    color: str = "#ffffff"
    top: str = "#f8fafc"
    bottom: str = "#cbd5e1"
    image: Upload | None = None
    crop: bool = False
    margin: float = 5.0
    canvas: str = PHOTO_SIZE
    size: str = "1200x1200"
    padding: float = 5.0
    scale: float = 100.0
    x: float = 0.0
    y: float = 0.0
    shadow: str = "none"
    strength: float = 40.0
    distance: float = 3.0
    blur: float = 3.0
    outline: float = 0.0
    outline_color: str = "#ffffff"
    angle: float = 180.0
    fit: Literal["cover", "contain"] = "cover"
    across: float = 50.0
    along: float = 50.0

    def background(self, session: Session, *, full: bool) -> backgrounds.Background:
        """Return the background; a picture at screen size unless `full`."""
        if self.kind == "color" or self.kind.startswith("#"):
            return backgrounds.Background("color", (parse_color(self.color if self.kind == "color" else self.kind),))
        if self.kind == "gradient":
            return backgrounds.gradient(self.top, self.bottom, self.angle)
        if self.kind == "blur":
            return backgrounds.BLURRED
        if self.kind == "image" and self.image is not None:
            picture = backgrounds.picture(self.image.path) if full else session.background(self.image.path)
            return replace(picture, fit=self.fit, position=(self.across, self.along))
        return backgrounds.TRANSPARENT

    def crop_margin(self) -> float | None:
        """Return the margin as a fraction of the subject's size; None if the cutout is not cropped."""
        return self.margin / 100 if self.crop and self.canvas == PHOTO_SIZE else None

    def finishing(self) -> Finishing:
        """Return canvas, shadows and outline; raises OptionError if a value is invalid."""
        soft, contact = self.shadow in ("soft", "both"), self.shadow in ("contact", "both")
        return Finishing(
            self._canvas(),
            Shadow(y=_percent(self.distance), blur=_percent(self.blur), opacity=self.strength) if soft else None,
            ContactShadow(self.strength) if contact else None,
            Outline(_percent(self.outline), parse_color(self.outline_color)) if self.outline else None,
        )

    def _canvas(self) -> Canvas | None:
        if self.canvas == PHOTO_SIZE:
            return None
        canvas = PRESETS[self.canvas].canvas if self.canvas in PRESETS else parse_canvas(self.size)
        if canvas is None:
            raise OptionError("The size is empty. Write it as WIDTHxHEIGHT in pixels, such as 1200x800.")
        return replace(canvas, padding=_percent(self.padding), scale=self.scale, x=self.x, y=self.y)


def _percent(value: float) -> Length:
    return Length(value, percent=True)


#: Choices of the controls of the finishing.
SIZES = [
    ("Size of the photo", PHOTO_SIZE),
    *((preset.title, name) for name, preset in PRESETS.items()),
    ("Other…", OTHER_SIZE),
]
SHADOWS = [("None", "none"), ("Soft", "soft"), ("On the ground", "contact"), ("Both", "both")]
FITS = [("Fill", "cover"), ("Whole picture", "contain")]


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


def build(canvas: gr.Dropdown, other: gr.Textbox) -> tuple[gr.Slider, list[Any]]:
    """Create the controls of the finishing below those that are always shown.

    Returns the padding, and all controls in the order of the fields of `RenderOptions` from ``canvas`` on.
    """
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
    return padding, values


def choose_canvas(canvas: str, kind: str) -> tuple[Any, Any]:
    """Set the background and the padding that a preset prescribes; returns updates of both."""
    preset = PRESETS.get(canvas)
    if preset is None:
        return gr.skip(), gr.skip()
    white = preset.background is not None and kind == "transparent"
    return gr.update(value="#ffffff") if white else gr.skip(), gr.update(value=preset.canvas.padding.value)
