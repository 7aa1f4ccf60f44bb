"""Encoding of pixels, and atomic writing of files."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rmbg.errors import OptionError, OutputError
from rmbg.images import encode
from rmbg.images.encode import FORMATS
from rmbg.runtime import files
from tests.sentences import sentence

ALPHA_FORMATS = [name for name, form in FORMATS.items() if form.alpha]


def smooth(height: int = 64, width: int = 96) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([60 + x, 200 - 2 * y, 80 + x // 2 + y], axis=-1).astype(np.uint8)


def cutout() -> np.ndarray:
    """Return a disc with a soft edge, black where alpha is 0: uint8 (64, 96, 4)."""
    y, x = np.mgrid[0:64, 0:96]
    alpha = np.clip((28 - np.hypot(x - 48, y - 32)) * 20, 0, 255).astype(np.uint8)
    pixels = np.dstack([smooth(), alpha])
    pixels[alpha == 0] = 0
    return pixels


def decoded(data: bytes) -> tuple[np.ndarray, str]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image), image.format


@pytest.fixture(autouse=True)
def need_avif(request):
    if "avif" in request.node.name and "avif" not in {form.id for form in encode.available()}:
        pytest.skip("this Pillow has no AVIF")


@pytest.mark.parametrize("name", ["png", "webp"])
@pytest.mark.parametrize("channels", [3, 4])
def test_lossless_formats_are_exact(name, channels):
    pixels = np.random.default_rng(5).integers(0, 256, (40, 50, channels), np.uint8)
    if channels == 4:
        pixels[:10, :, 3] = 0
        pixels[pixels[..., 3] == 0] = 0
    result, form = decoded(encode.encode(pixels, FORMATS[name]))
    np.testing.assert_array_equal(result, pixels)
    assert form == name.upper()


def test_masks_keep_their_values():
    mask = np.random.default_rng(5).integers(0, 256, (40, 50), np.uint8)
    np.testing.assert_array_equal(decoded(encode.encode(mask, FORMATS["png"]))[0], mask)
    np.testing.assert_array_equal(decoded(encode.encode(mask, FORMATS["webp"]))[0], mask[..., None].repeat(3, 2))
    flat = smooth()[..., 0]
    for name in ("jpeg", "webp-lossy", "avif"):
        result = decoded(encode.encode(flat, FORMATS[name]))[0]
        assert result.shape[:2] == flat.shape
        assert np.abs(result.reshape(*flat.shape, -1)[..., 0].astype(int) - flat).mean() < 2


@pytest.mark.parametrize(("name", "format_"), [("jpeg", "JPEG"), ("webp-lossy", "WEBP"), ("avif", "AVIF")])
def test_lossy_formats_are_close(name, format_):
    result, form = decoded(encode.encode(smooth(), FORMATS[name], quality=95))
    assert form == format_ and result.shape == smooth().shape
    assert np.abs(result.astype(int) - smooth()).mean() < 2


@pytest.mark.parametrize("name", ["webp-lossy", "avif"])
def test_lossy_formats_keep_alpha(name):
    pixels = cutout()
    result, _ = decoded(encode.encode(pixels, FORMATS[name]))
    difference = np.abs(result[..., 3].astype(int) - pixels[..., 3])
    assert difference.max() == 0 if name == "webp-lossy" else difference.mean() < 2
    solid = pixels[..., 3] == 255
    assert np.abs(result[solid].astype(int) - pixels[solid])[:, :3].mean() < 6


@pytest.mark.parametrize("name", ["png", "webp"])
def test_transparent_pixels_stay_black(name):
    result, _ = decoded(encode.encode(cutout(), FORMATS[name]))
    assert result[result[..., 3] == 0].max() == 0


@pytest.mark.parametrize("color", [(255, 255, 255), (10, 200, 30)])
def test_jpeg_is_flattened_on_the_matte_color(color):
    pixels = cutout()
    result, _ = decoded(encode.encode(pixels, FORMATS["jpeg"], quality=100, matte_color=color))
    alpha = pixels[..., 3:] / 255
    exact = pixels[..., :3] * alpha + np.array(color) * (1 - alpha)
    assert result.shape == (64, 96, 3)
    assert np.abs(result - exact).max() <= 12 and np.abs(result - exact).mean() < 1
    assert np.abs(result[0, 0].astype(int) - color).max() <= 2


@pytest.mark.parametrize("name", ["jpeg", "webp-lossy", "avif"])
def test_size_increases_with_quality(name):
    rng = np.random.default_rng(9)
    noisy = rng.integers(0, 2, (300, 300, 3), np.uint8) * 255  # the hardest content for a codec
    sizes = [len(encode.encode(noisy, FORMATS[name], quality=quality)) for quality in (1, 50, 90, 100)]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]


@pytest.mark.parametrize("quality", [0, -1, 101, 1000])
@pytest.mark.parametrize("name", FORMATS)
def test_quality_out_of_range(name, quality):
    with pytest.raises(OptionError, match="between 1 and 100") as caught:
        encode.encode(smooth(), FORMATS[name], quality=quality)
    sentence(caught.value)


@pytest.mark.parametrize("name", encode.LONGEST)
def test_longest_sides_of_the_formats(name):
    longest = encode.LONGEST[name]
    for shape in ((longest + 1, 1), (1, longest + 1)):
        with pytest.raises(OptionError, match="Choose PNG") as caught:
            encode.encode(np.zeros(shape, np.uint8), FORMATS[name])
        sentence(caught.value)
    assert decoded(encode.encode(np.zeros((1, longest, 3), np.uint8), FORMATS[name]))[0].shape == (1, longest, 3)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("png", "png"),
        (".PNG", "png"),
        ("JPG", "jpeg"),
        (".jpe", "jpeg"),
        (".jfif", "jpeg"),
        ("WebP", "webp"),
        ("webp-lossy", "webp-lossy"),
    ],
)
def test_names_of_formats(name, expected):
    assert encode.format_named(name).id == expected


@pytest.mark.parametrize("name", ["gif", ".bmp", "", "x\ny", "long" * 100])
def test_unknown_formats_are_errors_that_list_the_known_ones(name):
    with pytest.raises(OptionError) as caught:
        encode.format_named(name)
    assert "png, webp, webp-lossy, jpeg" in sentence(caught.value)


# --- files -------------------------------------------------------------------------------------------------------------


def listing(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_write_and_overwrite(tmp_path):
    path = tmp_path / "ein Bild äöü 図.png"
    files.write(path, b"one")
    files.write(str(path), b"two and more")
    assert path.read_bytes() == b"two and more"
    assert listing(tmp_path) == [path.name]


def test_written_files_keep_permissions(tmp_path):
    before = os.umask(0o027)
    try:
        files.write(tmp_path / "new", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    (tmp_path / "new").chmod(0o604)
    files.write(tmp_path / "new", b"y")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o604


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace", "pathlib.Path.chmod"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "stopped"])
def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch, step, error):
    path = tmp_path / "photo.png"
    path.write_bytes(b"what was there")

    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(step, fail)
    with pytest.raises(OutputError if isinstance(error, OSError) else KeyboardInterrupt) as caught:
        files.write(path, b"new")
    if isinstance(error, OSError):
        assert "No space left" in sentence(caught.value)
    assert path.read_bytes() == b"what was there"
    assert listing(tmp_path) == ["photo.png"]


def unwritable(path: Path, *words: str) -> None:
    for attempt in (lambda: files.check_writable(path), lambda: files.write(path, b"x")):
        with pytest.raises(OutputError) as caught:
            attempt()
        for word in words:
            assert word in sentence(caught.value)


def test_unwritable_paths_are_rejected(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    unwritable(tmp_path, "is a folder")
    unwritable(tmp_path / "none" / "photo.png", "There is no folder")
    unwritable(tmp_path / "file" / "photo.png", "There is no folder")
    unwritable(tmp_path / "a\0b", "name")
    unwritable(tmp_path / "two\nlines" / "x.png", "two lines")
    unwritable(tmp_path / "/".join(["deep"] * 100) / "x.png", "There is no folder")
    unwritable(tmp_path / ("long" * 100), "too long")
    assert listing(tmp_path) == ["file"]


def test_missing_permission_is_reported(tmp_path, monkeypatch):
    path = tmp_path / "photo.png"
    allowed = os.access
    # The tests may run as root, whom no permission stops.
    monkeypatch.setattr("os.access", lambda p, mode: Path(p) != tmp_path and allowed(p, mode))
    unwritable(path, "The folder", "may not be written to")
    path.write_bytes(b"kept")
    monkeypatch.setattr("os.access", lambda p, mode: Path(p) != path and allowed(p, mode))
    unwritable(path, "exists and may not be written to")
    assert path.read_bytes() == b"kept"


@pytest.mark.skipif(os.name == "nt", reason="no named pipes with names in folders")
def test_special_files_are_written_in_place(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        files.write(pipe, b"through")
        assert os.read(reader, 100) == b"through"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert listing(tmp_path) == ["pipe"]
