"""Cutouts of a session: full size on disk, a preview in memory."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from rmbg.cutout import Cutout
from rmbg.errors import PhotoError
from rmbg.images.photo import Photo
from rmbg.matting.matte import resize
from rmbg.ui.storage import storage

#: Longest side of a preview, in pixels: sharp on a large screen, and rendered in a few milliseconds.
PREVIEW_SIDE = 1200


class Result:
    """One cutout of the session.

    Parameters
    ----------
    preview : Cutout
        At most `PREVIEW_SIDE` pixels a side.
    width, height : int
        Full size in pixels.
    folder : Path or None
        Folder of the full-size arrays; None if they are in memory.
    memory : Cutout or None
        The cutout at full size, if it could not be written to disk.
    note : str
        Message for the visitor about a cutout that is kept in memory.

    Attributes
    ----------
    source : str
        Path of the uploaded photo; empty if the photo was not uploaded.
    thumbnail : str
        Path of the picture in the strip; empty until it is rendered.
    id : str
        Random name of this result on the page.
    """

    def __init__(
        self, preview: Cutout, width: int, height: int, folder: Path | None, memory: Cutout | None = None, note: str = ""
    ) -> None:
        self.width, self.height, self.folder = width, height, folder
        self.memory, self.note = memory, note
        self.id = secrets.token_hex(8)
        self.source, self.thumbnail = "", ""
        self.pictures: dict[str, tuple[int, str]] = {}  # those in the viewer: name to fingerprint and path
        self._preview: Cutout | None = preview
        self._has_alpha = preview.photo.alpha is not None
        empty = Photo(np.zeros((0, 0, 3), np.uint8), None, preview.photo.name, preview.photo.notes)
        self._facts = replace(preview, photo=empty, matte=np.zeros((0, 0), np.float32), foreground=empty.rgb)

    @property
    def facts(self) -> Cutout:
        """The cutout without its pixels."""
        return self._facts

    @property
    def preview(self) -> Cutout:
        """The cutout at screen size, read from disk if it was released.

        Raises
        ------
        PhotoError
            If the result was evicted.
        """
        preview = self._preview  # read once: another event may release it meanwhile
        if preview is None:
            rgb, foreground, matte = self._load("preview-rgb", "preview-foreground", "preview-matte")
            photo = replace(self._facts.photo, rgb=rgb, alpha=self._load_alpha("preview-alpha"))
            self._preview = preview = replace(self._facts, photo=photo, foreground=foreground, matte=matte)
        return preview

    def release(self) -> None:
        """Free the memory of the preview if it can be read again."""
        if self.folder is not None and (self.folder / "preview-matte.npy").exists():
            self._preview = None

    def is_stored(self) -> bool:
        """True if the full size is still on disk, or in memory."""
        return self.folder is None or (self.folder / "matte.npy").exists()

    def discard(self) -> None:
        """Remove the files of this result."""
        pictures = [path for _, path in list(self.pictures.values())]  # another event may add one meanwhile
        for path in filter(None, (self.thumbnail, *pictures)):
            storage().discard(Path(path))
        if self.folder is not None:
            storage().discard(self.folder)

    def _load(self, *names: str, mapped: bool = False) -> list[np.ndarray]:
        assert self.folder is not None
        try:
            return [np.load(self.folder / f"{name}.npy", mmap_mode="r" if mapped else None) for name in names]
        except FileNotFoundError:
            raise PhotoError(
                "This result was removed to make room for newer ones. Remove the background of the photo again."
            ) from None

    def _load_alpha(self, name: str, *, mapped: bool = False) -> np.ndarray | None:
        """Alpha of the photo; None if it is opaque."""
        return self._load(name, mapped=mapped)[0] if self._has_alpha else None

    def full(self) -> Cutout:
        """The cutout at the photo's size, read from disk; the matte has 16 bits.

        Raises
        ------
        PhotoError
            If the result was evicted.
        """
        return self.memory or self.part(slice(None), slice(None))

    def part(self, rows: slice, columns: slice) -> Cutout:
        """The cutout of a part of the photo at full size; only this part is read from disk.

        Raises
        ------
        PhotoError
            If the result was evicted.
        """
        if self.memory is not None:
            full = self.memory
            rgb, foreground, matte, alpha = full.photo.rgb, full.foreground, full.matte, full.photo.alpha
        else:
            rgb, foreground, matte = self._load("rgb", "foreground", "matte", mapped=True)
            alpha = self._load_alpha("alpha", mapped=True)
        rgb, foreground, matte = (np.array(pixels[rows, columns]) for pixels in (rgb, foreground, matte))
        if matte.dtype == np.uint16:
            matte = matte.astype(np.float32) / np.float32(65535)
        photo = replace(self._facts.photo, rgb=rgb, alpha=None if alpha is None else np.array(alpha[rows, columns]))
        return replace(self._facts, photo=photo, foreground=foreground, matte=matte)


def save(cutout: Cutout, preview: Cutout, parent: Path) -> Path:
    """Write the arrays of a cutout and of its preview to a new folder below `parent`; returns the folder.

    Raises
    ------
    OSError
        If a file cannot be written; the folder is then removed.
    """
    folder = Path(tempfile.mkdtemp(dir=parent))
    try:
        np.save(folder / "rgb.npy", cutout.photo.rgb)
        np.save(folder / "foreground.npy", cutout.foreground)
        np.save(folder / "matte.npy", np.rint(cutout.matte * np.float32(65535)).astype(np.uint16))
        np.save(folder / "preview-rgb.npy", preview.photo.rgb)
        np.save(folder / "preview-foreground.npy", preview.foreground)
        np.save(folder / "preview-matte.npy", preview.matte)
        if cutout.photo.alpha is not None and preview.photo.alpha is not None:
            np.save(folder / "alpha.npy", cutout.photo.alpha)
            np.save(folder / "preview-alpha.npy", preview.photo.alpha)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def shrink(cutout: Cutout, side: int) -> Cutout:
    """Downscale a cutout to at most `side` pixels on its longer side; returns the same cutout if it is not larger."""
    scale = side / max(cutout.width, cutout.height)
    if scale >= 1:
        return cutout
    width, height = max(1, round(cutout.width * scale)), max(1, round(cutout.height * scale))
    return replace(
        cutout,
        photo=shrink_photo(cutout.photo, side),
        matte=resize(cutout.matte, height, width),
        foreground=_scaled_colors(cutout.foreground, cutout.matte, width, height),
    )


def shrink_photo(photo: Photo, side: int) -> Photo:
    """Downscale a photo to at most `side` pixels on its longer side; returns the same photo if it is not larger."""
    scale = side / max(photo.width, photo.height)
    if scale >= 1:
        return photo
    width, height = max(1, round(photo.width * scale)), max(1, round(photo.height * scale))
    rgb, alpha = _scaled(photo.rgb, width, height), photo.alpha
    if alpha is not None:
        weighted = _scaled_colors(photo.rgb, alpha.astype(np.float32) / np.float32(255), width, height)
        alpha = _scaled(alpha, width, height)
        rgb = np.where((alpha > 0)[..., None], weighted, rgb)
    return Photo(rgb, alpha, photo.name, photo.notes)


def _scaled_colors(colors: np.ndarray, alpha: np.ndarray, width: int, height: int) -> np.ndarray:
    """Average colors with alpha as weight; black under alpha zero would cause a dark fringe."""
    total = np.maximum(_scaled(alpha, width, height), 1e-4)
    planes = (_scaled(colors[..., c] * alpha, width, height) / total for c in range(3))
    return np.clip(np.stack(list(planes), axis=-1) + 0.5, 0, 255).astype(np.uint8)


def _scaled(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((width, height), Image.Resampling.BOX))


def thumbnail(pixels: np.ndarray, side: int) -> Image.Image:
    """Downscale pixels to at most `side` pixels on their longer side."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.BOX)
    return image
