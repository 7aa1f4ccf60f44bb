"""Screenshots of every tab in every state, checked by axe-core: ``python -m benchmarks.screenshots FOLDER [STATE ...]``.

Each state is shown at 1440 x 900 and 390 x 844 pixels, in light and dark mode and in a contrast theme. ``index.html`` in the
folder shows all of them. Violations are printed, and the exit status is then 1. axe-core does not know the colors of a contrast
theme. Services are loopback ones; nothing is paid.

STATE limits the pictures to the states whose names begin with it, such as ``compare``. ``--no-axe`` leaves the checks out.
"""

from __future__ import annotations

import argparse
import contextlib
import html
import os
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from PIL import Image

from rmbg.billing.cost import Cost
from rmbg.billing.quote import Price
from rmbg.cutout import Cutout
from rmbg.errors import ServiceError
from rmbg.images.photo import Photo
from rmbg.providers import PROVIDERS
from rmbg.providers.base import READY, RequestContext, Status
from rmbg.providers.builtin import Builtin
from rmbg.settings import Settings
from tests.benchmark.fakes import make_dataset
from tests.browser import arguments, executable
from tests.conftest import launched, open_app, upload_archive
from tests.pictures import EXAMPLES
from tests.remote import environment
from tests.servers.fal import Fal
from tests.ui.axe import violations

WAIT = 90_000

#: Sizes of the window, and looks: color scheme, contrast theme.
SIZES = {"desktop": (1440, 900), "phone": (390, 844)}
LOOKS = {"light": ("light", "none"), "dark": ("dark", "none"), "contrast": ("light", "active")}

LONG_NAME = "A very long name of a photo from a catalog of the season, front view, second version (Köln) 2026-11-22 final"

LONG_ERROR = (
    "The service is down. Its address is https://queue.example.org/models/background-removal/requests/"
    "764cabcf-b745-4b3e-ae38-1200304cf45b/status. Try again later."
)


class Studio(Builtin):
    """Built-in provider under another name: waits until `go` is set, may cost money, fail, widen the subject or be doubtful."""

    def __init__(self, name: str, *, price: str = "", fails: bool = False, power: float = 1.0, confidence: float = 0.9) -> None:
        super().__init__()
        kind: Any = "remote" if price else "local"
        self.info = replace(
            Builtin.info,
            id=name,
            title=Builtin.info.title if name == Builtin.info.id else name.title(),
            kind=kind,
            price=Price(Decimal(price), "listed", "", "", Decimal(price)) if price else None,
        )
        self.fails, self.power, self.confidence = fails, power, confidence
        self.go = threading.Event()
        self.go.set()

    def status(self, settings: Settings) -> Status:
        return READY

    def cut(self, photo: Photo, options: Mapping[str, Any], context: RequestContext) -> Cutout:
        context.progress(0.3, "Computing the matte")
        while not self.go.wait(0.05):
            context.check()
        if self.fails:
            raise ServiceError(LONG_ERROR)
        cutout = super().cut(photo, options, context)
        cost = Cost(self.info.price.usd, "charged") if self.info.price else cutout.cost
        matte = cutout.matte**self.power
        return replace(cutout, provider=self.info.id, cost=cost, matte=matte, confidence=self.confidence)


