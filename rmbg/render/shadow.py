"""Drop shadow and contact shadow of a subject."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from rmbg.images.color import Color, parse_color
from rmbg.render.notation import Length, parse_fields, parse_length, parse_percent

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


def parse_shadow(text: str) -> Shadow | None:
    """Parse ``soft`` or ``X,Y,BLUR,OPACITY[,COLOR]``; empty or ``none`` for no shadow.

    Raises
    ------
    OptionError
        If the text has another form or a value is out of range.
    """
    form = "soft or X,Y,BLUR,OPACITY[,COLOR], such as 0,4%,3%,40"
    parts = parse_fields(text, "The shadow", form, (0, 4, 5))
    if not parts:
        return None if parts is None else Shadow()
    return Shadow(
        parse_length(parts[0], "The offset of the shadow", -1),
        parse_length(parts[1], "The offset of the shadow", -1),
        parse_length(parts[2], "The blur of the shadow", most_percent=50, most_pixels=2000),
        parse_percent(parts[3], "The opacity of the shadow", 0, 100),
        parse_color(parts[4]) if len(parts) == 5 else BLACK,
    )


def parse_contact_shadow(text: str) -> ContactShadow | None:
    """Parse ``soft`` or ``OPACITY[,BLUR[,COLOR]]``; empty or ``none`` for no shadow.

    Raises
    ------
    OptionError
        If the text has another form or a value is out of range.
    """
    parts = parse_fields(text, "The contact shadow", "soft or OPACITY[,BLUR[,COLOR]], such as 50,1%", (0, 1, 2, 3))
    if not parts:
        return None if parts is None else ContactShadow()
    blur = (
        parse_length(parts[1], "The blur of the contact shadow", most_percent=50, most_pixels=2000)
        if len(parts) > 1
        else ContactShadow.blur
    )
    return ContactShadow(
        parse_percent(parts[0], "The opacity of the contact shadow", 0, 100),
        blur,
        parse_color(parts[2]) if len(parts) == 3 else BLACK,
    )


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
    part = slice(
        max(0, round(rows.stop - 3 * CONTACT_DISTANCE * height - half)), min(alpha.shape[0], round(rows.stop + half + 1))
    )
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
