"""How fast the local networks are on this machine's processor, beside torch, onnxruntime and rembg.

    python -m benchmarks.speed [forward] [whole] [start] [memory] [accuracy] [--rounds N] [--photos FOLDER]

Everything is a ratio within one run: contestants take turns, and the best round of each counts, so that other work on the
machine disturbs both alike. Whole way: JPEG bytes to PNG bytes; colours are not decontaminated in it, as rembg does not.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rmbg import compose, encode
from rmbg.cutout import Cost, Cutout, finish
from rmbg.engines import pictures
from rmbg.engines.models import MODELS
from rmbg.engines.owner import OWNER
from rmbg.photo import open_photo
from rmbg.settings import Settings

FOLDER = Path(tempfile.gettempdir()) / "rmbg-benchmarks"
SIZES = {"1.5 MP": (1500, 1000), "6.3 MP": (3072, 2048), "24 MP": (6000, 4000)}
PHOTOS = Path(__file__).parents[2] / "shared" / "data" / "devset"
PARTS = ("forward", "whole", "start", "memory", "accuracy")


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed and memory on the processor, as ratios in one run.")
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="real photos for the accuracy of the quick way")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return child(*arguments.child.split(","))
    for part in arguments.parts or PARTS:
        {"forward": forward, "whole": whole, "start": start, "memory": memory, "accuracy": accuracy}[part](arguments)


def ours(name: str, image: np.ndarray, **more: str) -> np.ndarray:
    """What the app computes, with its own choice of engine and precision unless `more` settings say otherwise."""
    places = {"RMBG_WEIGHTS": str(FOLDER), "RMBG_DATA": str(FOLDER / "data"), "RMBG_DEVICE": "cpu"}
    settings = Settings.from_environ(dict(os.environ) | places | more)
    return OWNER.masks(MODELS[name], image, settings, lambda fraction, text: None, lambda: None)[0]


def cut(name: str, data: bytes) -> bytes:
    """From a file's bytes to PNG bytes, as the provider does it, foreground estimation left out."""
    photo = open_photo(data)
    mask = ours(name, pictures.prepare(MODELS[name], photo.flattened()))[0]
    alpha = pictures.alpha(MODELS[name], mask, photo.height, photo.width)
    matte, foreground = finish(photo, alpha * np.float32(1 / 255), foreground=photo.rgb)
    cutout = Cutout(photo, matte, foreground, name, 0.0, Cost(None, "unknown"))
    return encode.encode(compose.render(cutout, compose.TRANSPARENT), encode.FORMATS["png"])


