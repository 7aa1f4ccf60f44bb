"""Cache of the mattes of paid providers, keyed by the digest of the photo and the fingerprint of the inference settings.

New results with another background, crop or format are rendered from cached mattes without another charge.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from rmbg import files
from rmbg.errors import OutputError
from rmbg.images.encode import FORMATS, encode
from rmbg.matting.matte import to_bytes


class MatteCache:
    """Mattes as PNG files in one or more folders.

    Parameters
    ----------
    folders : sequence of Path
        In order of preference; a later folder is written to only if the earlier ones fail, as on a full disk.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)

    def find(self, digest: str, inference: str) -> Path | None:
        """Return the file of a matte, or None if it is not cached."""
        return next((path for path in self._paths(digest, inference) if path.is_file()), None)

    def load(self, digest: str, inference: str, height: int, width: int) -> np.ndarray | None:
        """Return a matte, uint8 (H, W), or None if it is not cached, not readable or of another size."""
        path = self.find(digest, inference)
        if path is None:
            return None
        try:
            with Image.open(path, formats=["PNG"]) as image:
                matte = np.array(image.convert("L"))
        except (OSError, SyntaxError, ValueError):
            return None
        return matte if matte.shape == (height, width) else None

    def save(self, digest: str, inference: str, matte: np.ndarray) -> None:
        """Write a matte, float32 (H, W) in [0, 1], with 8 bits per pixel.

        Raises
        ------
        OutputError
            If none of the folders is writable.
        """
        data = encode(to_bytes(matte), FORMATS["png"])
        paths = self._paths(digest, inference)
        for path in paths:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                files.write(path, data)
            except OSError as error:
                if path == paths[-1]:
                    raise OutputError(f"The paid result could not be saved: {error}") from None
            else:
                return

    def _paths(self, digest: str, inference: str) -> list[Path]:
        return [folder / digest[:2] / f"{digest[:32]}-{inference}.png" for folder in self._folders]
