"""The command line: results, exit statuses, one-sentence errors, and atomic output files."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from rmbg.__main__ import main
from rmbg.providers import PROVIDERS
from tests.processes import python
from tests.sentences import sentence
from tests.servers.web import until

ROOT = Path(__file__).resolve().parents[2]
HEIGHT, WIDTH = 60, 80

pytestmark = pytest.mark.usefixtures("disc")


@pytest.fixture
def photo(tmp_path):
    """A red disc on gray, in a path with spaces and non-ASCII characters."""
    folder = tmp_path / "Bilder mit Raum – 図"
    folder.mkdir()
    image = Image.new("RGB", (WIDTH, HEIGHT), (200, 205, 210))
    ImageDraw.Draw(image).ellipse((WIDTH // 2 - 15, HEIGHT // 2 - 15, WIDTH // 2 + 15, HEIGHT // 2 + 15), fill=(200, 30, 20))
    image.save(folder / "mein Apfel äöü.png")
    return folder / "mein Apfel äöü.png"


@pytest.fixture
def remove(rmbg, photo):
    """Run ``remove`` on `photo` and return the written picture."""

    def run(*arguments: object, out: str = "out.png") -> Image.Image:
        target = photo.parent / out
        assert rmbg("remove", photo, target, "--provider", "disc", *arguments) == (0, "", "")
        with Image.open(target) as image:
            image.load()
            return image

    return run


def started(*arguments: object, **options) -> subprocess.Popen:
    """Start a command in a process of its own."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(python("-m", "rmbg", *arguments), cwd=ROOT, **{**pipes, **options})


def message(error: str | bytes) -> str:
    """Return the only line on standard error after checking its format."""
    text = error.decode() if isinstance(error, bytes) else error
    assert text.startswith("rmbg") and text.count("\n") == 1 and text.endswith("\n"), text
    return sentence(text[:-1])


# --- Results -----------------------------------------------------------------------------------------------------------


