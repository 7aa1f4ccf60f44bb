"""Every format that is taken, right to the pixel."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import GifImagePlugin, Image

from tests.photo.made import LOSSLESS, LOSSY, noise, read, saved, smooth
from tests.sentences import sentence


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_formats_keep_every_pixel(name):
    form, options = LOSSLESS[name]
    pixels = noise(16, 24, 3)
    photo = read(saved(pixels, form, **options))
    np.testing.assert_array_equal(photo.rgb, pixels)
    assert photo.rgb.dtype == np.uint8 and photo.alpha is None and photo.notes == ()
    assert (photo.width, photo.height) == (24, 16)


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_formats_are_near(name):
    form, options = LOSSY[name]
    pixels = smooth()[:, :, :] // 2 + 60
    photo = read(saved(pixels, form, **options))
    assert photo.rgb.shape == pixels.shape
    assert np.abs(photo.rgb.astype(int) - pixels).mean() < 4


def test_heic_through_its_plug_in():
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    pixels = smooth(64, 64) // 2 + 60
    assert np.abs(read(saved(pixels, "HEIF", quality=95)).rgb.astype(int) - pixels).mean() < 6


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_first_picture_of_an_animation(form):
    red, others = Image.new("RGB", (16, 12), (250, 10, 20)), [Image.new("RGB", (16, 12), (0, 0, 90 + i)) for i in range(3)]
    options = {"lossless": True} if form == "WEBP" else {}
    photo = read(saved(red, form, save_all=True, append_images=others, **options))
    assert np.abs(photo.rgb.astype(int) - (250, 10, 20)).max() <= 8
    assert len(photo.notes) == 1 and "first" in sentence(photo.notes[0])


def test_ten_thousand_frames_cost_no_more_than_one(monkeypatch):
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
