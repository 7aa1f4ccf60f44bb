"""Soak test of a server: correct results for concurrent visitors, and stable use of memory and disk.

    python -m benchmarks.soak --visitors 32 --minutes 10

A server is started on 127.0.0.1 in a child process. Every visitor is a client of its API with its own IP address, as behind a
reverse proxy, and removes the background of synthetic photos: a disc in the color of the visitor. Some calls are disconnected
before their end. A result is wrong if its subject has the color of another visitor.

With ``--attacker``, another client tries to delay them; ``--side`` and ``--pause`` then give a server with free time:

    python -m benchmarks.soak --visitors 3 --minutes 5 --side 1414 --pause 6 --attacker
"""

from __future__ import annotations

import argparse
import colorsys
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from benchmarks import serving
from benchmarks.memory import process_memory

#: Sides of the photos in pixels, chosen at random.
SIDES = (240, 320, 480, 640)

#: Average number of calls for each disconnected one.
CALLS_PER_DISCONNECT = 8

#: Largest difference between the mean color of the subject and the color of the visitor, in levels. The colors of two visitors
#: differ by more.
COLOR_TOLERANCE = 12

#: Permitted growth of memory and disk after the third minute, as a fraction.
MAX_MEMORY_GROWTH, MAX_DISK_GROWTH = 0.15, 0.25


