"""Engine, device and precision of a network that runs on this machine, and the import of torch, which is optional."""

from __future__ import annotations

import functools
import importlib.util
import os
from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np

from rmbg.errors import ModelError
from rmbg.runtime.messages import Message, OwnerMessage
from rmbg.runtime.threads import cpu_count, limited_cpu_count, one_core


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


@dataclass(frozen=True)
class Plan:
    """Engine, device and precision, with the names that results show.

    Attributes
    ----------
    engine : str
        ``torch`` or ``openvino``.
    device : str
        ``cpu``, ``cuda:0``, ``mps``.
    precision : str
        ``fp32``, ``bf16`` or ``fp16``.
    streams : int
        Concurrent runs that share the cores of a CPU.
    """

    engine: str
    device: str
    precision: str
    streams: int = 1


def on_streams(plan: Plan, limit: int | None = None) -> Plan:
    """Return the plan with a stream for each core, at most `limit`, if the current thread is restricted to one core.

    Engines without streams have the same plan in all threads.
    """
    if plan.engine != "openvino" or not one_core():
        return plan
    return replace(plan, streams=min(limit or cpu_count(), cpu_count()))


def check_output(model_id: str, plan: Plan, *arrays: np.ndarray) -> None:
    """Raise ModelError if a network's output holds NaN or infinity, which would look like an empty cutout."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise ModelError(
            OwnerMessage(
                f"{model_id} computed NaN or infinite values on {plan.device} ({plan.engine}, {plan.precision}). "
                "Set RMBG_PRECISION to fp32; if that does not help, delete its weights and get them again.",
                Message("{model} computed invalid values. Choose another provider.", model=model_id),
            )
        )
