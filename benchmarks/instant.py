"""Time until a change shows on the page, in Chromium: ``python -m benchmarks.instant [--megapixels N]``.

Starts the app, removes the background of a synthetic photo and changes one option at a time, each after a pause. A time begins
with the change of the control and ends two frames after the viewer has the new picture or style. Median of several rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, Playwright, sync_playwright

from tests.browser import arguments as browser_arguments
from tests.browser import executable
from tests.conftest import launched, open_app
from tests.pictures import scene

ROUNDS = 5
WAIT = 120_000

#: Milliseconds before each change, in which the page finishes what followed the last one.
PAUSE = 500

#: Resolves to the milliseconds from `act` until `done` is true and two frames have passed.
MEASURE = """
([act, done]) => new Promise((resolve, reject) => {
    const before = document.querySelector("#result img.after").getAttribute("src");
    const isDone = new Function("before", `return ${done}`), limit = performance.now() + 60000;
    const begin = performance.now();
    new Function(act)();
    const check = () => {
        if (performance.now() > limit) return reject(new Error(done));
        if (!isDone(before)) return requestAnimationFrame(check);
        requestAnimationFrame(() => requestAnimationFrame(() => resolve(performance.now() - begin)));
    };
    check();
})
"""

#: Script that sets the number of a slider as a visitor does.
SLIDE = """
const input = document.querySelector("#{name} input[type=range]");
Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(input, {value});
input.dispatchEvent(new Event("input", {{ bubbles: true }}));
input.dispatchEvent(new Event("change", {{ bubbles: true }}));
input.dispatchEvent(new PointerEvent("pointerup", {{ bubbles: true }}));
"""

CLICK = 'document.querySelector("{}").click()'
BACKDROP = "document.querySelector('#result .backdrop').style.background"
CHECK = 'document.querySelector("#{} input").click()'
NUMBER = """
const input = document.querySelector("#{name} input");
Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(input, {value});
input.dispatchEvent(new Event("input", {{ bubbles: true }}));
input.dispatchEvent(new Event("change", {{ bubbles: true }}));
"""
#: Script that paints a stroke across the middle of the stage.
PAINT = """
document.querySelector("#retouch-mode input[value={mode}]").click();
const stage = document.querySelector("#result .stage"), box = stage.getBoundingClientRect();
const at = (type, u) => stage.dispatchEvent(new PointerEvent(type, {{
    bubbles: true, pointerId: 1, clientX: box.left + u * box.width, clientY: box.top + box.height / 2,
}}));
at("pointerdown", 0.4);
for (let u = 0.41; u < 0.6; u += 0.01) at("pointermove", u);
at("pointerup", 0.6);
"""
PAINTED = """
(() => {{
    const canvas = document.querySelector("canvas.retouch"), middle = [canvas.width / 2, canvas.height / 2];
    return canvas.getContext("2d").getImageData(...middle.map(Math.floor), 1, 1).data[3] {condition};
}})()
"""
SETTLED = """
() => {
    const image = document.querySelector("#result img.after");
    return image.complete && !image.getAttribute("src").startsWith("data:");
}
"""
NEW_PICTURE = (
    "document.querySelector('#result img.after').getAttribute('src') !== before"
    " && document.querySelector('#result img.after').complete"
)


def changes() -> dict[str, list[tuple[str, str]]]:
    """Scripts that make a change, and the conditions under which it shows, by title; they are applied in turns."""
    effects = "document.querySelector('#result .effects')"
    kinds = {"background color": ("#dc2626", "#2563eb"), "gradient and blur": ("gradient", "blur")}
    found = {
        title: [
            (
                CLICK.format(f"#background input[value='{kind}']") + f"; window.shown = {BACKDROP}",
                f"{BACKDROP} !== window.shown",
            )
            for kind in pair
        ]
        for title, pair in kinds.items()
    }
    frame = "document.querySelector('#result .viewer').getAttribute('style')"
    for title, script in (("shadow", CLICK.format("#shadow input[value='{}']")),):
        found[title] = [
            (script.format("soft"), f"!{effects}.hidden && {effects}.width > 0"),
            (script.format("none"), f"{effects}.hidden"),
        ]
    crop = CLICK.format("#crop input")
    found["crop"] = [(f"window.shown = {frame}; {crop}", f"{frame} !== window.shown")] * 2
    for name in ("shift", "feather", "smooth"):
        found[f"clean-up: {name}"] = [(SLIDE.format(name=f"clean-{name}", value=value), NEW_PICTURE) for value in (4, 0)]
    for name, pixels in (("specks", 5000), ("holes", 5000)):
        found[f"clean-up: {name}"] = [(NUMBER.format(name=f"clean-{name}", value=value), NEW_PICTURE) for value in (pixels, 0)]
    found["clean-up: largest only"] = [(CHECK.format("clean-largest"), NEW_PICTURE)] * 2
    return found


def strokes() -> list[tuple[str, str]]:
    """Scripts that erase and restore the middle of the subject, and the conditions under which it shows."""
    return [
        (PAINT.format(mode=mode), PAINTED.format(condition=condition).strip())
        for mode, condition in (("erase", "< 90"), ("keep", "> 200"))
    ]


def picture(page: Page, path: Path) -> float:
    """Seconds from the choice of a background picture of the photo's size until it shows."""
    page.click("#background input[value=image]")
    page.wait_for_selector("#background-picture input[type=file]", state="attached", timeout=WAIT)
    started = time.perf_counter()
    page.set_input_files("#background-picture input[type=file]", str(path))
    page.wait_for_function(f"{BACKDROP}.includes('url(')", timeout=WAIT)
    return time.perf_counter() - started


