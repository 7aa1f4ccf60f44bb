"""Synthetic weights, derived from the tensors' names, that the golden files were computed with.

Trained weights are large, and some need a license. A network that reproduces the published outputs from these weights is the
published function, and loads the trained checkpoint.
"""

import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def rule_tensor(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Tensor `name` of the synthetic checkpoint: float32, of `shape`."""
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
    """Synthetic checkpoint with the names and shapes of `tensors`, without integer counters."""
    return {
        name: torch.from_numpy(rule_tensor(name, tuple(value.shape), seed))
        for name, value in tensors.items()
        if value.is_floating_point()
    }


def inspyrenet_weights(tensors: Mapping[str, Tensor], base_size: int) -> dict[str, Tensor]:
    """Synthetic checkpoint of an InSPyReNet, scaled so that logits are near zero and regions have features of usual magnitude.

    With the rule alone, the sums over all positions exceed 1e4, and all later sigmoids saturate. The thresholds are those that
    training starts from.
    """
    scaled = rule_weights(tensors, 1)
    for name in scaled:
        if name.endswith("threshold"):
            scaled[name] = torch.full((1,), 0.5)
    for level in range(3):
        for layer in ("conv_key.0", "conv_value.0"):
            scaled[f"attention{level}.{layer}.conv.weight"] /= (base_size >> level) ** 2
    for layer in ("decoder.conv5", *(f"attention{level}.conv_out4" for level in range(3))):
        scaled[f"{layer}.conv.weight"] /= 16
    return scaled


def network_input(seed: int, height: int, width: int) -> Tensor:
    """Random input: float32 (1, 3, height, width) in [-1, 1]."""
    values = np.random.default_rng([seed, 99]).uniform(-1, 1, (1, 3, height, width))
    return torch.from_numpy(values.astype(np.float32))
