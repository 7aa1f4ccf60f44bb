"""Finishing of a cutout: shadows, outline and canvas, their notation, and the compositing of the layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from rmbg.errors import OptionError, check_text, printable
from rmbg.images.pixels import Color, parse_color
from rmbg.matting.matte import bounding_box, tiles
from rmbg.render.canvas import Canvas, parse_canvas
from rmbg.render.notation import Length, parse_length, parse_percent, split_list
from rmbg.runtime.threads import row_strips

T = TypeVar("T")

#: Colors, uint8 (H, W, 3) or (3,), and coverage, float32 (H, W) in [0, 1].
Layer = tuple[np.ndarray, np.ndarray]

#: Rows that are composited at a time, to keep the float copies small.
STRIP_ROWS = 128


def composite(layers: Sequence[Layer], background: np.ndarray | None) -> np.ndarray:
    """Composite layers over a background.

    Parameters
    ----------
    layers : sequence of (colors, coverage)
        From bottom to top; at least one.
    background : array or None
        In [0, 255], of a shape that broadcasts to (H, W, 3); None for transparency.

    Returns
    -------
    uint8 array (H, W, 3), or (H, W, 4) with straight alpha without a background
        Rounded once. Black where alpha is 0.
    """
    height, width = layers[0][1].shape
    base = None if background is None else np.broadcast_to(background, (height, width, 3))
    result = np.empty((height, width, 4 if base is None else 3), np.uint8)
    for rows in row_strips(height, STRIP_ROWS):
        strip = layers[0][1][rows].shape
        colors = np.zeros((*strip, 3), np.float32) if base is None else base[rows].astype(np.float32)
        total = np.zeros((*strip, 1), np.float32)
        for paint, coverage in layers:
            alpha = coverage[rows, :, None]
            painted = paint if paint.ndim == 1 else paint[rows]
            colors += alpha * (painted - colors)
            if base is None:
                total += alpha * (1 - total)
        if base is None:
            # The colors are premultiplied here.
            result[rows, :, 3:] = total * 255 + np.float32(0.5)
            colors = np.where(result[rows, :, 3:] > 0, colors / np.maximum(total, 1e-6), 0)
        result[rows, :, :3] = np.clip(colors + np.float32(0.5), 0, 255)
    return result


BLACK: Color = (0, 0, 0)

#: Height of the contact shadow before its blur, as a fraction of the subject's longer side, and distance of a part of the
#: subject from the ground at which its shadow has faded to 1/e, as a fraction of the subject's height.
CONTACT_HEIGHT, CONTACT_DISTANCE = 0.025, 0.08

#: Standard deviation in pixels of the copy on which a wide Gaussian is computed.
WORKING_SIGMA = 4.0


@dataclass(frozen=True)
class Shadow:
    """Soft shadow of the whole subject. 100 percent of a length are the longer side of the subject's bounding box.

    Attributes
    ----------
    x, y : Length
        Offset to the right and down.
    blur : Length
        Standard deviation.
    opacity : float
        0 to 100 percent.
    color : (red, green, blue)
    """

    x: Length = Length(0, percent=True)
    y: Length = Length(3, percent=True)
    blur: Length = Length(3, percent=True)
    opacity: float = 40.0
    color: Color = BLACK


@dataclass(frozen=True)
class ContactShadow:
    """Flat shadow on the ground, below the parts on which the subject stands.

    Attributes
    ----------
    opacity : float
        0 to 100 percent.
    blur : Length
        Standard deviation; 100 percent are the longer side of the subject's bounding box.
    color : (red, green, blue)
    """

    opacity: float = 50.0
    blur: Length = Length(1, percent=True)
    color: Color = BLACK


#: Parser of one value of an effect.
Parser = Callable[[str], Any]


def _parse_effect(effect: Callable[..., T], text: str, what: str, form: str, fewest: int, *parsers: Parser) -> T | None:
    """Parse comma-separated values, ``soft`` for an effect with its defaults, or empty or ``none`` for no effect.

    Parameters
    ----------
    effect : callable
        Class of the effect; values at the end that are left out have its defaults.
    text : str
    what, form : str
        Name of the effect and its notation, for the error message. ``soft`` is permitted if the notation begins with it.
    fewest : int
        Least number of values.
    *parsers
        Parsers of the values, in the order of the notation and of the attributes of `effect`.

    Raises
    ------
    OptionError
        If the text is too long, has another number of values, or a value is out of range.
    """
    given = check_text(text, what).strip()
    if given.lower() in ("", "none"):
        return None
    if given.lower() == "soft" and form.startswith("soft"):
        return effect()
    parts = split_list(given)
    if given.lower() == "soft" or not fewest <= len(parts) <= len(parsers):
        raise OptionError(f"{what} is {printable(given, 60)!r}; it must be {form}.")
    return effect(*(parse(part) for parse, part in zip(parsers, parts, strict=False)))


def _length(what: str, low: float = 0, most_percent: float = 100, most_pixels: float = 10_000) -> Parser:
    return partial(parse_length, what=what, low=low, most_percent=most_percent, most_pixels=most_pixels)


def _opacity(what: str) -> Parser:
    return partial(parse_percent, what=what, low=0, high=100)


def parse_shadow(text: str) -> Shadow | None:
    """Parse ``soft`` or ``X,Y,BLUR,OPACITY[,COLOR]``; empty or ``none`` for no shadow.

    Raises
    ------
    OptionError
        If the text has another form or a value is out of range.
    """
    what, form = "The shadow", "soft or X,Y,BLUR,OPACITY[,COLOR], such as 0,4%,3%,40"
    offset, blur = _length("The offset of the shadow", -1), _length("The blur of the shadow", 0, 50, 2000)
    opacity = _opacity("The opacity of the shadow")
    return _parse_effect(Shadow, text, what, form, 4, offset, offset, blur, opacity, parse_color)


def parse_contact_shadow(text: str) -> ContactShadow | None:
    """Parse ``soft`` or ``OPACITY[,BLUR[,COLOR]]``; empty or ``none`` for no shadow.

    Raises
    ------
    OptionError
        If the text has another form or a value is out of range.
    """
    what, form = "The contact shadow", "soft or OPACITY[,BLUR[,COLOR]], such as 50,1%"
    opacity, blur = _opacity("The opacity of the contact shadow"), _length("The blur of the contact shadow", 0, 50, 2000)
    return _parse_effect(ContactShadow, text, what, form, 1, opacity, blur, parse_color)


def drop_shadow(alpha: np.ndarray, shadow: Shadow, reference: float) -> np.ndarray:
    """Compute the coverage of a drop shadow.

    Parameters
    ----------
    alpha : float32 array (H, W)
        Of what casts the shadow.
    shadow : Shadow
    reference : float
        Longer side of the subject in pixels.

    Returns
    -------
    float32 array (H, W)
        In [0, opacity]. Nothing outside of the picture casts a shadow.
    """
    down, right = round(shadow.y.pixels(reference)), round(shadow.x.pixels(reference))
    height, width = alpha.shape
    if abs(down) >= height or abs(right) >= width:
        return np.zeros_like(alpha)
    # Padded, so that the blur has no step where the side of the picture was.
    padded = np.pad(alpha, ((max(0, down), max(0, -down)), (max(0, right), max(0, -right))))
    blurred = blur(padded, shadow.blur.pixels(reference))
    moved = blurred[max(0, -down) :, max(0, -right) :][:height, :width]
    return moved * np.float32(shadow.opacity / 100)


def contact_shadow(alpha: np.ndarray, shadow: ContactShadow, box: tuple[slice, slice]) -> np.ndarray:
    """Compute the coverage of a contact shadow.

    Parameters
    ----------
    alpha : float32 array (H, W)
    shadow : ContactShadow
    box : (slice, slice)
        Rows and columns of the subject's bounding box.

    Returns
    -------
    float32 array (H, W)
        In [0, opacity].
    """
    rows, columns = box
    height = rows.stop - rows.start
    reference = max(height, columns.stop - columns.start)
    inside = alpha[rows, columns] >= 0.5
    lowest = height - np.argmax(inside[::-1], axis=0)  # lower side of the subject in each column
    weight = np.exp(-(((height - lowest) / (CONTACT_DISTANCE * height)) ** 2)) * inside.any(axis=0)
    result = np.zeros_like(alpha)
    half = CONTACT_HEIGHT * reference / 2
    # The weight is below 1 % at three times the distance.
    top, bottom = rows.stop - 3 * CONTACT_DISTANCE * height - half, rows.stop + half + 1
    part = slice(max(0, round(top)), min(alpha.shape[0], round(bottom)))
    below = np.arange(part.start, part.stop, dtype=np.float32)[:, None] + 0.5 - rows.start - lowest
    result[part, columns] = np.clip(half + 0.5 - np.abs(below), 0, 1) * weight
    result = blur(result, shadow.blur.pixels(reference))
    result *= np.float32(shadow.opacity / 100)
    return result


def blur(plane: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of a float32 plane (H, W) with standard deviation `sigma`, zero outside; wide ones on a small copy."""
    from scipy import ndimage  # deferred, as SciPy takes long to import

    height, width = plane.shape
    step = max(1.0, sigma / WORKING_SIGMA)
    if step == 1:
        return ndimage.gaussian_filter(plane, sigma, mode="constant") if sigma > 0 else plane.copy()
    size = max(1, round(width / step)), max(1, round(height / step))
    small = np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize(size, Image.Resampling.BOX))
    small = ndimage.gaussian_filter(small, (sigma * size[1] / height, sigma * size[0] / width), mode="constant")
    return np.clip(np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)), 0, 1)


