"""Thumbnails in the table of a batch."""

from __future__ import annotations

from rmbg.cutout import Cutout
from rmbg.images import encode
from rmbg.render.backgrounds import Background
from rmbg.ui.shrink import shrink
from rmbg.ui.storage import storage

#: Longest side of a thumbnail in pixels.
SIDE = 144


def save_thumbnail(cutout: Cutout, background: Background, owner: str) -> str:
    """Store a thumbnail of a cutout among the files of a visitor, and return its path."""
    pixels = shrink(cutout, SIDE).render(background)
    path = storage().new_file("thumbnail.webp")
    path.write_bytes(encode.encode(pixels, encode.FORMATS["webp-lossy"], quality=80, quick=True))
    storage().keep(owner, path)
    return str(path)