@dataclass
class Tally:
    """Counts, durations and errors of one minute."""

    counts: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class Soak:
    """The server, its visitors and the counts of each minute."""

    def __init__(
        self, visitors: int, minutes: float, folder: Path, seed: int = 1, sides: Sequence[int] = SIDES, pause: float = 0.0
    ) -> None:
        self.visitors, self.minutes, self.folder, self.seed = visitors, minutes, folder, seed
        self.sides, self.pause = sides, pause
        self.tally, self._counting = Tally(), threading.Lock()
        self.stopping = threading.Event()
        self.port = serving.free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server and return its process when it accepts requests."""
        return serving.start(self.folder, self.port, RMBG_SHARED="1")

    def visit(self, number: int) -> None:
        """Run one visitor until the end of the test."""
        random_, color = random.Random(self.seed * 1000 + number), color_of(number, self.visitors)
        with serving.client(self.url, f"203.0.113.{1 + number % 250}") as client:  # TEST-NET-3
            while not self.stopping.wait(random_.uniform(0, 2 * self.pause)):
                side = random_.choice(self.sides)
                content = photo(color, side, random_)
                leaves = random_.randrange(CALLS_PER_DISCONNECT) == 0
                began = time.monotonic()
                try:
                    result = remove(client, content, random_.uniform(0, 2) if leaves else None)
                    if result is None:
                        self._count("disconnected")
                    else:
                        self._count("right" if matches(result, color, side) else "wrong", time.monotonic() - began)
                except Exception as error:
                    if not self.stopping.is_set():
                        self._count("errors", error=f"visitor {number}: {type(error).__name__}: {str(error)[:200]}")
                        time.sleep(1)

    def _count(self, what: str, seconds: float | None = None, error: str = "") -> None:
        with self._counting:
            self.tally.counts[what] += 1
            if seconds is not None:
                self.tally.seconds.append(seconds)
            if error:
                self.tally.errors.append(error)

    def minute(self) -> Tally:
        """Return the counts since the last call."""
        with self._counting:
            tally, self.tally = self.tally, Tally()
        return tally


def remove(client: httpx.Client, content: bytes, seconds: float | None) -> Image.Image | None:
    """Return the cutout of a photo, or None after having disconnected before its end if `seconds` is given."""
    image = serving.upload(client, "photo.png", content)
    with serving.removal(client, image, "png") as events:
        if seconds is not None:
            time.sleep(seconds)
            return None
        lines = [line for line in events if line]
    if lines[-2] != "event: complete":
        raise ValueError(lines[-1])
    (file,) = json.loads(lines[-1].removeprefix("data: "))
    return Image.open(io.BytesIO(client.get(file["url"]).raise_for_status().content))


def color_of(number: int, visitors: int) -> tuple[int, int, int]:
    """Return the color of a visitor; the colors of all visitors differ in hue or brightness."""
    hues = max(1, -(-visitors // 3))
    red, green, blue = colorsys.hsv_to_rgb((number // 3) / hues, 0.85, (0.95, 0.7, 0.45)[number % 3])
    return round(red * 255), round(green * 255), round(blue * 255)


def photo(color: tuple[int, int, int], side: int, random_: random.Random) -> bytes:
    """Return a PNG of a disc in front of a light gray background; random, so that caches have no effect."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    center = side * np.array([random_.uniform(0.45, 0.55), random_.uniform(0.45, 0.55)])
    inside = np.clip(side * 0.3 - np.hypot(y - center[0], x - center[1]) + 0.5, 0, 1)[..., None]
    wall = np.full((side, side, 3), 225.0) + np.random.default_rng(random_.getrandbits(32)).normal(0, 2, (side, side, 3))
    out = io.BytesIO()
    Image.fromarray(np.clip(inside * np.array(color) + (1 - inside) * wall, 0, 255).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def matches(result: Image.Image, color: tuple[int, int, int], side: int) -> bool:
    """True if the cutout has this color and size."""
    if result.size != (side, side) or result.mode != "RGBA":
        return False
    pixels = np.asarray(result)
    middle = pixels[side * 2 // 5 : side * 3 // 5, side * 2 // 5 : side * 3 // 5].reshape(-1, 4)
    solid = middle[middle[:, 3] > 250, :3]
    return len(solid) > len(middle) // 2 and bool(np.abs(solid.mean(axis=0) - color).max() <= COLOR_TOLERANCE)


def memory(process: int) -> float:
    """Return the resident memory of a process and its children in megabytes; NaN if it has ended, and without /proc."""
    try:
        return process_memory("VmRSS", process, children=True) / 2**20
    except (OSError, KeyError):
        return float("nan")


def disk(folder: Path) -> float:
    """Return the size of all files below a folder in megabytes; files may be created and deleted meanwhile."""
    total = 0
    for above, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(above) / name).stat().st_size
            except OSError:
                continue
    return total / 1e6


def growth(values: Sequence[float]) -> float:
    """Return the growth of a series after its third value, as a fraction of it; 0 for fewer than five values."""
    return (max(values[-2:]) - values[2]) / max(values[2], 1.0) if len(values) >= 5 else 0.0


def seconds_of(times: Sequence[float]) -> str:
    """Return the median, the 95th percentile and the largest of durations as cells of a table."""
    return f"{np.median(times):.1f} | {np.percentile(times, 95):.1f} | {max(times):.1f}"


def run(soak: Soak, *, attacked: bool = False) -> int:
    """Run the test, print one line a minute, and return the exit status."""
    process = soak.start()
    words = [sys.executable, "-m", "benchmarks.attacker", soak.url]
    attacker = subprocess.Popen(words, stdin=subprocess.PIPE) if attacked else None
    threads = [threading.Thread(target=soak.visit, args=(number,), daemon=True) for number in range(soak.visitors)]
    print(f"{soak.visitors} visitors, {soak.minutes:g} minutes, {soak.url}\n", flush=True)
    print("| minute | right | wrong | errors | disconnected | median s | p95 s | slowest s | memory MB | disk MB |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    wrong = errors = right = 0
    series: dict[str, list[float]] = {"memory": [], "disk": []}
    lines: list[str] = []
    all_times: list[float] = []
    try:
        for thread in threads:
            thread.start()
        end = time.monotonic() + soak.minutes * 60
        minute = 0
        while (left := end - time.monotonic()) > 0 and process.poll() is None:
            time.sleep(min(60.0, left))
            minute += 1
            tally = soak.minute()
            counts = tally.counts
            right, wrong, errors = right + counts["right"], wrong + counts["wrong"], errors + counts["errors"]
            lines += tally.errors
            series["memory"].append(memory(process.pid))
            series["disk"].append(disk(soak.folder / "tmp"))
            times = tally.seconds or [float("nan")]
            all_times += tally.seconds
            print(
                f"| {minute} | {counts['right']} | {counts['wrong']} | {counts['errors']} | {counts['disconnected']} "
                f"| {seconds_of(times)} | {series['memory'][-1]:.0f} | {series['disk'][-1]:.1f} |",
                flush=True,
            )
        print(f"\nmedian, p95 and slowest of all: {seconds_of(all_times or [float('nan')])}")
        died = process.poll() is not None
    finally:
        soak.stopping.set()
        if attacker is not None:
            attacker.communicate()
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
    for thread in threads:
        thread.join(5)
    remaining_mb = disk(soak.folder / "tmp")
    failures: list[Any] = [
        (died, "the server exited"),
        (wrong, f"{wrong} wrong pictures"),
        (errors, f"{errors} errors"),
        (not right, "no pictures"),
        (remaining_mb > 0, f"{remaining_mb:.1f} MB of files remain"),
        (growth(series["memory"]) > MAX_MEMORY_GROWTH, f"memory grew by {growth(series['memory']):.0%} after the third minute"),
        (growth(series["disk"]) > MAX_DISK_GROWTH, f"disk grew by {growth(series['disk']):.0%} after the third minute"),
    ]
    messages = [sentence for failed, sentence in failures if failed]
    print("\n" + ("; ".join(messages) if messages else f"{right} pictures, all correct; no files remain"))
    for line in lines[:20]:
        print(f"  {line}")
    return 1 if messages else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--visitors", type=int, default=32)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--side", type=int, help="of all photos in pixels; by default 240 to 640")
    parser.add_argument("--pause", type=float, default=0.0, help="mean seconds of a visitor between two calls")
    parser.add_argument("--attacker", action="store_true", help="with a client that tries to delay all others")
    arguments = parser.parse_args()
    sides = SIDES if arguments.side is None else (arguments.side,)
    with tempfile.TemporaryDirectory(prefix="rmbg-soak-", ignore_cleanup_errors=True) as folder:
        soak = Soak(arguments.visitors, arguments.minutes, Path(folder), sides=sides, pause=arguments.pause)
        return run(soak, attacked=arguments.attacker)


if __name__ == "__main__":
    sys.exit(main())
