"""Files of a result: the arrays of a cutout and of its preview, one folder for each result; mattes have 16 bits."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path

import numpy as np

from rmbg.cutout import Cutout
from rmbg.errors import OutputError, PhotoError, reason
from rmbg.matting.matte import to_sixteen_bits
from rmbg.message import Message
from rmbg.providers import find
from rmbg.ui.storage import storage


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


def store(cutout: Cutout, preview: Cutout, parent: Path, owner: str) -> tuple[Path | None, Cutout | None, str]:
    """Write a cutout to a new folder below `parent`, which belongs to the visitor `owner`.

    Returns
    -------
    folder : Path or None
        None if the folder cannot be written.
    cutout : Cutout or None
        The cutout itself if it is the result of a service and cannot be written.
    note : str
        Message for the visitor about this cutout.

    Raises
    ------
    OutputError
        If the result of a local provider cannot be written.
    """
    try:
        folder = save(cutout, preview, parent)
    except OSError as error:
        if find(cutout.provider).info.kind == "local":
            text = Message("The server cannot store the result: {reason}. Try again later.", reason=reason(error))
            raise OutputError(text) from None
        note = Message(
            "The server cannot store this paid result on its disk: {reason}. It is kept in memory only. Download it now.",
            reason=reason(error),
        )
        return None, cutout, note
    storage().keep(owner, folder)
    return folder, None, ""


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
        raise OutputError(
            Message("The server cannot store the mask: {reason}. Try again later.", reason=reason(error))
        ) from None
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