@dataclass
class Gallery:
    """The page, and the pictures of it so far."""

    page: Any
    folder: Path
    only: tuple[str, ...] = ()
    axe: bool = True

    def __post_init__(self) -> None:
        self.names: list[str] = []
        self.found: list[str] = []

    def includes(self, tab: str) -> bool:
        return not self.only or any(state.startswith(tab) or tab.startswith(state) for state in self.only)

    def show(self, state: str, part: str = "") -> None:
        """Take the pictures of a state and check them; of the window at the element `part` if it is given.

        Chromium does not draw a sandboxed frame outside of the window.
        """
        if self.only and not state.startswith(self.only):
            return
        self.names.append(state)
        for size, (width, height) in SIZES.items():
            self.page.set_viewport_size({"width": width, "height": height})
            for look, (scheme, forced) in LOOKS.items():
                self.page.emulate_media(color_scheme=scheme, forced_colors=forced)
                self.page.evaluate("dark => document.body.classList.toggle('dark', dark)", scheme == "dark")
                self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
                if part:
                    self.page.locator(part).scroll_into_view_if_needed()
                self._check(f"{state}-{size}-{look}", axe=forced == "none", whole=not part)
        self.page.set_viewport_size({"width": 1440, "height": 900})
        self.page.emulate_media(color_scheme="light", forced_colors="none")
        self.page.evaluate("document.body.classList.remove('dark')")

    def _check(self, name: str, *, axe: bool, whole: bool) -> None:
        self.page.screenshot(path=self.folder / f"{name}.png", full_page=whole, animations="disabled")
        reports = violations(self.page) if self.axe and axe else []
        if self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
            reports.append("The page scrolls sideways.")
        for report in reports:
            self.found.append(f"{name}: {report}")
            print(self.found[-1], flush=True)

    def index(self) -> None:
        """Write a page with all pictures."""
        names = [[f"{state}-{size}-{look}" for size in SIZES for look in LOOKS] for state in self.names]
        rows = [
            f"<h2>{html.escape(row[0].removesuffix('-desktop-light'))}</h2>"
            + "".join(f"<a href='{name}.png'><img loading='lazy' src='{name}.png' alt='{name}'></a>" for name in row)
            for row in names
        ]
        style = "body { font: 16px sans-serif } img { height: 420px; border: 1px solid #999; margin: 4px; vertical-align: top }"
        (self.folder / "index.html").write_text(
            f"<!doctype html><html lang='en'><meta charset='utf-8'><title>RMBG Studio</title><style>{style}</style>"
            + "".join(rows),
            encoding="utf-8",
        )

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name, exact=True).click()
        self.page.wait_for_function(f"rmbgTabs.selected() === '{name.lower()}'", timeout=WAIT)

    def upload(self, field: str, path: Path) -> None:
        clear = self.page.locator(f"{field} button[aria-label='Remove Image']")
        if clear.count():
            clear.click()
        self.page.wait_for_selector(f"{field} input[type=file]", state="attached", timeout=WAIT)
        self.page.set_input_files(f"{field} input[type=file]", str(path))
        self.page.wait_for_selector(f"{field} img", timeout=WAIT)

    def text(self, selector: str, text: str) -> None:
        self.page.locator(selector, has_text=text).first.wait_for(timeout=WAIT)

    def open(self, section: str, inside: str) -> None:
        self.page.click(f"{section} button.label-wrap")
        self.page.locator(f"{inside} >> visible=true").first.wait_for(timeout=WAIT)

    def choose(self, prefix: str, *ids: str) -> None:
        """Check these providers and no others."""
        for name in PROVIDERS:
            box = self.page.locator(f"[id='{prefix}-{name}'] input")
            if box.is_enabled() and box.is_checked() != (name in ids):
                box.click()


@contextlib.contextmanager
def provider(name: str, other: Any) -> Iterator[Any]:
    """Replace a registered provider for the duration of the block."""
    original, PROVIDERS[name] = PROVIDERS[name], other
    try:
        yield other
    finally:
        PROVIDERS[name] = original


def photos(folder: Path) -> dict[str, Path]:
    """Write the photos of the gallery: examples, one with a long name, and one without a subject."""
    found = {path.stem: path for path in EXAMPLES.glob("*/im/*.jpg")}
    found["long"] = folder / f"{LONG_NAME}.jpg"
    found["long"].write_bytes(found["headphones"].read_bytes())
    found["plain"] = folder / "plain.png"
    Image.new("RGB", (600, 400), (90, 120, 150)).save(found["plain"])
    return found


