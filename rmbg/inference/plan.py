"""Engine, device and precision of a network that runs on this machine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rmbg.errors import ModelError
from rmbg.message import Message, OwnerMessage


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
    """

    engine: str
    device: str
    precision: str


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
