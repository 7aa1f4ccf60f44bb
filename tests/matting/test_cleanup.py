"""rmbg.matting.cleanup and rmbg.matting.edges: regions, holes, smooth, shifted and feathered edges, inversion, ranges."""

import math

import numpy as np
import pytest
from scipy import ndimage

from rmbg.errors import OptionError
from rmbg.matting import cleanup
from rmbg.matting.edges import RANGES, AlphaMatting, EdgeSettings
from tests.pictures import disc


def test_only_the_largest_region_is_kept_with_its_soft_edge():
    """A removed region takes its faint rim with it; the soft edge of the largest one stays."""
    subject = ndimage.gaussian_filter(disc(200, 40), 2)
    other = ndimage.gaussian_filter(np.roll(disc(200, 12), (-70, -70), (0, 1)), 1)
    np.testing.assert_allclose(cleanup.keep_largest(np.maximum(subject, other)), subject, atol=0.005)


def test_specks_below_the_limit_are_removed():
    dirty = disc(200, 60)
    dirty[3:6, 3:6] = 1
    dirty[180:190, 180:190] = 1
    cleaned = cleanup.remove_specks(dirty, 50)
    assert cleaned[:10, :10].max() == 0 and cleaned[180:190, 180:190].min() == 1
    assert cleanup.remove_specks(dirty, 101)[180:190, 180:190].max() == 0
    assert cleanup.remove_specks(dirty, 10**6).max() == 0


def test_holes_below_the_limit_are_filled_with_their_rim():
    ring = disc(200, 60) - disc(200, 10)
    assert cleanup.fill_holes(ring, 200)[95:105, 95:105].max() < 0.1
    np.testing.assert_allclose(cleanup.fill_holes(ring, 400), disc(200, 60), atol=1e-6)


def test_background_at_the_border_is_no_hole():
    matte = 1 - disc(64, 20)
    matte[:5, :5] = 0
    filled = cleanup.fill_holes(matte, 10**6)
    assert filled[:5, :5].max() == 0 and filled[32, 32] == 1


@pytest.mark.parametrize("pixels", [-20, -3, -1.5, -0.25, 0.5, 1, 2, 7.3])
def test_shift_moves_the_edge_by_that_many_pixels(pixels):
    moved = cleanup.shift(disc(128, 30), pixels)
    assert math.sqrt(moved.sum() / math.pi) == pytest.approx(30 + pixels, abs=0.15)


@pytest.mark.parametrize("pixels", [-4, 4])
def test_shift_keeps_the_softness_of_the_edge(pixels):
    profile = np.clip((np.arange(200, dtype=np.float32) - 90) / 20, 0, 1)
    ramp = np.tile(profile, (150, 1))
    moved = cleanup.shift(ramp, pixels)
    np.testing.assert_allclose(moved[:, 40:160], np.roll(ramp, -pixels, axis=1)[:, 40:160], atol=0.2 / 20)


def test_shift_keeps_thin_and_faint_parts_when_it_grows():
    hair = np.zeros((64, 64), np.float32)
    hair[:, 30] = 0.4
    grown = cleanup.shift(hair, 2)
    assert grown[:, 28:33].min() == pytest.approx(0.4, abs=0.05) and grown[:, :27].max() == 0


@pytest.mark.parametrize("radius", [0.5, 1.0, 2.5, 6.0])
def test_dilation_is_the_maximum_over_a_disc(radius):
    noise = np.random.default_rng(2).random((40, 50), np.float32)
    y, x = np.mgrid[-8:9, -8:9]
    expected = ndimage.grey_dilation(noise, footprint=x * x + y * y <= radius * radius, mode="nearest")
    np.testing.assert_array_equal(cleanup._dilate(noise, radius), expected)


@pytest.mark.parametrize("pixels", [2.0, 30.0])
def test_feather_is_a_gaussian(pixels):
    matte = disc(400, 120)
    expected = ndimage.gaussian_filter(matte, pixels, mode="nearest")
    np.testing.assert_allclose(cleanup.feather(matte, pixels), expected, atol=0.01)