#: Side in pixels of the tiles in which distances are computed.
TILE = 512


@dataclass(frozen=True)
class Outline:
    """Line around the subject, behind it.

    Attributes
    ----------
    width : Length
        100 percent are the longer side of the subject's bounding box.
    color : (red, green, blue)
    """

    width: Length = Length(1, percent=True)
    color: Color = (255, 255, 255)


def parse_outline(text: str) -> Outline | None:
    """Parse ``WIDTH[,COLOR]``, for example ``8px,#ffffff``; empty or ``none`` for no outline.

    Raises
    ------
    OptionError
        If the text has another form or a value is out of range.
    """
    width = _length("The width of the outline", 0, 20, 500)
    return _parse_effect(Outline, text, "The outline", "WIDTH[,COLOR], such as 8px,#ffffff", 1, width, parse_color)


def outline(alpha: np.ndarray, width: float) -> np.ndarray:
    """Compute the coverage of an outline.

    Parameters
    ----------
    alpha : float32 array (H, W)
    width : float
        In pixels.

    Returns
    -------
    float32 array (H, W)
        Antialiased: 1 up to `width` pixels from the contour at alpha 0.5 and inside of it, 0 beyond.
    """
    result = np.zeros_like(alpha)
    if width <= 0:
        return result
    halo = math.ceil(width) + 2
    for rows, columns in tiles(alpha.shape[0], alpha.shape[1], TILE):
        top, left = max(0, rows.start - halo), max(0, columns.start - halo)
        near = alpha[top : rows.stop + halo, left : columns.stop + halo]
        inside = near >= 0.5
        if inside.all():
            result[rows, columns] = 1
        elif inside.any():
            tile = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
            result[rows, columns] = _coverage(near, inside, width)[tile]
    return result


