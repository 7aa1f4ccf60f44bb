"""Pictures whose foreground, matte and background are all known, and the project's own examples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def examples() -> list[Path]:
    """The example photos; their true mattes lie beside them under ``gt``."""
    return sorted(EXAMPLES.glob("*/im/*.jpg"))


def truth(photo: Path) -> np.ndarray:
    """The true matte of an example: float32 (H, W) in [0, 1]."""
    return np.asarray(Image.open(photo.parents[1] / "gt" / f"{photo.stem}.png"), dtype=np.float32) / 255


def iou(matte: np.ndarray, true: np.ndarray) -> float:
    """Intersection over union of the two masks at one half."""
    one, other = matte >= 0.5, true >= 0.5
    return float((one & other).sum() / (one | other).sum())


def scene(height: int = 240, width: int = 320, soft: float = 4.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(photo uint8, alpha float32, foreground uint8, background uint8): a wavy red-brown subject on a green gradient.

    The edge goes from 0 to 1 over about four times `soft` pixels.
    """
    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle = np.arctan2(y - height / 2, x - width / 2)
    radius = np.hypot(y - height / 2, x - width / 2) / (0.3 * min(height, width))
    alpha = (radius < 1 + 0.15 * np.sin(7 * angle)).astype(np.float32)
    alpha = ndimage.gaussian_filter(alpha, soft)
    alpha[alpha < 0.004] = 0
    alpha[alpha > 0.996] = 1
    wave = 12 * np.sin(x / 9) * np.cos(y / 11)
    foreground = np.stack([190 + wave, 70 + wave, 40 + wave], axis=-1)
    background = np.stack([40 + 30 * y / height, 160 - 40 * x / width, 60 + 0 * x], axis=-1)
    photo = alpha[..., None] * foreground + (1 - alpha[..., None]) * background
    return _bytes(photo), alpha, _bytes(foreground), _bytes(background)


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(values + 0.5, 0, 255).astype(np.uint8)
