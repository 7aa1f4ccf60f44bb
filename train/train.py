"""Train the built-in network: ``python -m train.train``.

Training stops when the time budget is spent. Resolution and learning rate depend on the elapsed fraction of the budget, so that
the rate reaches zero at the end on a machine of any speed. With the same ``--out`` it resumes from the last checkpoint.

On a CPU several workers with one thread each share a batch. One process with two threads takes more CPU time a step, and
several times as much on a busy machine, as its threads synchronize inside every convolution.
"""

import argparse
import copy
import csv
import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from rmbg.networks.builtin import BuiltinNet, load
from rmbg.networks.builtin_spec import MEAN, STD, WEIGHTS
from train.augment import MIN_WINDOW, load_squares, make_batch
from train.checkpoint import load_checkpoint, round_state, save_checkpoint
from train.data import TRIMAPS, Pairs, load_pairs, split
from train.loss import binary_iou, total_loss
from train.weights import export, unfuse


@dataclass(frozen=True)
class Config:
    """Paths and hyperparameters of a training."""

    source: tuple[Path, ...] = (Path("pairs"),)  # folders with tar shards, or with im/ and gt/
    cache: Path = Path("out/train/cache")  # decoded pictures, 0.4 MB each
    out: Path = Path("out/train")  # checkpoint, log, weights
    budget: float = 2 * 3600.0  # seconds in total, resumed runs included
    steps: int | None = None  # budget in steps instead of seconds, for tests
    stored_side: int = 320  # side of the cached squares
    weights: Path | None = None  # exported weights to start from, instead of from scratch
    fused: bool = False  # keep the batch norms folded in: a quarter of the time less, for small rates from given weights
    twice: tuple[str, ...] = ()  # prefixes of the names of pictures that are drawn twice an epoch
    phases: tuple[tuple[float, int], ...] = ((0.0, 192), (0.4, 224), (0.75, 288))  # (progress from which it applies, side)
    batch: int = 32  # of all workers
    rate: float = 1.5e-3  # peak learning rate
    warm_up: float = 0.02  # fraction of the budget
    decay: float = 0.05  # weight decay of the convolutions
    clip: float = 5.0  # maximum norm of the gradient
    ema_decay: float = 0.997  # of the exponential moving average of the weights
    held_out: tuple[str, int] = ("duts_", 300)  # prefix and number of pictures for validation, not trained on
    save_every: float = 180.0  # seconds
    evaluate_every: float = 900.0  # seconds
    log_every: int = 25  # steps
    workers: int = 2  # processes with one thread each
    seed: int = 7


