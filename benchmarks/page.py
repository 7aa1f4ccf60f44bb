"""Weight and response times of the page: ``python -m benchmarks.page [server] [browser]``; both parts without an argument.

``server`` measures the pictures of the viewer, drafts of the clean-up and the encoding of the download for a photo of 12
megapixels, in this process.

``browser`` drives the page in Chromium on a line of 1.6 Mbit/s: start and second start, click to result, a new color, and the
tab stops from the start button to the download. Bytes are those on the wire. ``benchmarks.traffic`` lists further actions.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from dataclasses import replace
from decimal import Decimal

import numpy as np
from scipy import ndimage

from rmbg.billing.cost import Cost
from rmbg.cutout import Cutout
from rmbg.images.photo import Photo
from rmbg.matting.edges import EdgeSettings
from rmbg.matting.foreground import estimate_foreground
from rmbg.ui.components.render_options import RenderOptions
from rmbg.ui.drafts import draw
from rmbg.ui.results import Result
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


def server() -> None:
    """Print the times of the event handlers."""
    session = Session()
    started = time.perf_counter()
    result = session.add(cutout())
    print(f"cutout added to the session in {time.perf_counter() - started:.1f} s")
    for title, act in (
        ("pictures of a new result", lambda: (result.pictures.clear(), render_page(session, result, RenderOptions()))),
        ("earlier result", lambda: render_page(session, result, RenderOptions())),
        ("part at full size, 1600 x 1200", lambda: part(session, "100,100,1700,1300,1600", "cutout")),
        ("draft, edge shifted", lambda: draw(result, EdgeSettings(shift=4), "cutout", strokes=True)),
        ("draft, edge feathered", lambda: draw(result, EdgeSettings(feather=4), "cutout", strokes=True)),
        ("draft, outline smoothed", lambda: draw(result, EdgeSettings(smooth=4), "cutout", strokes=True)),
        ("draft, specks removed", lambda: draw(result, EdgeSettings(specks=5000), "cutout", strokes=True)),
        ("draft, largest region", lambda: draw(result, EdgeSettings(largest=True), "cutout", strokes=True)),
        ("preview, edge shifted", lambda: shifted(session, result)),
    ):
        times, used = [], []
        for _ in range(ROUNDS):
            started, cpu = time.perf_counter(), time.process_time()
            act()
            times.append(time.perf_counter() - started)
            used.append(time.process_time() - cpu)
        print(
            f"{title}: {statistics.median(times) * 1000:.0f} ms, {statistics.median(used) * 1000:.0f} ms of CPU "
            f"(median of {ROUNDS})"
        )
    started = time.perf_counter()
    save(session, "png", 90)
    print(f"PNG at full size: {time.perf_counter() - started:.2f} s")
    session.close()


def shifted(session: Session, result: Result) -> None:
    """Show the result with another shift of the edge."""
    result.edit(lambda edits: replace(edits, edges=EdgeSettings(shift=4.0 if edits.edges.shift == 3 else 3.0)))
    render_page(session, result, RenderOptions())


def browser() -> None:
    """Print bytes, requests and times of a visit."""
    from benchmarks.traffic import launched_page, visit  # needs the packages of tests/requirements.txt

    with launched_page() as (page, url, photo):
        visit(page, url, photo)


def main() -> None:
    parts = {"server": server, "browser": browser}
    names = sys.argv[1:] or list(parts)
    if len(names) == 1:
        return parts[names[0]]()
    for name in names:  # in processes of their own, as a process has one folder for temporary files
        subprocess.run([sys.executable, "-m", "benchmarks.page", name], check=True)


if __name__ == "__main__":
    main()
