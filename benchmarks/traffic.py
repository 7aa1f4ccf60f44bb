"""Requests and bytes of the page in Chromium: ``python -m benchmarks.traffic``.

Bytes are those on the wire, compressed and with headers. Seconds are computed for a line of 1.6 Mbit/s.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from tests.browser import arguments, executable
from tests.conftest import launched, open_app
from tests.pictures import scene

HEIGHT, WIDTH, LINE = 1800, 2400, 1.6e6
WAIT = 120_000

#: Results of the session before the last removal of `visit`.
EARLIER = 3

#: Milliseconds from a click on a background to the first frame with its color.
NEW_COLOR = """async ([value, color]) => {
    const start = performance.now();
    document.querySelector(`#background input[value="${value}"]`).click();
    const backdrop = document.querySelector("#result .backdrop");
    while (getComputedStyle(backdrop).backgroundColor !== color) await new Promise(requestAnimationFrame);
    await new Promise(requestAnimationFrame);
    return performance.now() - start;
}"""


class Traffic:
    """Counts the finished requests of a page that are not answered from the browser's cache."""

    def __init__(self, page: Any) -> None:
        self.requests, self.bytes, self._page = 0, 0, page
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        session.on("Network.loadingFinished", self._count)

    def _count(self, event: dict[str, Any]) -> None:
        self.requests += event["encodedDataLength"] > 0
        self.bytes += int(event["encodedDataLength"])

    def of(self, title: str, act: Callable[[], object]) -> None:
        """Print the traffic of an action."""
        self.requests = self.bytes = 0
        act()
        self._page.wait_for_timeout(2000)
        seconds = self.bytes * 8 / LINE
        print(f"{title}: {self.requests} requests, {self.bytes / 1000:,.1f} kB, {seconds:.2f} s at 1.6 Mbit/s")


@contextlib.contextmanager
def launched_page() -> Iterator[tuple[Any, str, Path]]:
    """Run the app and Chromium; yields a page, the URL of the app and the path of a photo."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(RMBG_DATA=folder, GRADIO_TEMP_DIR=f"{folder}/gradio")
        photo = Path(folder) / "photo.jpg"
        Image.fromarray(scene(HEIGHT, WIDTH)[0]).save(photo)
        with launched() as url, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=executable(), args=arguments())
            yield browser.new_page(viewport={"width": 1440, "height": 900}), url, photo
            browser.close()


def main() -> None:
    with launched_page() as (page, url, photo):
        measure(page, url, photo)


def visit(page: Any, url: str, photo: Path) -> None:
    """Print the figures of one visit."""
    traffic = Traffic(page)
    line = page.context.new_cdp_session(page)
    line.send("Network.enable")
    throughput = {"downloadThroughput": LINE / 8, "uploadThroughput": LINE / 8}
    line.send("Network.emulateNetworkConditions", {"offline": False, "latency": 0, **throughput})

    def measured(title: str, act: Callable[[], object]) -> None:
        started = time.perf_counter()
        traffic.requests = traffic.bytes = 0
        act()
        seconds = time.perf_counter() - started
        page.wait_for_timeout(1000)  # requests after the visible end
        print(f"{title}: {traffic.requests} requests, {traffic.bytes / 1e6:.3f} MB, {seconds:.2f} s")

    def remove() -> None:
        page.click("#start")
        page.wait_for_selector("#result .stage", timeout=WAIT)
        page.wait_for_function("document.querySelector('#result img.after').naturalWidth > 0", timeout=WAIT)

    measured("start of the page, empty cache", lambda: open_app(page, url))
    measured("second start", lambda: open_app(page, url))
    page.set_input_files("#photo input[type=file]", str(photo))
    page.wait_for_selector("#photo img", timeout=WAIT)
    for number in range(EARLIER + 1):
        if number:
            page.wait_for_selector("#start", timeout=WAIT)
            page.click("#photo button[aria-label='Remove Image']")
            page.wait_for_selector("#result .empty", timeout=WAIT)
            page.set_input_files("#photo input[type=file]", str(photo))
            page.wait_for_selector("#photo img", timeout=WAIT)
        measured(f"click to result, {number} earlier results", remove)
    page.wait_for_selector("#save:enabled", timeout=WAIT)
    traffic.requests = traffic.bytes = 0
    colors = [("#ffffff", "rgb(255, 255, 255)"), ("#000000", "rgb(0, 0, 0)")] * 5
    times = [page.evaluate(NEW_COLOR, list(color)) for color in colors]
    print(f"new color: {statistics.median(times):.0f} ms, slowest {max(times):.0f} ms, {traffic.requests} requests")
    page.wait_for_selector("#start", timeout=WAIT)
    page.focus("#start")
    stops: list[str] = []
    while (not stops or stops[-1] != "save") and len(stops) < 50:
        page.keyboard.press("Tab")
        stops.append(page.evaluate("document.activeElement.closest('[id]')?.id ?? ''"))
    print(f"tab stops from the start button to the download: {len(stops)} ({', '.join(stops)})")


def measure(page: Any, address: str, path: Path) -> None:
    """Print the traffic of a visit."""
    traffic = Traffic(page)

    def remove() -> None:
        page.click("#start")
        page.wait_for_selector("#result .stage", timeout=WAIT)
        page.wait_for_selector("#start", timeout=WAIT)

    def recolor() -> None:
        page.click("#background label:has-text('Other color')")
        page.click("#color button")
        box = page.locator("#color .color-gradient").bounding_box()
        page.mouse.move(box["x"] + 5, box["y"] + 5)
        page.mouse.down()
        for step in range(20):
            page.mouse.move(box["x"] + 5 + 7 * step, box["y"] + 5 + 4 * step)
        page.mouse.up()
        page.keyboard.press("Escape")

    traffic.of("the page", lambda: open_app(page, address))
    traffic.of("upload", lambda: page.set_input_files("#photo input[type=file]", str(path)))
    traffic.of("removal", remove)
    traffic.of("20 colors", recolor)
    for label in ("Blur", "Gradient"):
        traffic.of(label.lower(), lambda label=label: page.click(f"#background label:has-text('{label}')"))  # type: ignore[misc]
    for label in ("Mask", "Original", "Cutout"):
        traffic.of(label.lower(), lambda label=label: page.click(f"#view label:has-text('{label}')"))  # type: ignore[misc]
    traffic.of("1:1", lambda: page.click("[data-viewer=actual]"))


if __name__ == "__main__":
    main()
