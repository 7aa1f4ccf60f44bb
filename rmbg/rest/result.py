"""Results of remove.bg's API, without I/O: from the bytes of a picture to a photo, and from its cutout to an `Answer`."""

from __future__ import annotations

import base64
import io
import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from rmbg.cutout import Cutout
from rmbg.errors import OptionError, PhotoError
from rmbg.images.decode import open_image
from rmbg.images.encode import FORMATS, encode
from rmbg.images.photo import Photo, open_photo
from rmbg.images.pixels import fill_hidden, shrink_photo
from rmbg.matting.matte import bounding_box
from rmbg.render.backgrounds import Background
from rmbg.render.canvas import Canvas
from rmbg.render.finishing import ContactShadow, Finishing, Shadow, composite
from rmbg.render.notation import Length
from rmbg.rest.parameters import SIZES
from rmbg.rest.removebg import Answer, Failure, Removal
from rmbg.runtime.messages import megabytes, public_text
from rmbg.settings import Settings


def read_photo(data: bytes, settings: Settings) -> Photo:
    """Decode a picture; raises Failure if it is not one or beyond the limits."""
    if len(data) > settings.max_bytes:
        raise Failure("file_too_large", f"The limit is {megabytes(settings.max_bytes)}.")
    try:
        return open_photo(data, settings=settings)
    except PhotoError as error:
        raise Failure(_photo_code(data, settings), public_text(str(error), shared=settings.shared)) from None


def _photo_code(data: bytes, settings: Settings) -> str:
    """Return the code for a picture that cannot be decoded."""
    try:
        with open_image(data) as image:
            return "resolution_too_high" if image.width * image.height > settings.max_pixels else "failed_to_read_image"
    except UnidentifiedImageError:
        return "invalid_file_type"
    except Image.DecompressionBombError:
        return "resolution_too_high"
    except Exception:  # Pillow raises nearly any type on damaged files
        return "failed_to_read_image"


def resized(photo: Photo, size: str) -> Photo:
    """Reduce a photo to a size of `SIZES`; returns the same photo if it is not larger, or for other sizes."""
    most = SIZES.get(size, photo.width * photo.height)
    longer, shorter = max(photo.width, photo.height), min(photo.width, photo.height)
    side = min(longer, int(longer * math.sqrt(most / (photo.width * photo.height))))
    while side * max(1, round(shorter * side / longer)) > most:
        side -= 1
    return shrink_photo(photo, side)


def region(roi: tuple[Length, ...], photo: Photo, sized: Photo) -> tuple[slice, slice]:
    """Return rows and columns of a region of `photo` in `sized`, which is the photo or a smaller copy.

    Raises
    ------
    Failure
        If the region exceeds the photo or is empty.
    """
    left, top, right, bottom = (
        length.pixels(side) / side for length, side in zip(roi, (photo.width, photo.height) * 2, strict=True)
    )
    if max(left, top, right, bottom) > 1:
        raise Failure("roi_exceeds_bounds", f"The picture has {photo.width} x {photo.height} pixels.")
    rows = slice(round(top * sized.height), round(bottom * sized.height))
    columns = slice(round(left * sized.width), round(right * sized.width))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        raise Failure("roi_region_empty")
    return rows, columns


def cropped(photo: Photo, rows: slice, columns: slice) -> Photo:
    """Return a part of a photo; the same photo if the part is all of it."""
    if (rows, columns) == (slice(0, photo.height), slice(0, photo.width)):
        return photo
    alpha = None if photo.alpha is None else np.ascontiguousarray(photo.alpha[rows, columns])
    return replace(photo, rgb=np.ascontiguousarray(photo.rgb[rows, columns]), alpha=alpha)


def restored(cutout: Cutout, photo: Photo, rows: slice, columns: slice) -> Cutout:
    """Return the cutout of a photo from that of its part, around which everything is background."""
    if cutout.photo is photo:
        return cutout
    matte, foreground = np.zeros(photo.rgb.shape[:2], np.float32), photo.rgb.copy()
    matte[rows, columns], foreground[rows, columns] = cutout.matte, cutout.foreground
    return replace(cutout, photo=photo, matte=matte, foreground=foreground)


