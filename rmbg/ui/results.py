"""Results of a visitor: cutouts with full size on disk and a preview in memory, the edits of the visitor, and their files."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rmbg.cutout import Cutout
from rmbg.errors import OutputError, PhotoError, reason
from rmbg.images.photo import Photo
from rmbg.images.pixels import downscale_weighted, shrink_photo
from rmbg.matting.edges import UNCHANGED, EdgeSettings
from rmbg.matting.foreground import SmoothColors, shared_colors
from rmbg.matting.matte import from_sixteen_bits, resize, to_sixteen_bits
from rmbg.matting.retouch import Stroke
from rmbg.runtime.messages import Message
from rmbg.ui.storage import storage


@dataclass(frozen=True)
class Edits:
    """Changes that a visitor has made to a result: another mask, then a clean-up, then strokes of the brush.

    Attributes
    ----------
    base : str
        Prefix of the files of the mask and its foreground; empty for those of the provider.
    coarse : str
        Prefix of the mask that alpha matting was applied to; `base` without alpha matting.
    edges : EdgeSettings
    strokes : tuple of Stroke
    """

    base: str = ""
    coarse: str = ""
    edges: EdgeSettings = UNCHANGED
    strokes: tuple[Stroke, ...] = ()


def scaled_settings(edges: EdgeSettings, ratio: float) -> EdgeSettings:
    """Settings for a copy of the photo that is smaller by `ratio`."""
    areas = {name: round(getattr(edges, name) * ratio**2) for name in ("specks", "holes")}
    return replace(edges, **areas, **{name: getattr(edges, name) * ratio for name in ("smooth", "shift", "feather")})


@dataclass(frozen=True)
class Picture:
    """One generated picture: its size, its file, and smaller files for the page."""

    width: int
    height: int
    path: str
    preview: str
    thumbnail: str


@dataclass(frozen=True)
class Replacement:
    """The pictures of one run.

    Attributes
    ----------
    prompt : str
        Description of the background.
    photo : str
        Path of the photo at screen size.
    pictures : tuple of Picture
        At least one.
    facts : str
        HTML of the line below the pictures.
    """

    prompt: str
    photo: str
    pictures: tuple[Picture, ...]
    facts: str


#: Longest side of a preview, in pixels: sharp on a large screen, and rendered in a few milliseconds.
PREVIEW_SIDE = 1200


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
        foreground=downscale_weighted(cutout.foreground, cutout.matte, width, height),
    )


def thumbnail(pixels: np.ndarray, side: int) -> Image.Image:
    """Downscale pixels to at most `side` pixels on their longer side."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.BOX)
    return image


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
        _save_alpha(folder, "", cutout)
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


def load(folder: Path, *names: str, mapped: bool = False) -> list[np.ndarray]:
    """Read arrays of a result, or map them into memory.

    Raises
    ------
    PhotoError
        If the result was evicted.
    """
    try:
        return [np.load(folder / f"{name}.npy", mmap_mode="r" if mapped else None) for name in names]
    except FileNotFoundError:
        raise PhotoError(
            "This result was removed to make room for newer ones. Remove the background of the photo again."
        ) from None


