"""Conversion of color profiles to sRGB."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.images.made import P3, SRGB, WIDE, chunk, gamma, noise, profile, read, saved, xyz

LINEAR_GRAY = profile(b"GRAY", "Linear gray", {b"kTRC": gamma(1.0)})


def to_srgb(at_d50: np.ndarray) -> np.ndarray:
    """Convert XYZ under D50 to sRGB levels by the definition of sRGB (IEC 61966-2-1)."""
    linear = np.clip(at_d50 @ np.linalg.inv(SRGB).T, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def ink_profile() -> bytes:
    """CMYK profile with two grid points a channel: white paper, cyan at Lab (60, -20, -30), other inks black."""
    corners = bytearray()
    for corner in range(16):
        lab = {0: (100, 0, 0), 8: (60, -20, -30)}.get(corner, (0, 0, 0))
        corners += bytes((round(lab[0] * 2.55), lab[1] + 128, lab[2] + 128))
    straight = bytes(range(256))
    lut = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + struct.pack(">9i", *(np.eye(3, dtype=int).ravel() * 65536))
    return profile(b"CMYK", "Test press", {b"A2B0": lut + straight * 4 + bytes(corners) + straight * 3}, b"prtr", b"Lab ")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_wide_gamut_becomes_srgb(form):
    color = np.array([180, 130, 90], np.uint8)
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}, "AVIF": {"quality": 100}}.get(form, {})
    photo = read(saved(np.full((16, 16, 3), color), form, icc_profile=WIDE, **options))
    expected = to_srgb((color / 255.0) ** 2.2 @ P3.T)
    assert np.abs(expected - color).max() > 8  # otherwise the test would pass without a conversion
    assert np.abs(photo.rgb - expected).max() <= (3 if form in ("JPEG", "AVIF") else 1.5)
    assert photo.notes == ("Colors were converted to sRGB from Wide test space.",)


def test_wide_gamut_with_alpha_and_with_palette():
    color = np.array([180, 130, 90], np.uint8)
    expected = to_srgb((color / 255.0) ** 2.2 @ P3.T)
    pixels = np.dstack([np.full((16, 16, 3), color), np.full((16, 16), 77, np.uint8)])
    photo = read(saved(pixels, "PNG", icc_profile=WIDE))
    assert np.abs(photo.rgb - expected).max() <= 1.5 and (photo.alpha == 77).all()
    palette = Image.fromarray(pixels[..., :3]).quantize(2)
    assert np.abs(read(saved(palette, "PNG", icc_profile=WIDE)).rgb - expected).max() <= 1.5


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_gray_profile(mode):
    gray = np.tile(np.arange(40, 200, 10, dtype=np.uint8), (16, 1))
    if mode == "LA":
        image = Image.merge("LA", [Image.fromarray(gray), Image.new("L", (16, 16), 99)])
    else:
        image = Image.fromarray(gray.astype(np.uint16) * 257 if mode == "I;16" else gray)
    assert image.mode == mode
    photo = read(saved(image, "PNG", icc_profile=LINEAR_GRAY))
    linear = gray / 255.0
    expected = 255 * (1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(photo.rgb - expected[..., None]).max() <= 1.5
    assert (photo.alpha == 99).all() if mode == "LA" else photo.alpha is None


def test_srgb_profile_changes_nothing():
    pixels = noise(16, 16, 3)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo = read(saved(pixels, "PNG", icc_profile=srgb))
    np.testing.assert_array_equal(photo.rgb, pixels)
    assert photo.notes == ()


def rgb_profile(name: str, primaries: np.ndarray, curve: float) -> bytes:
    colors = {tag: xyz(*primaries[:, i]) for i, tag in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    return profile(b"RGB ", name, colors | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma(curve)))


@pytest.mark.parametrize(("name", "primaries", "curve"), [("Linear sRGB", SRGB, 1.0), ("P3 with the curve of sRGB", P3, 2.2)])
def test_profiles_are_not_identified_by_name(name, primaries, curve):
    color = np.array([180, 130, 90], np.uint8)
    photo = read(saved(np.full((16, 16, 3), color), "PNG", icc_profile=rgb_profile(name, primaries, curve)))
    expected = to_srgb((color / 255.0) ** curve @ primaries.T)
    assert np.abs(expected - color).max() > 8
    assert np.abs(photo.rgb - expected).max() <= 1.5
    assert photo.notes == (f"Colors were converted to sRGB from {name}.",)


def test_srgb_profiles_with_a_slightly_different_curve():
    pixels = noise(16, 16, 3)
    photo = read(saved(pixels, "PNG", icc_profile=rgb_profile("sRGB, a plain power", SRGB, 2.2)))
    np.testing.assert_array_equal(photo.rgb, pixels)


def test_a_png_with_a_large_profile_and_text():
    color = np.array([180, 130, 90], np.uint8)
    text = chunk(b"zTXt", b"History\0\0" + zlib.compress(bytes(2 << 20)))
    data = saved(np.full((16, 16, 3), color), "PNG", icc_profile=WIDE + bytes(2 << 20))
    photo = read(data[:33] + text + data[33:])
    np.testing.assert_array_equal(photo.rgb, read(saved(np.full((16, 16, 3), color), "PNG", icc_profile=WIDE)).rgb)


@pytest.mark.parametrize("broken", [b"x", WIDE[:200], LINEAR_GRAY, WIDE[:36] + b"ACSP" + WIDE[40:], bytes(400)])
def test_invalid_profiles_are_ignored(broken):
    pixels = noise(16, 16, 3)
    np.testing.assert_array_equal(read(saved(pixels, "PNG", icc_profile=broken)).rgb, pixels)


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_cmyk(form):
    inks = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    inks.paste((0, 0, 0, 0), (8, 0, 16, 16))
    options = {"quality": 100, "subsampling": 0} if form == "JPEG" else {}
    plain = read(saved(inks, form, **options)).rgb
    assert np.abs(plain[:, 2].astype(int) - (0, 255, 255)).max() <= 2
    assert plain[:, 13].min() >= 253
    photo = read(saved(inks, form, icc_profile=ink_profile(), **options))
    y = (60 + 16) / 116
    at_d50 = np.array([0.9642, 1.0, 0.8249]) * np.array([(y - 20 / 500) ** 3, y**3, (y + 30 / 200) ** 3])
    assert np.abs(photo.rgb[:, 2] - to_srgb(at_d50)).max() <= 3
    assert photo.rgb[:, 13].min() >= 252
    assert photo.notes == ("Colors were converted to sRGB from Test press.",)


def test_lab():
    lab = ImageCms.profileToProfile(
        Image.new("RGB", (16, 16), (200, 90, 40)),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    assert np.abs(read(saved(lab, "TIFF")).rgb.astype(int) - (200, 90, 40)).max() <= 4
