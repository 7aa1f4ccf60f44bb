"""The import of torch, which needs an environment variable to be set first."""

from __future__ import annotations

import os
from types import ModuleType


def import_torch() -> ModuleType:
    """Import torch, with the CPU as fallback for operations that MPS does not implement.

    torch reads PYTORCH_ENABLE_MPS_FALLBACK when it is imported. Everything that runs a network must therefore import torch
    through this function first. A value that the user has set is kept.
    """
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    import torch

    return torch