def save_mask(folder: Path, prefix: str, cutout: Cutout, preview: Cutout) -> None:
    """Write another mask of a result and its foreground, at full size and at screen size.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    try:
        _save_alpha(folder, prefix, cutout)
        np.save(folder / f"{prefix}preview-foreground.npy", preview.foreground)
        np.save(folder / f"{prefix}preview-matte.npy", preview.matte)
    except OSError as error:
        text = "The server cannot store the mask: {reason}. Try again later."
        raise OutputError(Message(text, reason=reason(error))) from None
    storage().measure(folder)


def save_cleaned(folder: Path, prefix: str, cutout: Cutout) -> bool:
    """Write mask and foreground of a clean-up; returns False if the disk is full."""
    try:
        _save_alpha(folder, prefix, cutout)
    except OSError:
        return False
    storage().measure(folder)
    return True


def remove(folder: Path, pattern: str, kept: Collection[str] = ()) -> None:
    """Remove the files whose names match `pattern`, except those whose names begin with one of the prefixes `kept`."""
    for path in folder.glob(pattern):
        if not path.name.startswith(tuple(kept)):
            with contextlib.suppress(OSError):
                path.unlink()


def _save_alpha(folder: Path, prefix: str, cutout: Cutout) -> None:
    np.save(folder / f"{prefix}foreground.npy", cutout.foreground)
    np.save(folder / f"{prefix}matte.npy", to_sixteen_bits(cutout.matte))


#: Longest side of a draft, which is displayed until the preview of new edits is computed: about that of the viewer's picture.
DRAFT_SIDE = 640


class Result:
    """One cutout of the session. The provider's matte stays as it is; edits are applied to what is read.

    A result may begin before its full size is stored, which `complete` or `discard` ends. Until then `full` and `part` wait.

    Parameters
    ----------
    preview : Cutout
        At most `PREVIEW_SIDE` pixels a side.
    width, height : int
        Full size in pixels.
    folder : Path or None
        Folder of the full-size arrays; None if they are in memory, or not computed yet.
    memory : Cutout or None
        The cutout at full size, if it could not be written to disk.
    note : str
        Message for the visitor about a cutout that is kept in memory.
    pending : bool
        True if the cutout at full size follows.
    computed : bool
        True if seconds and cost of `preview` are final.

    Attributes
    ----------
    facts : Cutout
        The cutout without its pixels; seconds and cost are final once the result is `computed`.
    computed : bool
        False for a preview until `complete`: its seconds and cost are not known yet.
    source : str
        Path of the uploaded photo; empty if the photo was not uploaded.
    id : str
        Random name of this result on the page.
    edits : Edits
        Replaced as a whole by `edit`.
    edition : int
        Number of times that they were replaced.
    displayed : threading.Event
        Set when a page has displayed the result.
    """

    def __init__(
        self,
        preview: Cutout,
        width: int,
        height: int,
        folder: Path | None,
        memory: Cutout | None = None,
        note: str = "",
        *,
        pending: bool = False,
        computed: bool = True,
    ) -> None:
        self.width, self.height, self.folder = width, height, folder
        self.computed = computed
        self.memory, self.note = memory, note
        self.source = ""
        self.id = secrets.token_hex(8)
        self.edits = Edits()
        self.edition = 0
        self.pictures: dict[str, tuple[int, str]] = {}  # those of the page: name to fingerprint and path
        self._preview: Cutout | None = preview
        self._has_alpha = preview.photo.alpha is not None
        self._previews: tuple[Edits, Cutout, Cutout] | None = None  # of these edits: without and with strokes
        self._cleaned: tuple[str, EdgeSettings, str] = "", UNCHANGED, ""  # base, settings, prefix of the files with both
        # The cutout at screen size before the edits; for drafts, a reduced one and its colors.
        self._small: tuple[Cutout, Cutout, SmoothColors] | None = None
        self._replaced: tuple[str, Cutout] | None = None  # base and preview of another mask
        self._masks: dict[str, Cutout] = {}  # other masks of a cutout in memory, at full size
        self._lock, self._edit_lock = threading.Lock(), threading.Lock()
        self._ended, self._unfinished = threading.Event(), False
        self.displayed = threading.Event()
        if not pending:
            self._ended.set()
        self.facts = _without_pixels(preview)

    @property
    def pending(self) -> bool:
        """True while the cutout at full size is computed or stored."""
        return not self._ended.is_set()

    def complete(self, cutout: Cutout, folder: Path | None, memory: Cutout | None = None, note: str = "") -> None:
        """Add the cutout at full size, which is stored in `folder` or `memory`, to a preview; its edits stay."""
        self.folder, self.memory, self.note = folder, memory, note
        self.facts, self.computed = _without_pixels(cutout), True
        self._ended.set()

    def _wait(self) -> None:
        """Wait for the cutout at full size; raises PhotoError if the result was discarded before."""
        self._ended.wait()
        if self._unfinished:
            raise PhotoError("This result was not finished. Remove the background of the photo again.")

    @property
    def preview(self) -> Cutout:
        """The edited cutout at screen size, read from disk if it was released.

        Raises
        ------
        PhotoError
            If the result was evicted.
        """
        return self._edited()[2]

    @property
    def unretouched(self) -> Cutout:
        """The cutout at screen size without the strokes of the brush."""
        return self._edited()[1]

    def edit(self, change: Callable[[Edits], Edits]) -> None:
        """Replace the edits by `change` of them."""
        with self._edit_lock:
            self.edits = change(self.edits)
            self.edition += 1

    def _edited(self) -> tuple[Edits, Cutout, Cutout]:
        edits, found = self.edits, self._previews
        if found is None or found[0] is not edits:
            found = edits, *self._apply(edits, self.provided(edits.base))
            self._previews = found
        return found

    def _apply(self, edits: Edits, provided: Cutout, colors: SmoothColors | None = None) -> tuple[Cutout, Cutout]:
        """Apply edits to a copy of the cutout; returns it without and with strokes."""
        ratio = max(provided.width, provided.height) / max(self.width, self.height)
        cleaned = provided.cleaned(scaled_settings(edits.edges, ratio), colors=colors)
        return cleaned, cleaned.retouched([stroke.transformed(ratio) for stroke in edits.strokes])

    def draft(self, edges: EdgeSettings, *, strokes: bool = True) -> Cutout:
        """The cutout of at most `DRAFT_SIDE` pixels a side with other clean-up settings; raises as `preview`."""
        edits = replace(self.edits, edges=edges)
        provided, found = self.provided(edits.base), self._small
        if found is None or found[0] is not provided:
            small = shrink(provided, DRAFT_SIDE)
            self._small = found = provided, small, shared_colors(small.photo, small.matte)
        return self._apply(edits, found[1], found[2])[strokes]

    @property
    def preview_size(self) -> tuple[int, int]:
        """Width and height of `preview` in pixels; raises as `preview`."""
        provided = self.provided(self.edits.base)
        return provided.width, provided.height

    def provided(self, base: str = "") -> Cutout:
        """The cutout at screen size before clean-up and strokes."""
        preview = self._preview  # read once: another event may release it meanwhile
        if preview is None:
            rgb, foreground, matte, alpha = self._load("preview-", "preview-")
            photo = replace(self.facts.photo, rgb=rgb, alpha=alpha)
            self._preview = preview = replace(self.facts, photo=photo, foreground=foreground, matte=matte)
        if not base:
            return preview
        replaced = self._replaced
        if replaced is None or replaced[0] != base:
            foreground, matte = load(self._stored, f"{base}preview-foreground", f"{base}preview-matte")
            self._replaced = replaced = base, replace(preview, foreground=foreground, matte=matte)
        return replaced[1]

    def release(self) -> None:
        """Free the memory of the preview if it can be read again."""
        if self.folder is not None and (self.folder / "preview-matte.npy").exists():
            self._preview = self._previews = self._replaced = self._small = None

    def is_stored(self) -> bool:
        """True if the full size is still on disk or in memory, or follows."""
        return self.folder is None or (self.folder / "matte.npy").exists()

    def discard(self) -> None:
        """Remove the files of this result, of which no full size follows any more."""
        if self.pending:
            self._unfinished = True
            self._ended.set()
        paths = [Path(path) for _, path in list(self.pictures.values())]  # another event may add one meanwhile
        for path in [*paths, *([self.folder] if self.folder else [])]:
            storage().discard(path)

    @property
    def _stored(self) -> Path:
        assert self.folder is not None
        return self.folder

    def _load(self, photo: str, mask: str, *, mapped: bool = False) -> list[Any]:
        """Photo, foreground, matte and the photo's alpha, None if it is opaque, from the files with these prefixes."""
        alpha = [f"{photo}alpha"] if self._has_alpha else []
        found = load(self._stored, f"{photo}rgb", f"{mask}foreground", f"{mask}matte", *alpha, mapped=mapped)
        return [*found, *([] if alpha else [None])]

    def full(self) -> Cutout:
        """The edited cutout at the photo's size, read from disk; the matte has 16 bits.

        Raises
        ------
        PhotoError
            If the result was evicted.
        """
        return self.part(slice(None), slice(None))

    def part(self, rows: slice, columns: slice, *, strokes: bool = True) -> Cutout:
        """The edited cutout of a part of the photo at full size; only this part is read from disk.

        Parameters
        ----------
        rows, columns : slice
        strokes : bool
            False to leave out the strokes of the brush.

        Raises
        ------
        PhotoError
            If the result was evicted.
        """
        self._wait()
        edits = self.edits
        cutout = self._read(rows, columns, self._clean(edits.base, edits.edges))
        if not strokes:
            return cutout
        left, top = columns.indices(self.width)[0], rows.indices(self.height)[0]
        return cutout.retouched([stroke.transformed(left=left, top=top) for stroke in edits.strokes])

    def _read(self, rows: slice, columns: slice, source: str | Cutout) -> Cutout:
        """A part of the arrays on disk, whose names have the prefix `source`, or of a cutout in memory."""
        if isinstance(source, Cutout):
            rgb, foreground, matte, alpha = source.photo.rgb, source.foreground, source.matte, source.photo.alpha
        else:
            rgb, foreground, matte, alpha = self._load("", source, mapped=True)
        rgb, foreground, matte = (np.array(pixels[rows, columns]) for pixels in (rgb, foreground, matte))
        if matte.dtype == np.uint16:
            matte = from_sixteen_bits(matte)
        photo = replace(self.facts.photo, rgb=rgb, alpha=None if alpha is None else np.array(alpha[rows, columns]))
        return replace(self.facts, photo=photo, foreground=foreground, matte=matte)

    def provided_matte(self) -> np.ndarray:
        """The provider's matte at full size, float32 (H, W); raises PhotoError if the result was evicted."""
        self._wait()
        if self.memory is not None:
            return self.memory.matte
        return from_sixteen_bits(load(self._stored, "matte")[0])

    def coarse(self) -> Cutout:
        """The cutout at full size before alpha matting, clean-up and strokes; raises PhotoError if the result was evicted."""
        self._wait()
        return self._read(slice(None), slice(None), self._mask(self.edits.coarse))

    def replace_mask(self, cutout: Cutout | None, *, refined: bool = False) -> None:
        """Use another mask instead of the provider's; clean-up and strokes are applied to it.

        Parameters
        ----------
        cutout : Cutout or None
            At full size; None for the provider's mask.
        refined : bool
            True if it is `coarse` after alpha matting.

        Raises
        ------
        OutputError
            If the mask cannot be stored.
        PhotoError
            If the result was evicted.
        """
        self._wait()
        base = ""
        if cutout is not None:
            base = f"mask-{secrets.token_hex(4)}-"
            provided = self.provided()
            preview = shrink(cutout, max(provided.width, provided.height))
            if self.memory is not None:
                self._masks[base] = cutout
            else:
                save_mask(self._stored, base, cutout, preview)
            self._replaced = base, preview

        self.edit(lambda edits: replace(edits, base=base, coarse=edits.coarse if refined else base))
        kept = {base, self.edits.coarse}
        self._masks = {name: mask for name, mask in self._masks.items() if name in kept}
        if self.folder is not None:
            remove(self.folder, "mask-*.npy", kept - {""})

    def _mask(self, base: str) -> str | Cutout:
        """Source of the mask of a prefix for `_read`."""
        return base if self.memory is None else self._masks.get(base, self.memory)

    def _clean(self, base: str, edges: EdgeSettings) -> str | Cutout:
        """Return the prefix of the arrays at full size with these settings, computed at the first call; or the cutout itself.

        Each clean-up has files of its own: another thread may still read the former ones.
        """
        mask = self._mask(base)
        if isinstance(mask, Cutout):
            return mask.cleaned(edges)
        if edges == UNCHANGED:
            return base
        with self._lock:
            *done, prefix = self._cleaned
            if done != [base, edges]:
                cutout, former = self._read(slice(None), slice(None), base).cleaned(edges), prefix
                prefix = f"cleaned-{secrets.token_hex(4)}-"
                if not save_cleaned(self._stored, prefix, cutout):
                    return cutout
                self._cleaned = base, edges, prefix
                if former:
                    remove(self._stored, f"{former}*.npy")
        return prefix


def _without_pixels(cutout: Cutout) -> Cutout:
    empty = Photo(np.zeros((0, 0, 3), np.uint8), None, cutout.photo.name, cutout.photo.notes)
    return replace(cutout, photo=empty, matte=np.zeros((0, 0), np.float32), foreground=empty.rgb)
