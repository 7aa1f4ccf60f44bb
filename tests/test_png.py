"""PNG files that others can read, and that are no larger than theirs."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from rmbg import png

RANDOM = np.random.default_rng(0)


def pillow(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=4)
    return out.getvalue()


@pytest.mark.parametrize("shape", [(1, 1), (1, 7, 3), (3, 1, 4), (255, 9, 4), (256, 5), (257, 300, 3), (1030, 33, 4)])
@pytest.mark.parametrize("kind", ["noise", "flat", "steps"])
def test_what_is_written_can_be_read(shape, kind):
    pixels = {
        "noise": RANDOM.integers(0, 256, shape, np.uint8),
        "flat": np.full(shape, 200, np.uint8),
        "steps": (np.arange(np.prod(shape)) % 251).astype(np.uint8).reshape(shape),
    }[kind]
    image = Image.open(io.BytesIO(png.encode(pixels)))
    image.verify()  # the checksums
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png.encode(pixels)))), pixels)


def test_a_view_with_gaps_is_written_as_it_looks():
    pixels = RANDOM.integers(0, 256, (40, 60, 4), np.uint8)[::2, ::3, :3]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png.encode(pixels)))), pixels)


def test_photos_and_drawings_are_not_larger_than_pillow_writes_them():
    rows, columns = np.mgrid[:600, :800]
    photo = np.stack([rows / 4, columns / 6, (rows + columns) / 8], -1) + RANDOM.normal(0, 3, (600, 800, 3))
    drawing = np.zeros((600, 800, 3), np.uint8)
    drawing[(rows // 20 + columns // 30) % 7 < 3] = (200, 30, 60)
    for pixels in (np.clip(photo, 0, 255).astype(np.uint8), drawing):
        assert len(png.encode(pixels)) < 1.3 * len(pillow(pixels))


def test_checksums_of_pieces():
    data = RANDOM.integers(0, 256, 200_000, np.uint8).tobytes()
    for cut in (0, 1, 65521, 199_999):
        first, second = data[:cut], data[cut:]
        assert png.join_adler32(zlib.adler32(first), zlib.adler32(second), len(second)) == zlib.adler32(data)
