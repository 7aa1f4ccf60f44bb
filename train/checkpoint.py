"""Checkpoints of a training, from which it resumes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch


def save_checkpoint(path: Path, trainer: Any) -> None:
    """Write networks, optimizer, step and elapsed seconds of a trainer, atomically."""
    state = {"net": trainer.net.state_dict(), "mean": trainer.ema.state_dict(), "step": trainer.step}
    state |= {"optimizer": trainer.optimizer.state_dict(), "elapsed": trainer.elapsed}
    part = path.with_suffix(".tmp")
    torch.save(state, part)
    part.replace(path)


def load_checkpoint(path: Path, trainer: Any) -> None:
    """Restore the state of a trainer, if the file exists."""
    if not path.exists():
        return
    state = torch.load(path, map_location=trainer.device)
    trainer.net.load_state_dict(state["net"])
    trainer.ema.load_state_dict(state["mean"])
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.step, trainer.elapsed = state["step"], state["elapsed"]
    trainer.began = time.monotonic() - trainer.elapsed
