"""Weight and response times of the page: ``python -m benchmarks.page [server] [browser] [display]``, or all parts.

``server`` measures the pictures of the viewer, drafts of the clean-up and the encoding of the download for a photo of 12
megapixels, in this process.

``browser`` drives the page in Chromium on a line of 1.6 Mbit/s: start and second start, click to result, a new color, and the
tab stops from the start button to the download. Bytes are those on the wire. ``benchmarks.traffic`` lists further actions.

``display`` measures the time from the click to the result on the screen at several sizes, on the same machine without a limit
of the line. A photo is uploaded before the click, and a removal of another size precedes the first one.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
from scipy import ndimage

from rmbg.billing.cost import Cost
from rmbg.cutout import Cutout
from rmbg.images.photo import Photo
from rmbg.matting.edges import EdgeSettings
from rmbg.matting.foreground import estimate_foreground
from rmbg.ui.components.rendering import RenderOptions
from rmbg.ui.drafts import draw
from rmbg.ui.results import Result
from rmbg.ui.session import Session
from rmbg.ui.tabs.remove_actions import part, render_page, save

HEIGHT, WIDTH, ROUNDS = 3000, 4000, 9
DISPLAY_ROUNDS = 5

#: Resolves to the milliseconds from the click on the start button until the result has been painted, and until the cutout at
#: full size is complete.
CLICK = """() => new Promise((resolve, reject) => {
    const begin = performance.now(), afterFrames = (act) => requestAnimationFrame(() => requestAnimationFrame(act));
    let shown = 0;
    document.querySelector("#start").click();
    const check = () => {
        if (performance.now() - begin > 60000) return reject(new Error("no result"));
        const image = document.querySelector("#result .stage img.after"), facts = document.querySelector("#facts .facts");
        if (!shown && image?.complete && image.naturalWidth) afterFrames(() => (shown ||= performance.now() - begin));
        const ended = facts && !facts.hasAttribute("data-preview") && document.querySelector("#start")?.offsetParent;
        if (!shown || !ended) return requestAnimationFrame(check);
        resolve([shown, performance.now() - begin]);
    };
    check();
})"""


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
    result = session.keep(cutout())
    session.adopt(result, "")
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


def display(folder: Path) -> None:
    """Measure the time from the click to the result on the screen."""
    if not importlib.util.find_spec("playwright"):
        print("Playwright is not installed; the page is not measured.")
        return
    from playwright.sync_api import Error

    try:
        measure_display(folder)
    except Error as error:
        if "Executable doesn't exist" not in str(error):
            raise
        print("Chromium is not installed; the page is not measured.")


def measure_display(folder: Path) -> None:
    """Measure and record the times of all sizes."""
    from benchmarks.photos import jpeg
    from benchmarks.table import record
    from benchmarks.traffic import WAIT, launched_page, open_app

    paths = {title: jpeg(title, folder) for title in ("1.5 MP", "1.7 MP", "12 MP", "24 MP")}
    seconds: dict[str, list[list[float]]] = {}
    with launched_page() as (page, url, _):
        open_app(page, url)
        for title, path in paths.items():
            for _ in range(DISPLAY_ROUNDS):
                if seconds:
                    page.wait_for_selector("#start", timeout=WAIT)
                    page.click("#photo button[aria-label='Remove Image']")
                    page.wait_for_selector("#result .empty", timeout=WAIT)
                page.set_input_files("#photo input[type=file]", str(path))
                page.wait_for_selector("#photo img", timeout=WAIT)
                page.wait_for_timeout(1500)  # the upload has been checked
                seconds.setdefault(title, []).append([milliseconds / 1000 for milliseconds in page.evaluate(CLICK)])
                page.wait_for_selector("#save:enabled", timeout=WAIT)
    medians = {title: [statistics.median(values) for values in zip(*seconds[title], strict=True)] for title in list(paths)[1:]}
    lines = [
        f"page, {title}: result {shown:.2f} s after the click, full size {complete:.2f} s, median of {DISPLAY_ROUNDS}"
        for title, (shown, complete) in medians.items()
    ]
    record("display", [shown for shown, _ in medians.values()], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Weight and response times of the page.")
    parser.add_argument("parts", nargs="*", metavar="PART", help="of server, browser, display; all by default")
    parser.add_argument("--photos", type=Path, default=Path(__file__).parents[1] / "examples", help="folder of photos")
    arguments = parser.parse_args()
    parts = {"server": server, "browser": browser, "display": lambda: display(arguments.photos)}
    names = arguments.parts or list(parts)
    if len(names) == 1:
        return parts[names[0]]()
    for name in names:  # in processes of their own, as a process has one folder for temporary files
        words = [sys.executable, "-m", "benchmarks.page", name, "--photos", str(arguments.photos)]
        subprocess.run(words, check=True)


if __name__ == "__main__":
    main()
