"""Train the built-in network: ``python -m train.train``.

Stops when the time is spent: progress, and with it the resolution and the learning rate, is elapsed time over budget,
so that the rate has come down to zero at the end however fast the machine is. Run it again with the same ``--out``
and it goes on from the last checkpoint.

On a CPU several workers of one thread each share a batch. One process of two threads takes more processor time a step,
and on a busy machine several times as much: its threads wait for one another inside every convolution.
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
from safetensors.torch import save_file
from torch import Tensor, nn

from rmbg.networks.builtin import MEAN, STD, WEIGHTS, BuiltinNet, ConvNorm, load
from train.augment import WINDOW, make_batch, take
from train.data import Pairs, load_pairs, split
from train.loss import total_loss


@dataclass(frozen=True)
class Knobs:
    """Everything that can be turned."""

    source: Path = Path("pairs")  # tar shards, or a folder with im/ and gt/
    cache: Path = Path("out/train/cache")  # decoded pictures, a third of a megabyte each
    out: Path = Path("out/train")  # checkpoint, log, weights
    budget: float = 2 * 3600.0  # seconds in all, resumed runs included
    steps: int | None = None  # count steps instead of seconds (tests)
    stored_side: int = 288  # side of the cached squares
    weights: Path | None = None  # go on from these weights, as they ship, instead of from scratch
    twice: tuple[str, ...] = ()  # kinds, by the beginnings of their names, that are drawn twice an epoch
    phases: tuple[tuple[float, int], ...] = ((0.0, 192), (0.4, 224), (0.75, 288))  # from progress: side
    batch: int = 32  # of all workers together
    rate: float = 1.5e-3  # highest learning rate
    warm_up: float = 0.02  # share of the budget
    decay: float = 0.05  # weight decay of the convolutions
    clip: float = 5.0  # highest norm of the gradient
    ema: float = 0.997  # share kept of the running mean of weights at each step
    held_out: tuple[str, int] = ("duts_", 300)  # prefix and number of pictures to watch, never trained on
    save_every: float = 180.0  # seconds
    watch_every: float = 900.0  # seconds
    log_every: int = 25  # steps
    workers: int = 2  # processes that share a batch, of one thread each
    seed: int = 7


class Run:
    """A training under way: network, its running mean, optimiser, and how far it is."""

    def __init__(self, knobs: Knobs) -> None:
        self.knobs = knobs
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(knobs.seed)
        self.net = BuiltinNet().to(self.device, memory_format=torch.channels_last)
        self.mean = copy.deepcopy(self.net).eval().requires_grad_(False)
        kernels = [parameter for parameter in self.net.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in self.net.parameters() if parameter.ndim <= 1]
        groups = [{"params": kernels, "weight_decay": knobs.decay}, {"params": others, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=knobs.rate, betas=(0.9, 0.99), fused=True)
        self.step = 0
        self.elapsed = 0.0
        self.began = time.monotonic()
        self.rank, self.workers = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        self.gradient = self.one_vector()
        self.center = torch.tensor(MEAN, device=self.device).view(1, 3, 1, 1)
        self.spread = torch.tensor(STD, device=self.device).view(1, 3, 1, 1)

    @property
    def progress(self) -> float:
        """0 at the beginning, 1 at the end."""
        knobs = self.knobs
        return self.step / knobs.steps if knobs.steps else self.elapsed / knobs.budget

    @property
    def side(self) -> int:
        """Resolution of the present phase."""
        return [side for start, side in self.knobs.phases if self.progress >= start][-1]

    @property
    def rate(self) -> float:
        """Learning rate: linear warm-up, then half a cosine down to zero."""
        warm_up = self.knobs.warm_up
        if self.progress < warm_up:
            return self.knobs.rate * (self.progress + 0.001) / (warm_up + 0.001)
        left = min(1.0, (self.progress - warm_up) / (1 - warm_up))
        return self.knobs.rate * (1 + math.cos(math.pi * left)) / 2

    def one_vector(self) -> Tensor:
        """Let all gradients lie in one vector, easily averaged, and one more place at its end for the time."""
        parameters = list(self.net.parameters())
        vector = torch.zeros(sum(parameter.numel() for parameter in parameters) + 1, device=self.device)
        start = 0
        for parameter in parameters:
            parameter.grad = vector.as_strided(parameter.shape, parameter.stride(), start)
            start += parameter.numel()
        return vector

    def agree(self) -> None:
        """Average the gradients of all workers and clip them; the clock of the first worker is everyone's."""
        self.gradient[-1] = time.monotonic() - self.began if self.rank == 0 else 0.0
        if self.workers > 1:
            dist.all_reduce(self.gradient)
        self.elapsed = float(self.gradient[-1])
        self.gradient[-1] = 0
        self.gradient /= self.workers
        self.gradient *= min(1.0, self.knobs.clip / (float(self.gradient.norm()) + 1e-6))

    def normalise(self, pictures: Tensor) -> Tensor:
        """Pictures in [0, 1] as the network wants them."""
        pictures = (pictures.to(self.device) - self.center) / self.spread
        return pictures.contiguous(memory_format=torch.channels_last)

    def learn(self, pictures: Tensor, masks: Tensor) -> float:
        """One step on a batch; returns the loss of its mattes."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate
        self.net.train()
        with torch.autocast(self.device.type, torch.bfloat16):
            logits, sides, judged = self.net.levels(self.normalise(pictures))
        total, main = total_loss(logits.float(), [side.float() for side in sides], judged.float(), masks.to(self.device))
        self.gradient.zero_()
        total.backward()
        self.agree()
        self.optimiser.step()
        self.step += 1
        if self.rank == 0:
            self.follow()
        return main.item()

    def advance(self, pairs: Pairs, indices: np.ndarray) -> float:
        """The next step: draw and augment a batch, learn from it. The same step of the same seed is always the same."""
        rng = torch.Generator().manual_seed(self.knobs.seed + 1_000_003 * self.step + self.rank)
        pool = indices[pairs.windows[indices, 2] >= WINDOW]
        mine = np.array_split(draw(indices, self.step, self.knobs), self.workers)[self.rank]
        return self.learn(*make_batch(pairs, mine, pool, self.side, rng))

    @torch.no_grad()
    def follow(self) -> None:
        """Move the running mean towards the network; faster at first, when there is little to remember."""
        keep = min(self.knobs.ema, (1 + self.step) / (10 + self.step))
        new, old = self.net.state_dict(), self.mean.state_dict()
        names = [name for name, tensor in new.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([old[name] for name in names], [new[name] for name in names], 1 - keep)

    def save(self) -> None:
        """Write the checkpoint and the weights as they would ship; a kill in the midst leaves the ones before."""
        knobs = self.knobs
        state = {"net": self.net.state_dict(), "mean": self.mean.state_dict(), "step": self.step}
        state |= {"optimiser": self.optimiser.state_dict(), "elapsed": self.elapsed}
        torch.save(state, knobs.out / "checkpoint.tmp")
        (knobs.out / "checkpoint.tmp").replace(knobs.out / "checkpoint.pt")
        export(self.mean, knobs.out / "builtin.safetensors")

    def load(self) -> None:
        """Go on from the checkpoint, if there is one."""
        path = self.knobs.out / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device)
        self.net.load_state_dict(state["net"])
        self.mean.load_state_dict(state["mean"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.elapsed = state["step"], state["elapsed"]
        self.began = time.monotonic() - self.elapsed

    def begin_from(self, path: Path, pictures: Tensor) -> None:
        """Take over weights as they ship; ``pictures``, (B, 3, H, W) in [0, 1], tell what the batch norms measure."""
        unfuse(self.net, load(path).to(self.device), self.normalise(pictures))
        self.mean.load_state_dict(self.net.state_dict())


@torch.no_grad()
def unfuse(net: BuiltinNet, fused: BuiltinNet, x: Tensor) -> None:
    """Give a network the weights of a fused one, with batch norms that do nothing yet to the activations of ``x``.

    Each norm gets as scale and shift the deviation and mean that its channels have on ``x``, so that normalising with the
    statistics of a batch changes as little as the batch differs from ``x``.
    """
    net.load_state_dict(fused.state_dict(), strict=False)
    norms = {name: module for name, module in net.named_modules() if isinstance(module, ConvNorm)}

    def measure(name: str, conv: nn.Conv2d, activations: Tensor) -> None:
        target, bias = norms[name], conv.bias
        assert isinstance(target.norm, nn.BatchNorm2d) and bias is not None
        deviation, mean = torch.std_mean(activations, (0, 2, 3))
        deviation = deviation.clamp(min=1e-3)
        target.conv.weight.copy_(conv.weight / deviation.view(-1, 1, 1, 1))
        target.norm.weight.copy_(deviation)
        target.norm.bias.copy_(mean)
        target.norm.running_mean.copy_((mean - bias) / deviation)
        target.norm.running_var.fill_(1)

    for name, module in fused.named_modules():
        if isinstance(module, ConvNorm):
            module.conv.register_forward_hook(lambda conv, _, y, name=name: measure(name, conv, y))
    fused(x)


def export(net: BuiltinNet, path: Path) -> None:
    """Write the weights for inference: batch norms folded in, half floats."""
    fused = copy.deepcopy(net).cpu().fuse()
    tensors = {name: tensor.half().contiguous() for name, tensor in fused.state_dict().items()}
    save_file(tensors, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def draw(indices: np.ndarray, step: int, knobs: Knobs) -> np.ndarray:
    """Pictures of a step: each epoch is a new order of all of them."""
    epoch, place = divmod(step, max(1, len(indices) // knobs.batch))
    order = np.random.default_rng((knobs.seed, epoch)).permutation(indices)
    return order[place * knobs.batch : (place + 1) * knobs.batch]


@torch.no_grad()
def watch(run: Run, pairs: Pairs, held_out: np.ndarray) -> dict[str, float]:
    """MAE, IoU and the error of the confidence of the running mean on held-out pictures, at the present resolution."""
    mae, iou, doubt = [], [], []
    for start in range(0, len(held_out), 20):
        batch = take(pairs, held_out[start : start + 20])
        batch = torch.nn.functional.interpolate(batch, (run.side, run.side), mode="bilinear", antialias=True)
        with torch.autocast(run.device.type, torch.bfloat16):
            logits, confidence = run.mean(run.normalise(batch[:, :3]))
        mattes, masks = logits.float().sigmoid().cpu(), batch[:, 3:]
        found, wanted = mattes > 0.5, masks > 0.5
        ious = (found & wanted).sum((1, 2, 3)) / (found | wanted).sum((1, 2, 3)).clamp(min=1)
        mae += (mattes - masks).abs().mean((1, 2, 3)).tolist()
        iou += ious.tolist()
        doubt += (confidence.float().cpu() - ious).abs().tolist()
    return {"mae": float(np.mean(mae)), "iou": float(np.mean(iou)), "confidence_error": float(np.mean(doubt))}


def train(knobs: Knobs) -> Run:
    """Train until the budget is spent and return the run; the first worker keeps the log and the checkpoints."""
    knobs.out.mkdir(parents=True, exist_ok=True)
    pairs = load_pairs(knobs.source, knobs.cache, knobs.stored_side)
    indices, held_out = split(pairs.names, *knobs.held_out)
    common = [index for index in indices if Path(pairs.names[index]).name.startswith(knobs.twice)]
    run = Run(knobs)
    if knobs.weights:
        run.begin_from(knobs.weights, take(pairs, indices[:: max(1, len(indices) // 48)])[:, :3])
    run.load()
    indices = np.concatenate([indices, np.array(common, np.int64)])
    if run.rank > 0:
        while run.progress < 1:
            run.advance(pairs, indices)
        return run
    saved = watched = run.elapsed
    losses: list[float] = []
    with (knobs.out / "log.csv").open("a", newline="") as file:
        log = csv.writer(file)
        while run.progress < 1:
            losses.append(run.advance(pairs, indices))
            if run.step % knobs.log_every == 0:
                log.writerow([run.step, f"{run.elapsed:.0f}", run.side, f"{run.rate:.2e}", f"{np.mean(losses):.4f}"])
                file.flush()
                losses.clear()
            if run.elapsed - saved >= knobs.save_every:
                run.save()
                saved = run.elapsed
            if len(held_out) and run.elapsed - watched >= knobs.watch_every:
                with (knobs.out / "held_out.jsonl").open("a") as notes:
                    found = {name: round(value, 4) for name, value in watch(run, pairs, held_out).items()}
                    notes.write(json.dumps({"step": run.step, "seconds": round(run.elapsed), "side": run.side} | found))
                    notes.write("\n")
                watched = run.elapsed
    run.save()
    return run


def work(rank: int, knobs: Knobs) -> None:
    """One of several workers."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    meeting = f"file://{(knobs.out / 'meeting').resolve()}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=knobs.workers)
    train(knobs)
    dist.destroy_process_group()