def test_smooth_straightens_a_jagged_outline_and_keeps_it_sharp():
    x = np.arange(240)
    jagged = (np.mgrid[:240, :240][0] > 120 + 2 * np.sign(np.sin(x * 1.3))[None]).astype(np.float32)
    smooth = cleanup.smooth(jagged, 4)
    heights = smooth[:, 20:-20].sum(axis=0)
    assert np.ptp(heights) < 0.3 * np.ptp(jagged[:, 20:-20].sum(axis=0))
    soft = ((smooth > 0.05) & (smooth < 0.95))[:, 20:-20].sum(axis=0)
    assert soft.max() <= 4


@pytest.mark.parametrize("level", [0.0, 0.1, 0.25, 0.5, 0.9, 1.0])
def test_filters_keep_constants(level):
    flat = np.full((90, 70), level, np.float32)
    flat[0, 0] = min(1.0, level + 0.01)  # so that the tile counts as one with an edge
    for filtered in (cleanup.smooth(flat, 3), cleanup.shift(flat, -2), cleanup.feather(flat, 3), cleanup.feather(flat, 20)):
        assert np.abs(filtered - level)[40:, 40:].max() < 1 / 255


def test_filters_keep_ramps():
    ramp = np.tile(np.linspace(0, 1, 300, dtype=np.float32), (80, 1))
    for filtered in (cleanup.smooth(ramp, 3), cleanup.feather(ramp, 3)):
        assert np.abs(filtered - ramp)[:, 20:-20].max() < 1 / 255


@pytest.mark.parametrize("edges", [EdgeSettings(smooth=2), EdgeSettings(shift=-3.5), EdgeSettings(feather=5)])
def test_tiles_leave_no_seams(edges, monkeypatch):
    rng = np.random.default_rng(1)
    matte = ndimage.gaussian_filter(rng.random((150, 170)) > 0.5, 2.0, output=np.float32)
    whole = cleanup.clean(matte, edges)
    monkeypatch.setattr(cleanup, "TILE", 32)
    np.testing.assert_allclose(cleanup.clean(matte, edges), whole, atol=1e-5)


def test_the_default_settings_change_nothing():
    matte = np.random.default_rng(1).random((30, 40), np.float32)
    np.testing.assert_array_equal(cleanup.clean(matte, EdgeSettings()), matte)


def test_own_alpha_limits_the_result_and_its_inversion():
    own = np.full((64, 64), 255, np.uint8)
    own[:, :20], own[:, 20:32] = 0, 128
    limit = own / np.float32(255)
    matte = disc() * limit
    grown = cleanup.clean(matte, EdgeSettings(shift=10), own)
    assert (grown <= limit).all() and (grown >= matte).all() and grown.sum() > 1.2 * matte.sum()
    inverted = cleanup.clean(matte, EdgeSettings(invert=True), own)
    np.testing.assert_allclose(inverted, limit - matte, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in RANGES if name in EdgeSettings.__dataclass_fields__])
def test_ranges(name):
    low, high, _ = RANGES[name]
    EdgeSettings(**{name: low}), EdgeSettings(**{name: high})
    for value in (low - 1, high + 1, math.nan, math.inf, -math.inf, "3", True, None):
        with pytest.raises(OptionError, match=f"^{name} is .*; it must be .*\\.$"):
            EdgeSettings(**{name: value})


def test_switches_and_whole_numbers_are_checked():
    for wrong in ({"largest": 1}, {"invert": "no"}, {"specks": 2.5}, {"holes": 0.5}):
        with pytest.raises(OptionError, match="it must be"):
            EdgeSettings(**wrong)
    assert EdgeSettings(specks=3.0, shift=1).changed() == {"specks": 3, "shift": 1.0}
    assert isinstance(EdgeSettings(specks=3.0).specks, int)


def test_alpha_matting_has_the_ranges_of_rembg_and_runware():
    assert (AlphaMatting().foreground_threshold, AlphaMatting().background_threshold, AlphaMatting().erode_size) == (
        240,
        10,
        10,
    )
    for wrong in ({"erode_size": 0}, {"erode_size": 256}, {"foreground_threshold": 0}, {"background_threshold": 256}):
        with pytest.raises(OptionError, match="from 1 to 255"):
            AlphaMatting(**wrong)
    with pytest.raises(OptionError, match="less than foreground_threshold"):
        AlphaMatting(foreground_threshold=10, background_threshold=240)
