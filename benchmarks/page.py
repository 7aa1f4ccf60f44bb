"""What a visitor waits for: a change of look on a 12-megapixel photo, and its download. ``python -m benchmarks.page``

The picture and its matte are made here; nothing but the page's own functions is timed.
"""

from __future__ import annotations

import statistics
import time
from decimal import Decimal

import numpy as np
from scipy import ndimage

from rmbg.cutout import Cost, Cutout
from rmbg.foreground import estimate_foreground
from rmbg.photo import Photo
from rmbg.ui.remove_tab import Look, _page, _save
from rmbg.ui.session import Session

HEIGHT, WIDTH, ROUNDS = 3000, 4000, 9


def cutout() -> Cutout:
    """A noisy blob before a gradient."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    alpha = np.clip((0.3 * HEIGHT - np.hypot(y - HEIGHT / 2, x - WIDTH / 2)) / 12 + 0.5, 0, 1)
    noise = np.random.default_rng(0).integers(0, 24, (HEIGHT, WIDTH, 1), np.uint8)
    base = np.stack([alpha * 150 + 40, 80 + 60 * y / HEIGHT, 60 + 90 * x / WIDTH], axis=-1)
    rgb = (base + ndimage.gaussian_filter(noise, (1, 1, 0))).astype(np.uint8)
    return Cutout(Photo(rgb), alpha, estimate_foreground(rgb, alpha), "builtin", 1.0, Cost(Decimal(0), "estimated"))


def main() -> None:
    session = Session()
    began = time.perf_counter()
    result = session.add(cutout())
    print(f"made and kept in {time.perf_counter() - began:.1f} s")
    for kind in ("transparent", "colour", "gradient", "blur"):
        times = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            _page(session, result, Look(kind=kind))
            times.append(time.perf_counter() - began)
        print(f"new look, {kind}: {statistics.median(times) * 1000:.0f} ms (median of {ROUNDS})")
    began = time.perf_counter()
    _save(session, "png", 90)
    print(f"PNG at full size: {time.perf_counter() - began:.2f} s")
    session.close()


if __name__ == "__main__":
    main()