def save(page: Page) -> float:
    """Seconds from the click on Download until the file has arrived."""
    started = time.perf_counter()
    with page.expect_download(timeout=WAIT) as waiting:
        page.click("#save")
    waiting.value.path()
    return time.perf_counter() - started


def copy(page: Page) -> float:
    """Seconds from the click on Copy until the picture is on the clipboard."""
    started = time.perf_counter()
    page.click("[data-viewer=copy]")
    page.wait_for_function("document.querySelector('.viewer-status').textContent.startsWith('Copied')", timeout=WAIT)
    return time.perf_counter() - started


def opened(browser: Any, url: str, megapixels: float, folder: Path) -> Page:
    """A page with the result of a photo of this size."""
    width = round((megapixels * 1e6 * 4 / 3) ** 0.5)
    small = Image.fromarray(scene(750, 1000)[0])
    small.resize((width, round(width * 0.75)), Image.Resampling.BICUBIC).save(folder / "photo.jpg", quality=95)
    permissions = ["clipboard-read", "clipboard-write"]
    page = browser.new_context(viewport={"width": 1440, "height": 900}, permissions=permissions).new_page()
    open_app(page, url)
    page.set_input_files("#photo input[type=file]", str(folder / "photo.jpg"))
    page.wait_for_selector("#photo img", timeout=WAIT)
    page.click("#start")
    page.wait_for_selector("#result .stage", timeout=WAIT)
    page.wait_for_function("document.querySelector('#result img.after').naturalWidth > 0", timeout=WAIT)
    for section in ("clean-up", "finishing"):
        page.click(f"#{section} button.label-wrap")
    page.wait_for_selector("#clean-shift input[type=range]", timeout=WAIT)
    page.wait_for_selector("#shadow input", state="attached", timeout=WAIT)
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description="Time until a change shows on the page.")
    parser.add_argument("--megapixels", type=float, default=12)
    megapixels = parser.parse_args().megapixels
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        os.environ.update(RMBG_DATA=folder, GRADIO_TEMP_DIR=folder, GRADIO_ANALYTICS_ENABLED="False")
        measure(playwright, Path(folder), megapixels)


def report(page: Page, title: str, pair: list[tuple[str, str]]) -> None:
    """Make a pair of changes in turns, each after the previous one has settled, and print the times."""
    times, settled = [], []
    for _ in range(ROUNDS):
        for change in pair:
            page.wait_for_function(SETTLED, timeout=WAIT)
            page.wait_for_timeout(PAUSE)
            started = time.perf_counter()
            times.append(page.evaluate(MEASURE, list(change)))
            page.wait_for_function(SETTLED, timeout=WAIT)
            settled.append((time.perf_counter() - started) * 1000)
    final = f", final picture {statistics.median(settled):.0f} ms" if pair[0][1] == NEW_PICTURE else ""
    print(f"{title}: {statistics.median(times):.0f} ms (slowest {max(times):.0f}){final}")


def measure(playwright: Playwright, folder: Path, megapixels: float) -> None:
    """Run the app and print all times."""
    with launched() as url:
        browser = playwright.chromium.launch(executable_path=executable(), args=browser_arguments())
        page = opened(browser, url, megapixels, folder)
        print(f"{megapixels:g} megapixels, median of {ROUNDS} rounds")
        for title, pair in changes().items():
            report(page, title, pair)
        page.click("[data-viewer=retouch]")
        page.wait_for_selector(".stage.composed", timeout=WAIT)
        report(page, "stroke of the brush", strokes())
        page.click("#retouch-done")
        page.wait_for_selector("#retouch", state="hidden", timeout=WAIT)
        print(f"background picture with its upload: {picture(page, folder / 'photo.jpg'):.2f} s")
        print(f"copy to the clipboard: {min(copy(page) for _ in range(2)):.2f} s")
        print(f"download as PNG: {min(save(page) for _ in range(2)):.2f} s")
        browser.close()


if __name__ == "__main__":
    main()