def remove(gallery: Gallery, photo: dict[str, Path], folder: Path) -> None:
    page = gallery.page

    def run(name: str) -> None:
        gallery.upload("#photo", photo[name])
        page.click("#start")
        page.wait_for_selector("#result .stage img", timeout=WAIT)
        page.wait_for_selector("#start", timeout=WAIT)

    gallery.show("remove-empty")
    slow = Studio("builtin")
    slow.go.clear()
    with provider("builtin", slow):
        gallery.upload("#photo", photo["woman"])
        page.click("#start")
        gallery.text("#result", "Computing the matte")
        gallery.show("remove-waiting")
        slow.go.set()
        page.wait_for_selector("#result .stage img", timeout=WAIT)
        page.wait_for_selector("#start", timeout=WAIT)
    gallery.show("remove-result")
    page.click("[data-viewer=retouch]")
    page.wait_for_selector(".stage.composed", timeout=WAIT)
    gallery.show("remove-retouch")
    page.click("#retouch-done")
    page.wait_for_selector("#retouch", state="hidden", timeout=WAIT)
    gallery.open("#clean-up", "#clean-up input[type=range]")
    gallery.show("remove-clean-up")
    page.click("#clean-up button.label-wrap")
    gallery.open("#finishing", "#finishing input[type=range]")
    gallery.show("remove-finishing")
    page.click("#finishing button.label-wrap")
    page.click("#background label:has-text('Other color')")
    page.click("#crop input")
    page.click("#format input")
    page.click("[role=option]:has-text('JPEG')")
    page.wait_for_selector("#quality input[type=range]", timeout=WAIT)
    gallery.show("remove-jpeg")
    page.click("#background label:has-text('Gradient')")
    gallery.show("remove-gradient")
    page.click("#background label:has-text('Transparent')")
    page.click("#crop input")
    gallery.upload("#photo", photo["plain"])
    page.click("#start")
    gallery.text("#message", "No clear subject")
    gallery.show("remove-error")
    with provider("builtin", Studio("builtin", confidence=0.6)):
        run("vase")
    gallery.text("#message", "Retouch the result")
    gallery.show("remove-doubt")
    run("long")
    page.wait_for_function("document.querySelectorAll('#strip img').length === 3", timeout=WAIT)
    gallery.open("#strip-compare", "#strip-pair .stage")
    gallery.show("remove-long-name")
    page.click("#strip-clear")
    page.wait_for_selector("#strip-yes", timeout=WAIT)
    page.click("#delete-all")
    page.wait_for_selector("#delete-yes", timeout=WAIT)
    gallery.show("remove-questions")
    page.click("#provider input")
    page.click("[role=option]:has-text('Far')")
    gallery.text("#provider-line", "Far")
    page.click("#start")
    page.wait_for_selector("#remove-yes", timeout=WAIT)
    gallery.show("remove-consent")
    page.click("#remove-no")


def batch(gallery: Gallery, photo: dict[str, Path], folder: Path) -> None:
    page = gallery.page
    gallery.tab("Batch")
    page.wait_for_selector("#batch-start", timeout=WAIT)
    gallery.show("batch-empty")
    page.set_input_files("#batch-files input[type=file]", [str(photo[name]) for name in ("woman", "long", "plain", "teapot")])
    gallery.text("#batch-message", "4 photos ready")
    gallery.show("batch-ready")
    slow = Studio("builtin")
    slow.go.clear()
    with provider("builtin", slow):
        page.click("#batch-start")
        page.wait_for_selector("#batch-cancel", timeout=WAIT)
        gallery.text("#batch-table", "plain")
        gallery.show("batch-running")
        slow.go.set()
        gallery.text("#batch-message", "Done:")
    gallery.show("batch-done")


def compare(gallery: Gallery, photo: dict[str, Path], folder: Path) -> None:
    page = gallery.page
    gallery.tab("Compare")
    page.wait_for_selector("#compare-start", timeout=WAIT)
    gallery.show("compare-empty")
    page.click("#compare-start")
    gallery.text("#compare-message", "Choose a photo")
    gallery.show("compare-error")
    gallery.upload("#compare-photo", photo["long"])
    gallery.choose("compare", "builtin", "near", "far", "down")
    page.click("#compare-start")
    page.wait_for_selector("#compare-yes", timeout=WAIT)
    gallery.show("compare-consent")
    far: Any = PROVIDERS["far"]
    far.go.clear()
    page.click("#compare-yes")
    gallery.text("#compare-message", "providers have finished")
    gallery.show("compare-running")
    far.go.set()
    page.wait_for_selector("#figures table", timeout=WAIT)
    page.wait_for_selector("#compare-start", timeout=WAIT)
    gallery.show("compare-result")
    gallery.choose("compare", "builtin", "near")
    page.click("#blind input")
    page.click("#compare-start")
    page.wait_for_selector("#cast", timeout=WAIT)
    gallery.show("compare-blind")
    page.click("#vote label:has-text('Result A')")
    page.click("#cast")
    page.wait_for_selector("#figures table", timeout=WAIT)
    page.click("button:has-text('Ratings from blind votes')")
    page.wait_for_selector("#ratings table", timeout=WAIT)
    gallery.show("compare-voted")
    page.click("#blind input")
    page.click("#compare-add")
    page.locator("#compare-photo img").wait_for(state="detached", timeout=WAIT)
    gallery.upload("#compare-photo", photo["teapot"])
    page.click("#compare-start")
    page.wait_for_selector("#all-photos table", timeout=WAIT)
    page.wait_for_selector("#figures table", timeout=WAIT)
    page.wait_for_selector("#compare-start", timeout=WAIT)
    gallery.show("compare-photos")


