"""Constants and weights of the network of the refiner, without an engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from rmbg.networks.builtin_spec import read_half

WEIGHTS = Path(__file__).with_name("refiner.safetensors")
SHA256 = "5822284830305c289360c065a60de4b6979c15b8135752bea2753bc67ffb1588"

#: From a window of the photo, float32 (1, 3, SIDE, SIDE) in [0, 1], and its coarse matte, float32 (1, 1, SIDE, SIDE) in [0, 1],
#: to the logits of the refined matte, float32 (SIDE, SIDE).
Forward = Callable[[np.ndarray, np.ndarray], np.ndarray]

SIDE = 448  # of the input

DETAIL = 24  # channels of the last block, at 1/2 of the input
HINTS = 5  # planes of ``refiner.hint_planes``
CELL = 8  # side of the cells that the color means are computed on, in pixels
WINDOW = 15  # side of the windows of the color means, in cells
LOGIT_EPSILON, MAX_LOGIT = 1e-4, 4.0  # of the coarse matte


def read_weights(path: Path | None = None) -> dict[str, np.ndarray]:
    """Read the weights as float32 arrays, see ``builtin_spec.read_weights``."""
    return read_half(WEIGHTS, SHA256) if path is None else read_half(path)
