"""Error and time of the foreground estimation by the size of its working copy: ``python -m benchmarks.decontamination``.

The scenes are composed from a known foreground, matte and background. The error is the RMSE, as a share of full scale, in the
soft edge of the composite on white. Seconds are the minimum of three runs.
"""

from __future__ import annotations

import time

import numpy as np

from rmbg.images.pixels import blend
from rmbg.matting import foreground
from tests.pictures import scene

#: Height, width and softness of the edge, in pixels.
SCENES = ((1140, 1500, 4.0), (1140, 1500, 12.0), (3000, 4000, 4.0), (3000, 4000, 16.0))

WORKING_PIXELS = (1_000_000, 250_000, 150_000, 100_000, 60_000)


def error(colors: np.ndarray, alpha: np.ndarray, true: np.ndarray) -> float:
    """RMSE in the soft edge of the composite on white, as a share of full scale."""
    white = np.array([255, 255, 255], np.uint8)
    difference = blend(true, alpha, white).astype(float) - blend(colors, alpha, white)
    return float(np.sqrt((difference[(alpha > 0) & (alpha < 1)] ** 2).mean()) / 255)


def main() -> None:
    for height, width, soft in SCENES:
        photo, alpha, true, _ = scene(height, width, soft)
        share = float(((alpha > 0) & (alpha < 1)).mean())
        own = error(photo, alpha, true)
        print(f"{height * width / 1e6:.1f} megapixels, {share:.1%} soft, error of the photo's own colors {own:.4f}")
        for pixels in WORKING_PIXELS:
            foreground.WORKING_PIXELS = pixels
            seconds = []
            for _ in range(3):
                started = time.perf_counter()
                colors = foreground.estimate_foreground(photo, alpha)
                seconds.append(time.perf_counter() - started)
            print(f"  {pixels:>9,} pixels: error {error(colors, alpha, true):.4f}, {min(seconds) * 1000:.0f} ms")


if __name__ == "__main__":
    main()
