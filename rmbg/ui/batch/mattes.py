"""Mattes of a visitor's batch, from which its cutouts are restored without another run of the provider."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from rmbg import files
from rmbg.cutout import Cutout
from rmbg.images import encode
from rmbg.matting.matte import to_bytes


class Mattes:
    """Mattes as PNG files.

    Parameters
    ----------
    folder : Path
        Created with the first matte.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def store(self, number: int, cutout: Cutout) -> None:
        """Store the matte of photo `number`.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        files.write(self._path(number), encode.encode(to_bytes(cutout.matte), encode.FORMATS["png"], quick=True))

    def load(self, number: int) -> np.ndarray | None:
        """Return the matte of photo `number`, uint8 (H, W), or None if there is none or it was removed."""
        try:
            with Image.open(self._path(number), formats=["PNG"]) as image:
                return np.array(image)
        except (OSError, ValueError):
            return None

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.png"
