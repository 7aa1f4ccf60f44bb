"""Speed and memory of the local networks on the CPU, compared with torch, onnxruntime and rembg.

    python -m benchmarks.speed [command] [builtin] [forward] [whole] [start] [memory] [accuracy] [--rounds N] [--photos FOLDER]

Results are ratios within one run: the programs alternate, and the best round of each is used, so that other load on the
machine affects all of them. ``command`` is a process of the command line from its start to its end, ``builtin`` the built-in
provider from JPEG bytes to PNG bytes. ``whole`` is the same for RMBG-1.4, without and with foreground estimation, which rembg
does not have. Programs that are not installed are skipped.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rmbg.billing.cost import Cost
from rmbg.cutout import Cutout
from rmbg.images import encode
from rmbg.images.photo import open_photo
from rmbg.inference import preprocess
from rmbg.inference.catalog import MODELS
from rmbg.inference.model_cache import MODEL_CACHE
from rmbg.matting.finish import finish
from rmbg.remove import remove_background
from rmbg.render import backgrounds
from rmbg.settings import Settings

FOLDER = Path(tempfile.gettempdir()) / "rmbg-benchmarks"
SIZES = {"1.5 MP": (1500, 1000), "6.3 MP": (3072, 2048), "24 MP": (6000, 4000)}
PHOTOS = Path(__file__).parents[1] / "examples"
PARTS = ("command", "builtin", "forward", "whole", "start", "memory", "accuracy")


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed and memory on the CPU, as ratios in one run.")
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="folder of photos, for accuracy")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return child(*arguments.child.split(","))
    functions = (command, builtin, forward, whole, start, memory, accuracy)
    for part in arguments.parts or PARTS:
        dict(zip(PARTS, functions, strict=True))[part](arguments)


def ours(name: str, image: np.ndarray, **variables: str) -> np.ndarray:
    """Mask of an image by this program; `variables` override the default choice of engine and precision."""
    defaults = {"RMBG_WEIGHTS": str(FOLDER), "RMBG_DATA": str(FOLDER / "data"), "RMBG_DEVICE": "cpu"}
    settings = Settings.from_environ(dict(os.environ) | defaults | variables)
    return MODEL_CACHE.predict(MODELS[name], image, settings, lambda fraction, text: None, lambda: None)[0]


def cut(name: str, data: bytes, decontaminate: bool = False) -> bytes:
    """Remove the background as the provider does, from the bytes of a file to those of a PNG."""
    photo = open_photo(data)
    mask = ours(name, preprocess.prepare(MODELS[name], photo.flattened()))[0]
    alpha = preprocess.alpha(MODELS[name], mask, photo.height, photo.width)
    matte, foreground = finish(photo, alpha * np.float32(1 / 255), foreground=None if decontaminate else photo.rgb)
    cutout = Cutout(photo, matte, foreground, name, 0.0, Cost(None, "unknown"))
    return encode.encode(cutout.render(backgrounds.TRANSPARENT), encode.FORMATS["png"])


def best_times(programs: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Best time of each program in seconds; the programs alternate, and the first round is a warm-up."""
    best = dict.fromkeys(programs, float("inf"))
    for round_ in range(rounds + 1):
        for name, run in programs.items():
            started = time.perf_counter()
            run()
            if round_:
                best[name] = min(best[name], time.perf_counter() - started)
    return best


def print_ratios(title: str, seconds: Mapping[str, float]) -> None:
    """Print the times of all programs and the ratios of ours to each."""
    own = seconds["rmbg"]
    others = "; ".join(f"{name} {value:.2f} s, ratio {own / value:.2f}" for name, value in seconds.items() if name != "rmbg")
    print(f"{title}: rmbg {own:.2f} s; {others}", flush=True)


