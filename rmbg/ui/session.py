"""What one visitor has made since the page was opened: kept on the server, seen by nobody else, gone with the page.

The full-size arrays of a result lie in a folder of the session, a copy at screen size stays in memory: looking is
instant however large the photo is, and the full size is read only for a download.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import weakref
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from rmbg.compose import Background, picture
from rmbg.cutout import Cutout
from rmbg.matte import resize
from rmbg.photo import Photo
from rmbg.ui.spend import Spend
from rmbg.ui.switch import Switch

if TYPE_CHECKING:
    from rmbg.ui.comparison import Comparison

#: Longest side of what the page shows, in pixels: sharp on a large screen, small enough to be made in a few milliseconds.
PREVIEW_SIDE = 1200

#: Results kept for a visitor; the oldest goes when there is one more.
KEPT = 24


@dataclass(frozen=True, eq=False)
class Result:
    """One cutout of the session.

    Attributes
    ----------
    preview : Cutout
        At most `PREVIEW_SIDE` pixels a side.
    width, height : int
        Of the full size.
    folder : Path
        Where the full-size arrays lie.
    """

    preview: Cutout
    width: int
    height: int
    folder: Path

    def full(self) -> Cutout:
        """The cutout at the photo's size, read back from disk without loss (the matte to 16 bits)."""
        rgb, foreground, matte = (np.load(self.folder / f"{name}.npy") for name in ("rgb", "foreground", "matte"))
        photo = replace(self.preview.photo, rgb=rgb)
        return replace(self.preview, photo=photo, foreground=foreground, matte=matte.astype(np.float32) / np.float32(65535))


class Session:
    """Results, spend, chosen background picture and the switches that stop what runs, of one visitor."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.current: Result | None = None
        self.removing, self.replacing = Switch(), Switch()
        self.stop_measuring, self.stop_comparing = threading.Event(), threading.Event()
        self.comparison: Comparison | None = None
        self.spend = Spend()
        self._folder: Path | None = None
        self._remove_files: weakref.finalize | None = None
        self._background: tuple[str, Background] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Session:
        """Gradio copies the initial state for every visitor: each begins empty."""
        return Session()

    def add(self, cutout: Cutout) -> Result:
        """Keep a cutout among the results of the session."""
        result = self.keep(cutout)
        self.results.append(result)
        self.current = result
        for old in self.results[:-KEPT]:
            shutil.rmtree(old.folder, ignore_errors=True)
        del self.results[:-KEPT]
        return result

    def keep(self, cutout: Cutout, side: int = PREVIEW_SIDE) -> Result:
        """Full size to disk, at most `side` pixels in memory; what it cost is counted, whatever becomes of it."""
        self.spend.add(cutout.provider, cutout.cost)
        folder = Path(tempfile.mkdtemp(dir=self.own_folder()))
        np.save(folder / "rgb.npy", cutout.photo.rgb)
        np.save(folder / "foreground.npy", cutout.foreground)
        np.save(folder / "matte.npy", np.rint(cutout.matte * np.float32(65535)).astype(np.uint16))
        return Result(shrink(cutout, side), cutout.width, cutout.height, folder)

    def background(self, path: str) -> Background:
        """A picture as background, at screen size; read once for each picture, its full size is not kept."""
        if self._background is None or self._background[0] != path:
            full = picture(path)
            assert full.image is not None
            self._background = path, replace(full, image=np.asarray(_thumbnail(full.image, 2 * PREVIEW_SIDE)))
        return self._background[1]

    def own_folder(self) -> Path:
        """The session's folder; it goes with the session, and with the program at the latest."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="rmbg-session-"))
            self._remove_files = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder

    def download_folder(self) -> Path:
        """An empty folder for one finished file; the one before it goes."""
        folder = self.own_folder() / "download"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def close(self) -> None:
        """Stop what runs and remove every file of the session."""
        self.removing.stop(wait=False)
        self.replacing.stop(wait=False)
        self.stop_measuring.set()
        self.stop_comparing.set()
        self.results.clear()
        if self._remove_files is not None:
            self._remove_files()
        self._folder = None


def shrink(cutout: Cutout, side: int) -> Cutout:
    """A copy of a cutout with at most `side` pixels on its longer side; itself if it has no more."""
    scale = side / max(cutout.width, cutout.height)
    if scale >= 1:
        return cutout
    width, height = max(1, round(cutout.width * scale)), max(1, round(cutout.height * scale))
    rgb = np.asarray(_scaled(cutout.photo.rgb, width, height))
    matte = resize(cutout.matte, height, width)
    # Colours are averaged by how much of them is there: black under alpha zero would make a dark rim.
    opaque = np.asarray(Image.fromarray(cutout.matte).resize((width, height), Image.Resampling.BOX))
    weighted = (
        np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize((width, height), Image.Resampling.BOX))
        for plane in (cutout.foreground[..., c] * cutout.matte for c in range(3))
    )
    foreground = np.stack([plane / np.maximum(opaque, 1e-4) for plane in weighted], axis=-1)
    photo = Photo(rgb, None, cutout.photo.name, cutout.photo.notes)
    return replace(cutout, photo=photo, matte=matte, foreground=np.clip(foreground + 0.5, 0, 255).astype(np.uint8))


def _scaled(pixels: np.ndarray, width: int, height: int) -> Image.Image:
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX)


def _thumbnail(pixels: np.ndarray, side: int) -> Image.Image:
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.BOX)
    return image
