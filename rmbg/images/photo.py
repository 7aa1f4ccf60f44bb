"""Decoding of any image source into a `Photo`: upright, sRGB, 8 bits a channel.

``rmbg.images.source`` reads the bytes of a source, ``rmbg.images.decode`` decodes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from rmbg.images.decode import decode_bytes, decode_image
from rmbg.images.source import file_name, label_of, read, stem
from rmbg.settings import Settings
from rmbg.threads import row_strips

#: Gray level behind the transparent parts of a photo in the input of a network.
FLATTEN_LEVEL = 255

#: Rows that are flattened at a time, so that intermediate arrays fit into the CPU's cache.
STRIP_ROWS = 64


@dataclass(frozen=True, eq=False)
class Photo:
    """A decoded input.

    Attributes
    ----------
    rgb : uint8 array (H, W, 3)
        Upright, sRGB. Transparent pixels have the colors of the file.
    alpha : uint8 array (H, W) or None
        The photo's own alpha; None if it is opaque everywhere.
    name : str
        Stem of the file name, for the names of downloads.
    notes : tuple of str
        Messages to the user about the decoding.
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
        """Return the photo with its transparent parts on white, as input of a network: uint8 (H, W, 3)."""
        if self.alpha is None:
            return self.rgb
        flat = np.empty_like(self.rgb)
        for rows in row_strips(self.height, STRIP_ROWS):
            alpha = self.alpha[rows, :, None].astype(np.uint16)
            mixed = self.rgb[rows] * alpha  # with the rest at most 255 * 255, which fits into 16 bits
            mixed += FLATTEN_LEVEL * (255 - alpha) + np.uint16(127)
            flat[rows] = mixed // 255
        return flat


def open_photo(source: Any, *, name: str | None = None, settings: Settings | None = None) -> Photo:
    """Decode any image source into a `Photo`.

    Parameters
    ----------
    source : bytes-like, path, binary file object, PIL image, data URI or Photo
        A string that begins with ``data:`` is a data URI, any other string a path.
    name : str, optional
        File name, if `source` has none.
    settings : Settings, optional
        Limits. By default those of the environment.

    Returns
    -------
    Photo

    Raises
    ------
    PhotoError
        If the source is not an image, of an unsupported format, damaged, truncated, or beyond the limits.
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
