"""Small pictures that take a decoder seconds or gigabytes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from tests.pictures import scene
from tests.security import heif_bombs
from tests.security import picture_bombs as bombs
from tests.security.gradio_requests import FILE, App

ROOT = Path(__file__).resolve().parents[2]
EXIF = ("JPEG", "PNG", "PNG text", "WEBP", "AVIF", "HEIF")

#: Parts of HEIC files: a compressed picture of 16 megapixels and one of 64 x 64 pixels, and compositions of 64 x 64 pixels.
LARGE, SMALL = heif_bombs.coded(4000), heif_bombs.coded(64)
GRID, LAYERS = heif_bombs.grid(20, 20, 64, 64), heif_bombs.overlay(300, 64, 64)
NESTED = [(1, b"dimg", [2] * 300), (2, b"dimg", [3] * 300), (3, b"dimg", [4] * 300)]

#: Expected error of each attack; empty if the picture is decoded without its hostile part.
ATTACKS = {
    "3000 scans": (lambda: bombs.jpeg(3000, side=2000), "more than 100 scans"),
    "fill bytes": (lambda: bombs.jpeg(header=b"\xff" * 8_000_000), "padded"),
    "bytes between segments": (lambda: bombs.jpeg(header=b"a" * 8_000_000), "padded"),
    "extensions without a length": (lambda: bombs.jpeg(header=bombs.segment(bytes(65_000), 0xF0) * 120), "padded"),
    "no segments": (lambda: b"\xff\xd8\xff" + b"a" * 8_000_000, "padded"),
    "a million segments": (lambda: bombs.jpeg(header=b"\xff\xfe\x00\x02" * 2_000_000), "more than 10,000 segments"),
    "strips": (lambda: bombs.strips(3_000_000), "more than 300,000 values"),
    "HEIC tiles": (lambda: heif_bombs.heif([GRID, LARGE], [(1, b"dimg", [2] * 400)]), "many times the pixels"),
    "HEIC layers": (lambda: heif_bombs.heif([LAYERS, LARGE], [(1, b"dimg", [2] * 50)]), "many times the pixels"),
    "HEIC nested layers": (lambda: heif_bombs.heif([LAYERS] * 3 + [SMALL], NESTED), "many times the pixels"),
    "HEIC cycle": (lambda: heif_bombs.heif([LAYERS, LAYERS], [(1, b"dimg", [2]), (2, b"dimg", [1])]), "nested too deeply"),
    "HEIC references": (lambda: heif_bombs.heif([GRID, SMALL], [(1, b"dimg", [2] * 60_000)]), "more than 1,000 references"),
    "HEIC boxes": (lambda: heif_bombs.heif([SMALL], extra=b"\0\0\0\x08free" * 1_000_000), "more than 10,000 boxes"),
    "HEIC list": (lambda: heif_bombs.heif([GRID, SMALL], [(1, b"dimg", [2] * 60_000)] * 9), "too long"),
    "HEIC alpha": (lambda: heif_bombs.heif([SMALL, LARGE], [(2, b"auxl", [1])]), "many times the pixels"),
    "HEIC header": (lambda: heif_bombs.heif([LARGE._replace(width=64, height=64)]), "cannot be decoded"),
    "HEIC tile without a size": (lambda: heif_bombs.heif([GRID, LARGE._replace(width=0)], [(1, b"dimg", [2])]), "no size"),
    **{
        f"directory {magic!r}": (lambda magic=magic: bombs.overlapping(9000, 200_000, magic), "")
        for magic in (b"II*\0", b"MM\0*", b"MM*\0", b"II\0*", b"MM\0+")
    },
    **{f"exif in {form}": (lambda form=form: bombs.in_exif(form, bombs.overlapping(9000, 200_000)), "") for form in EXIF},
}

#: Decodes one picture in a child process and prints CPU seconds, peak memory in MB, and the outcome.
MEASURE = """
import json, pathlib, resource, sys, time
from rmbg import open_photo
from rmbg.errors import RmbgError
open_photo(pathlib.Path(sys.argv[2]))
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "darwin" else 1024) / 1000
data, before, started = pathlib.Path(sys.argv[1]).read_bytes(), peak(), time.process_time()
try:
    photo = open_photo(data)
    text = f"{photo.width} x {photo.height}"
