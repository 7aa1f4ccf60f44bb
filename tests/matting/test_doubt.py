"""Estimated quality of mattes."""

from __future__ import annotations

import numpy as np
import pytest

from rmbg.matting.doubt import SIDE, estimate_iou, evidence
from rmbg.matting.matte import to_bytes


def disc(radius: float = 0.5, height: int = 600, width: int = 800) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    distance = np.hypot(x - width / 2, y - height / 2) - radius * height / 2
    return np.clip(0.5 - distance / 4, 0, 1)


def test_clean_matte_has_no_defects():
    found = evidence(disc(), disc())
    assert found.disagreement == 0 and found.fragmentation == 0 and found.softness < 0.02
    assert estimate_iou(disc(), disc()) > estimate_iou(disc()) > 0.85


def test_disagreement_counts_as_much_as_the_other_matte_is_trusted():
    estimates = [estimate_iou(disc(), disc(0.3), trust) for trust in (0.0, 0.5, 0.8, 1.0)]
    assert estimates == sorted(estimates, reverse=True) and estimates[0] - estimates[-1] > 0.3


def test_half_transparent_inside_is_doubtful():
    hesitant = disc() * np.float32(0.6)
    assert evidence(hesitant).softness > 0.9 and estimate_iou(hesitant) < 0.3


def test_fragments_and_holes_are_counted():
    holed = disc() * (1 - disc(0.1))
    parts = np.maximum(disc(), np.roll(disc(0.1), 350, axis=1))
    assert evidence(holed).fragmentation == pytest.approx(0.04, abs=0.01)
    assert evidence(parts).fragmentation == pytest.approx(0.04, abs=0.01)
    assert estimate_iou(parts) < estimate_iou(disc())


def test_empty_and_tiny_mattes():
    assert estimate_iou(np.zeros((40, 50), np.float32)) == 0
    assert 0 <= estimate_iou(np.ones((1, 1), np.float32)) <= 1
    assert 0 <= estimate_iou(np.ones((2, 5 * SIDE), np.float32), np.ones((2, 5 * SIDE), np.float32)) <= 1


def test_stored_matte_has_the_same_estimate():
    stored = to_bytes(disc()).astype(np.float32) / np.float32(255)
    assert estimate_iou(stored, disc(0.4), 0.7) == estimate_iou(disc(), disc(0.4), 0.7)
