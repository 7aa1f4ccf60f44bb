"""Test pictures with known matte, foreground and background, and the project's examples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def examples() -> list[Path]:
    """Paths of the example photos; ``gt`` beside their folder holds the ground truth."""
    return sorted(EXAMPLES.glob("*/im/*.jpg"))


def truth(photo: Path) -> np.ndarray:
    """Ground-truth matte of an example: float32 (H, W) in [0, 1]."""
    return np.asarray(Image.open(photo.parents[1] / "gt" / f"{photo.stem}.png"), dtype=np.float32) / 255


def iou(matte: np.ndarray, true: np.ndarray) -> float:
    """Intersection over union of two mattes, binarized at 0.5."""
    predicted, expected = matte >= 0.5, true >= 0.5
    return float((predicted & expected).sum() / (predicted | expected).sum())


def disc(side: int = 64, radius: float = 20.0) -> np.ndarray:
    """Antialiased disc in the center of a square: float32 (side, side)."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return np.clip(radius - np.hypot(y, x) + 0.5, 0, 1).astype(np.float32)


def scene(height: int = 240, width: int = 320, soft: float = 4.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Render a wavy red-brown subject on a green gradient, with an edge about four times `soft` pixels wide.

    Returns
    -------
    photo : uint8 (height, width, 3)
    alpha : float32 (height, width)
    foreground, background : uint8 (height, width, 3)
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