def race(contestants: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Best seconds of each, after one round that does not count."""
    best = dict.fromkeys(contestants, float("inf"))
    for turn in range(rounds + 1):
        for name, run in contestants.items():
            started = time.perf_counter()
            run()
            if turn:
                best[name] = min(best[name], time.perf_counter() - started)
    return best


def show(title: str, seconds: Mapping[str, float]) -> None:
    own = seconds["rmbg"]
    others = "; ".join(f"{name} {value:.2f} s, ratio {own / value:.2f}" for name, value in seconds.items() if name != "rmbg")
    print(f"{title}: rmbg {own:.2f} s; {others}", flush=True)


def forward(arguments: argparse.Namespace) -> None:
    from benchmarks import peers

    image = np.random.default_rng(0).uniform(-1, 1, (1, 3, 1024, 1024)).astype(np.float32)
    for name in ("rmbg-1.4", "rmbg-2.0"):
        peers.weights(FOLDER, name)
        contestants: dict[str, Any] = {"rmbg": lambda n=name: ours(n, image)}
        eager = peers.torch_forward(name)
        contestants["torch fp32"] = lambda run=eager: run(image)
        if name == "rmbg-1.4" and peers.installed("onnx", "onnxruntime"):
            session = peers.onnxruntime_forward(FOLDER)
            contestants["onnxruntime fp32"] = lambda run=session: run(image)
        show(f"{name} forward at 1024 x 1024", race(contestants, arguments.rounds))


def whole(arguments: argparse.Namespace) -> None:
    from benchmarks import peers

    peers.weights(FOLDER, "rmbg-1.4")
    rembg = peers.rembg_whole(FOLDER) if peers.installed("onnx", "rembg") else None
    for title in SIZES:
        data = jpeg(title)
        contestants: dict[str, Any] = {"rmbg": lambda d=data: cut("rmbg-1.4", d)}
        if rembg:
            contestants["rembg"] = lambda d=data: rembg(d)
        show(f"JPEG to PNG with IS-Net, {title}", race(contestants, arguments.rounds))


def start(arguments: argparse.Namespace) -> None:
    """Seconds from a fresh process to the first cutout: without and with what the first start has kept."""
    from benchmarks import peers

    for name in ("rmbg-1.4", "rmbg-2.0"):
        peers.weights(FOLDER, name)
        for blob in (FOLDER / "data" / "engines").glob(f"{name}-*"):
            blob.unlink()
        jpeg("1.5 MP")
        for title in ("first", "second"):
            print(f"{name}, {title} start: {report(name, '1.5 MP', '2')}", flush=True)


def memory(arguments: argparse.Namespace) -> None:
    from benchmarks import peers

    for name in ("rmbg-1.4", "rmbg-2.0"):
        peers.weights(FOLDER, name)
        jpeg("24 MP")
        report(name, "1.5 MP", "1")  # prepares, if that has not been done
        print(f"{name} at 24 MP: {report(name, '24 MP', '1')}", flush=True)
    print(f"rmbg-1.4, 200 pictures in a row: {report('rmbg-1.4', '1.5 MP', '200')}", flush=True)


def accuracy(arguments: argparse.Namespace) -> None:
    """How far the quick way is from single precision on real photos, in levels of 8 bits."""
    from benchmarks import peers

    photos = sorted(arguments.photos.glob("**/im/*"))
    for name in ("rmbg-1.4", "rmbg-2.0"):
        peers.weights(FOLDER, name)
        levels = []
        for path in photos[:: max(1, len(photos) // arguments.rounds)][: arguments.rounds]:
            photo = open_photo(path)
            image = pictures.prepare(MODELS[name], photo.flattened())
            masks = ours(name, image)[0], ours(name, image, RMBG_PRECISION="fp32")[0]
            quick, exact = (pictures.alpha(MODELS[name], mask, photo.height, photo.width).astype(int) for mask in masks)
            levels.append(np.abs(quick - exact).mean())
        print(f"{name}, {len(levels)} photos: alpha differs by {np.mean(levels):.2f} of 255, by {max(levels):.2f} at worst")


def jpeg(title: str) -> bytes:
    """A picture with edges, smooth parts and grain, as a camera's file; made once, as that takes much memory."""
    path = FOLDER / f"{title}.jpg"
    if not path.exists():
        width, height = SIZES[title]
        rows, columns = np.mgrid[:height, :width].astype(np.float32) / height
        base = np.stack([rows, columns / 2, 1 - rows], -1) * 160
        base[np.hypot(rows - 0.5, columns - width / height / 2) < 0.35] = (210, 120, 60)
        base += np.random.default_rng(0).normal(0, 4, base.shape) + 20 * np.sin(40 * rows * columns)[..., None]
        FOLDER.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(base, 0, 255).astype(np.uint8)).save(path, quality=92)
    return path.read_bytes()


def report(name: str, size: str, count: str) -> str:
    """What a process of its own says about cutting `count` pictures."""
    command = [sys.executable, "-m", "benchmarks.speed", "--child", f"{name},{size},{count}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def child(name: str, size: str, count: str) -> None:
    data = jpeg(size)
    held, seconds = [], []
    for _ in range(int(count)):
        started = time.perf_counter()
        cut(name, data)
        seconds.append(time.perf_counter() - started)
        held.append(gigabytes("VmRSS"))
    print(
        f"{seconds[0]:.1f} s for the first picture, {min(seconds):.1f} s for the quickest; "
        f"peak {gigabytes('VmHWM'):.2f} GB, held {held[len(held) // 2]:.2f} GB halfway and {held[-1]:.2f} GB at the end"
    )


def gigabytes(what: str) -> float:
    """Of this process, by Linux's own account: getrusage's peak is that of the process that started it, if that was higher."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) * 1024 / 1e9


if __name__ == "__main__":
    main()
