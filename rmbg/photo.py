"""The door: any bytes, path, file, data URI or PIL image becomes a photo, or one clear error.

What comes out is upright, sRGB, 8 bits a channel. Where the bytes come from is the matter of ``rmbg.source``, what they show
that of ``rmbg.decode``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from rmbg.decode import decode_bytes, decode_image
from rmbg.settings import Settings
from rmbg.source import file_name, label_of, read, stem

#: The transparent parts of a photo are shown to networks over this grey level.
FLATTEN_ON = 255

#: Rows that are flattened at a time: what lies between them and the result stays in the processor's caches.
ROWS = 64


@dataclass(frozen=True, eq=False)
class Photo:
    """A decoded input.

    Attributes
    ----------
    rgb : uint8 array (H, W, 3)
        Upright, sRGB; under transparent pixels whatever the file holds there.
    alpha : uint8 array (H, W) or None
        The photo's own alpha; None if it is opaque everywhere.
    name : str
        The stem of the file's name, for the names of downloads.
    notes : tuple of str
        What the door did that the user may want to know.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None = None
    name: str = "photo"
    notes: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        return self.rgb.shape[1]

    @property
    def height(self) -> int:
        return self.rgb.shape[0]

    def flattened(self) -> np.ndarray:
        """The photo as a network should see it: uint8 (H, W, 3), its transparent parts white."""
        if self.alpha is None:
            return self.rgb
        flat = np.empty_like(self.rgb)
        for top in range(0, self.height, ROWS):
            rows = slice(top, top + ROWS)
            alpha = self.alpha[rows, :, None].astype(np.uint16)
            mixed = self.rgb[rows] * alpha  # at most 255 * 255 with the rest, so 16 bits hold it
            mixed += FLATTEN_ON * (255 - alpha) + np.uint16(127)
            flat[rows] = mixed // 255
        return flat


def open_photo(source: Any, *, name: str | None = None, settings: Settings | None = None) -> Photo:
    """Read a picture from wherever it is.

    Parameters
    ----------
    source : bytes-like, path, binary file object, PIL image, data URI or Photo
        A string that begins with ``data:`` is a data URI, any other string a path.
    name : str, optional
        The file's name, where `source` does not know it.
    settings : Settings, optional
        Limits; by default those of the environment.

    Returns
    -------
    Photo

    Raises
    ------
    PhotoError
        Not a picture, not one of the supported formats, damaged, cut off, or beyond the limits.
    """
    settings = settings or Settings.from_environ()
    if isinstance(source, Photo):
        return source
    if isinstance(source, Image.Image):
        name = name or file_name(getattr(source, "filename", None))
        rgb, alpha, notes = decode_image(source, label_of(name), settings)
    else:
        data, name = read(source, name, settings)
        rgb, alpha, notes = decode_bytes(data, label_of(name), settings)
    return Photo(rgb, alpha, stem(name), notes)