class Trainer:
    """State of a training: network, moving average of its weights, optimizer, progress."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(config.seed)
        net = load(config.weights) if config.fused else BuiltinNet()
        self.net = net.to(self.device, memory_format=torch.channels_last)
        self.ema = copy.deepcopy(self.net).eval().requires_grad_(False)
        kernels = [parameter for parameter in self.net.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in self.net.parameters() if parameter.ndim <= 1]
        groups = [{"params": kernels, "weight_decay": config.decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=config.rate, betas=(0.9, 0.99), fused=True)
        self.step = 0
        self.elapsed = 0.0
        self.began = time.monotonic()
        self.rank, self.workers = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        self.gradient = self.flatten_gradients()
        self.mean_rgb = torch.tensor(MEAN, device=self.device).view(1, 3, 1, 1)
        self.std_rgb = torch.tensor(STD, device=self.device).view(1, 3, 1, 1)

    @property
    def progress(self) -> float:
        """Elapsed fraction of the budget, 0 to 1."""
        config = self.config
        return self.step / config.steps if config.steps else self.elapsed / config.budget

    @property
    def side(self) -> int:
        """Resolution of the current phase."""
        return [side for start, side in self.config.phases if self.progress >= start][-1]

    @property
    def rate(self) -> float:
        """Current learning rate: linear warm-up, then cosine decay to zero."""
        warm_up = self.config.warm_up
        if self.progress < warm_up:
            return self.config.rate * (self.progress + 0.001) / (warm_up + 0.001)
        decayed = min(1.0, (self.progress - warm_up) / (1 - warm_up))
        return self.config.rate * (1 + math.cos(math.pi * decayed)) / 2

    def flatten_gradients(self) -> Tensor:
        """Make all gradients views of one vector, for a single all-reduce; its last element transmits the time."""
        parameters = list(self.net.parameters())
        vector = torch.zeros(sum(parameter.numel() for parameter in parameters) + 1, device=self.device)
        start = 0
        for parameter in parameters:
            parameter.grad = vector.as_strided(parameter.shape, parameter.stride(), start)
            start += parameter.numel()
        return vector

    def reduce_gradients(self) -> None:
        """Average the gradients of all workers, clip them, and take the elapsed time from the first worker."""
        self.gradient[-1] = time.monotonic() - self.began if self.rank == 0 else 0.0
        if self.workers > 1:
            dist.all_reduce(self.gradient)
        self.elapsed = float(self.gradient[-1])
        self.gradient[-1] = 0
        self.gradient /= self.workers
        self.gradient *= min(1.0, self.config.clip / (float(self.gradient.norm()) + 1e-6))

    def normalize(self, pictures: Tensor) -> Tensor:
        """Normalize pictures in [0, 1] for the network."""
        pictures = (pictures.to(self.device) - self.mean_rgb) / self.std_rgb
        return pictures.contiguous(memory_format=torch.channels_last)

    def train_step(self, pictures: Tensor, masks: Tensor, trimaps: Tensor) -> float:
        """Update the weights on a batch and return the loss of its mattes."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        self.net.train()
        with torch.autocast(self.device.type, torch.bfloat16):
            logits, sides, confidence = self.net.forward_train(self.normalize(pictures))
        sides = [side.float() for side in sides]
        masks, trimaps = masks.to(self.device), trimaps.to(self.device)
        total, main = total_loss(logits.float(), sides, confidence.float(), masks, trimaps)
        self.gradient.zero_()
        total.backward()
        self.reduce_gradients()
        self.optimizer.step()
        self.step += 1
        if self.rank == 0:
            self.update_ema()
        return main.item()

    def step_on(self, pairs: Pairs, indices: np.ndarray) -> float:
        """Draw and augment the next batch and train on it; reproducible from seed and step."""
        rng = torch.Generator().manual_seed(self.config.seed + 1_000_003 * self.step + self.rank)
        pool = indices[pairs.windows[indices, 2] >= MIN_WINDOW]
        own = np.array_split(batch_indices(indices, self.step, self.config), self.workers)[self.rank]
        trimaps = torch.from_numpy(pairs.named(TRIMAPS, own))
        return self.train_step(*make_batch(pairs, own, pool, self.side, rng), trimaps)

    @torch.no_grad()
    def update_ema(self) -> None:
        """Update the moving average of the weights, with a smaller decay in the first steps."""
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        new, old = self.net.state_dict(), self.ema.state_dict()
        names = [name for name, tensor in new.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([old[name] for name in names], [new[name] for name in names], 1 - decay)

    def save(self) -> None:
        """Write the checkpoint and the exported weights, each atomically; to be called by all workers after the same step."""
        round_state(self)
        if self.rank == 0:
            save_checkpoint(self.config.out / "checkpoint.pt", self)
            export(self.ema, self.config.out / "builtin.safetensors")

    def load(self) -> None:
        """Restore the last checkpoint, if there is one."""
        load_checkpoint(self.config.out / "checkpoint.pt", self)

    def init_from(self, path: Path, pictures: Tensor) -> None:
        """Start from exported weights; batch norms are initialized on ``pictures``, (B, 3, H, W) in [0, 1]."""
        unfuse(self.net, load(path).to(self.device), self.normalize(pictures))
        self.ema.load_state_dict(self.net.state_dict())


def batch_indices(indices: np.ndarray, step: int, config: Config) -> np.ndarray:
    """Indices of the pictures of a step; each epoch is a new permutation."""
    epoch, batch = divmod(step, max(1, len(indices) // config.batch))
    order = np.random.default_rng((config.seed, epoch)).permutation(indices)
    return order[batch * config.batch : (batch + 1) * config.batch]


@torch.no_grad()
def evaluate_held_out(trainer: Trainer, pairs: Pairs, held_out: np.ndarray) -> dict[str, float]:
    """Mean MAE, IoU and error of the confidence on held-out pictures, with averaged weights at the current resolution."""
    mae, iou, confidence_error = [], [], []
    for start in range(0, len(held_out), 20):
        batch = load_squares(pairs, held_out[start : start + 20])
        batch = torch.nn.functional.interpolate(batch, (trainer.side, trainer.side), mode="bilinear", antialias=True)
        with torch.autocast(trainer.device.type, torch.bfloat16):
            logits, confidence = trainer.ema(trainer.normalize(batch[:, :3]))
        mattes, masks = logits.float().sigmoid().cpu(), batch[:, 3:]
        ious = binary_iou(logits.float().cpu(), masks)
        mae += (mattes - masks).abs().mean((1, 2, 3)).tolist()
        iou += ious.tolist()
        confidence_error += (confidence.float().cpu() - ious).abs().tolist()
    return {"mae": float(np.mean(mae)), "iou": float(np.mean(iou)), "confidence_error": float(np.mean(confidence_error))}


def train(config: Config) -> Trainer:
    """Train until the budget is spent; the first worker writes the log and the checkpoints."""
    config.out.mkdir(parents=True, exist_ok=True)
    pairs = load_pairs(config.source, config.cache, config.stored_side)
    indices, held_out = split(pairs.names, *config.held_out)
    repeated = indices[pairs.named(config.twice, indices)]
    trainer = Trainer(config)
    if config.weights and not config.fused:
        trainer.init_from(config.weights, load_squares(pairs, indices[:: max(1, len(indices) // 48)])[:, :3])
    trainer.load()
    indices = np.concatenate([indices, repeated])
    saved = evaluated = trainer.elapsed
    if trainer.rank > 0:
        while trainer.progress < 1:
            trainer.step_on(pairs, indices)
            if trainer.elapsed - saved >= config.save_every:
                trainer.save()
                saved = trainer.elapsed
        return trainer
    losses: list[float] = []
    with (config.out / "log.csv").open("a", newline="") as file:
        log = csv.writer(file)
        while trainer.progress < 1:
            losses.append(trainer.step_on(pairs, indices))
            if trainer.step % config.log_every == 0:
                log.writerow(
                    [trainer.step, f"{trainer.elapsed:.0f}", trainer.side, f"{trainer.rate:.2e}", f"{np.mean(losses):.4f}"]
                )
                file.flush()
                losses.clear()
            if trainer.elapsed - saved >= config.save_every:
                trainer.save()
                saved = trainer.elapsed
            if len(held_out) and trainer.elapsed - evaluated >= config.evaluate_every:
                with (config.out / "held_out.jsonl").open("a") as jsonl:
                    results = {name: round(value, 4) for name, value in evaluate_held_out(trainer, pairs, held_out).items()}
                    jsonl.write(
                        json.dumps({"step": trainer.step, "seconds": round(trainer.elapsed), "side": trainer.side} | results)
                    )
                    jsonl.write("\n")
                evaluated = trainer.elapsed
    trainer.save()
    return trainer


def worker(rank: int, config: Config) -> None:
    """Entry point of a worker process."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    rendezvous = f"file://{(config.out / 'rendezvous').resolve()}"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=config.workers)
    train(config)
    dist.destroy_process_group()


def parse_phase(text: str) -> tuple[float, int]:
    """Parse a phase such as ``.4:224``: the progress from which it applies, and its side in pixels."""
    start, side = text.split(":")
    return float(start), int(side)


def main() -> None:
    """Run the command line; other hyperparameters are set in `Config`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, nargs="+", default=Config.source, help="later pairs replace those of equal name")
    for name in ("cache", "out"):
        parser.add_argument(f"--{name}", type=Path, default=getattr(Config, name))
    parser.add_argument("--budget", type=float, default=Config.budget, help="seconds in total")
    parser.add_argument("--rate", type=float, default=Config.rate, help="peak learning rate")
    parser.add_argument("--weights", type=Path, help=f"exported weights to start from, such as {WEIGHTS.name}")
    parser.add_argument(
        "--fused", action="store_true", help="keep the batch norms folded in, for small rates from given weights"
    )
    parser.add_argument("--twice", nargs="*", default=(), help="prefixes of the names of pictures to draw twice an epoch")
    parser.add_argument("--phases", nargs="+", type=parse_phase, default=Config.phases, help="such as 0:192 .4:224")
    parser.add_argument("--batch", type=int, default=Config.batch, help="pictures a step, of all workers; 128 on a GPU")
    parser.add_argument("--stored-side", type=int, default=Config.stored_side, help="side of the cached squares, in pixels")
    parser.add_argument("--seed", type=int, default=Config.seed, help="use another one than an earlier run for other crops")
    parser.add_argument("--workers", type=int, default=Config.workers, help="processes that share a batch; 1 on a GPU")
    options = vars(parser.parse_args())
    config = Config(**options | {name: tuple(options[name]) for name in ("source", "twice", "phases")})
    if config.workers == 1:
        train(config)
        return
    config.out.mkdir(parents=True, exist_ok=True)
    (config.out / "rendezvous").unlink(missing_ok=True)
    load_pairs(config.source, config.cache, config.stored_side)  # decode once, before the workers start
    torch.multiprocessing.spawn(worker, (config,), config.workers)


if __name__ == "__main__":
    main()
