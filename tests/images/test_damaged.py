"""Damaged files and files that are not pictures are rejected with one sentence."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rmbg.errors import PhotoError
from rmbg.settings import Settings
from tests.images.made import LOSSLESS, LOSSY, PNG, noise, read, refused, saved, smooth, turned
from tests.sentences import sentence

# pytest resets the filters of warnings, so output on the terminal is tested in subprocesses.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")
ROOT = Path(__file__).resolve().parents[2]
BAD_IMAGES = ROOT.parent / "shared" / "data" / "badimages" / "files"


def whole_files() -> dict[str, bytes]:
    picture = Image.fromarray(np.clip(smooth(40, 56) + noise(40, 56, 3) % 20, 0, 255).astype(np.uint8))
    files = {name: saved(picture, form, **options) for name, (form, options) in {**LOSSLESS, **LOSSY}.items()}
    series = {"save_all": True, "append_images": [picture.rotate(180)] * 2}
    bits, palette = picture.convert("1"), picture.quantize(200)
    return files | {
        "jpeg-gray": saved(picture.convert("L"), "JPEG"),
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
    """TIFF of one strip with its pixels at the end of the file, so that truncation affects the pixels only."""
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
def test_truncated_files_are_decoded_completely_or_rejected(name, capfd):
    """At each length the result has the pixels of the intact file, or there is an error."""
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
def test_files_with_a_zeroed_end_are_rejected(name):
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
def test_changed_bytes_give_a_photo_or_an_error(name, capfd):
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
def test_the_suffix_does_not_matter(name, tmp_path):
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
def test_a_preview_alone_is_rejected(order, kind, raw):
    """A TIFF whose only readable picture is a preview of 24 x 16, as cameras store it before the photo."""
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


def test_a_damaged_heic_with_the_plug_in(monkeypatch):
    def opener(file, name):
        raise SyntaxError("no such box")

    monkeypatch.setitem(Image.OPEN, "HEIF", (opener, None))
    monkeypatch.setattr("rmbg.images.decode.formats", lambda: ("HEIF", "PNG"))
    text = refused(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(60), "header cannot be read")
    assert "install" not in text and "heif" not in text


def test_heic_without_the_plug_in(monkeypatch):
    monkeypatch.setattr("rmbg.images.decode.formats", lambda: ("PNG", "JPEG"))
    text = refused(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(60), "HEIC", "Save it as JPEG")
    assert "install" not in text and "heif" not in text


@pytest.mark.skipif(not BAD_IMAGES.is_dir(), reason="the collection of broken files is not on this machine")
def test_a_collection_of_broken_files():
    """In a subprocess, to check its output and its peak memory."""
    script = """
import json, pathlib, re, sys, time
from rmbg import PhotoError, open_photo
result = []
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    began = time.process_time()
    try:
        photo = open_photo(path)
        ok = photo.rgb.shape == (photo.height, photo.width, 3) and photo.rgb.dtype == "uint8" and min(photo.rgb.shape[:2]) >= 8
        ok = ok and (photo.alpha is None or (photo.alpha.shape == photo.rgb.shape[:2] and photo.alpha.dtype == "uint8"))
        message = "" if ok else "insane arrays"
    except PhotoError as error:
        message = str(error)
    result.append((path.name, message, time.process_time() - began))
status = pathlib.Path("/proc/self/status")  # getrusage would include the peak of the parent process
peak = int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) if status.exists() else 0
json.dump([result, peak], sys.stdout)
"""
    command = [sys.executable, "-W", "always", "-c", script, str(BAD_IMAGES)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    results, peak = json.loads(done.stdout)
    assert len(results) >= 100
    for name, message, seconds in results:
        assert seconds < 5, name
        if message:
            sentence(message)
    assert peak < 400_000, "kilobytes"
    assert sum(not message for _, message, _ in results) >= 60
