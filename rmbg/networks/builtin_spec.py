"""Constants of the built-in network without an engine, and the weights files of the package."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np


def read_half(path: Path, sha256: str | None = None) -> dict[str, np.ndarray]:
    """Read weights that are stored in half precision as float32 arrays.

    Parameters
    ----------
    path : Path
    sha256 : str, optional
        Expected checksum of the file.

    Raises
    ------
    ValueError
        If the checksum does not match.
    """
    from safetensors.numpy import load

    data = path.read_bytes()
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"{path} is damaged or belongs to another version")
    return {name: array.astype(np.float32) for name, array in load(data).items()}


# Constants and weights of the network of the built-in provider, without an engine.


INPUT_SIZE = 384
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
WEIGHTS = Path(__file__).with_name("builtin.safetensors")
SHA256 = "35a1e8bc4f6f39ccdb822f2965e89deb6a14f2d7811da4835eb40b79cf82bbc8"

STEM = 16
WIDTHS = (64, 96, 192, 256)  # channels at 1/4, 1/8, 1/16 and 1/32
DEPTHS = (1, 3, 4, 2)  # residual blocks at each
CONTEXT = 128  # channels of the pooled features at 1/32
POOLS = (1, 2, 5)  # grids of the pyramid pooling
DECODER = (32, 64, 96)  # channels at 1/4, 1/8 and 1/16
FOREGROUND = 0.5  # probability above which a pixel counts as foreground


def read_weights(path: Path | None = None) -> dict[str, np.ndarray]:
    """Read the weights as float32 arrays; the file holds them in half precision with the batch norms folded in.

    Parameters
    ----------
    path : Path, optional
        Other weights than those in the package; only the packaged file is checked against its checksum.

    Raises
    ------
    ValueError
        If the checksum of the packaged file does not match.
    """
    return read_half(WEIGHTS, SHA256) if path is None else read_half(path)
