"""Throughput and memory of batches, compared with `remove` in a loop and with rembg's folder mode; sum for a million photos.

    python -m benchmarks.batch [loop] [rembg] [memory] [large] [listing] [million] [--photos N] [--rounds N] [--small N]
        [--cores N] [--gpu-hour USD]

The programs alternate in child processes, and the best round of each is used. CPU seconds are reported beside wall time, as
other load on the machine affects them less. The part `rembg` requires benchmarks/requirements.txt. The part `million` measures
one core, and RMBG-1.4 on a GPU if there is one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.memory import process_memory
from rmbg.inference.catalog import MODELS

FOLDER = Path(tempfile.gettempdir()) / "rmbg-benchmarks"
PARTS = ("loop", "rembg", "memory", "large", "listing", "million")

#: Numbers of photos after which `memory` reports the resident memory.
MARKS = (100, 200, 500, 1000, 2000, 5000, 10_000)


def main() -> None:
    parser = argparse.ArgumentParser(description="Throughput and memory of batches, as ratios in one run.")
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--photos", type=int, default=40, help="photos of 1.5 megapixels for `loop` and `rembg`")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", type=int, default=2000, help="small photos for `memory`")
    parser.add_argument("--cores", type=int, default=64, help="CPU cores of the cluster for `million`")
    parser.add_argument("--gpu-hour", type=float, default=2.0, help="price of an hour of a GPU in dollars for `million`")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        mode, provider, source, target = arguments.child
        return child(mode, provider, Path(source), Path(target))
    os.environ.update(RMBG_WEIGHTS=str(FOLDER), RMBG_DATA=str(FOLDER / "data"))
    parts = {"loop": loop, "rembg": rembg, "memory": memory, "large": large, "listing": listing, "million": million}
    for part in arguments.parts or PARTS:
        parts[part](arguments)


def loop(arguments: argparse.Namespace) -> None:
    """Compare the built-in provider in `batch` with sequential calls of `remove` in one process."""
    source = photos("medium", arguments.photos, (1500, 1000))
    best: dict[str, dict[str, float]] = {}
    for _ in range(arguments.rounds):
        for mode in ("batch", "loop"):
            figures = measure(mode, "builtin", source)
            if mode not in best or figures["seconds"] < best[mode]["seconds"]:
                best[mode] = figures
    for mode, figures in best.items():
        print(f"{mode}: {describe(figures, arguments.photos)}", flush=True)
    print(f"batch takes {best['batch']['seconds'] / best['loop']['seconds']:.2f} of the time of a loop", flush=True)


def rembg(arguments: argparse.Namespace) -> None:
    """Compare the commands ``rmbg batch`` and ``rembg p`` with IS-Net."""
    from benchmarks import peers

    if not peers.installed("onnx", "rembg", "watchdog"):
        print("rembg is not installed: pip install -r benchmarks/requirements.txt")
        return
    peers.weights(FOLDER, MODELS["rmbg-1.4"])
    peers.onnx_file(FOLDER)
    source = photos("medium", arguments.photos, (1500, 1000))
    environment = {**os.environ, "U2NET_HOME": str(FOLDER), "MODEL_CHECKSUM_DISABLED": "1"}
    best = {"rmbg": float("inf"), "rembg": float("inf")}
    for _ in range(arguments.rounds):
        for name in best:
            target = empty_folder(name)
            rembg_command = [sys.executable, "-c", "from rembg.cli import main; main()", "p", "-m", "isnet-general-use"]
            rmbg_command = [sys.executable, "-m", "rmbg", "batch", "--provider", "rmbg-1.4"]
            command = {"rmbg": rmbg_command, "rembg": rembg_command}[name]
            started = time.perf_counter()
            subprocess.run([*command, str(source), str(target)], check=True, env=environment, capture_output=True)
            best[name] = min(best[name], time.perf_counter() - started)
    ratio = best["rembg"] / best["rmbg"]
    print(f"IS-Net, {arguments.photos} photos: rmbg {best['rmbg']:.1f} s, rembg {best['rembg']:.1f} s, ratio {ratio:.2f}")


def memory(arguments: argparse.Namespace) -> None:
    """Measure the memory of a process after 100 small photos, at further marks, and its peak."""
    figures = measure("batch", "builtin", photos("small", arguments.small, (320, 240)))
    held = ", ".join(f"{size / 1e6:.0f} MB after {number:,}" for number, size in figures["held"])
    print(f"small photos: {held}; peak {figures['peak'] / 1e6:.0f} MB", flush=True)


def large(arguments: argparse.Namespace) -> None:
    """Measure the peak memory with photos of 24 megapixels."""
    figures = measure("batch", "builtin", photos("large", 8, (6000, 4000)))
    print(f"8 photos of 24 megapixels: {describe(figures, 8)}, peak {figures['peak'] / 1e9:.2f} GB", flush=True)


def listing(arguments: argparse.Namespace) -> None:
    """Measure the time to list 100,000 files in 100 folders."""
    from rmbg.batch.sources import open_source
    from rmbg.settings import Settings

    folder = FOLDER / "batch-listing"
    if not folder.exists():
        part = empty_folder("listing")
        for number in range(100):
            (part / f"{number:02d}").mkdir()
            for photo in range(1000):
                (part / f"{number:02d}/{photo:03d}.jpg").touch()
        part.rename(folder)
    best = float("inf")
    for _ in range(arguments.rounds):
        started = time.perf_counter()
        count = len(open_source(str(folder), Settings()).entries())
        best = min(best, time.perf_counter() - started)
    print(f"listing of {count:,} files: {best:.2f} s, {best / count * 10_000:.3f} s for 10,000", flush=True)


def million(arguments: argparse.Namespace) -> None:
    """Print the time and cost of a million photos from the rate of one core, and of one GPU with the cores of this machine."""
    from benchmarks import peers
    from rmbg.settings import HOURLY_USD

    source = photos("medium", arguments.photos, (1500, 1000))
    rate = max(arguments.photos / measure("core", "builtin", source)["seconds"] for _ in range(arguments.rounds))
    hours = 1e6 / rate / 3600
    price = float(HOURLY_USD) / 2  # the default is the price of two cores
    print(
        f"built-in, 1.5 megapixels, one core: {rate:.2f} photos a second\n"
        f"1,000,000 / {rate:.2f} a second / 3600 = {hours:,.0f} core hours; / {arguments.cores} cores = "
        f"{hours / arguments.cores:.1f} hours; x ${price:.3f} = ${hours * price:,.2f}"
    )
    sizes = [
        sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) / arguments.photos / 1e3
        for folder in (source, FOLDER / "batch-out-core")
    ]
    print(f"storage: {sizes[0]:,.0f} GB of photos and {sizes[1]:,.0f} GB of results", flush=True)
    import torch

    if not torch.cuda.is_available():
        return
    peers.weights(FOLDER, MODELS["rmbg-1.4"])  # the built-in network runs on the CPU
    rate = max(arguments.photos / measure("batch", "rmbg-1.4", source)["seconds"] for _ in range(arguments.rounds))
    hours = 1e6 / rate / 3600
    print(
        f"RMBG-1.4, one GPU and {os.cpu_count()} cores: {rate:.1f} photos a second; 1,000,000 / {rate:.1f} a second / 3600 = "
        f"{hours:,.1f} hours; x ${arguments.gpu_hour:.2f} = ${hours * arguments.gpu_hour:,.2f}",
        flush=True,
    )


def photos(name: str, count: int, size: tuple[int, int]) -> Path:
    """Return a cached folder of `count` synthetic photos: a subject with soft edges on a gradient, with noise."""
    folder = FOLDER / f"batch-{name}-{count}"
    if folder.exists():
        return folder
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    width, height = size
    rows, columns = np.mgrid[:height, :width].astype(np.float32) / height
    for number in range(count):
        random = np.random.default_rng(number)
        center, radius = random.uniform(0.35, 0.65, 2), random.uniform(0.2, 0.3)
        alpha = np.clip((radius - np.hypot(rows - center[0], columns - center[1] * width / height)) * 60, 0, 1)[..., None]
        background = np.stack([rows, columns / 2, 1 - rows], -1) * random.uniform(100, 200)
        picture = alpha * random.uniform(0, 255, 3) + (1 - alpha) * background + random.normal(0, 4, background.shape)
        Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(part / f"{number:05d}.jpg", quality=92)
    part.rename(folder)
    return folder


def empty_folder(name: str) -> Path:
    """Return an empty folder for results."""
    target = FOLDER / f"batch-out-{name}"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    return target


def measure(mode: str, provider: str, source: Path) -> dict[str, Any]:
    """Process all photos of a folder in a child process and return its figures."""
    command = [sys.executable, "-m", "benchmarks.batch", "--child", mode, provider, str(source), str(empty_folder(mode))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def describe(figures: dict[str, float], count: int) -> str:
    """Return time and throughput as text."""
    return (
        f"{figures['seconds'] / count:.3f} s a photo, {figures['cpu'] / count:.3f} CPU seconds a photo, "
        f"{count / figures['seconds']:.2f} a second"
    )


def child(mode: str, provider: str, source: Path, target: Path) -> None:
    """Process all photos of a folder and print the figures; the first photo is processed once before, to load the network."""
    from rmbg.images.encode import FORMATS, encode
    from rmbg.remove import remove_background
    from rmbg.runtime.threads import on_one_core

    def remove(path: Path) -> None:
        encoded = encode(remove_background(path, provider).render(), FORMATS["png"])
        (target / f"{path.stem}.png").write_bytes(encoded)

    files = sorted(source.glob("*.jpg"))
    if mode == "core":
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with contextlib.nullcontext() if mode == "loop" else on_one_core():  # as the batch, which loads networks for that
        remove(files[0])
    started, cpu = time.perf_counter(), cpu_seconds()
    sizes = [(0, 0)]
    if mode == "loop":
        for path in files:
            remove(path)
    else:
        sizes = batch(provider, source, target)
    figures = {"seconds": time.perf_counter() - started, "cpu": cpu_seconds() - cpu}
    held = [size for size, _ in sizes]
    marks = [(number, held[number - 1]) for number in MARKS if number < len(held)] + [(len(held), held[-1])]
    print(json.dumps({**figures, "peak": max(peak for _, peak in sizes), "held": marks}))


def cpu_seconds() -> float:
    """CPU seconds of this process and of those that it has started and that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def batch(provider: str, source: Path, target: Path) -> list[tuple[int, int]]:
    """Run a batch and return the resident memory and its peak after each photo, of all its processes in bytes."""
    from rmbg.batch.job import open_job
    from rmbg.batch.plan import Recipe
    from rmbg.images.encode import FORMATS
    from rmbg.settings import Settings

    sizes = []
    with open_job(str(source), str(target), Settings.from_environ()) as job:
        found = job.provider(provider)
        recipe = Recipe(found, found.info.parse_options({}), FORMATS["png"])

        def report(progress: object, outcome: object) -> None:
            if outcome is not None:
                sizes.append((process_memory("VmRSS", children=True), process_memory("VmHWM", children=True)))

        progress = job.run(job.plan(recipe), recipe, report=report)
    assert progress.done == progress.total, progress
    return sizes


if __name__ == "__main__":
    main()
