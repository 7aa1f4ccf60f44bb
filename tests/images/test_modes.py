"""Conversion of palettes, grayscale, bit depths, CMYK and alpha to 8-bit RGB and alpha."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image

from tests.images.made import WIDE, chunk, noise, raw_png, read, saved, smooth


def test_palette_without_transparency():
    image = Image.fromarray(smooth()).quantize(32)
    np.testing.assert_array_equal(read(saved(image, "PNG")).rgb, np.asarray(image.convert("RGB")))
    assert read(saved(image, "PNG")).alpha is None


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_palette_with_transparency(form):
    image = Image.new("P", (16, 16), 1)
    image.putpalette([0, 0, 0, 200, 100, 50, 10, 20, 30])
    image.paste(2, (8, 0, 16, 16))
    several = bytes([255, 128, 0]) if form == "PNG" else 2
    photo = read(saved(image, form, transparency=several))
    assert photo.rgb[0, 0].tolist() == [200, 100, 50]
    assert photo.alpha[0, [0, 15]].tolist() == ([128, 0] if form == "PNG" else [255, 0])


def test_a_palette_with_alpha():
    image = Image.new("RGBA", (16, 16), (200, 100, 50, 255))
    image.paste((10, 20, 30, 0), (8, 0, 16, 16))
    palette = image.quantize(2)
    assert palette.mode == "P" and "transparency" not in palette.info
    photo = read(palette)
    assert photo.alpha is not None and photo.alpha[0, [0, 15]].tolist() == [255, 0]


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_gray_of_every_depth_with_a_transparent_color(depth):
    top = (1 << depth) - 1
    row = b"\0" + b"\xff" * depth + b"\0" * depth  # eight white and eight black pixels
    photo = read(raw_png(16, 8, depth, 0, row * 8, chunk(b"tRNS", struct.pack(">H", top))))
    assert photo.rgb[0, [0, 15]].tolist() == [[255] * 3, [0] * 3]
    assert photo.alpha is not None and photo.alpha[0, [0, 15]].tolist() == [0, 255]


@pytest.mark.parametrize(
    ("depth", "pixel", "key"), [(8, b"\x12\x34\x56", (0x12, 0x34, 0x56)), (16, b"\x12\x99" * 3, (0x1299,) * 3)]
)
def test_rgb_with_a_transparent_color(depth, pixel, key):
    row = b"\0" + pixel * 8 + b"\xf0" * len(pixel) * 8
    photo = read(raw_png(16, 8, depth, 2, row * 8, chunk(b"tRNS", struct.pack(">3H", *key))))
    assert photo.alpha is not None and photo.alpha[0, [0, 15]].tolist() == [0, 255]
    assert photo.rgb[0, 0].tolist() == [byte for byte in pixel[:: depth // 8]]


def test_one_bit():
    bits = noise(16, 24) > 127
    for data in (saved(Image.fromarray(bits), "PNG"), saved(Image.fromarray(bits), "TIFF", compression="group4")):
        np.testing.assert_array_equal(read(data).rgb, np.where(bits, 255, 0)[..., None].repeat(3, 2))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bit_gray(form):
    values = np.linspace(0, 65535, 16 * 16).astype(np.uint16).reshape(16, 16)
    photo = read(saved(values, form))
    assert np.abs(photo.rgb[..., 1] - values / 257.0).max() <= 0.51
    assert (photo.rgb[..., 1] == np.rint(values / 257)).all()
    big_endian = Image.frombytes("I;16B", (16, 16), values.astype(">u2").tobytes())
    np.testing.assert_array_equal(read(big_endian).rgb, photo.rgb)


RAMP = np.linspace(0, 1, 256).reshape(16, 16)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (RAMP.astype(np.float32), RAMP * 255),
        ((RAMP * 255).astype(np.float32), RAMP * 255),
        ((RAMP * 65535).astype(np.float32), RAMP * 255),
        ((RAMP * 1.06 - 0.03).astype(np.float32), np.clip(RAMP * 1.06 - 0.03, 0, 1) * 255),
        ((RAMP * 2e6 - 1e6).astype(np.float32), RAMP * 255),
        (((RAMP - 0.5) * 6e38).astype(np.float32), RAMP * 255),
        (np.full((16, 16), 0.5, np.float32), np.full((16, 16), 127.5)),
        (np.zeros((16, 16), np.float32), np.zeros((16, 16))),
        (np.round(RAMP * 70000).astype(np.int32), RAMP * 255),
        (np.round(RAMP * 270).astype(np.int32), RAMP * 270 / 257),
    ],
    ids=["unit", "bytes", "words", "overshoot", "signed", "enormous", "flat", "black", "int", "int-dark"],
)
def test_float_and_integer_tiff(values, expected):
    photo = read(saved(values, "TIFF"))
    assert np.abs(photo.rgb[..., 0] - expected).max() <= 1
    assert (photo.rgb == photo.rgb[..., :1]).all()


def test_nan_becomes_black():
    values = RAMP.astype(np.float32)
    values[3, :3] = np.nan, np.inf, -np.inf
    photo = read(saved(values, "TIFF"))
    assert photo.rgb[3, :3].max() == 0
    assert np.abs(photo.rgb[4:, :, 0] - RAMP[4:] * 255).max() <= 1
    assert read(saved(np.full((16, 16), np.nan, np.float32), "TIFF")).rgb.max() == 0


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_own_alpha_is_kept_and_flattened(form):
    pixels = noise(16, 24, 4) | np.array([0, 0, 0, 1], np.uint8)
    options = {"lossless": True} if form == "WEBP" else {}
    photo = read(saved(pixels, form, **options))
    np.testing.assert_array_equal(np.dstack([photo.rgb, photo.alpha]), pixels)
    alpha = pixels[..., 3:] / 255.0
    exact = pixels[..., :3] * alpha + 255 * (1 - alpha)
    assert np.abs(photo.flattened() - exact).max() <= 0.5 + 1e-9
    assert photo.flattened().dtype == np.uint8


def test_flattening_of_opaque_and_transparent_pixels():
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:4] = 9, 8, 7, 255
    photo = read(saved(pixels, "PNG"))
    assert photo.flattened()[0, 0].tolist() == [9, 8, 7] and photo.flattened()[7, 0].tolist() == [255] * 3
    opaque = read(saved(pixels[:4].repeat(2, 0), "PNG"))
    assert opaque.alpha is None and opaque.flattened() is opaque.rgb


def test_gray_with_alpha():
    image = Image.merge("LA", [Image.fromarray(noise(16, 16)), Image.fromarray(noise(16, 16)[::-1])])
    photo = read(saved(image, "PNG"))
    np.testing.assert_array_equal(photo.rgb, np.asarray(image)[..., :1].repeat(3, 2))
    np.testing.assert_array_equal(photo.alpha, np.asarray(image)[..., 1])


@pytest.mark.parametrize("mode", ["RGBa", "La"])
def test_premultiplied_modes_become_straight(mode):
    straight = Image.new("RGBA" if mode == "RGBa" else "LA", (16, 16))
    straight.paste((200, 100, 50, 128) if mode == "RGBa" else (200, 128), (0, 0, 16, 16))
    photo = read(straight.convert(mode))
    assert np.abs(photo.rgb[0, 0].astype(int) - ((200, 100, 50) if mode == "RGBa" else (200,) * 3)).max() <= 1
    assert (photo.alpha == 128).all()


@pytest.mark.parametrize(
    "mode",
    ["1", "L", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "PA", "I;16", "I;16B", "I;16L"],
)
def test_every_mode_of_a_pil_image(mode):
    image = Image.new(mode, (16, 12))
    photo = read(image)
    assert photo.rgb.shape == (12, 16, 3) and photo.rgb.dtype == np.uint8
    assert photo.alpha is None or (photo.alpha.shape == (12, 16) and photo.alpha.dtype == np.uint8)
    assert image.mode == mode


@pytest.mark.parametrize("mode", ["I;16", "L", "RGB", "RGBA", "P"])
def test_a_pil_image_is_not_modified(mode):
    image = Image.fromarray(noise(12, 16)).convert("L").convert(mode)
    exif = Image.Exif()
    exif[274] = 6
    image.info |= {"exif": exif.tobytes(), "icc_profile": WIDE} | ({} if mode == "RGBA" else {"transparency": 0})
    if mode == "RGB":
        image.info["transparency"] = (0, 0, 0)
    info, pixels = dict(image.info), image.tobytes()
    photo = read(image)
    assert photo.rgb.shape == (16, 12, 3) and (photo.alpha is None) == (mode == "RGBA")
    assert (image.mode, image.size, image.info, image.tobytes()) == (mode, (16, 12), info, pixels)
    photo.rgb[:] = 0
    assert image.tobytes() == pixels
