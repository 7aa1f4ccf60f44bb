"""The door: what comes in is right to the pixel, and what is wrong is refused in one sentence."""

from __future__ import annotations

import base64
import gzip
import io
import json
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import GifImagePlugin, Image, ImageCms, ImageFile

from rmbg.errors import CancelledError, PhotoError
from rmbg.photo import Photo, open_photo, stem
from rmbg.settings import Settings
from tests.sentences import sentence

SETTINGS = Settings()
pytestmark = [  # that nothing reaches the terminal is seen in processes of their own: pytest takes all filters away
    pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]
ROOT = Path(__file__).resolve().parents[1]
BAD_IMAGES = ROOT.parent / "shared" / "data" / "badimages" / "files"


# --- pictures ----------------------------------------------------------------------------------------------------------


def smooth(height: int = 24, width: int = 40) -> np.ndarray:
    """A picture that lossy formats keep well and that no turn or mirror maps onto itself."""
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
    """A PNG of any depth, or with any size in its header, whatever `rows` holds."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


# --- formats -----------------------------------------------------------------------------------------------------------

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


# --- orientation -------------------------------------------------------------------------------------------------------

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


def turned(form: str, orientation: int, pixels: np.ndarray, **options) -> bytes:
    if form == "TIFF":
        return saved(pixels, form, tiffinfo={274: orientation}, **options)
    exif = Image.Exif()
    exif[274] = orientation
    return saved(pixels, form, exif=exif.tobytes(), **options)


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_orientations_with_alpha(form, orientation):
    pixels = noise(10, 18, 4) | np.array([0, 0, 0, 1], np.uint8)  # alpha 0 would lose its colour in WebP
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
    """Opened by Pillow and not decoded yet: turned once, not twice, and the caller's picture stays as it was."""
    data = turned(form, orientation, smooth())
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(read(image).rgb, read(data).rgb)
    assert read(data).rgb.shape == (40, 24, 3)


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + bytes(40), b"rubbish"])
def test_broken_exif_does_not_matter(exif):
    data = saved(smooth(), "JPEG")
    broken = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    np.testing.assert_array_equal(read(broken).rgb, read(data).rgb)


def test_a_photo_is_turned_although_its_other_exif_cannot_be_written_again():
    entries = struct.pack("<HHIi", 0x100, 9, 1, -1) + struct.pack("<HHII", 274, 3, 1, 6)  # a negative width
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4)
    data = saved(smooth(), "JPEG")
    photo = read(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    np.testing.assert_array_equal(photo.rgb, TURNS[6](read(data).rgb))


# --- colour profiles ---------------------------------------------------------------------------------------------------


def profile(space: bytes, name: str, tags: dict[bytes, bytes], kind: bytes = b"mntr", pcs: bytes = b"XYZ ") -> bytes:
    """A small ICC profile, version 2 (ICC.1:2001-04)."""
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
LINEAR_GREY = profile(b"GRAY", "Linear grey", {b"kTRC": gamma(1.0)})


def to_srgb(at_d50: np.ndarray) -> np.ndarray:
    """XYZ under D50 as sRGB levels, by the definition of sRGB (IEC 61966-2-1)."""
    linear = np.clip(at_d50 @ np.linalg.inv(SRGB).T, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def ink_profile() -> bytes:
    """CMYK to Lab with two grid points a channel: paper is white, cyan (60, -20, -30), other inks and black are black."""
    corners = bytearray()
    for corner in range(16):
        lab = {0: (100, 0, 0), 8: (60, -20, -30)}.get(corner, (0, 0, 0))
        corners += bytes((round(lab[0] * 2.55), lab[1] + 128, lab[2] + 128))
    straight = bytes(range(256))
    lut = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + struct.pack(">9i", *(np.eye(3, dtype=int).ravel() * 65536))
    return profile(b"CMYK", "Test press", {b"A2B0": lut + straight * 4 + bytes(corners) + straight * 3}, b"prtr", b"Lab ")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_wide_gamut_becomes_srgb(form):
    colour = np.array([180, 130, 90], np.uint8)
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}, "AVIF": {"quality": 100}}.get(form, {})
    photo = read(saved(np.full((16, 16, 3), colour), form, icc_profile=WIDE, **options))
    expected = to_srgb((colour / 255.0) ** 2.2 @ P3.T)
    assert np.abs(expected - colour).max() > 8  # or the test would pass without any conversion
    assert np.abs(photo.rgb - expected).max() <= (3 if form in ("JPEG", "AVIF") else 1.5)
    assert photo.notes == ("Colours were converted to sRGB from Wide test space.",)


