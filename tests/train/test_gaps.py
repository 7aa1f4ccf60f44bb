"""Trimaps of masks that cover gaps."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from train import gaps
from train.data import TRIMAPS, UNKNOWN, load_pairs
from train.gaps import find_gaps

FRAME, GAP, CUSHION = (slice(30, 170), slice(40, 160)), (slice(50, 90), slice(60, 140)), (slice(110, 150), slice(60, 140))


def chair(wall: tuple[int, int, int] = (205, 205, 200)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Photo of a red frame with a gap and a cushion in front of a wall, a mask that covers both, and perfect logits."""
    rgb = np.empty((200, 200, 3), np.uint8)
    rgb[:] = wall
    rgb[FRAME] = (150, 30, 25)
    rgb[CUSHION] = (40, 60, 150)
    rgb[GAP] = wall
    noise = np.random.default_rng(3).integers(-4, 5, rgb.shape)
    mask = np.zeros((200, 200), np.float32)
    mask[FRAME] = 1
    logits = 12 * mask - 6
    logits[GAP] = -6
    return (rgb + noise).clip(0, 255).astype(np.uint8), mask, logits


def share(trimap: np.ndarray, window: tuple[slice, slice], value: int) -> float:
    """Fraction of a window, without its rim of four pixels, that has a value."""
    rows, columns = window
    return float((trimap[rows.start + 4 : rows.stop - 4, columns.start + 4 : columns.stop - 4] == value).mean())


def test_gaps_become_background_and_solid_parts_stay() -> None:
    rgb, mask, logits = chair()
    trimap = find_gaps(rgb, mask, logits)
    assert trimap.dtype == np.uint8
    assert share(trimap, GAP, 0) > 0.98
    assert share(trimap, CUSHION, 255) > 0.98
    assert (trimap[mask == 0] == 0).all()
    assert (trimap == UNKNOWN).mean() < 0.05


def test_the_color_of_the_wall_decides_where_the_network_is_uncertain() -> None:
    rgb, mask, logits = chair()
    logits[GAP] = logits[CUSHION] = 0.3
    trimap = find_gaps(rgb, mask, logits)
    assert share(trimap, GAP, 0) > 0.98
    assert share(trimap, CUSHION, 255) > 0.9


def test_a_gap_that_the_network_fills_is_unknown() -> None:
    rgb, mask, logits = chair()
    logits[GAP] = 5
    trimap = find_gaps(rgb, mask, logits)
    assert share(trimap, GAP, UNKNOWN) > 0.9


def test_a_part_that_the_network_misses_is_unknown() -> None:
    rgb, mask, logits = chair()
    logits[:70] = -6  # up to the outline, without a frame
    trimap = find_gaps(rgb, mask, logits)
    top = slice(30, 46), FRAME[1]
    assert share(trimap, top, 0) == 0
    assert share(trimap, top, UNKNOWN) > 0.9


def test_an_empty_mask_stays_empty() -> None:
    rgb, mask, logits = chair()
    assert not find_gaps(rgb, 0 * mask, logits).any()


def test_trimaps_replace_the_masks_they_were_made_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rgb, mask, logits = chair()
    for name in (f"{TRIMAPS[0]}7", "other"):
        for part, pixels in (("im", rgb), ("gt", (mask * 255).astype(np.uint8))):
            (tmp_path / part).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / part / f"{name}.png")
    monkeypatch.setattr(gaps, "predict", lambda forward, picture: (logits, 1.0))
    monkeypatch.setattr("sys.argv", ["gaps", str(tmp_path / "out"), "--source", str(tmp_path)])
    gaps.main()
    pairs = load_pairs((tmp_path, tmp_path / "out"), tmp_path / "cache", 96)
    assert sorted(pairs.names) == [f"{TRIMAPS[0]}7", "other"]
    center = pairs.squares[:, 34, 48, 3]
    assert [int(center[pairs.names.index(name)]) for name in (f"{TRIMAPS[0]}7", "other")] == [0, 255]
