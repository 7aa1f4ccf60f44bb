"""Checkpoints of a training, from which it resumes.

The moments of the optimizer, and the averaged weights as offsets from the current ones, are stored in bfloat16: 10 bytes a
parameter instead of 16. The training itself goes on with the rounded values, so that one that resumes does the same.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MOMENTS = ("exp_avg", "exp_avg_sq")


@torch.no_grad()
def round_state(trainer: Any) -> None:
    """Round the state of a trainer to the precision of checkpoints; in each worker, before one of them saves it."""
    for moments in trainer.optimizer.state.values():
        for name in MOMENTS:
            moments[name].copy_(moments[name].bfloat16())
    net = trainer.net.state_dict()
    trainer.ema.load_state_dict(_add(_offsets(trainer.ema.state_dict(), net), net))


def save_checkpoint(path: Path, trainer: Any) -> None:
    """Write networks, optimizer, step and elapsed seconds of a trainer, atomically; `round_state` comes first."""
    net, optimizer = trainer.net.state_dict(), trainer.optimizer.state_dict()
    optimizer["state"] = {
        key: {name: value.bfloat16() if name in MOMENTS else value for name, value in moments.items()}
        for key, moments in optimizer["state"].items()
    }
    state = {"net": net, "mean_offsets": _offsets(trainer.ema.state_dict(), net), "optimizer": optimizer}
    part = path.with_suffix(".tmp")
    torch.save(state | {"step": trainer.step, "elapsed": trainer.elapsed}, part)
    part.replace(path)


def load_checkpoint(path: Path, trainer: Any) -> None:
    """Restore the state of a trainer, if the file exists."""
    if not path.exists():
        return
    state = torch.load(path, map_location=trainer.device)
    trainer.net.load_state_dict(state["net"])
    trainer.ema.load_state_dict(_add(state["mean_offsets"], state["net"]))
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.step, trainer.elapsed = state["step"], state["elapsed"]
    trainer.began = time.monotonic() - trainer.elapsed


def _offsets(mean: dict[str, Tensor], net: dict[str, Tensor]) -> dict[str, Tensor]:
    # Batch norms also count batches, in integers.
    return {name: (tensor - net[name]).bfloat16() if tensor.is_floating_point() else tensor for name, tensor in mean.items()}


def _add(offsets: dict[str, Tensor], net: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: net[name] + offset if offset.is_floating_point() else offset for name, offset in offsets.items()}
