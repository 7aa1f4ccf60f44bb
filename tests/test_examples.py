"""The example photos: each has an exact matte, and the set is small."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
CATEGORIES = ("creative", "ecommerce", "headshots")
PICTURES = sorted(path for category in CATEGORIES for path in (EXAMPLES / category / "im").glob("*.jpg"))


def matte_path(picture):
    return picture.parents[1] / "gt" / f"{picture.stem}.png"


def matte(picture):
    return np.asarray(Image.open(matte_path(picture)), np.float64) / 255


def test_there_are_at_least_six_photos_in_three_categories():
    assert len(PICTURES) >= 6
    assert {p.parents[1].name for p in PICTURES} == set(CATEGORIES)


def test_mattes_and_photos_match_one_to_one():
    mattes = {path for category in CATEGORIES for path in (EXAMPLES / category / "gt").iterdir()}
    assert mattes == {matte_path(p) for p in PICTURES}


def test_total_file_size_is_limited():
    assert sum(f.stat().st_size for p in PICTURES for f in (p, matte_path(p))) <= 2_500_000


@pytest.mark.parametrize("picture", PICTURES, ids=lambda p: p.stem)
def test_matte_is_eight_bit_gray_at_the_size_of_the_photo(picture):
    with Image.open(picture) as image, Image.open(matte_path(picture)) as alpha:
        assert image.mode == "RGB"
        assert alpha.mode == "L"
        assert alpha.size == image.size


@pytest.mark.parametrize("picture", PICTURES, ids=lambda p: p.stem)
def test_subject_covers_5_to_75_percent_of_the_frame(picture):
    alpha = matte(picture)
    assert 0.05 <= (alpha >= 0.5).mean() <= 0.75
    assert alpha.min() == 0
    assert alpha.max() == 1


@pytest.mark.parametrize("picture", PICTURES, ids=lambda p: p.stem)
def test_matte_edges_coincide_with_photo_edges(picture):
    """The gradients of alpha and photo correlate better than after a shift of the matte by six pixels."""
    gray = np.asarray(Image.open(picture).convert("L"), np.float64)
    edges = np.hypot(*np.gradient(gray))
    border = np.hypot(*np.gradient(matte(picture)))
    aligned = (edges * border).sum()
    for shift in ((0, 6), (6, 0), (0, -6), (-6, 0)):
        assert aligned > 1.05 * (edges * np.roll(border, shift, (0, 1))).sum()


def test_at_least_two_creative_mattes_are_soft():
    soft = {p.stem: ((matte(p) > 0.05) & (matte(p) < 0.95)).mean() for p in PICTURES if p.parents[1].name == "creative"}
    assert sum(area > 0.02 for area in soft.values()) >= 2, soft
