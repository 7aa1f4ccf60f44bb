"""Files of results: zip archives for downloads, and pictures for the viewer and the clipboard."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from urllib.parse import quote

import numpy as np

from rmbg.cutout import Cutout
from rmbg.errors import OptionError, OutputError, reason
from rmbg.images import encode
from rmbg.images.photo import Photo
from rmbg.images.pixels import cut_out
from rmbg.render.backgrounds import Background, blurred
from rmbg.render.finishing import UNFINISHED, Finishing
from rmbg.render.picture import View
from rmbg.runtime.messages import Message
from rmbg.runtime.threads import cpu_count
from rmbg.ui.results import Result, shrink, thumbnail
from rmbg.ui.storage import storage

#: Name of the archive.
NAME = "rmbg-results.zip"


def write(owner: str, files: Iterable[tuple[str, bytes]]) -> str:
    """Write files, as (name, bytes), to a zip archive of the visitor `owner` and return its path.

    It expires like any download. Names that occur more than once get a number.

    Raises
    ------
    OutputError
        If the archive would exceed the visitor's quota, which would evict the results, or cannot be written.
    """
    path = None
    try:
        path = storage().new_file(NAME)
        _write(path, files, storage().session_bytes - storage().bytes_of(owner))
    except BaseException as error:
        if path is not None:
            storage().discard(path)
        if isinstance(error, OSError) and not isinstance(error, OutputError):
            raise OutputError(
                Message("The archive cannot be written on the server: {reason}. Try again later.", reason=reason(error))
            ) from None
        raise
    storage().keep(owner, path, seconds=storage().keep_seconds)
    return str(path)


def _write(path: Path, files: Iterable[tuple[str, bytes]], limit: int) -> None:
    names: set[str] = set()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # pictures are compressed already
        for name, data in files:
            if path.stat().st_size + len(data) > limit:
                raise OutputError(
                    "All results together are larger than this server keeps for one visitor. "
                    "Delete some of them, or download them one at a time."
                )
            unique = _unique(name, names)
            names.add(unique)
            archive.writestr(unique, data)


def _unique(name: str, names: set[str]) -> str:
    """Return `name` with the first number that makes it different from all of `names`."""
    stem, suffix = PurePath(name).stem, PurePath(name).suffix
    candidates = (f"{stem}-{number}{suffix}" for number in range(2, len(names) + 2))
    return name if name not in names else next(candidate for candidate in candidates if candidate not in names)


#: Quality of previews and of parts at full size.
PREVIEW_QUALITY, PART_QUALITY = 84, 90

#: Longest side in pixels of a part at full size, of a copy for the clipboard, of a picture as background, of a blurred
#: background, which has no detail, and of a thumbnail.
PART_SIDE, COPY_SIDE, BACKDROP_SIDE, BLUR_SIDE, STRIP_SIDE = 2560, 4096, 1600, 400, 200

#: Longest side in pixels of a part at full size if there are several.
PANE_PART_SIDE = 1280

#: Fingerprint of the picture of the photo.
PHOTO_KEY = 0

_PART = re.compile("([0-9]{1,6}(?:,[0-9]{1,6}){4})(,unretouched)?")


@dataclass(frozen=True)
class Part:
    """A rectangle of the photo in pixels, the width at which it is displayed, and whether strokes of the brush are applied."""

    left: int
    top: int
    right: int
    bottom: int
    pixels: int
    strokes: bool = True

    @classmethod
    def parse(cls, text: str, width: int, height: int) -> Part:
        """Parse ``left,top,right,bottom,pixels`` or ``...,unretouched``, and clip it to a photo of `width` x `height`.

        Raises
        ------
        OptionError
            If the text has another form, or the rectangle is empty.
        """
        match = _PART.fullmatch(text)
        if match is None:
            raise OptionError("The part of the picture is invalid. Reload the page.")
        left, top, right, bottom, pixels = (int(number) for number in match[1].split(","))
        part = cls(left, top, min(right, width), min(bottom, height), pixels, strokes=match[2] is None)
        if part.left >= part.right or part.top >= part.bottom or not pixels:
            raise OptionError("The part of the picture is empty. Reload the page.")
        return part

    def read(self, result: Result) -> Cutout:
        """Read this part of a result, downscaled to its width on the screen and to at most `PART_SIDE` pixels a side."""
        cutout = result.part(slice(self.top, self.bottom), slice(self.left, self.right), strokes=self.strokes)
        scale = min(1.0, self.pixels / cutout.width, PART_SIDE / max(cutout.width, cutout.height))
        return shrink(cutout, max(1, round(scale * max(cutout.width, cutout.height))))


def url(path: str) -> str:
    """Return the URL of a file in Gradio's upload folder, relative to the root of the app."""
    return f"gradio_api/file={quote(path)}"


