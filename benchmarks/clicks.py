"""Start, memory and clicks of a server, in Chromium: ``python -m benchmarks.clicks [--megapixels N...] [--removals N]``.

Starts ``python -m rmbg serve`` and prints the time until it answers, and its memory once the network is loaded. Then photos of
each size are uploaded, and the time from the click on the start button is taken: until the pictures of the result are on the
screen, and until the cutout at full size is complete. At last one photo is removed ``--removals`` times.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests.browser import arguments as browser_arguments
from tests.browser import executable
from tests.conftest import open_app
from tests.pictures import scene
from tests.security.server import free_port

ROUNDS = 3
WAIT = 120_000

#: Resolves to the milliseconds from the click until the pictures are decoded and two frames have passed, and until the result
#: is complete.
CLICK = """
() => new Promise((resolve, reject) => {
    const before = document.querySelector("#result img.after")?.getAttribute("src"), begin = performance.now();
    const afterFrames = (act) => requestAnimationFrame(() => requestAnimationFrame(act));
    let shown = 0;
    document.querySelector("#start").click();
    const isShown = () => {
        const image = document.querySelector("#result img.after"), source = image?.getAttribute("src");
        return source && source !== before && image.complete && image.naturalWidth;
    };
    const check = () => {
        if (performance.now() > begin + 110000) return reject(new Error("no result"));
        if (!shown && isShown()) afterFrames(() => (shown ||= performance.now() - begin));
        const facts = document.querySelector("#facts .facts");
        const ended = shown && facts && !facts.hasAttribute("data-preview") && document.querySelector("#start")?.offsetParent;
        if (!ended) return requestAnimationFrame(check);
        resolve([shown, performance.now() - begin]);
    };
    check();
})
"""


def photo(path: Path, megapixels: float, number: int) -> Path:
    """Write a photo of this size, with other pixels for each number."""
    width = round((megapixels * 1e6 * 4 / 3) ** 0.5)
    pixels = scene(750, 1000)[0].copy()
    pixels[:8, :8] = number * 20
    Image.fromarray(pixels).resize((width, round(width * 0.75)), Image.Resampling.BICUBIC).save(path, quality=95)
    return path


def memory(process: int) -> float:
    """Resident memory of a process in MB."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[str, int, float]]:
    """Run a server; yields its URL, its process id, and the seconds from its start until it answered with the page."""
    port = free_port()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RMBG_", "GRADIO_"))}
    env = {**inherited, "TMPDIR": str(folder), "RMBG_DATA": str(folder / "data"), "GRADIO_ANALYTICS_ENABLED": "False"}
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "rmbg", "serve", "--port", str(port)], env=env, stdout=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        while True:
            with contextlib.suppress(httpx.HTTPError):
                httpx.get(url, trust_env=False, timeout=30).raise_for_status()
                break
            if process.poll() is not None:
                sys.exit("clicks: The server did not start.")
            time.sleep(0.02)
        yield url, process.pid, time.perf_counter() - started
    finally:
        process.terminate()
        process.wait(60)


def upload(page: Page, path: Path) -> None:
    """Choose a photo and wait until the check of the upload has ended."""
    if page.query_selector("#photo button[aria-label='Remove Image']"):
        page.click("#photo button[aria-label='Remove Image']")
        page.wait_for_selector("#result .empty", timeout=WAIT)
    page.set_input_files("#photo input[type=file]", str(path))
    page.wait_for_selector("#photo img", timeout=WAIT)


def clicked(page: Page) -> tuple[float, float]:
    """Click the start button; returns the seconds until the result shows, and until it is complete."""
    shown, complete = page.evaluate(CLICK)
    page.wait_for_selector("#start:visible", timeout=WAIT)
    return shown / 1000, complete / 1000


def measure(page: Any, server: int, folder: Path, sizes: list[float], removals: int) -> None:
    """Print the times of the clicks, and the memory of the server after many of them."""
    upload(page, photo(folder / "warm-up.jpg", 1, 1))
    clicked(page)
    for megapixels in sizes:
        times = []
        for number in range(ROUNDS):
            upload(page, photo(folder / f"{megapixels:g}-{number}.jpg", megapixels, number))
            page.wait_for_timeout(1500)  # the check of the upload is over
            times.append(clicked(page))
        shown, complete = (statistics.median(values) for values in zip(*times, strict=True))
        print(f"{megapixels:g} megapixels: {shown:.2f} s to the result, {complete:.2f} s to the full size", flush=True)
    for count in range(1, removals + 1):
        clicked(page)
        if count in (1, removals) or not count % 10:
            print(f"{memory(server):.0f} MB after {count} more removals of {sizes[-1]:g} megapixels", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Start, memory and clicks of a server.")
    parser.add_argument("--megapixels", type=float, nargs="+", default=[1.7, 12, 24])
    parser.add_argument("--removals", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, served(Path(name)) as (url, server, seconds):
        print(f"first answer after {seconds:.1f} s", flush=True)
        time.sleep(10)  # the network is loaded meanwhile
        print(f"{memory(server):.0f} MB idle", flush=True)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=executable(), args=browser_arguments())
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            open_app(page, url)
            measure(page, server, Path(name), options.megapixels, options.removals)
            browser.close()


if __name__ == "__main__":
    main()
