"""Canvas of a fixed size on which the subject is placed: presets, notation, and the position of the photo."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL import Image

from rmbg.errors import OptionError, check_text, printable
from rmbg.images.pixels import Color
from rmbg.render.notation import Length, parse_length, parse_pair, parse_percent

#: Range of the sides of a canvas in pixels, and the maximum of their product.
SHORTEST, LONGEST, MOST_PIXELS = 16, 12_000, 40_000_000

#: Ranges of scale and position in percent.
SCALES, POSITIONS = (5.0, 1000.0), (-200.0, 200.0)

WHITE: Color = (255, 255, 255)

_SIZE = re.compile(r"([0-9]{1,6})\s*[xX×*]\s*([0-9]{1,6})", re.ASCII)


@dataclass(frozen=True)
class Canvas:
    """Size of the picture and place of the subject, whose bounding box is fitted and centered by default.

    Attributes
    ----------
    width, height : int
        In pixels.
    padding : Length
        Space between the subject and the sides; 100 percent are the shorter side.
    scale : float
        Size of the subject in percent of the fitted one, 5 to 1000.
    x, y : float
        Shift of the subject to the right and down, in percent of width and height, -200 to 200.
    align : str
        ``center``, or ``bottom`` for portraits: the subject stands on the lower side, fitted in height below the padding.

    Raises
    ------
    OptionError
        If a value is out of range or the padding leaves no space.
    """

    width: int
    height: int
    padding: Length = Length(5, percent=True)
    scale: float = 100.0
    x: float = 0.0
    y: float = 0.0
    align: Literal["center", "bottom"] = "center"

    def __post_init__(self) -> None:
        (shorter, longer), pixels = sorted((self.width, self.height)), self.width * self.height
        if shorter < SHORTEST or longer > LONGEST:
            size = f"{self.width:,} x {self.height:,} pixels"
            raise OptionError(f"The canvas is {size}; each side must be {SHORTEST} to {LONGEST:,} pixels.")
        if pixels > MOST_PIXELS:
            most = f"at most {MOST_PIXELS / 1e6:.0f} are possible"
            raise OptionError(f"The canvas has {pixels / 1e6:.0f} megapixels; {most}.")
        if not 0 <= 2 * self.padding_pixels <= 0.95 * shorter:
            raise OptionError(f"The padding is {self.padding}; it must leave space for the subject. Use less than half a side.")
        for name, value, (low, high) in (("scale", self.scale, SCALES), ("x", self.x, POSITIONS), ("y", self.y, POSITIONS)):
            if not low <= value <= high:
                raise OptionError(f"The {name} of the subject is {value:g} percent; it must be {low:g} to {high:g}.")

    @property
    def padding_pixels(self) -> float:
        return self.padding.pixels(min(self.width, self.height))


@dataclass(frozen=True)
class Preset:
    """A named canvas, and the color that its purpose prescribes for the background."""

    title: str
    canvas: Canvas
    background: Color | None = WHITE


#: Canvases by id. Faces are not detected: in a photo for a document check the size of the head, and set the scale.
PRESETS: dict[str, Preset] = {
    "square": Preset("Square, 2000 × 2000", Canvas(2000, 2000)),
    # Pure white, the product fills at least 85 % of the frame; 500 to 10,000 pixels on the longest side, 1,000 or more for
    # zoom, 1,600 recommended. https://sellercentral.amazon.com/help/hub/reference/G1881
    "amazon": Preset("Amazon, 2000 × 2000", Canvas(2000, 2000)),
    # At least 500 pixels on the longest side: https://www.ebay.com/help/policies/listing-policies/picture-policy?id=4370, and
    # 1,000 or more recommended: https://developer.ebay.com/support/kb-article?KBid=1489
    "ebay": Preset("eBay, 1600 × 1600", Canvas(1600, 1600)),
    # Square products are best at 2048 x 2048. https://help.shopify.com/en/manual/products/product-media/product-media-types
    "shopify": Preset("Shopify, 2048 × 2048", Canvas(2048, 2048)),
    # 2 x 2 inches, white or off-white, head 1 to 1 3/8 inches: https://bg.usembassy.gov/visas/nonimmigrant-visas/photo-requirements/
    # A digital copy has 600 to 1,200 pixels a side:
    # https://travel.state.gov/content/travel/en/us-visas/visa-information-resources/photos/digital-image-requirements.html
    "us-passport": Preset("US passport, 2 × 2 in", Canvas(1200, 1200, Length(10, percent=True), align="bottom")),
    # 35 x 45 mm, as in the United Kingdom: https://gov.tc/passports/photos. In Germany at 600 dots per inch with a face of
    # 32 to 36 mm: https://bangkok.diplo.de/th-de/service/02-PaesseAusweise/-/2448880. ICAO Doc 9303 does not prescribe a size.
    "passport": Preset("Passport, 35 × 45 mm", Canvas(827, 1063, Length(9, percent=True), align="bottom")),
}


def parse_canvas(text: str, padding: str = "", scale: str = "", position: str = "") -> Canvas | None:
    """Parse the notation of a canvas of the command line and the API.

    Parameters
    ----------
    text : str
        Id of a preset, or ``WIDTHxHEIGHT`` in pixels; empty for none.
    padding : str
        ``5%`` or ``40px``; by default that of the preset.
    scale : str
        Percent of the fitted size.
    position : str
        ``X,Y`` in percent of width and height.

    Raises
    ------
    OptionError
        If a text has another form or a value is out of range, or if one is given without a canvas.
    """
    given = check_text(text, "The canvas").strip()
    if not given or given.lower() == "none":
        for name, value in (("padding", padding), ("scale", scale), ("position", position)):
            if check_text(value, f"The {name}").strip():
                raise OptionError(f"The {name} needs a canvas. Add one, for example square or 2000x2000.")
        return None
    canvas = _sized(given)
    if check_text(padding, "The padding").strip():
        canvas = replace(canvas, padding=parse_length(padding, "The padding", most_percent=47))
    if check_text(scale, "The scale").strip():
        canvas = replace(canvas, scale=parse_percent(scale, "The scale", *SCALES))
    if check_text(position, "The position").strip():
        x, y = parse_pair(position, "The position", "X,Y in percent of the canvas, such as 0,-5", *POSITIONS)
        canvas = replace(canvas, x=x, y=y)
    return canvas


def _sized(given: str) -> Canvas:
    if given.lower() in PRESETS:
        return PRESETS[given.lower()].canvas
    if match := _SIZE.fullmatch(given):
        return Canvas(int(match[1]), int(match[2]))
    raise OptionError(f"There is no canvas {printable(given, 40)!r}. Use WIDTHxHEIGHT, or one of {', '.join(PRESETS)}.")


def preset_background(text: str) -> Color | None:
    """Return the color that a preset prescribes for the background; None for other canvases."""
    preset = PRESETS.get(text.strip().lower())
    return None if preset is None else preset.background


#: Antialiased where it shrinks; its overshoot is cut off, so that no ring appears around the subject.
FILTER = Image.Resampling.BICUBIC


@dataclass(frozen=True)
class Placement:
    """Rectangle of the whole photo on a canvas, in pixels of the canvas; parts of it may lie outside."""

    left: int
    top: int
    width: int
    height: int
    canvas: Canvas

    def visible(self) -> tuple[slice, slice]:
        """Rows and columns of the canvas that the photo covers; empty slices if it is outside."""
        top, left = max(0, self.top), max(0, self.left)
        bottom = max(top, min(self.canvas.height, self.top + self.height))
        right = max(left, min(self.canvas.width, self.left + self.width))
        return slice(top, bottom), slice(left, right)


def place(canvas: Canvas, box: tuple[slice, slice], height: int, width: int) -> Placement:
    """Return the placement that fits a subject into a canvas.

    Parameters
    ----------
    canvas : Canvas
    box : (slice, slice)
        Rows and columns of the subject's bounding box.
    height, width : int
        Size of the photo.

    Returns
    -------
    Placement
        The center of the subject, or its lower side, is exact to half a pixel.
    """
    rows, columns = box
    subject_height, subject_width = rows.stop - rows.start, columns.stop - columns.start
    padding = canvas.padding_pixels
    if canvas.align == "bottom":
        scale = (canvas.height - padding) / subject_height
    else:
        scale = min((canvas.width - 2 * padding) / subject_width, (canvas.height - 2 * padding) / subject_height)
    scale *= canvas.scale / 100
    scaled_height, scaled_width = max(1, round(height * scale)), max(1, round(width * scale))
    down, right = scaled_height / height, scaled_width / width
    left = canvas.width * (0.5 + canvas.x / 100) - (columns.start + columns.stop) / 2 * right
    if canvas.align == "bottom":
        top = canvas.height * (1 + canvas.y / 100) - rows.stop * down
    else:
        top = canvas.height * (0.5 + canvas.y / 100) - (rows.start + rows.stop) / 2 * down
    return Placement(round(left), round(top), scaled_width, scaled_height, canvas)


def place_subject(foreground: np.ndarray, matte: np.ndarray, placement: Placement) -> tuple[np.ndarray, np.ndarray]:
    """Resample a subject on its canvas, colors weighted by alpha.

    Parameters
    ----------
    foreground : uint8 array (H, W, 3)
        Straight colors.
    matte : float32 array (H, W)
        Alpha in [0, 1].
    placement : Placement

    Returns
    -------
    foreground : uint8 array (canvas height, canvas width, 3)
    matte : float32 array (canvas height, canvas width)
        Zero outside of the photo. Unchanged pixels if the scale is 1.
    """
    canvas = placement.canvas
    colors = np.zeros((canvas.height, canvas.width, 3), np.uint8)
    alpha = np.zeros((canvas.height, canvas.width), np.float32)
    target = placement.visible()
    if alpha[target].size == 0:
        return colors, alpha
    alpha[target] = np.clip(_resampled(matte, placement), 0, 1)
    weight = np.maximum(alpha[target], np.float32(1e-4))
    for channel in range(3):
        premultiplied = _resampled(foreground[..., channel] * matte, placement)
        colors[..., channel][target] = np.clip(premultiplied / weight + np.float32(0.5), 0, 255)
    return colors, alpha


def place_photo(rgb: np.ndarray, alpha: np.ndarray | None, placement: Placement) -> np.ndarray:
    """Resample a photo on its canvas: uint8 (canvas height, canvas width, 4), transparent outside of the photo."""
    own = np.ones(rgb.shape[:2], np.float32) if alpha is None else alpha * np.float32(1 / 255)
    colors, matte = place_subject(rgb, own, placement)
    return np.dstack([colors, (matte * np.float32(255) + np.float32(0.5)).astype(np.uint8)])


def _resampled(plane: np.ndarray, placement: Placement) -> np.ndarray:
    """Resample the visible part of a float32 plane (H, W)."""
    rows, columns = placement.visible()
    height, width = plane.shape
    down, right = height / placement.height, width / placement.width
    box = (
        (columns.start - placement.left) * right,
        (rows.start - placement.top) * down,
        min(width, (columns.stop - placement.left) * right),
        min(height, (rows.stop - placement.top) * down),
    )
    size = columns.stop - columns.start, rows.stop - rows.start
    return np.asarray(Image.fromarray(np.ascontiguousarray(plane, np.float32)).resize(size, FILTER, box=box))
