"""Hyperparameters of the training of the refiner."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Config:
    """Paths and hyperparameters of a training."""

    source: tuple[Path, ...] = (Path("pairs"),)
    out: Path = Path("out/refiner")
    encoder: Path | None = None  # exported weights of the built-in network, instead of those in the package
    weights: Path | None = None  # exported weights of a refiner to start from, instead of the decoder of the built-in network
    budget: float = 3600.0  # seconds in total, resumed runs included
    steps: int | None = None  # budget in steps instead of seconds, for tests
    side: int = 448  # of the input for pictures that are large enough, a multiple of 32
    small_side: int = 288  # for the others
    pixels: int = 900_000  # of a batch
    procedural: float = 0.25  # share of the batches with procedural subjects
    rate: float = 1e-3
    warm_up: float = 0.03
    decay: float = 0.02
    clip: float = 2.0
    ema_decay: float = 0.995
    save_every: float = 120.0  # seconds
    log_every: int = 20  # steps
    workers: int = 0  # processes that prepare batches; 0 to prepare them in the process that trains
    seed: int = 5