def replaced(gallery: Gallery, photo: dict[str, Path], folder: Path) -> None:
    page = gallery.page
    gallery.tab("Replace")
    page.wait_for_selector("#replace-start", timeout=WAIT)
    gallery.show("replace-empty")
    page.click("#replace-start")
    gallery.text("#replace-message", "Choose a photo")
    gallery.show("replace-error")
    gallery.upload("#replace-photo", photo["long"])
    page.fill("#replace-prompt textarea", "a wooden table in a bright kitchen, morning light")
    page.click("#replace-start")
    page.wait_for_selector("#replace-yes", timeout=WAIT)
    gallery.show("replace-consent")
    page.click("#replace-yes")
    page.wait_for_selector("#replace-result .whole", timeout=WAIT)
    page.wait_for_selector("#replace-start", timeout=WAIT)
    gallery.show("replace-result")


def benchmark(gallery: Gallery, photo: dict[str, Path], folder: Path) -> None:
    page = gallery.page
    gallery.tab("Benchmark")
    page.wait_for_selector("#measure-start", timeout=WAIT)
    gallery.show("benchmark-empty")
    root = make_dataset(folder / "chairs of the season", categories=("shop",), count=2)
    with zipfile.ZipFile(folder / "chairs.zip", "w") as out:
        for file in root.rglob("*.png"):
            out.write(file, file.relative_to(root).as_posix())
    upload_archive(page, folder / "chairs.zip")
    gallery.choose("measure", "near", "down")
    page.click("#measure-start")
    page.wait_for_selector("#measure-yes", timeout=WAIT)
    gallery.show("benchmark-consent")
    page.click("#measure-yes")
    page.wait_for_selector("iframe.report", timeout=WAIT)
    page.wait_for_selector("#measure-start", timeout=WAIT)
    gallery.show("benchmark-result")
    gallery.show("benchmark-report", part="iframe.report")


def about(gallery: Gallery, photo: dict[str, Path], folder: Path) -> None:
    gallery.tab("About")
    gallery.page.wait_for_selector("#providers .card", timeout=WAIT)
    gallery.show("about")


#: Functions that drive one tab through its states.
TABS: dict[str, Callable[[Gallery, dict[str, Path], Path], None]] = {
    "remove": remove,
    "batch": batch,
    "compare": compare,
    "replace": replaced,
    "benchmark": benchmark,
    "about": about,
}


def main() -> int:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("states", nargs="*", metavar="STATE")
    parser.add_argument("--no-axe", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    studios = [Studio("near", power=0.8), Studio("far", price="0.018"), Studio("down", price="0.002", fails=True)]
    with tempfile.TemporaryDirectory() as temporary, Fal() as fal, sync_playwright() as playwright:
        folder = Path(temporary)
        os.environ.update(environment(fal, folder / "data", RMBG_REMOTE_SECONDS="60", RMBG_MAX_BYTES="40000000"))
        os.environ["GRADIO_TEMP_DIR"] = str(folder / "gradio")
        PROVIDERS.update({studio.info.id: studio for studio in studios})
        browser = playwright.chromium.launch(executable_path=executable(), args=arguments())
        pictures = photos(folder)
        with launched() as url:
            gallery = Gallery(None, options.folder, tuple(options.states), not options.no_axe)
            for name, act in TABS.items():
                if gallery.includes(name):
                    gallery.page = browser.new_page(viewport={"width": 1440, "height": 900})
                    open_app(gallery.page, f"{url}/?__theme=light")
                    try:
                        act(gallery, pictures, folder)
                    except Exception:
                        gallery.page.screenshot(path=options.folder / "failed.png", full_page=True)
                        raise
                    gallery.page.close()
        browser.close()
        gallery.index()
    print(f"{len(gallery.names)} states in {options.folder}, {len(gallery.found)} findings")
    return 1 if gallery.found else 0


if __name__ == "__main__":
    sys.exit(main())
