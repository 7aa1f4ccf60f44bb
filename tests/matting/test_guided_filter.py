"""rmbg.matting.guided_filter: upsampling along the photo's edges."""

import numpy as np
import pytest

from rmbg.matting.guided_filter import upsample_guided
from rmbg.matting.matte import resize
from tests.pictures import iou, scene


def test_edges_follow_the_photo():
    """Upsampled from 40 pixels, the error is less than half of that of bilinear interpolation."""
    photo, alpha, _, _ = scene(480, 640, soft=1.0)
    small = resize(alpha, 30, 40)
    guided = upsample_guided(small, photo)
    plain = resize(small, 480, 640)
    assert np.abs(guided - alpha).mean() < 0.5 * np.abs(plain - alpha).mean()
    assert iou(guided, alpha) > 0.99


@pytest.mark.parametrize("height, width", [(31, 700), (700, 31), (513, 511)])
def test_any_photo_size(height, width):
    photo, alpha, _, _ = scene(height, width, soft=1.0)
    result = upsample_guided(resize(alpha, 64, 64), photo)
    assert result.shape == (height, width) and result.dtype == np.float32
    assert result.min() >= 0 and result.max() <= 1


def test_constant_mattes_stay_constant():
    photo = scene()[0]
    for level in (0.0, 1.0):
        flat = upsample_guided(np.full((20, 20), level, np.float32), photo)
        assert (flat == level).all()
