import numpy as np
import pytest

from train.procedural import KINDS, compose, placement, rasterize, render, strips


@pytest.mark.parametrize("kind", KINDS)
def test_a_subject_has_background_and_foreground(kind):
    foreground, alpha = render(np.random.default_rng(1), 96, 128, kind)
    assert foreground.shape == (96, 128, 3)
    assert alpha.shape == (96, 128)
    assert foreground.dtype == alpha.dtype == np.float32
    assert foreground.min() >= 0
    assert foreground.max() <= 1
    assert 0 <= alpha.min() < 0.01
    assert 0.3 < alpha.max() <= 1
    assert 0.005 < alpha.mean() < 0.7


@pytest.mark.parametrize("kind", ["glass", "smoke"])
def test_translucent_subjects_have_regions_of_partial_alpha(kind):
    _, alpha = render(np.random.default_rng(3), 96, 96, kind)
    assert ((alpha > 0.05) & (alpha < 0.95)).sum() > 0.5 * (alpha > 0.05).sum()


def test_alpha_is_the_covered_area():
    square = np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])
    alpha = rasterize([(square, 1.0)], np.array([[10.5, 0, 4.0], [0, 8, 4]]), 16, 20)
    # Polygons include their right and bottom outline, a sample wide.
    assert alpha[4:12, 4:14].min() == 1
    assert alpha[6, 14] == pytest.approx(0.75, abs=0.01)
    assert alpha[:4].max() == 0


def test_the_outline_of_a_stroke_has_its_width():
    (outline,) = strips(np.array([[(0.0, 0.0), (1.0, 0.0)]]), np.array(0.2))
    assert np.ptp(outline[:, 1]) == pytest.approx(0.2)


def test_the_same_seed_gives_the_same_subject_at_every_size():
    small, large = (
        rasterize(KINDS["cage"](rng := np.random.default_rng(5)), placement(rng, side, side), side, side) for side in (128, 512)
    )
    reduced = large.reshape(128, 4, 128, 4).mean((1, 3))
    assert np.abs(reduced - small).mean() < 0.05
    assert np.corrcoef(reduced.ravel(), small.ravel())[0, 1] > 0.9


def test_composition_uses_alpha():
    rgb = compose(np.ones((1, 3, 3), np.float32), np.array([[0, 0.5, 1]], np.float32), np.zeros((1, 3, 3), np.uint8))
    assert rgb[0, :, 0].tolist() == [0, 128, 255]
