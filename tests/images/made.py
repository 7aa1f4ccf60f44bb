"""Encoded test pictures, and helpers that decode them or expect an error."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from rmbg.errors import PhotoError
from rmbg.images.photo import Photo, open_photo
from rmbg.settings import Settings
from tests.sentences import sentence

SETTINGS = Settings()


def smooth(height: int = 24, width: int = 40) -> np.ndarray:
    """Smooth picture without rotation or mirror symmetry: uint8 (height, width, 3)."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 6 % 256, y * 9 % 256, (x + 2 * y) * 2 % 256], axis=-1).astype(np.uint8)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, shape, np.uint8)


def saved(picture: np.ndarray | Image.Image, form: str, **options) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def read(source, **options) -> Photo:
    return open_photo(source, **{"settings": SETTINGS, **options})


def refused(source, *words: str, **options) -> str:
    with pytest.raises(PhotoError) as caught:
        read(source, **options)
    text = sentence(caught.value)
    for word in words:
        assert word.lower() in text.lower(), text
    return text


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def raw_png(width: int, height: int, depth: int, kind: int, rows: bytes, *extra: bytes) -> bytes:
    """PNG of any bit depth, whose header may have a size that does not match `rows`."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


LOSSLESS = {
    "png": ("PNG", {}),
    "webp": ("WEBP", {"lossless": True}),
    "bmp": ("BMP", {}),
    "tiff": ("TIFF", {}),
    "tiff-lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "tiff-deflate": ("TIFF", {"compression": "tiff_deflate"}),
    "tiff-packbits": ("TIFF", {"compression": "packbits"}),
}


LOSSY = {
    "jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    "jpeg-progressive": ("JPEG", {"quality": 95, "subsampling": 0, "progressive": True}),
    "webp-lossy": ("WEBP", {"quality": 95}),
    "avif": ("AVIF", {"quality": 95, "subsampling": "4:4:4"}),
    "tiff-jpeg": ("TIFF", {"compression": "jpeg", "quality": 95}),
}


def turned(form: str, orientation: int, pixels: np.ndarray, **options) -> bytes:
    if form == "TIFF":
        return saved(pixels, form, tiffinfo={274: orientation}, **options)
    exif = Image.Exif()
    exif[274] = orientation
    return saved(pixels, form, exif=exif.tobytes(), **options)


PIXELS = noise(12, 20, 3)


PNG = saved(PIXELS, "PNG")


class Dripping(io.RawIOBase):
    """File whose reads return a few bytes at a time, as those of a pipe or a socket."""

    def __init__(self, data: bytes) -> None:
        self.rest = data

    def read(self, size: int = -1) -> bytes:
        piece, self.rest = self.rest[:7], self.rest[7:]
        return piece


def profile(space: bytes, name: str, tags: dict[bytes, bytes], kind: bytes = b"mntr", pcs: bytes = b"XYZ ") -> bytes:
    """Small ICC profile of version 2 (ICC.1:2001-04)."""
    text = name.encode("ascii") + b"\0"
    description = b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78)
    all_tags = {b"desc": description, b"cprt": b"text" + bytes(4) + b"none\0", b"wtpt": xyz(0.9642, 1, 0.8249), **tags}
    table, body, offset = struct.pack(">I", len(all_tags)), b"", 132 + 12 * len(all_tags)
    for tag, data in all_tags.items():
        table += tag + struct.pack(">II", offset + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(">I4sI4s4s4s", offset + len(body), b"test", 0x02100000, kind, space, pcs)
    header += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp")
    header = header.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + body


def xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in values))


def gamma(value: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(value * 256)) + bytes(2)


P3 = np.array([[0.5151, 0.2920, 0.1571], [0.2412, 0.6922, 0.0666], [-0.0011, 0.0419, 0.7841]])


SRGB = np.array([[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]])


WIDE = profile(
    b"RGB ",
    "Wide test space",
    {b"rXYZ": xyz(*P3[:, 0]), b"gXYZ": xyz(*P3[:, 1]), b"bXYZ": xyz(*P3[:, 2])}
    | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma(2.2)),
)