def _coverage(alpha: np.ndarray, inside: np.ndarray, width: float) -> np.ndarray:
    from scipy import ndimage  # deferred, as SciPy takes long to import

    distance, (nearest_rows, nearest_columns) = ndimage.distance_transform_edt(~inside, return_indices=True)
    # The contour lies between the outermost pixel inside and its neighbor outside; linear interpolation finds it.
    lowest = ndimage.minimum_filter(alpha, 3, mode="nearest")
    contour = np.clip((alpha - 0.5) / np.maximum(alpha - lowest, 1e-6), 0, 1)
    distance -= np.where(inside, 0.0, contour[nearest_rows, nearest_columns])
    return np.where(inside, 1.0, np.clip(width + 0.5 - distance, 0, 1)).astype(np.float32)


@dataclass(frozen=True)
class Finishing:
    """Canvas, shadows and outline of a rendered cutout; by default nothing is changed.

    Attributes
    ----------
    canvas : Canvas or None
        The subject is placed on it; None for the size of the photo.
    shadow : Shadow or None
    contact_shadow : ContactShadow or None
    outline : Outline or None
        Behind the subject, also behind its translucent parts. It casts the shadow together with the subject.
    """

    canvas: Canvas | None = None
    shadow: Shadow | None = None
    contact_shadow: ContactShadow | None = None
    outline: Outline | None = None

    @classmethod
    def parse(
        cls,
        *,
        canvas: str = "",
        padding: str = "",
        scale: str = "",
        position: str = "",
        shadow: str = "",
        contact_shadow: str = "",
        outline: str = "",
    ) -> Finishing:
        """Parse the notation of the command line and the API; an empty text is the default.

        Parameters
        ----------
        canvas : str
            Id of a preset such as ``square``, or ``WIDTHxHEIGHT`` in pixels.
        padding : str
            Space around the subject, ``5%`` of the shorter side or ``40px``.
        scale : str
            Size of the subject in percent of the fitted one.
        position : str
            ``X,Y``: shift of the subject in percent of the canvas.
        shadow : str
            ``soft`` or ``X,Y,BLUR,OPACITY[,COLOR]``, for example ``0,4%,3%,40``.
        contact_shadow : str
            ``soft`` or ``OPACITY[,BLUR[,COLOR]]``.
        outline : str
            ``WIDTH[,COLOR]``, for example ``8px,#ffffff``.

        Raises
        ------
        OptionError
            If a text has another form or a value is out of range.
        """
        return cls(
            parse_canvas(canvas, padding, scale, position),
            parse_shadow(shadow),
            parse_contact_shadow(contact_shadow),
            parse_outline(outline),
        )

    def facts(self) -> dict[str, Any]:
        """Return what is set as a JSON object."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def check_crop(self, crop: float | None) -> None:
        """Raise OptionError if the margin `crop` is out of range, or given in addition to a canvas."""
        if crop is not None and not 0 <= crop <= 2:
            raise OptionError(f"The margin of the crop is {crop:g}; it must be between 0 and 2.")
        if crop is not None and self.canvas is not None:
            raise OptionError("Both a crop and a canvas are given. Use one of them; the canvas has a padding.")

    @property
    def effects(self) -> bool:
        """True if there is a shadow or an outline."""
        return any((self.shadow, self.contact_shadow, self.outline))


#: Finishing that changes nothing.
UNFINISHED = Finishing()


def effect_layers(finishing: Finishing, matte: np.ndarray) -> list[Layer]:
    """Return the layers behind the subject, from bottom to top.

    Parameters
    ----------
    finishing : Finishing
    matte : float32 array (H, W)
        Alpha of the subject at its final place.
    """
    box = bounding_box(matte)
    reference = max(box[0].stop - box[0].start, box[1].stop - box[1].start)
    silhouette, layers = matte, []
    if finishing.outline is not None:
        line = outline(matte, finishing.outline.width.pixels(reference))
        silhouette = np.maximum(matte, line)
        layers.append((np.array(finishing.outline.color, np.uint8), line))
    if finishing.contact_shadow is not None:
        ground = contact_shadow(matte, finishing.contact_shadow, box)
        layers.insert(0, (np.array(finishing.contact_shadow.color, np.uint8), ground))
    if finishing.shadow is not None:
        cast = drop_shadow(silhouette, finishing.shadow, reference)
        layers.insert(0, (np.array(finishing.shadow.color, np.uint8), cast))
    return layers