def test_wide_gamut_with_alpha_and_with_palette():
    colour = np.array([180, 130, 90], np.uint8)
    expected = to_srgb((colour / 255.0) ** 2.2 @ P3.T)
    pixels = np.dstack([np.full((16, 16, 3), colour), np.full((16, 16), 77, np.uint8)])
    photo = read(saved(pixels, "PNG", icc_profile=WIDE))
    assert np.abs(photo.rgb - expected).max() <= 1.5 and (photo.alpha == 77).all()
    palette = Image.fromarray(pixels[..., :3]).quantize(2)
    assert np.abs(read(saved(palette, "PNG", icc_profile=WIDE)).rgb - expected).max() <= 1.5


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_grey_profile(mode):
    grey = np.tile(np.arange(40, 200, 10, dtype=np.uint8), (16, 1))
    if mode == "LA":
        image = Image.merge("LA", [Image.fromarray(grey), Image.new("L", (16, 16), 99)])
    else:
        image = Image.fromarray(grey.astype(np.uint16) * 257 if mode == "I;16" else grey)
    assert image.mode == mode
    photo = read(saved(image, "PNG", icc_profile=LINEAR_GREY))
    linear = grey / 255.0
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
    colours = {tag: xyz(*primaries[:, i]) for i, tag in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    return profile(b"RGB ", name, colours | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma(curve)))


@pytest.mark.parametrize(("name", "primaries", "curve"), [("Linear sRGB", SRGB, 1.0), ("P3 with the curve of sRGB", P3, 2.2)])
def test_a_profile_is_not_known_by_its_name(name, primaries, curve):
    colour = np.array([180, 130, 90], np.uint8)
    photo = read(saved(np.full((16, 16, 3), colour), "PNG", icc_profile=rgb_profile(name, primaries, curve)))
    expected = to_srgb((colour / 255.0) ** curve @ primaries.T)
    assert np.abs(expected - colour).max() > 8
    assert np.abs(photo.rgb - expected).max() <= 1.5
    assert photo.notes == (f"Colours were converted to sRGB from {name}.",)


def test_an_srgb_of_another_curve_is_near_enough():
    pixels = noise(16, 16, 3)
    photo = read(saved(pixels, "PNG", icc_profile=rgb_profile("sRGB, a plain power", SRGB, 2.2)))
    np.testing.assert_array_equal(photo.rgb, pixels)


def test_a_png_with_megabytes_of_profile_and_text():
    colour = np.array([180, 130, 90], np.uint8)
    text = chunk(b"zTXt", b"History\0\0" + zlib.compress(bytes(2 << 20)))
    data = saved(np.full((16, 16, 3), colour), "PNG", icc_profile=WIDE + bytes(2 << 20))
    photo = read(data[:33] + text + data[33:])
    np.testing.assert_array_equal(photo.rgb, read(saved(np.full((16, 16, 3), colour), "PNG", icc_profile=WIDE)).rgb)


@pytest.mark.parametrize("broken", [b"x", WIDE[:200], LINEAR_GREY, WIDE[:36] + b"ACSP" + WIDE[40:], bytes(400)])
def test_a_profile_that_does_not_fit_is_left_out(broken):
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
    assert photo.notes == ("Colours were converted to sRGB from Test press.",)


