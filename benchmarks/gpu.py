"""Speed of the local networks on a GPU, compared with the published form on the same GPU.

    python -m benchmarks.gpu [--device cuda:0] [--batch 1 8] [--compile] [--models rmbg-1.4 rmbg-2.0]

The baseline is the network in fp32 with separate batch norms, not compiled. Times are medians of the network alone, with the
images already on the GPU. The authors of RMBG-2.0 publish 69 ms for one image on an A100 in fp16.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks import peers
from benchmarks.speed import FOLDER
from rmbg.inference.catalog import MODELS
from rmbg.inference.device import torch_precision
from rmbg.inference.engines import Plan
from rmbg.inference.torch_runner import DTYPES, TorchRunner
from rmbg.inference.weights import WeightsFile

PUBLISHED_MS = {"rmbg-2.0": 69.0}


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the local networks on a GPU.")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--models", nargs="+", default=["rmbg-1.4", "rmbg-2.0"], choices=["rmbg-1.4", "rmbg-2.0"])
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--compile", action="store_true", help="also with torch.compile, whose first run takes minutes")
    arguments = parser.parse_args()
    if arguments.device.startswith("cuda"):
        if not torch.cuda.is_available():
            parser.error("torch finds no CUDA device")
        print(f"{torch.cuda.get_device_name(arguments.device)}, torch {torch.__version__}")
    for name in arguments.models:
        measure(name, arguments)


def measure(name: str, arguments: argparse.Namespace) -> None:
    """Print the times of one network in all forms and batch sizes."""
    device, precision = arguments.device, torch_precision(arguments.device)
    path = peers.weights(FOLDER, MODELS[name])
    runner = TorchRunner(MODELS[name], WeightsFile(path, ""), Plan("torch", device, precision), lambda fraction, text: None)
    forms = {"eager fp32": (peers.eager(name).to(device), torch.float32), precision: (runner.network, DTYPES[precision])}
    if arguments.compile:
        forms[f"{precision} compiled"] = (torch.compile(runner.network, mode="max-autotune-no-cudagraphs"), DTYPES[precision])
    for batch in arguments.batch:
        images = torch.rand(batch, 3, arguments.size, arguments.size, device=device) - 0.5
        base = None
        for form, (module, dtype) in forms.items():
            x = images.to(dtype).contiguous(memory_format=torch.channels_last)
            milliseconds = median_ms(lambda module=module, x=x: module(x), device, arguments.rounds)
            base = base or milliseconds
            print(f"{name} {form}, batch {batch}: {describe(name, milliseconds, batch, base)}", flush=True)


def describe(name: str, milliseconds: float, batch: int, base: float) -> str:
    """Time and throughput of a batch, with the ratios to the baseline and to the published time."""
    text = f"{milliseconds:.2f} ms, {1000 * batch / milliseconds:.1f} images/s, ratio to eager fp32 {milliseconds / base:.2f}"
    if name in PUBLISHED_MS and batch == 1:
        text += f", to the published time {milliseconds / PUBLISHED_MS[name]:.2f}"
    return text


def median_ms(forward: Callable[[], torch.Tensor], device: str, rounds: int) -> float:
    """Median time of a call in milliseconds, after three warm-up calls."""
    times = []
    with torch.inference_mode():
        for round_ in range(rounds + 3):
            started = time.perf_counter()
            forward()
            if device.startswith("cuda"):
                torch.cuda.synchronize(device)
            if round_ >= 3:
                times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


if __name__ == "__main__":
    main()
