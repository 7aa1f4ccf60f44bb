"""rmbg.images.encode: lossless round trip, file size, checksums."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from rmbg.images import encode

RANDOM = np.random.default_rng(0)


def pillow(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=4)
    return out.getvalue()


@pytest.mark.parametrize("shape", [(1, 1), (1, 7, 3), (3, 1, 4), (255, 9, 4), (256, 5), (257, 300, 3), (1030, 33, 4)])
@pytest.mark.parametrize("kind", ["noise", "flat", "steps"])
def test_round_trip(shape, kind):
    pixels = {
        "noise": RANDOM.integers(0, 256, shape, np.uint8),
        "flat": np.full(shape, 200, np.uint8),
        "steps": (np.arange(np.prod(shape)) % 251).astype(np.uint8).reshape(shape),
    }[kind]
    image = Image.open(io.BytesIO(encode.encode_png(pixels)))
    image.verify()  # verifies the checksums
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode.encode_png(pixels)))), pixels)


def test_non_contiguous_arrays():
    pixels = RANDOM.integers(0, 256, (40, 60, 4), np.uint8)[::2, ::3, :3]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode.encode_png(pixels)))), pixels)


def test_files_are_at_most_30_percent_larger_than_those_of_pillow():
    rows, columns = np.mgrid[:600, :800]
    photo = np.stack([rows / 4, columns / 6, (rows + columns) / 8], -1) + RANDOM.normal(0, 3, (600, 800, 3))
    drawing = np.zeros((600, 800, 3), np.uint8)
    drawing[(rows // 20 + columns // 30) % 7 < 3] = (200, 30, 60)
    for pixels in (np.clip(photo, 0, 255).astype(np.uint8), drawing):
        assert len(encode.encode_png(pixels)) < 1.3 * len(pillow(pixels))


def test_combined_checksums():
    data = RANDOM.integers(0, 256, 200_000, np.uint8).tobytes()
    for cut in (0, 1, 65521, 199_999):
        first, second = data[:cut], data[cut:]
        assert encode.combine_adler32(zlib.adler32(first), zlib.adler32(second), len(second)) == zlib.adler32(data)
