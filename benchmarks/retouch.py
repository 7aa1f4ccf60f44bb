"""Time of strokes of the brush at 24 megapixels, near their limits: ``python -m benchmarks.retouch [--height PIXELS]``.

Each case has zigzag strokes across the photo, as many as `check_strokes` permits.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from rmbg.errors import OptionError
from rmbg.matting.retouch import MAX_POINTS, Stroke, check_strokes, retouch

MAX_STROKES, RADII = 80, (1.0, 4.0, 12.0, 40.0, 200.0)


def zigzag(width: int, height: int, radius: float, number: int) -> Stroke:
    """Stroke of `MAX_POINTS` points, from left to right or, every other one, from top to bottom."""
    along, across = np.linspace(0.02, 0.98, MAX_POINTS), np.where(np.arange(MAX_POINTS) % 2, 0.1, 0.5) + number % 5 / 12
    x, y = (across, along) if number % 2 else (along, across)
    points = tuple(zip((x * width).tolist(), (y * height).tolist(), strict=True))
    return Stroke("keep" if number % 3 else "erase", radius, points)


def most(width: int, height: int, radius: float) -> list[Stroke]:
    """As many strokes as are permitted, at most `MAX_STROKES`."""
    strokes = [zigzag(width, height, radius, number) for number in range(MAX_STROKES)]
    while strokes:
        try:
            check_strokes(strokes, width, height)
        except OptionError:
            strokes.pop()
        else:
            break
    return strokes


def main() -> None:
    parser = argparse.ArgumentParser(description="Time of strokes of the brush.")
    parser.add_argument("--height", type=int, default=4000, help="of a photo of 3:2")
    height = parser.parse_args().height
    width = height * 3 // 2
    matte, rgb = np.zeros((height, width), np.float32), np.full((height, width, 3), 90, np.uint8)
    for radius in RADII:
        strokes = most(width, height, radius)
        started, used = time.perf_counter(), time.process_time()
        retouch(matte, rgb, rgb, strokes)
        seconds, cpu = time.perf_counter() - started, time.process_time() - used
        print(f"radius {radius:g}: {len(strokes)} strokes, {seconds:.1f} s ({cpu:.1f} s of CPU)")


if __name__ == "__main__":
    main()
