"""EXIF orientation: decoded photos are upright."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from tests.images.made import noise, read, saved, smooth, turned

TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_orientations_with_alpha(form, orientation):
    pixels = noise(10, 18, 4) | np.array([0, 0, 0, 1], np.uint8)  # WebP discards colors at alpha 0
    options = {"lossless": True} if form == "WEBP" else {}
    photo = read(turned(form, orientation, pixels, **options))
    np.testing.assert_array_equal(photo.rgb, TURNS[orientation](pixels[..., :3]))
    np.testing.assert_array_equal(photo.alpha, TURNS[orientation](pixels[..., 3]))


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("form", ["JPEG", "AVIF"])
def test_orientations_of_lossy_formats(form, orientation):
    pixels = smooth()
    as_stored = read(turned(form, 1, pixels)).rgb
    assert as_stored.shape == pixels.shape
    np.testing.assert_array_equal(read(turned(form, orientation, pixels)).rgb, TURNS[orientation](as_stored))


@pytest.mark.parametrize("orientation", [5, 6, 8])
@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_orientation_of_an_open_picture(form, orientation):
    """A PIL image that is not decoded yet is rotated once, and the caller's image is not modified."""
    data = turned(form, orientation, smooth())
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(read(image).rgb, read(data).rgb)
    assert read(data).rgb.shape == (40, 24, 3)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")  # pytest resets the filters
@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + bytes(40), b"rubbish"])
def test_damaged_exif_is_ignored(exif):
    data = saved(smooth(), "JPEG")
    broken = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    np.testing.assert_array_equal(read(broken).rgb, read(data).rgb)


def test_orientation_is_applied_if_other_exif_entries_are_invalid():
    entries = struct.pack("<HHIi", 0x100, 9, 1, -1) + struct.pack("<HHII", 274, 3, 1, 6)  # a negative width
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4)
    data = saved(smooth(), "JPEG")
    photo = read(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    np.testing.assert_array_equal(photo.rgb, TURNS[6](read(data).rgb))
