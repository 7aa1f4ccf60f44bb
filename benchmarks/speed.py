"""Speed and memory of the local networks on the CPU, compared with torch, onnxruntime and rembg.

    python -m benchmarks.speed [command] [provider] [builtin] [forward] [whole] [start] [memory] [accuracy]
                               [--rounds N] [--photos FOLDER]

Results are ratios within one run: the programs alternate, and the best round of each is used, so that other load on the
machine affects all of them. ``command`` is a process of the command line from its start to its end, ``provider`` the built-in
provider alone from JPEG bytes to a cutout, ``builtin`` the same to PNG bytes. ``whole`` is the same for RMBG-1.4, with
foreground estimation, which rembg does not have. The weights of IS-Net and BiRefNet are synthetic, as speed does not depend on
training; their masks are replaced by the matte of the built-in provider, for rembg as well, so that the steps after the network
have the usual work. Programs that are not installed are skipped.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import photos
from benchmarks.memory import process_memory
from benchmarks.photos import EXAMPLES, FOLDER, jpeg
from benchmarks.table import record
from rmbg.billing.cost import Cost
from rmbg.cutout import Cutout
from rmbg.images import encode
from rmbg.images.photo import Photo, open_photo
from rmbg.inference import preprocess
from rmbg.inference.catalog import MODELS
from rmbg.inference.model_cache import MODEL_CACHE
from rmbg.matting.foreground import finish
from rmbg.matting.matte import to_bytes
from rmbg.remove import remove_background
from rmbg.render import backgrounds
from rmbg.settings import Settings

SIZES = ("1.5 MP", "6.3 MP", "24 MP")
#: Runs a command and prints its exit status, seconds and peak memory in KiB. The peak of a new process is not below that of the
#: process that starts it, so this one imports next to nothing.
MEASURE = """
import os, subprocess, sys, time
started = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print([os.waitstatus_to_exitcode(status), time.perf_counter() - started, usage.ru_maxrss])
"""

PARTS = ("command", "provider", "builtin", "forward", "whole", "start", "memory", "accuracy")


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed and memory on the CPU, as ratios in one run.")
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--photos", type=Path, default=EXAMPLES, help="folder of photos; by default the examples")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return child(*arguments.child.split(","), arguments.photos)
    functions = (command, provider, builtin, forward, whole, start, memory, accuracy)
    for part in arguments.parts or PARTS:
        dict(zip(PARTS, functions, strict=True))[part](arguments)


def ours(name: str, image: np.ndarray, **variables: str) -> np.ndarray:
    """Mask of an image by this program; `variables` override the default choice of engine and precision."""
    defaults = {"RMBG_WEIGHTS": str(FOLDER), "RMBG_DATA": str(FOLDER / "data"), "RMBG_DEVICE": "cpu"}
    settings = Settings.from_environ(dict(os.environ) | defaults | variables)
    return MODEL_CACHE.predict(MODELS[name], image, settings, lambda fraction, text: None, lambda: None)[0]


def cut(name: str, data: bytes, matte: np.ndarray) -> bytes:
    """Remove the background as the provider does, from the bytes of a file to those of a PNG.

    The network runs, and its mask is replaced by `matte`, uint8 (1024, 1024), as the weights are synthetic.
    """
    photo = open_photo(data)
    ours(name, preprocess.prepare(MODELS[name], photo.flattened()))
    alpha = preprocess.alpha(MODELS[name], matte.astype(np.float32) / np.float32(255), photo.height, photo.width)
    finished, foreground = finish(photo, alpha * np.float32(1 / 255))
    cutout = Cutout(photo, finished, foreground, name, 0.0, Cost(None, "unknown"))
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


def ratios(title: str, seconds: Mapping[str, float]) -> str:
    """The times of all programs and the ratios of ours to each, as a line."""
    own = seconds["rmbg"]
    others = [f"{name} {value:.2f} s, ratio {own / value:.2f}" for name, value in seconds.items() if name != "rmbg"]
    return f"{title}: {'; '.join([f'rmbg {own:.2f} s', *others])}"


def ratio(seconds: Mapping[str, float], other: str) -> float | None:
    """Our time divided by that of another program; None if it is not installed."""
    return seconds["rmbg"] / seconds[other] if other in seconds else None


def command(arguments: argparse.Namespace) -> None:
    """Compare processes of the command lines, with the peak memory of each."""
    from benchmarks import peers

    photo, out = jpeg("1.7 MP", arguments.photos), FOLDER / "out.png"
    programs = {"rmbg": [sys.executable, "-m", "rmbg", "remove", str(photo), str(out), "--provider", "builtin"]}
    rembg = shutil.which("rembg", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if rembg and (peers.installed("onnx") or peers.onnx_path(FOLDER).exists()):
        peers.onnx_file(FOLDER)
        programs["rembg"] = [rembg, "i", "-m", "isnet-general-use", str(photo), str(out)]
    else:
        print("rembg or onnx is not installed; the command line is not compared.")
    environment = dict(os.environ, U2NET_HOME=str(FOLDER), MODEL_CHECKSUM_DISABLED="1")
    seconds: dict[str, float] = {}
    megabytes: dict[str, float] = {}
    for _ in range(arguments.rounds + 1):
        for name, words in programs.items():
            measure = [sys.executable, "-S", "-c", MEASURE, *words]
            status, taken, peak = json.loads(subprocess.run(measure, env=environment, check=True, capture_output=True).stdout)
            if status:
                raise SystemExit(f"{name} failed with status {status}.")
            seconds[name] = min(seconds.get(name, float("inf")), taken)
            megabytes[name] = max(megabytes.get(name, 0), peak * 1024 / 1e6)
    line = ratios("command line, 1.7 MP, cold process", seconds)
    peaks = ", ".join(f"{name} {value:.0f} MB" for name, value in megabytes.items())
    record("command", [ratio(seconds, "rembg"), megabytes["rmbg"]], [f"{line}; peak memory: {peaks}"])


def provider(arguments: argparse.Namespace) -> None:
    """Measure the built-in provider with everything on its default, from JPEG bytes to a cutout, in one process."""
    figures, lines = [], []
    for size in ("1.7 MP", "12 MP"):
        data = jpeg(size, arguments.photos).read_bytes()
        run = {"rmbg": lambda d=data: remove_background(d, "builtin", settings=Settings.from_environ())}
        seconds = best_times(run, 2 * arguments.rounds)["rmbg"]
        figures.append(seconds)
        lines.append(f"built-in provider, {size}: {seconds:.2f} s")
    record("provider", figures, lines)


def builtin(arguments: argparse.Namespace) -> None:
    """Compare the built-in provider with everything on its default, from JPEG to PNG, with rembg and an IS-Net."""
    compare_pipelines("builtin", "JPEG to PNG, built-in", remove, arguments)


def compare_pipelines(part: str, title: str, pipeline: Callable[[bytes], bytes], arguments: argparse.Namespace) -> None:
    """Compare a pipeline from JPEG to PNG with rembg and an IS-Net, at all sizes."""
    from benchmarks import peers

    rembg = None
    if peers.installed("onnx", "rembg"):
        rembg = peers.rembg_pipeline(FOLDER, lambda size: photos.matte(size, arguments.photos))
    else:
        print(f"rembg or onnx is not installed; {title} is not compared.")
    figures, lines = [], []
    for size in SIZES:
        data = jpeg(size, arguments.photos).read_bytes()
        programs: dict[str, Any] = {"rmbg": lambda d=data: pipeline(d)}
        if rembg:
            programs["rembg"] = lambda d=data: rembg(d)
        seconds = best_times(programs, arguments.rounds)
        figures.append(ratio(seconds, "rembg"))
        lines.append(ratios(f"{title}, {size}", seconds))
    record(part, figures, lines)


def remove(data: bytes) -> bytes:
    """Remove the background with the built-in provider, from the bytes of a file to those of a PNG."""
    cutout = remove_background(data, "builtin", settings=Settings.from_environ())
    return encode.encode(cutout.render(backgrounds.TRANSPARENT), encode.FORMATS["png"])


def forward(arguments: argparse.Namespace) -> None:
    """Compare the forward passes of the networks."""
    from benchmarks import peers

    image = np.random.default_rng(0).uniform(-1, 1, (1, 3, 1024, 1024)).astype(np.float32)
    lines = []
    for name in ("rmbg-1.4", "rmbg-2.0"):
        peers.weights(FOLDER, MODELS[name])
        programs: dict[str, Any] = {"rmbg": lambda n=name: ours(n, image)}
        eager = peers.torch_forward(name)
        programs["torch fp32"] = lambda run=eager: run(image)
        if name == "rmbg-1.4" and peers.installed("onnx", "onnxruntime"):
            session = peers.onnxruntime_forward(FOLDER)
            programs["onnxruntime fp32"] = lambda run=session: run(image)
        seconds = best_times(programs, arguments.rounds)
        lines.append(ratios(f"{name} forward at 1024 x 1024", seconds))
    record("forward", [ratio(seconds, "torch fp32")], lines)


def whole(arguments: argparse.Namespace) -> None:
    """Compare the pipelines with an IS-Net from JPEG to PNG, with foreground estimation on our side."""
    from benchmarks import peers

    peers.weights(FOLDER, MODELS["rmbg-1.4"])
    matte = photos.matte((1024, 1024), arguments.photos)
    compare_pipelines("whole", "JPEG to PNG with IS-Net and foreground", lambda data: cut("rmbg-1.4", data, matte), arguments)


def start(arguments: argparse.Namespace) -> None:
    """Measure the time from the start of a process to its first cutout, without and with cached compiled models."""
    from benchmarks import peers

    lines = []
    for name in ("rmbg-1.4", "rmbg-2.0"):
        peers.weights(FOLDER, MODELS[name])
        for blob in (FOLDER / "data" / "engines").glob(f"{name}-*"):
            blob.unlink()
        (FOLDER / "data" / "checksums.json").unlink(missing_ok=True)
        first, again = (report(name, "1.7 MP", 2, arguments.photos) for _ in range(2))
        lines.append(f"{name}, first start: {describe(first)}")
        lines.append(f"{name}, second start: {describe(again)}")
    record("start", [first["first"], again["first"]], lines)


def memory(arguments: argparse.Namespace) -> None:
    """Measure the peak memory at 24 megapixels and after 200 pictures."""
    from benchmarks import peers

    for name in ("rmbg-1.4", "rmbg-2.0"):
        peers.weights(FOLDER, MODELS[name])
        report(name, "1.5 MP", 1, arguments.photos)  # compiles the model if necessary
        print(f"{name} at 24 MP: {describe(report(name, '24 MP', 1, arguments.photos))}", flush=True)
    print(f"rmbg-1.4, 200 pictures in a row: {describe(report('rmbg-1.4', '1.5 MP', 200, arguments.photos))}", flush=True)


def accuracy(arguments: argparse.Namespace) -> None:
    """Measure the difference of alpha between the default precision and fp32 on photos, in levels of 8 bits."""
    from benchmarks import peers

    found = photos.photos(arguments.photos)
    chosen = [open_photo(path) for path in found[:: max(1, len(found) // arguments.rounds)][: arguments.rounds]]

    def alpha(name: str, photo: Photo, **variables: str) -> np.ndarray:
        if name == "builtin":
            settings = Settings.from_environ(dict(os.environ) | variables)
            return to_bytes(remove_background(photo, name, settings=settings).matte).astype(int)
        mask = ours(name, preprocess.prepare(MODELS[name], photo.flattened()), **variables)[0]
        return preprocess.alpha(MODELS[name], mask, photo.height, photo.width).astype(int)

    for name in ("builtin", "rmbg-1.4", "rmbg-2.0"):
        if name != "builtin":
            peers.weights(FOLDER, MODELS[name])
        levels = [np.abs(alpha(name, photo) - alpha(name, photo, RMBG_PRECISION="fp32")).mean() for photo in chosen]
        print(f"{name}, {len(levels)} photos: alpha differs by {np.mean(levels):.2f} of 255, by {max(levels):.2f} at worst")


def report(name: str, size: str, count: int, folder: Path) -> dict[str, float]:
    """Seconds and gigabytes of a new process that removes the background of `count` pictures."""
    path = jpeg(size, folder)
    np.save(FOLDER / "matte.npy", photos.matte((1024, 1024), folder))
    words = [sys.executable, "-m", "benchmarks.speed", "--child", f"{name},{count}", "--photos", str(path)]
    return dict(json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout))


def describe(found: Mapping[str, float]) -> str:
    """Sentences with the figures of `report`."""
    return (
        f"{found['first']:.1f} s for the first picture, {found['fastest']:.1f} s for the fastest; "
        f"peak {found['peak']:.2f} GB, resident {found['halfway']:.2f} GB halfway and {found['end']:.2f} GB at the end"
    )


def child(name: str, count: str, photo: Path) -> None:
    """Remove the background of a photo `count` times and print times and memory of this process."""
    data, matte = photo.read_bytes(), np.load(FOLDER / "matte.npy")
    resident, seconds = [], []
    for _ in range(int(count)):
        began = time.perf_counter()
        cut(name, data, matte)
        seconds.append(time.perf_counter() - began)
        resident.append(process_memory("VmRSS") / 1e9)
    # The first picture includes the start of the process and its imports.
    found = {"first": seconds[0] + started_ago() - sum(seconds), "fastest": min(seconds), "peak": process_memory("VmHWM") / 1e9}
    print(json.dumps({**found, "halfway": resident[len(resident) // 2], "end": resident[-1]}))


def started_ago() -> float:
    """Seconds since the start of this process."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