def command(arguments: argparse.Namespace) -> None:
    """Compare processes of the command lines, with the peak memory of each."""
    from benchmarks import peers

    jpeg("1.5 MP")
    out = FOLDER / "out.png"
    programs = {"rmbg": [sys.executable, "-m", "rmbg", "remove", str(FOLDER / "1.5 MP.jpg"), str(out), "--provider", "builtin"]}
    rembg = shutil.which("rembg", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if rembg and (peers.installed("onnx") or peers.onnx_path(FOLDER).exists()):
        peers.onnx_file(FOLDER)
        programs["rembg"] = [rembg, "i", "-m", "isnet-general-use", str(FOLDER / "1.5 MP.jpg"), str(out)]
    else:
        print("rembg or onnx is not installed; the command line is not compared.")
    environment = dict(os.environ, U2NET_HOME=str(FOLDER), MODEL_CHECKSUM_DISABLED="1")
    seconds, megabytes = {}, {}
    for _ in range(arguments.rounds + 1):
        for name, words in programs.items():
            started = time.perf_counter()
            process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            if status:
                raise SystemExit(f"{name} failed with status {os.waitstatus_to_exitcode(status)}.")
            seconds[name] = min(seconds.get(name, float("inf")), time.perf_counter() - started)
            megabytes[name] = usage.ru_maxrss / 1000
    print_ratios("command line, 1.5 MP, cold process", seconds)
    print(f"peak memory: {', '.join(f'{name} {value:.0f} MB' for name, value in megabytes.items())}", flush=True)


def builtin(arguments: argparse.Namespace) -> None:
    """Compare the built-in provider with everything on its default, from JPEG to PNG, with rembg and an IS-Net."""
    from benchmarks import peers

    rembg = peers.rembg_pipeline(FOLDER) if peers.installed("onnx", "rembg") else None
    for title in SIZES:
        data = jpeg(title)
        programs: dict[str, Any] = {"rmbg": lambda d=data: remove(d)}
        if rembg:
            programs["rembg"] = lambda d=data: rembg(d)
        else:
            print("rembg or onnx is not installed; the built-in provider is not compared.")
        print_ratios(f"JPEG to PNG, built-in, {title}", best_times(programs, arguments.rounds))


def remove(data: bytes) -> bytes:
    """Remove the background with the built-in provider, from the bytes of a file to those of a PNG."""
    cutout = remove_background(data, "builtin", settings=Settings.from_environ())
    return encode.encode(cutout.render(backgrounds.TRANSPARENT), encode.FORMATS["png"])


def forward(arguments: argparse.Namespace) -> None:
    """Compare the forward passes of the networks."""
    from benchmarks import peers

    image = np.random.default_rng(0).uniform(-1, 1, (1, 3, 1024, 1024)).astype(np.float32)
    for name in ("rmbg-1.4", "rmbg-2.0"):
        peers.weights(FOLDER, name)
        programs: dict[str, Any] = {"rmbg": lambda n=name: ours(n, image)}
        eager = peers.torch_forward(name)
        programs["torch fp32"] = lambda run=eager: run(image)
        if name == "rmbg-1.4" and peers.installed("onnx", "onnxruntime"):
            session = peers.onnxruntime_forward(FOLDER)
            programs["onnxruntime fp32"] = lambda run=session: run(image)
        print_ratios(f"{name} forward at 1024 x 1024", best_times(programs, arguments.rounds))


def whole(arguments: argparse.Namespace) -> None:
    """Compare the pipelines from JPEG to PNG."""
    from benchmarks import peers

    peers.weights(FOLDER, "rmbg-1.4")
    rembg = peers.rembg_pipeline(FOLDER) if peers.installed("onnx", "rembg") else None
    for title in SIZES:
        data = jpeg(title)
        programs: dict[str, Any] = {"rmbg": lambda d=data: cut("rmbg-1.4", d)}
        programs["rmbg, foreground estimated"] = lambda d=data: cut("rmbg-1.4", d, True)
        if rembg:
            programs["rembg"] = lambda d=data: rembg(d)
        print_ratios(f"JPEG to PNG with IS-Net, {title}", best_times(programs, arguments.rounds))


def start(arguments: argparse.Namespace) -> None:
    """Measure the time from the start of a process to its first cutout, without and with cached compiled models."""
    from benchmarks import peers

    for name in ("rmbg-1.4", "rmbg-2.0"):
        peers.weights(FOLDER, name)
        for blob in (FOLDER / "data" / "engines").glob(f"{name}-*"):
            blob.unlink()
        jpeg("1.5 MP")
        for title in ("first", "second"):
            print(f"{name}, {title} start: {report(name, '1.5 MP', '2')}", flush=True)


def memory(arguments: argparse.Namespace) -> None:
    """Measure the peak memory at 24 megapixels and after 200 pictures."""
    from benchmarks import peers

    for name in ("rmbg-1.4", "rmbg-2.0"):
        peers.weights(FOLDER, name)
        jpeg("24 MP")
        report(name, "1.5 MP", "1")  # compiles the model if necessary
        print(f"{name} at 24 MP: {report(name, '24 MP', '1')}", flush=True)
    print(f"rmbg-1.4, 200 pictures in a row: {report('rmbg-1.4', '1.5 MP', '200')}", flush=True)


def accuracy(arguments: argparse.Namespace) -> None:
    """Measure the difference of alpha between the default precision and fp32 on photos, in levels of 8 bits."""
    from benchmarks import peers

    found = [path for path in sorted(arguments.photos.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")]
    photos = [path for path in found if path.parent.name != "gt"]
    if not photos:
        raise SystemExit(f"There are no photos in {arguments.photos}.")
    for name in ("rmbg-1.4", "rmbg-2.0"):
        peers.weights(FOLDER, name)
        levels = []
        for path in photos[:: max(1, len(photos) // arguments.rounds)][: arguments.rounds]:
            photo = open_photo(path)
            image = preprocess.prepare(MODELS[name], photo.flattened())
            masks = ours(name, image)[0], ours(name, image, RMBG_PRECISION="fp32")[0]
            default, exact = (preprocess.alpha(MODELS[name], mask, photo.height, photo.width).astype(int) for mask in masks)
            levels.append(np.abs(default - exact).mean())
        print(f"{name}, {len(levels)} photos: alpha differs by {np.mean(levels):.2f} of 255, by {max(levels):.2f} at worst")


def jpeg(title: str) -> bytes:
    """Bytes of a synthetic photo with edges, gradients and noise; rendered once, in a file, as it needs much memory."""
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
    """Output of a new process that removes the background of `count` pictures."""
    command = [sys.executable, "-m", "benchmarks.speed", "--child", f"{name},{size},{count}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def child(name: str, size: str, count: str) -> None:
    """Remove the background of `count` pictures and print times and memory of this process."""
    data = jpeg(size)
    resident, seconds = [], []
    for _ in range(int(count)):
        started = time.perf_counter()
        cut(name, data)
        seconds.append(time.perf_counter() - started)
        resident.append(gigabytes("VmRSS"))
    halfway = resident[len(resident) // 2]
    print(
        f"{seconds[0]:.1f} s for the first picture, {min(seconds):.1f} s for the fastest; "
        f"peak {gigabytes('VmHWM'):.2f} GB, resident {halfway:.2f} GB halfway and {resident[-1]:.2f} GB at the end"
    )


def gigabytes(field: str) -> float:
    """A field of /proc/self/status in gigabytes; unlike getrusage, its peak does not include the parent process."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024 / 1e9


if __name__ == "__main__":
    main()