def previews(result: Result, cutout: Cutout) -> dict[str, str]:
    """Return the paths of a cutout's pictures at screen size.

    Parameters
    ----------
    result : Result
        Holds the files, which are encoded again only if the cutout differs or a file was removed.
    cutout : Cutout
        At screen size.

    Returns
    -------
    dict
        ``cutout``, ``mask``, ``original`` and ``blur``, the blurred background, to paths.

    Raises
    ------
    RmbgError
        If a file cannot be written.
    """
    key = _fingerprint(cutout)
    keys = {"original": PHOTO_KEY}  # the same for all edits
    with ThreadPoolExecutor(cpu_count()) as executor:  # not the pool of the process, in which a drawing may wait
        stored = {
            # In the context of the event, as the files belong to its visitor.
            name: executor.submit(copy_context().run, _stored, result, name, keys.get(name, key), draw)
            for name, draw in drawings(cutout).items()
        }
        return {name: path.result() for name, path in stored.items()}


def panes(result: Result, cutout: Cutout) -> dict[str, str]:
    """Return the paths of a cutout's pictures in a pane of Compare, which are smaller than those of `previews`.

    The photo, which is the same in all panes, is left out.
    """
    key, draw = _fingerprint(cutout), drawings(cutout)
    return {name: _stored(result, name, key, draw[name], place="pane-") for name in ("cutout", "mask", "blur")}


def unretouched(result: Result, cutout: Cutout) -> dict[str, str]:
    """Return the paths of ``cutout`` and ``mask`` without strokes, from `cutout` at screen size; otherwise as `previews`."""
    key, draw = _fingerprint(cutout), drawings(cutout)
    return {name: _stored(result, f"{name}-unretouched", key, draw[name]) for name in ("cutout", "mask")}


def _fingerprint(cutout: Cutout) -> int:
    return zlib.crc32(np.ascontiguousarray(cutout.foreground).data, zlib.crc32(np.ascontiguousarray(cutout.matte).data))


def drawings(cutout: Cutout) -> dict[str, Callable[[], np.ndarray]]:
    """Return the functions that draw the pictures of `previews`."""
    return {
        "cutout": cutout.render,
        "mask": lambda: cutout.render(view="mask"),
        "original": lambda: cutout.render(view="original"),
        "blur": lambda: np.asarray(
            thumbnail(blurred(cutout.photo.rgb, cutout.matte, cutout.foreground, cutout.photo.alpha), BLUR_SIDE)
        ),
    }


def backdrop(result: Result, background: Background, source: str) -> str:
    """Return the path of a background picture at screen size; `source` identifies the picture."""
    assert background.image is not None
    image = background.image
    return _stored(result, "background", zlib.crc32(source.encode()), lambda: np.asarray(thumbnail(image, BACKDROP_SIDE)))


def in_strip(result: Result) -> str:
    """Return the path of the thumbnail of a result, which is drawn again after edits."""
    return _stored(result, "strip", result.edition, lambda: np.asarray(thumbnail(result.preview.render(), STRIP_SIDE)))


def parts(layers: Sequence[tuple[Result, View]], area: Part, limit: int) -> list[str]:
    """Store the same part of several results of one size, each in its view and at most `limit` pixels wide.

    Returns the paths in the same order.
    """
    small = replace(area, pixels=min(area.pixels, limit))
    read = {result: small.read(result) for result in dict.fromkeys(result for result, _ in layers)}
    return [
        _store(read[result].render(view=view), f"{result.facts.photo.name}-part.webp", PART_QUALITY, expires=True)
        for result, view in layers
    ]


def store_photo(photo: Photo) -> str:
    """Store a photo at screen size; returns its path."""
    pixels = photo.rgb if photo.alpha is None else cut_out(photo.rgb, photo.alpha)
    return _store(pixels, f"{photo.name}-original.webp", PREVIEW_QUALITY)


def copy(
    result: Result, background: Background, view: View, crop: float | None, finishing: Finishing = UNFINISHED
) -> tuple[str, int, int]:
    """Store the displayed picture as PNG of at most `COPY_SIDE` pixels a side; returns its path, width and height."""
    pixels = shrink(result.full(), COPY_SIDE).render(background, view=view, crop=crop, finishing=finishing)
    data = encode.encode(pixels, encode.FORMATS["png"])
    path = storage().store(data, f"{result.facts.photo.name}-{view}.png", seconds=storage().keep_seconds)
    return path, pixels.shape[1], pixels.shape[0]


def _stored(result: Result, name: str, key: int, draw: Callable[[], np.ndarray], place: str = "") -> str:
    """Return the path of a picture of a result, drawn if `key` is new or the file was removed."""
    stored, path = result.pictures.get(place + name, (None, ""))
    if stored == key and Path(path).is_file():
        return path
    if path:
        storage().discard(Path(path))
    path = _store(draw(), f"{result.facts.photo.name}-{name}.webp", PREVIEW_QUALITY)
    result.pictures[place + name] = key, path
    return path


def _store(pixels: np.ndarray, name: str, quality: int, *, expires: bool = False) -> str:
    data = encode.encode(pixels, encode.FORMATS["webp-lossy"], quality=quality, quick=True)
    return storage().store(data, name, seconds=storage().keep_seconds if expires else None)