def phase(text: str) -> tuple[float, int]:
    """Progress at which a phase begins and its side in pixels, from words as ``.4:224``."""
    start, side = text.split(":")
    return float(start), int(side)


def main() -> None:
    """Read the command line; the knobs it does not name are turned above."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("source", "cache", "out"):
        parser.add_argument(f"--{name}", type=Path, default=getattr(Knobs, name))
    parser.add_argument("--budget", type=float, default=Knobs.budget, help="seconds in all")
    parser.add_argument("--rate", type=float, default=Knobs.rate, help="highest learning rate")
    parser.add_argument("--weights", type=Path, help=f"go on from weights, such as {WEIGHTS.name}, not from scratch")
    parser.add_argument("--twice", nargs="*", default=(), help="beginnings of the names of pictures to draw twice")
    parser.add_argument("--phases", nargs="+", type=phase, default=Knobs.phases, help="as 0:192 .4:224, share of budget:side")
    parser.add_argument("--seed", type=int, default=Knobs.seed, help="another one for other crops than an earlier run's")
    parser.add_argument("--workers", type=int, default=Knobs.workers, help="processes that share a batch; 1 on a GPU")
    told = vars(parser.parse_args())
    knobs = Knobs(**told | {"twice": tuple(told["twice"]), "phases": tuple(told["phases"])})
    if knobs.workers == 1:
        train(knobs)
        return
    knobs.out.mkdir(parents=True, exist_ok=True)
    (knobs.out / "meeting").unlink(missing_ok=True)
    load_pairs(knobs.source, knobs.cache, knobs.stored_side)  # once, before all workers ask for them
    torch.multiprocessing.spawn(work, (knobs,), knobs.workers)


if __name__ == "__main__":
    main()