def answer(cutout: Cutout, removal: Removal, backdrop: Background | None, *, as_json: bool) -> Answer:
    """Render and encode the result of a request.

    Parameters
    ----------
    cutout : Cutout
    removal : Removal
    backdrop : Background or None
        The picture as background.
    as_json : bool
        Return base64 in a JSON object instead of the bytes.

    Raises
    ------
    Failure
        If the size of the result is beyond the limits of its canvas or format.
    """
    values, box = removal.values, bounding_box(cutout.matte)
    is_mask = values["channels"] == "alpha"
    color, opacity = values["bg_color"] or (None, 0.0)
    background = backdrop or values["rmbg_background"]
    if color is not None and opacity == 1:
        background = Background("color", (color,))
    try:
        canvas = _canvas(values, box, cutout.height, cutout.width)
    except OptionError as error:
        raise Failure("invalid_crop_margin" if values["crop"] else "invalid_scale", str(error)) from None
    pixels = cutout.render(
        background,
        view="mask" if is_mask else "cutout",
        crop=0.0 if values["crop"] and canvas is None else None,
        finishing=_finishing(values, canvas),
    )
    if color is not None and opacity < 1 and not is_mask:
        behind = np.full(pixels.shape[:2], opacity, np.float32)
        subject = pixels[..., :3], pixels[..., 3] / np.float32(255)
        pixels = composite([(np.array(color, np.uint8), behind), subject], None)
    try:
        body, media_type = _encoded(pixels, values["format"], values["rmbg_quality"])
    except OptionError as error:
        raise Failure("invalid_format", str(error)) from None
    rows, columns = box
    foreground = {
        "top": rows.start,
        "left": columns.start,
        "width": columns.stop - columns.start,
        "height": rows.stop - rows.start,
    }
    headers = {"X-Width": str(pixels.shape[1]), "X-Height": str(pixels.shape[0])}
    headers |= {f"X-Foreground-{name.capitalize()}": str(value) for name, value in foreground.items()}
    if values["type_level"] != "none":
        headers["X-Type"] = "other" if values["type"] == "auto" else values["type"]
    if as_json:
        facts = {f"foreground_{name}": value for name, value in foreground.items()}
        body = json.dumps({"data": {"result_b64": base64.b64encode(body).decode(), **facts}}).encode()
        media_type = "application/json"
    return Answer(200, body, media_type, headers)


def _finishing(values: Mapping[str, Any], canvas: Canvas | None) -> Finishing:
    kind, opacity = values["shadow_type"], values["shadow_opacity"]
    if kind == "none" and values["add_shadow"]:
        kind = "auto"
    drop = Shadow(opacity=opacity) if kind == "drop" else None
    ground = ContactShadow(opacity) if kind in ("auto", "3D", "car") else None
    return Finishing(canvas, values["rmbg_shadow"] or drop, values["rmbg_contact_shadow"] or ground, values["rmbg_outline"])


def _canvas(values: Mapping[str, Any], box: tuple[slice, slice], height: int, width: int) -> Canvas | None:
    """Return the canvas that places a subject with the bounding box `box`; None to keep the photo, or for a plain crop."""
    rows, columns = box
    subject = columns.stop - columns.start, rows.stop - rows.start
    canvas: Canvas | None = values["rmbg_canvas"]
    if canvas is not None:
        canvas = replace(canvas, padding=values["rmbg_padding"] or canvas.padding)
    if values["crop"]:
        sides = (subject[1], subject[0]) * 2
        margins = [round(margin.pixels(side)) for margin, side in zip(values["crop_margin"], sides, strict=True)]
        top, right, bottom, left = margins
        if not any(margins):
            return None
        canvas = Canvas(subject[0] + left + right, subject[1] + top + bottom, Length(0))
        x, y = (left - right) / 2 / canvas.width, (top - bottom) / 2 / canvas.height
        return replace(canvas, scale=100 / _fit(canvas, subject), x=100 * x, y=100 * y)
    scale: float | None = values["scale"]
    position: tuple[float, float] | str = values["position"] or ("original" if scale is None else (50.0, 50.0))
    if scale is None and isinstance(position, str):
        return canvas
    if canvas is None:
        canvas = Canvas(width, height, Length(0))
        scale = 100 / _fit(canvas, subject) if scale is None else scale
    scale = 100.0 if scale is None else scale
    if isinstance(position, str):  # original
        center = (columns.start + columns.stop) / 2 / width, (rows.start + rows.stop) / 2 / height
        return replace(canvas, scale=scale, x=100 * center[0] - 50, y=100 * center[1] - 50)
    factor, space = _fit(canvas, subject) * scale / 100, 2 * canvas.padding_pixels
    free = (
        (canvas.width - space - subject[0] * factor) / canvas.width,
        (canvas.height - space - subject[1] * factor) / canvas.height,
    )
    return replace(canvas, scale=scale, x=(position[0] - 50) * free[0], y=(position[1] - 50) * free[1])


def _fit(canvas: Canvas, subject: tuple[int, int]) -> float:
    """Return the factor by which the subject, width and height in pixels, is fitted into a canvas at a scale of 100 percent."""
    space = 2 * canvas.padding_pixels
    return min((canvas.width - space) / subject[0], (canvas.height - space) / subject[1])


def _encoded(pixels: np.ndarray, name: str, quality: int) -> tuple[bytes, str]:
    """Return the bytes of a result in a format of the API, and their media type."""
    alpha = pixels if pixels.ndim == 2 else pixels[..., 3] if pixels.shape[2] == 4 else None
    if name == "zip":
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            if pixels.ndim == 3:
                colors = pixels if alpha is None else fill_hidden(pixels[..., :3], alpha)
                archive.writestr(zipfile.ZipInfo("color.jpg"), encode(colors, FORMATS["jpeg"], quality=quality))
            mask = np.full(pixels.shape[:2], 255, np.uint8) if alpha is None else alpha
            archive.writestr(zipfile.ZipInfo("alpha.png"), encode(mask, FORMATS["png"]))
        return out.getvalue(), "application/zip"
    if name == "auto":
        name = "jpg" if alpha is None or alpha.min() == 255 else "png"
    form = FORMATS["jpeg" if name == "jpg" else name]
    return encode(pixels, form, quality=quality), form.mime
