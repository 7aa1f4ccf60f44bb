"""Limits for pixels, bytes and sides are enforced before any pixel is decoded."""

from __future__ import annotations

import base64
import io
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image, ImageFile

from rmbg.settings import Settings
from tests.images.made import PIXELS, PNG, Dripping, noise, raw_png, read, refused, saved, smooth

ROOT = Path(__file__).resolve().parents[2]


def with_size(form: str, width: int, height: int) -> bytes:
    """Return a file whose header declares this size, with almost no pixel data."""
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
    elif form == "WEBP":  # lossless, no transform, no cache, and five codes of one symbol each: one color throughout
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
    """Make any attempt to decode pixels fail the test."""

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
def test_oversized_pictures_are_rejected_by_the_header(form, size, no_decoding):
    data = with_size(form, *size)
    assert len(data) < 5000
    began = time.process_time()
    text = refused(data, "pixels", "limit of 64 megapixels", "RMBG_MAX_PIXELS")
    assert time.process_time() - began < 2
    assert size[0] > 10_000 or f"{size[0]} x {size[1]}" in text


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # pytest resets the filters
def test_decompression_bombs_are_rejected(no_decoding):
    """Valid files of a few kilobytes with 10,000 x 10,000 pixels."""
    image = Image.new("1", (10_000, 10_000))
    for data in (saved(image, "PNG"), saved(image, "TIFF", compression="group4"), with_size("WEBP", 10_000, 10_000)):
        assert len(data) < 20_000
        began = time.process_time()
        refused(data, "10000 x 10000", "limit of 64 megapixels")
        assert time.process_time() - began < 2


def test_pixel_limit_is_exact():
    data = saved(noise(10, 30, 3), "PNG")
    assert read(data, settings=Settings(max_pixels=300)).width == 30
    refused(data, "30 x 10", settings=Settings(max_pixels=299))
    refused(Image.fromarray(noise(10, 30, 3)), "30 x 10", settings=Settings(max_pixels=299))


def test_open_picture_is_rejected_without_decoding(no_decoding):
    with Image.open(io.BytesIO(PNG)) as image:
        refused(image, "20 x 12", settings=Settings(max_pixels=100))


def test_truncated_open_picture_is_rejected():
    with Image.open(io.BytesIO(saved(PIXELS, "BMP")[:-50])) as image:
        refused(image, "cut off")


def test_limit_above_that_of_pillow_is_applied(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read(PNG, settings=Settings(max_pixels=1000)).width == 20


def test_size_is_checked_before_reading(tmp_path, monkeypatch):
    limited = Settings(max_bytes=len(PNG) - 1)
    path = tmp_path / "big.png"
    path.write_bytes(PNG)
    encoded = base64.b64encode(PNG).decode()
    for source in (PNG, bytearray(PNG), memoryview(PNG), path, io.BytesIO(PNG), Dripping(PNG), "data:;base64," + encoded):
        refused(source, "MB", "RMBG_MAX_BYTES", settings=limited)
        assert (
            read(source if not hasattr(source, "read") else io.BytesIO(PNG), settings=Settings(max_bytes=len(PNG))).width == 20
        )
    sparse = tmp_path / "sparse.png"
    with open(sparse, "wb") as file:
        file.truncate(1 << 40)
    monkeypatch.setattr("builtins.open", lambda *a, **k: pytest.fail("the file was opened"))
    refused(sparse, "sparse.png", "1,099,512 MB")


def test_stream_is_read_up_to_the_limit_only():
    class Endless(io.RawIOBase):
        count = 0

        def read(self, size: int = -1) -> bytes:
            assert size > 0
            self.count += min(size, 1000)
            return bytes(min(size, 1000))

    stream = Endless()
    text = refused(stream, "has more than the limit of 0.05 MB", settings=Settings(max_bytes=50_000))
    assert stream.count == 50_001 and "0.05 MB," not in text


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (7, 8)])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_small_pictures_are_rejected(form, size):
    refused(saved(Image.new("RGB", size), form), f"{size[0]} x {size[1]} pixels", "at least 8")


@pytest.mark.parametrize("size", [(0, 0), (0, 20), (20, 0)])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF"])
def test_zero_sizes_are_rejected(form, size):
    refused(with_size(form, *size))


def test_smallest_accepted_size():
    assert read(saved(noise(8, 8, 3), "PNG")).rgb.shape == (8, 8, 3)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize(("form", "mode", "limit"), [("JPEG", "RGB", 9), ("PNG", "RGBA", 14)])
def test_peak_memory_of_a_large_photo(form, mode, limit, tmp_path):
    """Peak memory of a new process in bytes a pixel: four for each picture in Pillow, three or four for the result."""
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