def test_default_output_is_a_transparent_png(remove):
    image = remove()
    pixels = np.asarray(image)
    assert image.format == "PNG" and pixels.shape == (HEIGHT, WIDTH, 4)
    assert pixels[0, 0].tolist() == [0, 0, 0, 0]
    assert pixels[HEIGHT // 2, WIDTH // 2].tolist() == [200, 30, 20, 255]


@pytest.mark.parametrize(
    ("background", "top", "bottom"),
    [
        ("#ff8800", (255, 136, 0), (255, 136, 0)),
        ("#f80", (255, 136, 0), (255, 136, 0)),
        ("Orange", (255, 165, 0), (255, 165, 0)),
        ("rgb(1, 2, 300)", (1, 2, 255), (1, 2, 255)),
        ("rgb(200%,0%,0%)", (255, 0, 0), (255, 0, 0)),
        ("rgba(1,2,3,0.5)", (1, 2, 3), (1, 2, 3)),
        ("gradient:#ffffff,#000000", (255, 255, 255), (0, 0, 0)),
        ("gradient:rgb(0,0,9),white", (0, 0, 9), (255, 255, 255)),
        ("blur", (200, 205, 210), (200, 205, 210)),
    ],
)
def test_background_specifications(remove, background, top, bottom):
    pixels = np.asarray(remove("--background", background)).astype(int)
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(pixels[0, 0] - top).max() <= 1 and np.abs(pixels[-1, -1] - bottom).max() <= 1
    assert pixels[HEIGHT // 2, WIDTH // 2].tolist() == [200, 30, 20]


def test_picture_as_background(remove, photo):
    path = photo.parent / "back ground.png"
    Image.new("RGB", (30, 10), (7, 70, 170)).save(path)
    pixels = np.asarray(remove("--background", path))
    assert pixels[0, 0].tolist() == pixels[-1, -1].tolist() == [7, 70, 170]
    whole = np.asarray(remove("--background", path, "--background-fit", "contain", "--background-position", "0,100"))
    assert whole[0, 0].tolist() == [255, 255, 255] and whole[-1, 0].tolist() == [7, 70, 170]


def test_mask_only_writes_a_gray_picture(remove):
    image = remove("--mask-only", "--background", "blur")
    assert image.mode == "L" and image.size == (WIDTH, HEIGHT)
    assert set(np.unique(image)) == {0, 255}


def test_crop_adds_a_margin_around_the_subject(remove):
    diameter = remove("--crop", "0").size
    assert 28 <= diameter[0] <= 31 and diameter[0] == diameter[1]
    assert remove("--crop", "0.1").size[0] == diameter[0] + 6
    assert remove("--crop", "2").size == (WIDTH, HEIGHT)


def test_canvas_has_the_size_and_the_color_of_the_preset(remove):
    amazon = np.asarray(remove("--canvas", "amazon"))
    assert amazon.shape == (2000, 2000, 3) and (amazon[0] == 255).all()
    rows = np.flatnonzero((amazon[..., 1] < 128).any(axis=1))
    assert np.ptp(rows) == pytest.approx(1800, abs=8) and rows.mean() == pytest.approx(1000, abs=4)
    assert remove("--canvas", "90x70", "--background", "transparent", "--padding", "8px").mode == "RGBA"
    assert remove("--canvas", "90x70", "--mask-only").size == (90, 70)


def test_shadow_and_outline(remove):
    pixels = np.asarray(remove("--shadow", "0,0,0,100", "--outline", "3px,#0000ff", "--background", "#ffffff"))
    assert pixels[HEIGHT // 2, WIDTH // 2].tolist() == [200, 30, 20]
    assert pixels[HEIGHT // 2, WIDTH // 2 + 17].tolist() == [0, 0, 255]
    shaded = np.asarray(remove("--shadow", "soft", "--contact-shadow", "soft"))
    assert 0 < shaded[HEIGHT // 2 + 17, WIDTH // 2, 3] < 255


def test_invalid_finishing_is_wrong_usage(rmbg, photo):
    for options in (
        ("--background-fit", "contain"),
        ("--padding", "5%"),
        ("--canvas", "square", "--crop", "0.1"),
        ("--shadow", "x"),
    ):
        status, out, err = rmbg("remove", photo, photo.parent / "o.png", "--provider", "disc", *options)
        assert (status, out) == (2, "") and message(err) and not (photo.parent / "o.png").exists()


@pytest.mark.parametrize(
    ("name", "options", "form"),
    [
        ("a.PNG", (), "PNG"),
        ("a.jpg", (), "JPEG"),
        ("a.webp", (), "WEBP"),
        ("no suffix", (), "PNG"),
        ("a.bin", ("--format", "webp-lossy"), "WEBP"),
        ("a.png", ("--format", "JPEG"), "JPEG"),
    ],
)
def test_format_follows_suffix_and_option(remove, name, options, form):
    image = remove(*options, out=name)
    assert image.format == form and image.size == (WIDTH, HEIGHT)
    if form == "JPEG":
        assert np.asarray(image)[0, 0].min() >= 253  # JPEG has no alpha: transparent areas become white


def test_quality_changes_the_file_size(remove, photo):
    sizes = []
    for quality in (5, 95):
        remove("--quality", quality, out="a.jpg")
        sizes.append((photo.parent / "a.jpg").stat().st_size)
    assert sizes[0] < sizes[1]


def test_json_output_is_one_object(rmbg, photo):
    status, out, err = rmbg("remove", photo, photo.parent / "o.png", "--provider", "disc", "--json")
    assert (status, err, out.count("\n")) == (0, "", 1) and out.isascii()
    assert json.loads(out) == {
        "provider": "disc",
        "seconds": 0.25,
        "timings": None,
        "engine": "numpy",
        "device": "cpu",
        "width": WIDTH,
        "height": HEIGHT,
        "cost": {"usd": None, "basis": "unknown"},
        "confidence": None,
        "notes": [],
    }


def test_notes_go_to_standard_error_or_json(rmbg, photo):
    path = photo.parent / "many.gif"
    frames = [Image.new("RGB", (16, 16), (90 + i, 80, 70)) for i in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    arguments = ("remove", path, photo.parent / "o.png", "--provider", "disc")
    status, out, err = rmbg(*arguments)
    assert (status, out) == (0, "") and "first picture" in message(err)
    status, out, err = rmbg(*arguments, "--json")
    assert (status, err) == (0, "") and "first picture" in json.loads(out)["notes"][0]


def test_output_may_replace_the_input(rmbg, photo):
    assert rmbg("remove", photo, photo, "--provider", "disc")[0] == 0
    with Image.open(photo) as image:
        assert image.mode == "RGBA" and image.size == (WIDTH, HEIGHT)


def test_providers_command_lists_the_registry(rmbg):
    status, out, err = rmbg("providers")
    assert (status, err) == (0, "") and {line.split()[0] for line in out.splitlines()[1:]} == set(PROVIDERS)
    status, out, err = rmbg("providers", "--json")
    assert [entry["id"] for entry in json.loads(out)] == list(PROVIDERS)
    assert {"status", "price", "licence", "options", "pixels"} <= set(json.loads(out)[0])


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_exit_with_0(rmbg, option):
    status, out, err = rmbg(option)
    assert (status, err) == (0, "") and "rmbg" in out


# --- Errors ------------------------------------------------------------------------------------------------------------


def png(width: int, height: int, data: bytes = b"\0") -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def saved(form: str, size: tuple[int, int] = (90, 70)) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(2).integers(0, 256, (size[1], size[0], 3), np.uint8)).save(out, form)
    return out.getvalue()


def bad_checksum() -> bytes:
    data = bytearray(saved("PNG"))
    data[data.index(b"IDAT") + 40] ^= 1
    return bytes(data)


BAD_INPUT = {
    "text": (b"not an image at all\n", "not a picture"),
    "empty": (b"", "empty"),
    "0x0": (png(0, 0), "input.png"),
    "1x1": (saved("PNG", (1, 1)), "1 x 1 pixels"),
    "1xN": (saved("PNG", (1, 900)), "1 x 900 pixels"),
    "64 megapixels and more": (png(8000, 8001), "8000 x 8001"),
    "bomb": (png(60_000, 60_000), "limit of 64 megapixels"),
    "truncated JPEG": (saved("JPEG")[:-500], "cut off"),
    "truncated TIFF": (saved("TIFF")[:60], "damaged"),
    "bad CRC": (bad_checksum(), "damaged"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
    "PDF named .png": (b"%PDF-1.4\n" + bytes(99), "PDF"),
    "no subject": (png(16, 16, bytes(16 * 49)), "The photo is black"),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_invalid_input_fails_and_leaves_the_output_unchanged(rmbg, tmp_path, name):
    data, expected = BAD_INPUT[name]
    path, target = tmp_path / "input.png", tmp_path / "out.png"
    path.write_bytes(data)
    for before in (None, b"previous content"):
        if before:
            target.write_bytes(before)
        status, out, err = rmbg("remove", path, target, "--provider", "disc", "--json")
        assert (status, out) == (1, "") and expected in message(err)
        assert (target.read_bytes() if target.exists() else None) == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["input.png", "out.png"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--provider", "magic"), "choose from auto, builtin"),
        (("--background", "#ggg"), "is not a background"),
        (("--background", "purplish"), "is not a background"),
        (("--background", "two\nlines"), "is not a background"),
        (("--background", "#" + "1" * 500), "is not a background"),
        (("--background", "gradient:#fff"), "two colors"),
        (("--background", "gradient:#fff,#zzz"), "not a color"),
        (("--background", "none/such.png"), "no file"),
        (("--format", "gif"), "Choose from png"),
        (("--quality", "0"), "between 1 and 100"),
        (("--quality", "101"), "between 1 and 100"),
        (("--quality", "high"), "--quality"),
        (("--crop", "-1"), "between 0 and 2"),
        (("--crop", "nan"), "between 0 and 2"),
        (("--crop", "x"), "--crop"),
        (("--option", "size"), "NAME=VALUE"),
        (("--option", "size=3"), "no option"),
        (("--nonsense",), "--nonsense"),
        (("--two\nlines",), "lines"),
        (("third", "fourth"), "third"),
    ],
)
def test_wrong_usage_exits_with_2_before_the_provider_runs(rmbg, photo, disc, options, expected):
    target = photo.parent / "out.png"
    arguments = options if "--provider" in options else ("--provider", "disc", *options)
    status, out, err = rmbg("remove", photo, target, *arguments)
    assert (status, out) == (2, "") and expected in message(err)
    assert disc.calls == [] and not target.exists()


def test_app_reports_an_invalid_setting_in_one_sentence():
    environment = {**os.environ, "RMBG_MAX_PIXELS": "many"}
    done = subprocess.run(python("app.py"), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 1
    assert done.stderr == "app.py: RMBG_MAX_PIXELS is 'many'; it must be a whole number of at least 1.\n"


@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("remove",), ("remove", "a.png"), ("serve", "--port", "x")])
def test_unknown_or_incomplete_command_exits_with_2(rmbg, arguments):
    status, out, err = rmbg(*arguments)
    assert (status, out) == (2, "") and "--help" in message(err)


def test_invalid_setting_exits_with_2(rmbg, photo, monkeypatch):
    monkeypatch.setenv("RMBG_MAX_PIXELS", "lots")
    status, out, err = rmbg("remove", photo, photo.parent / "o.png")
    assert (status, out) == (2, "") and "RMBG_MAX_PIXELS" in message(err)


def test_missing_input_exits_with_1(rmbg, photo):
    for path, expected in ((photo.parent / "no\nsuch.png", "no file"), (photo.parent, "folder"), ("", "folder")):
        status, out, err = rmbg("remove", path, photo.parent / "o.png", "--provider", "disc")
        assert (status, out) == (1, "") and expected in message(err)


def test_unwritable_output_is_detected_before_the_provider_runs(rmbg, photo, disc, monkeypatch):
    folder = photo.parent
    for target, expected in (
        (folder, "is a folder"),
        (folder / "none" / "o.png", "There is no folder"),
        (folder / ("long" * 100 + ".png"), "too long"),
    ):
        status, out, err = rmbg("remove", photo, target, "--provider", "disc")
        assert (status, out) == (1, "") and expected in message(err)
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != folder)  # permissions do not restrict root
    status, out, err = rmbg("remove", photo, folder / "o.png", "--provider", "disc")
    assert (status, out) == (1, "") and "may not be written" in message(err)
    assert disc.calls == [] and [entry.name for entry in folder.iterdir()] == [photo.name]


def test_full_disk_leaves_the_output_unchanged(rmbg, photo, monkeypatch):
    target = photo.parent / "o.png"
    target.write_bytes(b"previous content")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    status, out, err = rmbg("remove", photo, target, "--provider", "disc", "--json")
    assert (status, out) == (1, "") and "No space left" in message(err)
    assert target.read_bytes() == b"previous content"
    assert sorted(entry.name for entry in photo.parent.iterdir()) == [photo.name, "o.png"]


def test_json_with_picture_on_standard_output_is_rejected(rmbg, photo):
    status, out, err = rmbg("remove", photo, "-", "--json")
    assert (status, out) == (2, "") and "standard output" in message(err)


# --- Processes, pipes and signals --------------------------------------------------------------------------------------


def test_standard_input_to_standard_output(photo):
    with started("remove", "-", "-", "--background", "#ff8800") as process:
        out, err = process.communicate(photo.read_bytes(), timeout=180)
    assert (process.returncode, err) == (0, b"")
    with Image.open(io.BytesIO(out)) as image:
        assert image.format == "PNG" and image.getpixel((0, 0)) == (255, 136, 0) and image.size == (WIDTH, HEIGHT)


def test_library_warnings_do_not_reach_standard_error():
    """Pillow and libtiff log warnings about a damaged TIFF; standard error holds the error message only."""
    with started("remove", "-", "-") as process:
        out, err = process.communicate(saved("TIFF")[:40], timeout=180)
    assert (process.returncode, out) == (1, b"") and "standard input is damaged" in message(err)


def test_closed_reader_ends_the_command_without_a_message(photo):
    with started("remove", photo, "-") as process:
        process.stdout.close()
        process.wait(180)
        assert (process.returncode, process.stderr.read()) == (1, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_full_device_as_standard_output(photo):
    with open("/dev/full", "wb") as full, started("remove", photo, "-", stdout=full) as process:
        err = process.communicate(timeout=180)[1]
    assert process.returncode == 1 and "No space left" in message(err)


def unread(number: int) -> int:
    """Return the number of bytes in a pipe."""
    import fcntl
    import termios

    return int.from_bytes(fcntl.ioctl(number, termios.FIONREAD, bytes(4)), sys.byteorder)


@pytest.mark.skipif(os.name == "nt", reason="needs Unix signals")
def test_interrupt_exits_with_130_and_leaves_no_file(tmp_path):
    # A shell ignores SIGINT in background jobs, and child processes inherit that.
    listening = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with started("remove", "-", tmp_path / "o.png", **listening) as process:
        process.stdin.write(bytes(1_000_000))  # exceeds the pipe buffer: when write returns, the command is reading
        process.stdin.flush()
        assert until(lambda: unread(process.stdin.fileno()) == 0, 120)
        time.sleep(0.5)  # until it blocks in the next read; Python handles a signal late if it arrives just before one
        process.send_signal(signal.SIGINT)
        process.wait(180)
        assert (process.returncode, process.stdout.read()) == (130, b"") and message(process.stderr.read()) == "rmbg: Stopped."
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="needs a Unix shell")
def test_closed_standard_stream_is_a_usage_error(photo):
    compare = ["compare", "-", "--providers", "builtin", "--out", str(photo.parent)]
    for redirection, arguments in (("<&-", ["remove", "-", "o.png"]), ("<&-", compare), (">&-", ["remove", str(photo), "-"])):
        command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-m", "rmbg", *arguments]
        done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, timeout=180)
        assert done.returncode == 2 and "is closed" in message(done.stderr)


@pytest.mark.skipif(os.name == "nt", reason="needs a Unix shell")
def test_closed_standard_error_does_not_stop_the_command(photo):
    out = photo.parent / "out.png"
    command = ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-m", "rmbg", "remove", photo, out, "--provider", "builtin"]
    subprocess.run(command, cwd=ROOT, timeout=180)
    assert out.exists()


def test_output_is_escaped_for_the_encoding_of_the_stream(disc, monkeypatch):
    """On Windows a pipe has an 8-bit encoding."""
    monkeypatch.setattr(disc, "info", replace(disc.info, model="a disc – 図"))
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["providers"]) == 0
    assert b"a disc \\u2013" in out.buffer.getvalue()


def test_serve_reports_a_port_that_is_in_use(rmbg):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = started("serve", "--host", "127.0.0.1", "--port", taken.getsockname()[1])
        err = process.communicate(timeout=180)[1]
    assert "The page cannot be opened at 127.0.0.1: Cannot find empty port" in message(err)
    assert process.returncode == 1
    status, _, err = rmbg("serve", "--port", "70000")
    assert status == 2 and "between 1 and 65535" in message(err)


@pytest.mark.parametrize("days", ["nan", "inf", "-1", "0"])
def test_invalid_number_of_days_exits_with_2(rmbg, days):
    status, out, err = rmbg("spent", "--days", days)
    assert (status, out) == (2, "") and "--days" in message(err)
