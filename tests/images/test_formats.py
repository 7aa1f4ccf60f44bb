"""Decoding of each supported format."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, GifImagePlugin, Image

from rmbg.images.decode import formats
from tests.images.made import LOSSLESS, LOSSY, noise, read, saved, smooth
from tests.sentences import sentence

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_formats_keep_every_pixel(name):
    form, options = LOSSLESS[name]
    pixels = noise(16, 24, 3)
    photo = read(saved(pixels, form, **options))
    np.testing.assert_array_equal(photo.rgb, pixels)
    assert photo.rgb.dtype == np.uint8 and photo.alpha is None and photo.notes == ()
    assert (photo.width, photo.height) == (24, 16)


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_formats_are_close(name):
    form, options = LOSSY[name]
    pixels = smooth()[:, :, :] // 2 + 60
    photo = read(saved(pixels, form, **options))
    assert photo.rgb.shape == pixels.shape
    assert np.abs(photo.rgb.astype(int) - pixels).mean() < 4


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_heic_photos_are_upright_and_keep_their_alpha(orientation):
    """As from an iPhone: the rotation is a property of the container, and an EXIF tag that must not be applied again."""
    formats()
    pixels = np.dstack([smooth(48, 64) // 2 + 60, np.full((48, 64), 255, np.uint8)])
    pixels[:, 32:, 3] = 0
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    photo = read(saved(pixels, "HEIF", quality=-1, chroma=444, exif=exif.tobytes()))
    upright = np.rot90(pixels, {1: 0, 3: 2, 6: 3, 8: 1}[orientation])
    assert photo.rgb.shape == upright[..., :3].shape and photo.alpha is not None
    assert np.abs(photo.alpha.astype(int) - upright[..., 3]).mean() < 2
    opaque = upright[..., 3] == 255
    assert np.abs(photo.rgb.astype(int) - upright[..., :3])[opaque].mean() < 4


def test_heic_with_a_grid_of_tiles_is_decoded():
    formats()
    pixels = smooth(300, 400) // 2 + 60
    assert np.abs(read(saved(pixels, "HEIF", quality=95, tile_size=128)).rgb.astype(int) - pixels).mean() < 6


def test_heic_decoder_is_registered_at_the_first_use():
    """In a new process: a program that only imports the package keeps its own configuration of Pillow."""
    script = (
        "import sys, rmbg.images.photo; from PIL import Image; from rmbg.images.decode import formats\n"
        "assert 'pillow_heif' not in sys.modules and 'HEIF' not in Image.OPEN\n"
        "assert 'HEIF' in formats() and 'HEIF' in Image.OPEN"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_first_picture_of_an_animation(form):
    red, others = Image.new("RGB", (16, 12), (250, 10, 20)), [Image.new("RGB", (16, 12), (0, 0, 90 + i)) for i in range(3)]
    options = {"lossless": True} if form == "WEBP" else {}
    photo = read(saved(red, form, save_all=True, append_images=others, **options))
    assert np.abs(photo.rgb.astype(int) - (250, 10, 20)).max() <= 8
    assert len(photo.notes) == 1 and "first" in sentence(photo.notes[0])


def test_only_the_first_of_ten_thousand_frames_is_decoded(monkeypatch):
    picture = Image.fromarray(noise(64, 64) // 64).convert("P")
    whole = saved(picture, "GIF")
    with Image.open(io.BytesIO(whole)) as image:
        start = 13 + 3 * (2 << (whole[10] & 7))
        expected = np.asarray(image.convert("RGB"))
    many = whole[:start] + whole[start:-1] * 10_000 + b";"
    seeks, seek = [], GifImagePlugin.GifImageFile._seek
    monkeypatch.setattr(GifImagePlugin.GifImageFile, "_seek", lambda *a, **k: (seeks.append(a), seek(*a, **k))[1])
    photo = read(many)
    assert 1 <= len(seeks) < 5
    np.testing.assert_array_equal(photo.rgb, expected)
    assert len(photo.notes) == 1
