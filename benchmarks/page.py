"""Response times of the page for a photo of 12 megapixels: ``python -m benchmarks.page``.

Measures the pictures of the viewer and the encoding of the download. Photo and matte are synthetic. The browser composes
backgrounds; ``benchmarks.traffic`` counts their requests.
"""

from __future__ import annotations

import statistics
import time
from decimal import Decimal

import numpy as np
from scipy import ndimage

from rmbg.billing.cost import Cost
from rmbg.cutout import Cutout
from rmbg.images.photo import Photo
from rmbg.matting.foreground import estimate_foreground
from rmbg.ui.components.render_options import RenderOptions
from rmbg.ui.session import Session
from rmbg.ui.tabs.remove_actions import part, render_page, save

HEIGHT, WIDTH, ROUNDS = 3000, 4000, 9


def cutout() -> Cutout:
    """Synthetic cutout of a noisy disc in front of a gradient."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    alpha = np.clip((0.3 * HEIGHT - np.hypot(y - HEIGHT / 2, x - WIDTH / 2)) / 12 + 0.5, 0, 1)
    noise = np.random.default_rng(0).integers(0, 24, (HEIGHT, WIDTH, 1), np.uint8)
    base = np.stack([alpha * 150 + 40, 80 + 60 * y / HEIGHT, 60 + 90 * x / WIDTH], axis=-1)
    rgb = (base + ndimage.gaussian_filter(noise, (1, 1, 0))).astype(np.uint8)
    return Cutout(Photo(rgb), alpha, estimate_foreground(rgb, alpha), "builtin", 1.0, Cost(Decimal(0), "estimated"))


def main() -> None:
    session = Session()
    started = time.perf_counter()
    result = session.add(cutout())
    print(f"cutout added to the session in {time.perf_counter() - started:.1f} s")
    for title, act in (
        ("pictures of a new result", lambda: (result.pictures.clear(), render_page(session, result, RenderOptions()))),
        ("earlier result", lambda: render_page(session, result, RenderOptions())),
        ("part at full size, 1600 x 1200", lambda: part(session, "100,100,1700,1300,1600", "cutout")),
    ):
        times = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            act()
            times.append(time.perf_counter() - started)
        print(f"{title}: {statistics.median(times) * 1000:.0f} ms (median of {ROUNDS})")
    started = time.perf_counter()
    save(session, "png", 90)
    print(f"PNG at full size: {time.perf_counter() - started:.2f} s")
    session.close()


if __name__ == "__main__":
    main()
