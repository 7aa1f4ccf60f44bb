"""rmbg.matting.retouch: strokes of a brush."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from rmbg.errors import OptionError
from rmbg.matting import retouch as module
from rmbg.matting.retouch import Stroke, check_strokes, parse_stroke, retouch, to_json

HEIGHT, WIDTH = 600, 800


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture
def cutout(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The left half, with colors that differ from the photo's."""
    matte = np.zeros((HEIGHT, WIDTH), np.float32)
    matte[:, : WIDTH // 2] = 1
    return matte, np.where(matte[..., None] > 0, 255 - rgb, 0).astype(np.uint8)


def distance(points: list[tuple[float, float]]) -> np.ndarray:
    """Distance of each pixel center from a polyline, by its definition: float64 (H, W)."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    best = np.full((HEIGHT, WIDTH), np.inf)
    for (ax, ay), (bx, by) in itertools.pairwise(points):
        dx, dy = bx - ax, by - ay
        t = np.clip(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy), 0, 1)
        best = np.minimum(best, np.hypot(x - ax - t * dx, y - ay - t * dy))
    return best


def test_keep_restores_the_photo_and_erase_makes_transparent(cutout, rgb):
    matte, foreground = cutout
    strokes = [Stroke("keep", 30, ((600, 300),)), Stroke("erase", 30, ((200, 300),))]
    new_matte, new_foreground = retouch(matte, foreground, rgb, strokes)
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    kept, erased = np.hypot(x - 600, y - 300), np.hypot(x - 200, y - 300)
    assert (new_matte[kept < 25] == 1).all() and (new_foreground[kept < 25] == rgb[kept < 25]).all()
    assert (new_matte[erased < 25] == 0).all() and not new_foreground[erased < 25].any(), "no hidden colors remain"
    untouched = (kept > 36) & (erased > 36)
    np.testing.assert_array_equal(new_matte[untouched], matte[untouched])
    np.testing.assert_array_equal(new_foreground[untouched], foreground[untouched])
    ring = (erased > 29) & (erased < 31)
    assert 0.3 < new_matte[ring].mean() < 0.7 and (new_foreground[ring] == foreground[ring]).all(), "a soft edge"


@pytest.mark.parametrize("radius", [0.5, 3.0, 40.0, 170.0])
def test_coverage_follows_the_polyline(cutout, rgb, radius):
    points = [(100.0, 120.0), (700.0, 200.0), (650.5, 560.0), (640.0, 300.0)]
    empty = np.zeros((HEIGHT, WIDTH), np.float32)
    covered, _ = retouch(empty, np.zeros_like(rgb), rgb, [Stroke("keep", radius, tuple(points))])
    ramp = max(1.0, 0.3 * radius)
    expected = np.clip((radius - distance(points)) / ramp + 0.5, 0, 1)
    assert np.abs(covered - expected).max() < (1e-3 if radius < 24 else 0.07)
    assert np.abs(covered - expected).mean() < 1e-3


def test_strokes_apply_in_their_order(cutout, rgb):
    keep, erase = (Stroke(mode, 20, ((400, 300), (420, 310))) for mode in ("keep", "erase"))
    assert retouch(*cutout, rgb, [keep, erase])[0][300, 400] == 0
    matte, foreground = retouch(*cutout, rgb, [erase, keep])
    assert matte[300, 400] == 1 and (foreground[300, 400] == rgb[300, 400]).all()


def test_own_alpha_limits_what_is_kept(cutout, rgb):
    own = np.full((HEIGHT, WIDTH), 128, np.uint8)
    own[:, 600:] = 0
    matte, foreground = retouch(*cutout, rgb, [Stroke("keep", 50, ((600, 300),))], own)
    assert matte[300, 590] == pytest.approx(128 / 255) and matte[300, 610] == 0 and not foreground[300, 610].any()


def test_a_part_is_the_same_as_in_the_whole(cutout, rgb):
    """Across the borders of tiles, with a radius whose coverage is interpolated."""
    strokes = [Stroke("keep", 60, ((500, 100), (530, 520))), Stroke("erase", 9.5, ((420, 500), (520, 510)))]
    whole = retouch(*cutout, rgb, strokes)[0]
    rows, columns = slice(77, 590), slice(411, 700)
    matte, foreground = cutout
    moved = [stroke.transformed(left=411, top=77) for stroke in strokes]
    part = retouch(matte[rows, columns], foreground[rows, columns], rgb[rows, columns], moved)[0]
    assert np.abs(part - whole[rows, columns]).max() < 0.06
    half = strokes[0].transformed(0.5)
    assert half.radius == 30 and half.points == ((250, 50), (265, 260))


def test_json_of_a_stroke():
    stroke = Stroke("erase", 12.5, ((-3.0, 4.5), (800.0, 600.0)))
    assert parse_stroke(to_json(stroke), WIDTH, HEIGHT) == stroke


VALID = {"mode": "keep", "radius": 5, "points": [1, 2, 3, 4]}


@pytest.mark.parametrize(
    "change",
    [
        {"mode": "invert"},
        {"mode": None},
        {"mode": ["keep"]},
        {"radius": 0.4},
        {"radius": 801},
        {"radius": "5"},
        {"radius": True},
        {"radius": math.nan},
        {"radius": math.inf},
        {"radius": 10**400},
        {"points": []},
        {"points": [1]},
        {"points": [1, 2, 3]},
        {"points": [1, 606]},
        {"points": [-6, 2]},
        {"points": [math.nan, 2]},
        {"points": [True, 2]},
        {"points": [[1, 2]]},
        {"points": "12"},
        {"points": {"0": 1}},
        {"points": [1, 2] * 251},
        {"more": 1},
    ],
)
def test_invalid_strokes_are_rejected(change):
    parse_stroke(VALID, WIDTH, HEIGHT)
    with pytest.raises(OptionError) as caught:
        parse_stroke({**VALID, **change}, WIDTH, HEIGHT)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("value", [None, [], 3, "keep", {"mode": "keep", "radius": 5}])
def test_other_values_are_no_strokes(value):
    with pytest.raises(OptionError):
        parse_stroke(value, WIDTH, HEIGHT)


def test_strokes_of_a_program_are_checked_too():
    for values in (("both", 3, ((0, 0),)), ("keep", 0, ((0, 0),)), ("keep", 3, ()), ("keep", 3, ((0, math.nan),))):
        with pytest.raises(OptionError):
            Stroke(*values)


def test_limits_of_all_strokes_together():
    stroke = Stroke("keep", 5, tuple((float(x), 2.0) for x in range(100)))
    check_strokes([stroke] * (module.MAX_TOTAL_POINTS // 100), WIDTH, HEIGHT)
    with pytest.raises(OptionError, match="points"):
        check_strokes([stroke] * (module.MAX_TOTAL_POINTS // 100 + 1), WIDTH, HEIGHT)
    with pytest.raises(OptionError, match="strokes"):
        check_strokes([Stroke("keep", 1, ((0, 0),))] * (module.MAX_STROKES + 1), WIDTH, HEIGHT)
    wide = Stroke("erase", 400, ((0, 0), (800, 600)) * 20)
    check_strokes([wide], 8000, 6000)
    with pytest.raises(OptionError, match="cover the photo too many times"):
        check_strokes([wide] * 3, WIDTH, HEIGHT)
    thin = Stroke("erase", 0.5, ((0, 0), (800, 0)) * 100)
    check_strokes([thin] * 10, WIDTH, HEIGHT)
    with pytest.raises(OptionError, match="too long together"):
        check_strokes([thin] * 11, WIDTH, HEIGHT)


def test_coverage_of_zigzags_across_tiles(rgb):
    """Steep and flat segments, a repeated point, and a cell grid of several pixels."""
    points = [(790.0 * (i % 2) + 5, 20.0 + 9 * i) for i in range(60)] + [(13.0 * i, 590.0 * (i % 2) + 5) for i in range(60)]
    points.append(points[-1])
    empty = np.zeros((HEIGHT, WIDTH), np.float32)
    for radius, tolerance in ((0.7, 1 / 255), (2.5, 1 / 255), (52.0, 0.07)):
        covered, _ = retouch(empty, np.zeros_like(rgb), rgb, [Stroke("keep", radius, tuple(points))])
        expected = np.clip((radius - distance(points[:-1])) / max(1.0, 0.3 * radius) + 0.5, 0, 1)
        assert np.abs(covered - expected).max() < tolerance
