import io

import numpy as np
import pytest
from PIL import Image

from train.data import read_pairs
from train.procedural import compose, draw_background, main, placement, rasterize, render
from train.shapes import KINDS, strips


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


def test_signs_show_pictures():
    picture = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    foreground, _ = render(np.random.default_rng(1), 96, 96, "sign", picture)
    assert np.array_equal(np.rint(foreground * 255), picture)


def test_backgrounds_are_parts_without_subject():
    rgb = np.zeros((100, 100, 3), np.uint8)
    mask = np.zeros((100, 100), np.float32)
    rgb[:, 60:], mask[:, 60:] = 255, 1
    rng = np.random.default_rng(2)
    background = draw_background([(rgb, np.ones_like(mask)), (rgb, mask)], 64, rng)
    assert background.shape == (64, 64, 3)
    assert background[:, :56].max() == 0  # blurred at the border at most
    assert draw_background([(rgb, np.ones_like(mask))], 64, rng).std() > 0


def test_pairs_on_backgrounds_are_written(tmp_path, monkeypatch):
    for part, mode in (("im", "RGB"), ("gt", "L")):
        (tmp_path / "pairs" / part).mkdir(parents=True)
        Image.new(mode, (40, 30)).save(tmp_path / "pairs" / part / "plain.png")
    words = ["procedural", str(tmp_path / "out"), "--count", "2", "--side", "64", "--backgrounds", str(tmp_path / "pairs")]
    monkeypatch.setattr("sys.argv", words)
    main()
    pairs = list(read_pairs(tmp_path / "out"))
    assert len(pairs) == 2 * len(KINDS)
    assert {Image.open(io.BytesIO(data)).size for pair in pairs for data in pair[1:]} == {(64, 64)}


def test_composition_uses_alpha():
    rgb = compose(np.ones((1, 3, 3), np.float32), np.array([[0, 0.5, 1]], np.float32), np.zeros((1, 3, 3), np.uint8))
    assert rgb[0, :, 0].tolist() == [0, 128, 255]
