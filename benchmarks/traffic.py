"""Requests and bytes of the page in Chromium: ``python -m benchmarks.traffic``.

Bytes are those on the wire, compressed and with headers. Seconds are computed for a line of 1.6 Mbit/s.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from tests.browser import arguments, executable
from tests.conftest import open_app
from tests.pictures import scene

HEIGHT, WIDTH, LINE = 1800, 2400, 1.6e6
WAIT = 120_000


class Traffic:
    """Counts the finished requests of a page."""

    def __init__(self, page: Any) -> None:
        self.requests, self.bytes, self._page = 0, 0, page
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        session.on("Network.loadingFinished", self._count)

    def _count(self, event: dict[str, Any]) -> None:
        self.requests += 1
        self.bytes += int(event["encodedDataLength"])

    def of(self, title: str, act: Callable[[], object]) -> None:
        """Print the traffic of an action."""
        self.requests = self.bytes = 0
        act()
        self._page.wait_for_timeout(2000)
        seconds = self.bytes * 8 / LINE
        print(f"{title}: {self.requests} requests, {self.bytes / 1000:,.1f} kB, {seconds:.2f} s at 1.6 Mbit/s")


def main() -> None:
    from playwright.sync_api import sync_playwright

    from rmbg.ui import app

    path = Path(tempfile.mkdtemp()) / "photo.jpg"
    Image.fromarray(scene(HEIGHT, WIDTH)[0]).save(path)
    blocks = app.launch(host="127.0.0.1", prevent_thread_lock=True, quiet=True)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=executable(), args=arguments())
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            measure(page, f"http://127.0.0.1:{blocks.server_port}", path)
            browser.close()
    finally:
        blocks.close(verbose=False)


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
