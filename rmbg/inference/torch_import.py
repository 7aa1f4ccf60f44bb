"""The import of torch, which is optional and needs an environment variable to be set first."""

from __future__ import annotations

import functools
import importlib.util
import os
from types import ModuleType

from rmbg.threads import limited_cpu_count


def torch_is_installed() -> bool:
    """True if torch can be imported; it is not imported, which takes seconds."""
    return importlib.util.find_spec("torch") is not None


def import_torch() -> ModuleType:
    """Import torch, with the CPU as fallback for operations that MPS does not implement.

    torch reads PYTORCH_ENABLE_MPS_FALLBACK when it is imported. Everything that runs a network must therefore import torch
    through this function first. A value that the user has set is kept.
    """
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    import torch

    _limit_threads(torch)
    return torch


@functools.cache
def _limit_threads(torch: ModuleType) -> None:
    """Apply the CPU limit of a container, which torch does not consider; once a process."""
    threads = limited_cpu_count()
    if threads is not None:
        torch.set_num_threads(threads)