def test_lab():
    lab = ImageCms.profileToProfile(
        Image.new("RGB", (16, 16), (200, 90, 40)),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    assert np.abs(read(saved(lab, "TIFF")).rgb.astype(int) - (200, 90, 40)).max() <= 4


# --- modes and transparency --------------------------------------------------------------------------------------------


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


def test_a_palette_with_alpha_of_its_own():
    image = Image.new("RGBA", (16, 16), (200, 100, 50, 255))
    image.paste((10, 20, 30, 0), (8, 0, 16, 16))
    palette = image.quantize(2)
    assert palette.mode == "P" and "transparency" not in palette.info
    photo = read(palette)
    assert photo.alpha is not None and photo.alpha[0, [0, 15]].tolist() == [255, 0]


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_grey_of_every_depth_with_a_transparent_colour(depth):
    top = (1 << depth) - 1
    row = b"\0" + b"\xff" * depth + b"\0" * depth  # eight white and eight black pixels
    photo = read(raw_png(16, 8, depth, 0, row * 8, chunk(b"tRNS", struct.pack(">H", top))))
    assert photo.rgb[0, [0, 15]].tolist() == [[255] * 3, [0] * 3]
    assert photo.alpha is not None and photo.alpha[0, [0, 15]].tolist() == [0, 255]


@pytest.mark.parametrize(
    ("depth", "pixel", "key"), [(8, b"\x12\x34\x56", (0x12, 0x34, 0x56)), (16, b"\x12\x99" * 3, (0x1299,) * 3)]
)
def test_rgb_with_a_transparent_colour(depth, pixel, key):
    row = b"\0" + pixel * 8 + b"\xf0" * len(pixel) * 8
    photo = read(raw_png(16, 8, depth, 2, row * 8, chunk(b"tRNS", struct.pack(">3H", *key))))
    assert photo.alpha is not None and photo.alpha[0, [0, 15]].tolist() == [0, 255]
    assert photo.rgb[0, 0].tolist() == [byte for byte in pixel[:: depth // 8]]


def test_one_bit():
    bits = noise(16, 24) > 127
    for data in (saved(Image.fromarray(bits), "PNG"), saved(Image.fromarray(bits), "TIFF", compression="group4")):
        np.testing.assert_array_equal(read(data).rgb, np.where(bits, 255, 0)[..., None].repeat(3, 2))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bit_grey(form):
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


def test_what_is_no_number_is_black():
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
    share = pixels[..., 3:] / 255.0
    exact = pixels[..., :3] * share + 255 * (1 - share)
    assert np.abs(photo.flattened() - exact).max() <= 0.5 + 1e-9
    assert photo.flattened().dtype == np.uint8


def test_flattening_at_the_ends():
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:4] = 9, 8, 7, 255
    photo = read(saved(pixels, "PNG"))
    assert photo.flattened()[0, 0].tolist() == [9, 8, 7] and photo.flattened()[7, 0].tolist() == [255] * 3
    opaque = read(saved(pixels[:4].repeat(2, 0), "PNG"))
    assert opaque.alpha is None and opaque.flattened() is opaque.rgb


def test_grey_with_alpha():
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
def test_a_pil_image_stays_as_it_is(mode):
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


# --- where it comes from -----------------------------------------------------------------------------------------------

PIXELS = noise(12, 20, 3)
PNG = saved(PIXELS, "PNG")


class OddlyNamed:
    """A path whose type is the system's own bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> bytes:
        return bytes(self.path)


class Dripping(io.RawIOBase):
    """A file that gives a few bytes at a time, as a pipe or a socket may."""

    def __init__(self, data: bytes) -> None:
        self.rest = data

    def read(self, size: int = -1) -> bytes:
        piece, self.rest = self.rest[:7], self.rest[7:]
        return piece


def test_every_source(tmp_path):
    path = tmp_path / "ein Bild äöü 図.png"
    path.write_bytes(PNG)
    encoded = base64.b64encode(PNG).decode()
    sources = [
        PNG,
        bytearray(PNG),
        memoryview(PNG),
        memoryview(PNG + b"x")[:-1],
        str(path),
        path,
        OddlyNamed(path),
        io.BytesIO(PNG),
        Dripping(PNG),
        Image.open(path),
        Image.fromarray(PIXELS),
        "data:image/png;base64," + encoded,
        "DATA:;base64," + "\r\n".join(encoded[i : i + 60] for i in range(0, len(encoded), 60)),
        "data:image/png;charset=x;BASE64," + urllib.parse.quote(encoded, safe=""),
        "data:image/png," + urllib.parse.quote_from_bytes(PNG, safe=""),
    ]
    for source in sources:
        np.testing.assert_array_equal(read(source).rgb, PIXELS)
    with open(path, "rb") as file:
        assert read(file).name == "ein Bild äöü 図"
    assert read(str(path)).name == read(Image.open(path)).name == "ein Bild äöü 図"
    assert read(PNG).name == read(sources[-1]).name == "photo" and read(PNG, name="a/b.c.png").name == "b.c"


def test_a_photo_passes_as_it_is():
    photo = read(PNG)
    assert read(photo) is photo


def test_limits_of_the_environment_hold_by_default(monkeypatch):
    monkeypatch.setenv("RMBG_MAX_PIXELS", "100")
    with pytest.raises(PhotoError, match="20 x 12 pixels"):
        open_photo(PNG)


def test_what_has_several_dimensions_is_counted_in_bytes():
    rows = memoryview(bytes(4000)).cast("B", (2, 2000))
    refused(rows, "MB", settings=Settings(max_bytes=1000))


@pytest.mark.parametrize(
    ("uri", "word"),
    [
        ("data:image/png;base64", "no data"),
        ("data:image/png;base64,", "empty"),
        ("data:image/png;base64,@@@@", "data URI"),
        ("data:image/png;base64,AAA", "data URI"),
        ("data:image/png;base64,ÄÖ", "data URI"),
        ("data:image/png,\udc80", "data URI"),
        ("data:image/png,%ff%zz", "not a picture"),
        ("data:text/plain,hello", "not a picture"),
        ("data:,", "empty"),
    ],
)
def test_broken_data_uris(uri, word):
    refused(uri, word)


@pytest.mark.parametrize(
    "source", [None, 5, 1.5, [], {}, object(), np.zeros((9, 9, 3), np.uint8)], ids=lambda s: type(s).__name__
)
def test_wrong_types(source):
    refused(source, type(source).__name__)


def test_files_that_cannot_be_read(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    with open(path, encoding="utf-8") as file:
        refused(file, "a.png", "rb")
    with open(path, encoding="latin-1") as file:
        refused(file, "a.png", "rb")
    refused(io.StringIO("picture"), "rb")
    closed = io.BytesIO(PNG)
    closed.close()
    refused(closed, "closed")
    with open(tmp_path / "new", "wb") as file:
        refused(file, "could not be read")
    refused(tmp_path, "folder")
    refused("", "folder")
    refused(tmp_path / "none.png", "no file", "none.png")
    refused(tmp_path / "two\nlines \x1b[31m.png", "no file")
    refused(str(tmp_path / "nul\0.png"), "could not be read")
    refused(tmp_path / ("long" * 100 + ".png"), "could not be read")
    refused(tmp_path / "/".join(["deep"] * 200), "no file")
    refused(b"", "empty")
    refused(b"x", "evil name", name="\x1bevil\n\nname" * 50)


def test_files_with_errors_of_their_own():
    with gzip.open(io.BytesIO(gzip.compress(PNG)[:-20])) as file:
        refused(file, "could not be read")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.png", PNG)
    broken = io.BytesIO(packed.getvalue().replace(PNG[40:60], bytes(20)))
    with zipfile.ZipFile(broken) as archive, archive.open("a.png") as file:
        refused(file, "a.png", "could not be read")


def test_what_stops_the_work_passes_through_an_open_file():
    class Stopped(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise CancelledError("You stopped it.")

    with pytest.raises(CancelledError):
        read(Stopped())


def test_a_file_without_permission(tmp_path, monkeypatch):
    path = tmp_path / "locked.png"
    path.write_bytes(PNG)

    def denied(*arguments, **options):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", denied)  # the tests may run as root, whom no permission stops
    refused(path, "locked.png", "Permission denied")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("photo.jpg", "photo"),
        ("/home/me/my photo.jpg", "my photo"),
        (r"C:\Users\me\Bild 1.png", "Bild 1"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot"),
        ("снимок 図.webp", "снимок 図"),
        ("a\x00b\x1b[31m\n.png", "ab[31m"),
        ("evil\u202egnp.exe", "evilgnp"),
        (".png", "png"),
        ("...", "photo"),
        ("", "photo"),
        ("\n", "photo"),
        ("a" * 400 + ".png", "a" * 120),
        ("図" * 400 + ".png", "図" * 60),
        ('what "is" this? <1*2|3>.png', "what _is_ this_ _1_2_3_"),
        ("archive.tar.gz", "archive.tar"),
        ("broken\udc80name.png", "brokenname"),
    ],
)
def test_names(name, expected):
    assert stem(name) == expected
    if name:
        assert read(PNG, name=name).name == expected


def test_two_threads_at_the_door():
    """Nothing in the door is shared: threads with different limits do not see each other's."""
    results: dict[int, list[bool]] = {0: [], 1: []}

    def work(which: int) -> None:
        for _ in range(30):
            try:
                read(PNG, settings=Settings(max_pixels=100 if which else 1000))
                results[which].append(True)
            except PhotoError:
                results[which].append(False)

    threads = [threading.Thread(target=work, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {0: [True] * 30, 1: [False] * 30}


# --- limits ------------------------------------------------------------------------------------------------------------


def with_size(form: str, width: int, height: int) -> bytes:
    """A file whose header declares this size, with next to no pixels behind it."""
    if form == "PNG":
        return raw_png(width, height, 8, 2, b"")
    data = bytearray(saved(smooth(16, 16), form))
    if form == "JPEG":
        at = data.index(b"\xff\xc0")
        data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    elif form == "GIF":
        data[6:10] = struct.pack("<HH", width, height)
        at = 13 + 3 * (2 << (data[10] & 7))
        assert data[at : at + 1] == b","
        data[at + 5 : at + 9] = struct.pack("<HH", width, height)
    elif form == "BMP":
        data[18:26] = struct.pack("<ii", width, height)
    elif form == "WEBP":  # lossless, no transform, no cache, and five codes of one symbol each: one colour throughout
        bits = (width - 1) | (height - 1) << 14 | sum(1 << (35 + 4 * code) for code in range(5))
        body = b"\x2f" + bits.to_bytes(9, "little")
        data = bytearray(b"RIFF" + struct.pack("<I", 12 + len(body)) + b"WEBPVP8L" + struct.pack("<I", len(body)) + body)
    elif form == "TIFF":
        (start,) = struct.unpack_from("<I", data, 4)
        for entry in range(struct.unpack_from("<H", data, start)[0]):
            at = start + 2 + 12 * entry
            for tag, value in ((256, width), (257, height)):
                if struct.unpack_from("<H", data, at)[0] == tag:
                    data[at + 2 : at + 12] = struct.pack("<HII", 4, 1, value)
    return bytes(data)


@pytest.fixture
def no_decoding(monkeypatch):
    """Any attempt to decode pixels fails the test."""

    def load(self):
        pytest.fail("pixels were decoded before the limits were checked")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    for name in ("Png", "WebP", "Gif", "Tiff", "Avif", "Bmp", "Jpeg"):
        module = sys.modules.get(f"PIL.{name}ImagePlugin")
        for plugin in vars(module).values() if module else ():
            if isinstance(plugin, type) and issubclass(plugin, ImageFile.ImageFile) and "load" in vars(plugin):
                monkeypatch.setattr(plugin, "load", load)


@pytest.mark.parametrize("size", [(8000, 8001), (9000, 9000), (16000, 16000)], ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_huge_sizes_are_refused_by_the_header(form, size, no_decoding):
    data = with_size(form, *size)
    assert len(data) < 5000
    began = time.perf_counter()
    text = refused(data, "pixels", "limit of 64 million", "RMBG_MAX_PIXELS")
    assert time.perf_counter() - began < 2
    assert size[0] > 10_000 or f"{size[0]} x {size[1]}" in text


def test_a_real_bomb(no_decoding):
    """Ten thousand pixels square in some kilobytes, whole and correct, in formats that pack so well."""
    image = Image.new("1", (10_000, 10_000))
    for data in (saved(image, "PNG"), saved(image, "TIFF", compression="group4"), with_size("WEBP", 10_000, 10_000)):
        assert len(data) < 20_000
        began = time.perf_counter()
        refused(data, "10000 x 10000", "limit of 64 million")
        assert time.perf_counter() - began < 2


def test_the_limit_is_exact():
    data = saved(noise(10, 30, 3), "PNG")
    assert read(data, settings=Settings(max_pixels=300)).width == 30
    refused(data, "30 x 10", settings=Settings(max_pixels=299))
    refused(Image.fromarray(noise(10, 30, 3)), "30 x 10", settings=Settings(max_pixels=299))


def test_an_open_picture_is_not_decoded_either(no_decoding):
    with Image.open(io.BytesIO(PNG)) as image:
        refused(image, "20 x 12", settings=Settings(max_pixels=100))


def test_a_broken_open_picture():
    with Image.open(io.BytesIO(saved(PIXELS, "BMP")[:-50])) as image:
        refused(image, "cut off")


def test_a_raised_limit_holds_beyond_pillows_own(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read(PNG, settings=Settings(max_pixels=1000)).width == 20


def test_bytes_are_counted_before_anything_is_read(tmp_path, monkeypatch):
    few = Settings(max_bytes=len(PNG) - 1)
    path = tmp_path / "big.png"
    path.write_bytes(PNG)
    encoded = base64.b64encode(PNG).decode()
    for source in (PNG, bytearray(PNG), memoryview(PNG), path, io.BytesIO(PNG), Dripping(PNG), "data:;base64," + encoded):
        refused(source, "MB", "RMBG_MAX_BYTES", settings=few)
        assert (
            read(source if not hasattr(source, "read") else io.BytesIO(PNG), settings=Settings(max_bytes=len(PNG))).width == 20
        )
    sparse = tmp_path / "sparse.png"
    with open(sparse, "wb") as file:
        file.truncate(1 << 40)
    monkeypatch.setattr("builtins.open", lambda *a, **k: pytest.fail("the file was opened"))
    refused(sparse, "sparse.png", "1099511.6 MB")


def test_no_more_than_the_limit_is_taken_from_a_stream():
    class Endless(io.RawIOBase):
        given = 0

        def read(self, size: int = -1) -> bytes:
            assert size > 0
            self.given += min(size, 1000)
            return bytes(min(size, 1000))

    stream = Endless()
    text = refused(stream, "has more than the limit of 0.05 MB", settings=Settings(max_bytes=50_000))
    assert stream.given == 50_001 and "0.1 MB" not in text


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (7, 8)])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_too_small(form, size):
    refused(saved(Image.new("RGB", size), form), f"{size[0]} x {size[1]} pixels", "at least 8")


@pytest.mark.parametrize("size", [(0, 0), (0, 20), (20, 0)])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF"])
def test_no_size_at_all(form, size):
    refused(with_size(form, *size))


def test_the_smallest_that_is_taken():
    assert read(saved(noise(8, 8, 3), "PNG")).rgb.shape == (8, 8, 3)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from /proc")
@pytest.mark.parametrize(("form", "mode", "limit"), [("JPEG", "RGB", 9), ("PNG", "RGBA", 14)])
def test_a_big_photo_is_not_copied_needlessly(form, mode, limit, tmp_path):
    """Peak of a process of its own, in bytes a pixel: Pillow takes four for each picture, the result three or four."""
    path = tmp_path / "big"
    path.write_bytes(saved(Image.new(mode, (4000, 3000), (200, 90, 40, 99)[: len(mode)]), form))
    script = """
import pathlib, re, sys
from rmbg import open_photo
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) * 1024
pathlib.Path(sys.argv[1]).read_bytes()
before = peak()
photo = open_photo(sys.argv[1])
if photo.alpha is not None:
    photo.flattened()
print((peak() - before) / (photo.width * photo.height))
"""
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < limit


# --- damaged, lying and foreign files ----------------------------------------------------------------------------------


def whole_files() -> dict[str, bytes]:
    picture = Image.fromarray(np.clip(smooth(40, 56) + noise(40, 56, 3) % 20, 0, 255).astype(np.uint8))
    files = {name: saved(picture, form, **options) for name, (form, options) in {**LOSSLESS, **LOSSY}.items()}
    series = {"save_all": True, "append_images": [picture.rotate(180)] * 2}
    bits, palette = picture.convert("1"), picture.quantize(200)
    return files | {
        "jpeg-grey": saved(picture.convert("L"), "JPEG"),
        "jpeg-cmyk": saved(picture.convert("CMYK"), "JPEG"),
        "jpeg-exif": turned("JPEG", 6, np.asarray(picture)),
        "png-palette": saved(palette, "PNG"),
        "png-alpha": saved(picture.convert("RGBA"), "PNG"),
        "apng": saved(picture, "PNG", **series),
        "gif": saved(palette, "GIF"),
        "gif-animated": saved(palette, "GIF", **series),
        "gif-interlaced": saved(palette, "GIF", interlace=1),
        "webp-animated": saved(picture, "WEBP", **series),
        "bmp-palette": saved(palette, "BMP"),
        "tiff-g3": saved(bits, "TIFF", compression="group3"),
        "tiff-g4": saved(bits, "TIFF", compression="group4"),
        "tiff-series": saved(picture, "TIFF", **series),
        "avif-series": saved(picture, "AVIF", **series),
    }


def strip_last(data: bytes) -> bytes:
    """A TIFF of one strip with its pixels moved behind everything else, where a cut hits nothing but them."""
    moved = bytearray(data)
    (start,) = struct.unpack_from("<I", data, 4)
    entries = [start + 2 + 12 * i for i in range(struct.unpack_from("<H", data, start)[0])]
    at = {struct.unpack_from("<H", data, entry)[0]: entry + 8 for entry in entries}
    (place,), (size,) = struct.unpack_from("<I", data, at[273]), struct.unpack_from("<I", data, at[279])
    moved[at[273] : at[273] + 4] = struct.pack("<I", len(data))
    return bytes(moved) + data[place : place + size]


WHOLE = whole_files()
WHOLE["tiff-jpeg-last"] = strip_last(WHOLE["tiff-jpeg"])


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_that_breaks_off_is_whole_or_refused(name, capfd):
    """Never half a picture: at each of many lengths the pixels are those of the intact file, or there is an error."""
    data = WHOLE[name]
    intact = read(data)
    size = len(data)
    lengths = {0, 1, *(size * percent // 100 for percent in (10, 50, 90, 99)), *range(2, size, max(1, size // 50))}
    refusals = 0
    for length in sorted(lengths | set(range(max(0, size - 12), size))):
        try:
            photo = read(data[:length])
        except PhotoError as error:
            sentence(error)
            refusals += 1
        else:
            np.testing.assert_array_equal(photo.rgb, intact.rgb, err_msg=f"half a picture at {length} of {size} bytes")
    assert refusals >= 10
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["jpeg", "jpeg-progressive", "png", "gif"])
def test_a_download_that_was_never_filled_is_refused(name):
    data = WHOLE[name]
    refused(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))


def test_png_with_a_bad_checksum():
    data = bytearray(PNG)
    at = data.index(b"IDAT") + 12
    for place in (at, data.index(b"IEND") - 5, 29):
        broken = bytearray(data)
        broken[place] ^= 0x55
        refused(bytes(broken), "damaged")


@pytest.mark.parametrize("name", ["png", "webp", "jpeg", "gif", "tiff", "tiff-lzw", "bmp", "avif"])
def test_changed_bytes_never_bring_anything_but_a_photo_or_a_sentence(name, capfd):
    rng = np.random.default_rng(1)
    data = WHOLE[name]
    for _ in range(60):
        broken = bytearray(data)
        for place in rng.integers(0, min(len(data), 400), 3):
            broken[place] = rng.integers(0, 256)
        try:
            photo = read(bytes(broken), settings=Settings(max_pixels=1_000_000))
            assert photo.rgb.shape == (photo.height, photo.width, 3) and photo.rgb.dtype == np.uint8
        except PhotoError as error:
            sentence(error)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("name", ["png", "jpeg", "gif", "webp", "bmp", "tiff", "avif"])
def test_the_name_does_not_matter(name, tmp_path):
    path = tmp_path / "photo.pdf"
    path.write_bytes(WHOLE[name])
    np.testing.assert_array_equal(read(path).rgb, read(WHOLE[name]).rgb)


FOREIGN = {
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\n1 0 obj\n<</Type/Catalog>>", "PDF"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "SVG"),
    "svg-prolog": (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- x -->\n<svg/>', "SVG"),
    "html": (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
    "html-with-svg": (b"\n<html><head></head><body><svg/></body></html>", "web page"),
    "mp4": (b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(40), "video"),
    "webm": (b"\x1a\x45\xdf\xa3" + bytes(40), "video"),
    "avi": (b"RIFF\0\0\0\0AVI LIST" + bytes(40), "video"),
    "zip": (b"PK\x03\x04" + bytes(40), "archive"),
    "gzip": (b"\x1f\x8b\x08" + bytes(40), "archive"),
    "cr3": (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(40), "raw file"),
    "psd": (b"8BPS\0\1" + bytes(40), "Photoshop"),
    "avif-stub": (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", "damaged"),
    "png-stub": (b"\x89PNG\r\n\x1a\n", "damaged"),
    "jpeg-stub": (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "damaged"),
    "text": (b"Hello, I am a picture.\n", "not a picture"),
    "utf-16": ("I am a picture.".encode("utf-16"), "not a picture"),
    "zeros": (bytes(5000), "not a picture"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
    "ppm": (b"P6 9 9 255\n" + bytes(243), "not a picture"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_files(name, tmp_path):
    data, word = FOREIGN[name]
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    assert "picture.png" in refused(path, word)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("kind", "raw"), [(0, False), (1, True)])
def test_a_preview_is_no_photo(order, kind, raw):
    """A TIFF whose only visible picture is a small one of 24 x 16, as cameras write it before the real one."""
    pixels = noise(16, 24, 3)
    start = 8 + pixels.size
    entries = [(254, 4, kind), (256, 4, 24), (257, 4, 16), (258, 3, 8), (259, 3, 1), (262, 3, 2), (273, 4, 8), (277, 3, 3)]
    entries += [(278, 4, 16), (279, 4, pixels.size), (284, 3, 1), (330, 4, start)]
    data = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", start) + pixels.tobytes()
    data += struct.pack(f"{order}H", len(entries))
    for tag, number, value in entries:
        data += struct.pack(f"{order}HHI", tag, number, 1) + struct.pack(
            order + {3: "HH", 4: "I"}[number], *([value, 0][: 5 - number])
        )
    data += bytes(4)
    if raw:
        refused(data, "raw file", "JPEG")
    else:
        np.testing.assert_array_equal(read(data).rgb, pixels)


def test_a_broken_heic_with_its_plug_in(monkeypatch):
    def opener(file, name):
        raise SyntaxError("no such box")

    monkeypatch.setitem(Image.OPEN, "HEIF", (opener, None))
    monkeypatch.setattr("rmbg.decode.formats", lambda: ("HEIF", "PNG"))
    text = refused(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(60), "header cannot be read")
    assert "pillow-heif" not in text


def test_heic_without_its_plug_in(monkeypatch):
    monkeypatch.setattr("rmbg.decode.formats", lambda: ("PNG", "JPEG"))
    refused(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(60), "HEIC", "pillow-heif")


@pytest.mark.skipif(not BAD_IMAGES.is_dir(), reason="the collection of broken files is not on this machine")
def test_a_collection_of_broken_files():
    """In a process of its own, to see all that it prints and what it takes."""
    script = """
import json, pathlib, re, sys, time
from rmbg import PhotoError, open_photo
result = []
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    began = time.perf_counter()
    try:
        photo = open_photo(path)
        ok = photo.rgb.shape == (photo.height, photo.width, 3) and photo.rgb.dtype == "uint8" and min(photo.rgb.shape[:2]) >= 8
        ok = ok and (photo.alpha is None or (photo.alpha.shape == photo.rgb.shape[:2] and photo.alpha.dtype == "uint8"))
        said = "" if ok else "insane arrays"
    except PhotoError as error:
        said = str(error)
    result.append((path.name, said, time.perf_counter() - began))
status = pathlib.Path("/proc/self/status")  # not getrusage: its peak is inherited from the process that started this one
peak = int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) if status.exists() else 0
json.dump([result, peak], sys.stdout)
"""
    command = [sys.executable, "-W", "always", "-c", script, str(BAD_IMAGES)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    results, peak = json.loads(done.stdout)
    assert len(results) >= 100
    for name, said, seconds in results:
        assert seconds < 5, name
        if said:
            sentence(said)
    assert peak < 400_000, "kilobytes"
    assert sum(not said for _, said, _ in results) >= 60
