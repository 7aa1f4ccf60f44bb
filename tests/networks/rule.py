"""Weights made from their own names, by the rule that the golden files were made with.

Trained weights are large and some need a licence; a network that computes the published outputs from these weights
is the published function, and will read the trained checkpoint.
"""

import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def rule_tensor(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """float32, of `shape`: the tensor called `name` in the checkpoint of this `seed`."""
    noise = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(shape).astype(np.float32)
    match name.rsplit(".", 1)[-1]:
        case "running_var":
            return 1 + 0.1 * np.abs(noise)
        case "running_mean":
            return 0.1 * noise
        case "relative_position_bias_table":
            return 0.2 * noise
        case "bias":
            return 0.05 * noise
    if len(shape) == 1:
        return 1 + 0.1 * noise
    return noise * np.float32(1.3 / np.sqrt(np.prod(shape[1:])))


def rule_weights(tensors: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """A checkpoint with the names and shapes of `tensors`; counters are left out."""
    return {
        name: torch.from_numpy(rule_tensor(name, tuple(value.shape), seed))
        for name, value in tensors.items()
        if value.is_floating_point()
    }


def network_input(seed: int, height: int, width: int) -> Tensor:
    """float32 (1, 3, height, width) in [-1, 1]."""
    values = np.random.default_rng([seed, 99]).uniform(-1, 1, (1, 3, height, width))
    return torch.from_numpy(values.astype(np.float32))