except RmbgError as error:
    text = str(error)
print(json.dumps([time.process_time() - started, (peak() - before) * 1000, text]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the peak of memory is read with the resource module")
@pytest.mark.parametrize("name", ATTACKS)
def test_time_and_memory_are_bounded(tmp_path, name):
    make, sentence = ATTACKS[name]
    bomb, plain = tmp_path / "bomb", tmp_path / "plain.png"
    bomb.write_bytes(make())
    plain.write_bytes(bombs.png())
    command = [sys.executable, "-c", MEASURE, str(bomb), str(plain)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    seconds, megabytes, text = json.loads(done.stdout)
    assert seconds < 2 and megabytes < 200, (seconds, megabytes, text)
    assert sentence in text and (text == "64 x 64" or text.endswith("."))


@pytest.mark.parametrize(
    "data",
    [
        bombs.jpeg(80, side=64),
        bombs.jpeg(header=b"\xff" * 60_000),
        bombs.jpeg() + b"\xff\xda" * 1000,  # data after the end of the picture
        bombs.jpeg(header=bombs.segment(b"\xff\xda" * 30_000, 0xEF)),  # data in a segment
        bombs.strips(64),
        bombs.png(bombs.chunk(b"eXIf", b"II*\0\x08")),
        heif_bombs.heif([SMALL]),
        heif_bombs.heif([heif_bombs.grid(2, 2, 64, 64), SMALL], [(1, b"dimg", [2] * 4)]),
    ],
    ids=["scans", "padding", "after the end", "in a segment", "strips", "cut EXIF", "HEIC", "HEIC tiles"],
)
def test_unusual_pictures_are_decoded(tmp_path, data):
    from rmbg import open_photo

    assert open_photo(data).rgb.shape == (64, 64, 3)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_orientations_are_applied(form):
    from rmbg import open_photo

    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description " * 100
    out = io.BytesIO()
    Image.new("RGB", (64, 40)).save(out, form, exif=exif)
    assert open_photo(out.getvalue()).rgb.shape == (64, 40, 3)


def test_decoding_ends_at_its_deadline(tmp_path):
    """A GIF comment in blocks of one byte, in a child process with a deadline that every machine exceeds."""
    path = tmp_path / "comment.gif"
    path.write_bytes(bombs.gif_comment(20_000_000))
    script = (
        "import pathlib, sys; from rmbg import open_photo; from rmbg.images import decode; decode.DECODE_SECONDS = 0.05\n"
        "open_photo(pathlib.Path(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert "takes too long to decode" in done.stderr.splitlines()[-1]


def test_page_and_api_reject_bombs(app):
    visitor = App(app)
    path = visitor.upload(bombs.jpeg(3000, side=2000), "photo.jpg")
    for event, rest in (("photo.upload", []), ("remove_background", ["builtin", "transparent", False, "png"])):
        started = time.process_time()
        outcome = visitor.queue(event, [{"path": path, "meta": FILE}, *rest])
        assert "more than 100 scans" in (outcome.data[1] if outcome.success else outcome.message)
        assert time.process_time() - started < 20


def test_zip_bombs_are_rejected(tmp_path):
    from rmbg.benchmark.dataset import open_dataset
    from rmbg.errors import InputError

    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(20):
            archive.writestr(f"a/im/{number}.bmp", bytes(10_000_000))
    with pytest.raises(InputError, match="unpacks to 200 MB, more than 50 times its size"):
        open_dataset(path)


def test_data_sets_reject_bombs(tmp_path):
    from rmbg.benchmark.dataset import open_dataset
    from rmbg.errors import InputError

    rgb, matte, *_ = scene(64, 64)
    good, truth = io.BytesIO(), io.BytesIO()
    Image.fromarray(rgb).save(good, "PNG")
    Image.fromarray((matte * 255).astype("uint8")).save(truth, "PNG")
    for photo, alpha in ((bombs.strips(3_000_000), truth.getvalue()), (good.getvalue(), bombs.overlapping(9000, 200_000))):
        path = tmp_path / "set.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/im/1.png", photo)
            archive.writestr("a/gt/1.png", alpha)
        started = time.process_time()
        with pytest.raises(InputError, match="not a picture"):
            open_dataset(path)
        assert time.process_time() - started < 4
