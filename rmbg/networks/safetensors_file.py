"""Weights files of the package."""

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
