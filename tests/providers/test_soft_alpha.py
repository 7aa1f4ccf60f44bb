"""Soft alpha from a service to the saved file: translucent parts are neither sharpened nor stretched."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from rmbg.images.encode import FORMATS, encode
from tests.remote import cut
from tests.servers.removebg import RemoveBg

WIDTH, HEIGHT = 192, 128

#: Largest error of alpha without and with a change of size, with a margin for comparisons of floats.
EXACT, RESAMPLED = 1.001 / 255, 2.001 / 255

LEVELS = (0.1, 0.25, 0.5, 0.9)


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def photo() -> bytes:
    """A photo with strong edges, on which guided upsampling would change the matte: bytes of a PNG."""
    rng = np.random.default_rng(3)
    blocks = rng.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    blocks[:, WIDTH // 2 :] = blocks[:, WIDTH // 2 :] // 4 + 180
    return png(blocks)


def ramp(width: int, height: int) -> np.ndarray:
    """Alpha from 0 at the left to 1 at the right, by the position of a pixel's center: float (height, width)."""
    return np.tile((np.arange(width) + 0.5) / width, (height, 1))


def result(alpha: np.ndarray, kind: str) -> bytes:
    """A service's result, as a cutout or as a mask: bytes of a PNG."""
    gray = np.rint(alpha * 255).astype(np.uint8)
    return png(gray if kind == "alpha" else np.dstack([np.full((*gray.shape, 3), 90, np.uint8), gray]))


def saved_alpha(alpha: np.ndarray, kind: str, folder) -> np.ndarray:
    """Alpha of the file that is saved for a service's result: float (HEIGHT, WIDTH)."""
    with RemoveBg() as service:
        service.picture = result(alpha, kind)
        cutout = cut(service, folder, "remove.bg", data=photo(), channels=kind)
    with Image.open(io.BytesIO(encode(cutout.render(), FORMATS["png"]))) as image:
        return np.asarray(image)[..., 3] / 255


@pytest.mark.parametrize(
    ("kind", "scale", "tolerance"),
    [("rgba", 1, EXACT), ("alpha", 1, EXACT), ("rgba", 0.5, RESAMPLED), ("rgba", 0.25, RESAMPLED), ("rgba", 2, RESAMPLED)],
)
def test_constants_and_ramps_of_a_service_are_kept(kind, scale, tolerance, tmp_path):
    size = round(WIDTH * scale), round(HEIGHT * scale)
    for level in LEVELS:
        alpha = saved_alpha(np.full(size[::-1], level), kind, tmp_path)
        assert np.abs(alpha - level).max() <= tolerance
    alpha = saved_alpha(ramp(*size), kind, tmp_path)
    inside = slice(round(4 / scale), -round(4 / scale))  # at the border the ramp is not continued
    assert np.abs(alpha - ramp(WIDTH, HEIGHT))[:, inside].max() <= tolerance


def test_a_translucent_part_beside_a_hard_edge_is_kept(tmp_path):
    """Glass of alpha 0.25 beside opaque parts, at half the photo's size."""
    alpha = np.zeros((HEIGHT // 2, WIDTH // 2))
    alpha[:, 20:] = 0.25
    alpha[:, 60:] = 1
    saved = saved_alpha(alpha, "rgba", tmp_path)
    assert np.abs(saved[:, 46:114] - 0.25).max() <= RESAMPLED
    assert saved[:, :34].max() <= RESAMPLED and saved[:, 126:].min() >= 1 - RESAMPLED
