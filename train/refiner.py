"""Train the refiner: ``python -m train.refiner --source PAIRS...``.

Each source is a folder with tar shards or with im/ and gt/. Undecoded pictures are held in memory. Training stops when the time
budget is spent; with the same ``--out`` it resumes from the last checkpoint. On a GPU it runs in bfloat16 there, and
``--workers`` processes prepare the batches.
"""

import argparse
import copy
import csv
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.utils.data import DataLoader

from rmbg.networks import refiner
from rmbg.networks.builtin import load
from rmbg.networks.refiner import RefinerNet
from train.checkpoint import load_checkpoint, round_state, save_checkpoint
from train.refiner_batches import Batch, Batches, Source
from train.refiner_config import Config
from train.weights import save_half


def matte_loss(logits: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Weighted cross-entropy plus twice the weighted absolute error of each picture, averaged."""
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    error = (logits.sigmoid() - truth).abs()
    return ((entropy + 2 * error) * weight).sum((1, 2, 3)).div(weight.shape[-1] ** 2 * 0.6).mean()


class Trainer:
    """State of a training: network, moving average of its weights, optimizer, progress."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(config.seed)
        self.encoder = load(config.encoder).to(self.device).requires_grad_(False)
        net = refiner.load(config.weights) if config.weights else RefinerNet().start_from(self.encoder)
        self.net = net.to(self.device, memory_format=torch.channels_last).requires_grad_(True)
        self.ema = copy.deepcopy(self.net).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.net.parameters(), lr=config.rate, betas=(0.9, 0.99), weight_decay=config.decay, fused=True
        )
        self.step, self.elapsed = 0, 0.0
        self.began = time.monotonic()

    @property
    def progress(self) -> float:
        """Elapsed fraction of the budget, 0 to 1."""
        return self.step / self.config.steps if self.config.steps else self.elapsed / self.config.budget

    @property
    def rate(self) -> float:
        """Current learning rate: linear warm-up, then cosine decay to zero."""
        if self.progress < self.config.warm_up:
            return self.config.rate * (self.progress + 0.001) / (self.config.warm_up + 0.001)
        decayed = min(1.0, (self.progress - self.config.warm_up) / (1 - self.config.warm_up))
        return self.config.rate * (1 + math.cos(math.pi * decayed)) / 2

    def train_step(self, batch: Batch) -> float:
        """Update the weights on a batch and return its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        rgb, coarse, truth, weight = (
            tensor.to(self.device, memory_format=torch.channels_last, non_blocking=True)
            for tensor in (batch.rgb, batch.coarse, batch.truth, batch.weight)
        )
        with torch.autocast(self.device.type, torch.bfloat16):
            logits = self.net(self.encoder, rgb, coarse)
        loss = matte_loss(logits.float(), truth, weight)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.config.clip)
        self.optimizer.step()
        self.step += 1
        self.elapsed = time.monotonic() - self.began
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.ema.parameters()), list(self.net.parameters()), 1 - decay)
        return loss.item()

    def save(self) -> None:
        """Write the checkpoint and the exported weights, each atomically."""
        out = self.config.out
        round_state(self)
        save_checkpoint(out / "checkpoint.pt", self)
        save_half(self.ema.state_dict(), out / "refiner.safetensors")

    def load(self) -> None:
        """Restore the last checkpoint, if there is one."""
        load_checkpoint(self.config.out / "checkpoint.pt", self)


def train(config: Config) -> Trainer:
    """Train until the budget is spent; write the log and the checkpoints."""
    config.out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(config)
    trainer.load()
    source = Source(config.source, config.side)
    loader = DataLoader(Batches(config, source, trainer.step), batch_size=None, num_workers=config.workers)
    trainer.began = time.monotonic() - trainer.elapsed
    saved, losses = trainer.elapsed, []
    with (config.out / "log.csv").open("a", newline="") as file:
        log = csv.writer(file)
        for batch in loader:
            if trainer.progress >= 1:
                break
            losses.append(trainer.train_step(batch))
            if trainer.step % config.log_every == 0:
                log.writerow([trainer.step, f"{trainer.elapsed:.0f}", f"{trainer.rate:.2e}", f"{np.mean(losses):.4f}"])
                file.flush()
                losses.clear()
            if trainer.elapsed - saved >= config.save_every:
                trainer.save()
                saved = trainer.elapsed
    trainer.save()
    return trainer


def main() -> None:
    """Run the command line; other hyperparameters are set in `Config`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, nargs="+", default=Config.source)
    parser.add_argument("--out", type=Path, default=Config.out)
    parser.add_argument(
        "--encoder", type=Path, help="exported weights of the built-in network, instead of those in the package"
    )
    parser.add_argument("--weights", type=Path, help="exported weights of a refiner to start from")
    parser.add_argument("--budget", type=float, default=Config.budget, help="seconds in total")
    parser.add_argument("--rate", type=float, default=Config.rate, help="peak learning rate")
    parser.add_argument("--pixels", type=int, default=Config.pixels, help="pixels of a batch")
    parser.add_argument("--procedural", type=float, default=Config.procedural, help="share of the procedural subjects")
    parser.add_argument("--workers", type=int, default=Config.workers, help="processes that prepare batches")
    parser.add_argument("--seed", type=int, default=Config.seed)
    options = vars(parser.parse_args())
    train(Config(**options | {"source": tuple(options["source"])}))


if __name__ == "__main__":
    main()
