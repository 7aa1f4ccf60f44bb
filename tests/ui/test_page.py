"""The page in a real browser: the whole way from a photo to a downloaded file, and what goes wrong on it."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rmbg.cutout import Cutout
from rmbg.photo import Photo
from rmbg.providers import PROVIDERS
from rmbg.providers.base import READY, Call, Provider, Status
from rmbg.providers.builtin import Builtin
from rmbg.settings import Settings
from tests.conftest import open_app
from tests.pictures import examples, iou, scene, truth
from tests.servers.web import Exchange, Web
from tests.ui.test_queue import Held

pytestmark = pytest.mark.browser

WAIT = 60_000


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Photo]:
    """The photos that the built-in provider was really asked for."""
    seen: list[Photo] = []
    cut = Builtin.cut

    def counted(self: Builtin, photo: Photo, options: Mapping[str, Any], call: Call) -> Cutout:
        seen.append(photo)
        return cut(self, photo, options, call)

    monkeypatch.setattr(Builtin, "cut", counted)
    return seen


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photo with a clear subject and a long name."""
    path = tmp_path / "Ein Foto mit langem Namen, 2026 (Köln).png"
    Image.fromarray(scene(600, 800)[0]).save(path)
    return path


@pytest.fixture
def web() -> Iterator[Callable[[bytes, str], str]]:
    """Put bytes under a path of a web server on this machine; returns their address."""
    pages: dict[str, bytes] = {}

    class Pages(Web):
        def answer(self, exchange: Exchange) -> None:
            known = exchange.seen.path in pages
            exchange.send(200 if known else 404, pages.get(exchange.seen.path, b""), "image/png")

    with Pages() as server:

        def put(data: bytes, path: str) -> str:
            pages[path] = data
            return f"{server.url}{path}"

        yield put


def upload(page: Any, path: Path) -> None:
    page.set_input_files("#photo input[type=file]", str(path))
    page.wait_for_selector("#photo img", timeout=WAIT)


def remove(page: Any, path: Path) -> None:
    upload(page, path)
    page.click("#start")
    page.wait_for_selector("#result .stage", timeout=WAIT)
    page.wait_for_selector("#start", timeout=WAIT)


def choose(page: Any, group: str, label: str) -> None:
    """Pick one of a group of radio buttons and wait for the new picture."""
    before = page.get_attribute("#result img.after", "src")
    page.click(f"#{group} label:has-text('{label}')")
    page.wait_for_function("old => document.querySelector('#result img.after').src !== old", arg=before, timeout=WAIT)


def shown(page: Any) -> np.ndarray:
    """The pixels of the picture on the page, as the browser decodes them: uint8 (H, W, 4)."""
    data = page.evaluate(
        """async () => {
            const image = document.querySelector('#result img.after');
            await image.decode();
            const canvas = document.createElement('canvas');
            [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
            canvas.getContext('2d').drawImage(image, 0, 0);
            return canvas.toDataURL('image/png').split(',')[1];
        }"""
    )
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))


def download(page: Any, folder: Path) -> Path:
    with page.expect_download(timeout=WAIT) as waiting:
        page.click("#save")
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def test_from_photo_to_file_with_one_call_of_the_provider(page, photo, calls, tmp_path):
    remove(page, photo)
    assert len(calls) == 1
    facts = page.inner_text("#facts")
    assert "Built-in" in facts and "800 × 600" in facts and "$" in facts and "estimated" in facts

    assert shown(page)[0, 0, 3] == 0
    for kind in ("Gradient", "Blur", "Colour"):
        choose(page, "background", kind)
        assert shown(page)[0, 0, 3] == 255
    for view in ("Mask", "Original", "Cut-out"):
        choose(page, "view", view)
    choose(page, "background", "Transparent")
    assert len(calls) == 1, "a change of look must never ask the provider again"

    (tmp_path / "out").mkdir()
    file = download(page, tmp_path / "out")
    assert file.name == "Ein Foto mit langem Namen, 2026 (Köln)-cutout.png"
    pixels = np.asarray(Image.open(file))
    assert pixels.shape == (600, 800, 4)
    assert iou(pixels[..., 3] / 255, scene(600, 800)[1]) > 0.95
    assert len(calls) == 1


class Preparing(Builtin):
    """Has to fetch something before its first picture."""

    info = replace(Builtin.info, id="rmbg-1.4", title="Preparing")
    fetched = False

    def status(self, settings: Settings) -> Status:
        return READY if self.fetched else Status("download", "downloads 9 MB on first use")

    def cut(self, photo: Photo, options: Mapping[str, Any], call: Call) -> Cutout:
        self.fetched = True
        return super().cut(photo, options, call)


def test_a_status_is_as_new_as_the_page_and_the_last_removal(page, photo, monkeypatch):
    monkeypatch.setitem(PROVIDERS, "rmbg-1.4", Preparing())
    line = "document.querySelector('#provider-line').innerText.includes('{}')"
    page.reload()  # the app itself was started before
    page.click("#provider input")
    page.click("[role=option]:has-text('Preparing: downloads 9 MB')")
    page.wait_for_function(line.format("downloads 9 MB"), timeout=WAIT)
    page.get_by_role("tab", name="Benchmark").click()
    page.get_by_text("Downloads 9 MB on first use, ", exact=False).locator("visible=true").wait_for(timeout=WAIT)
    page.get_by_role("tab", name="Remove").click()
    remove(page, photo)
    page.wait_for_function(line.format("ready"), timeout=WAIT)
    assert page.input_value("#provider input") == "Preparing: ready"


def test_what_is_downloaded_is_what_is_shown(page, photo, tmp_path):
    remove(page, photo)
    choose(page, "background", "Gradient")
    page.click("#crop input")
    page.wait_for_selector("#margin input", timeout=WAIT)
    page.wait_for_timeout(500)
    preview = shown(page)
    page.click("#format input")
    page.click("[role=option]:has-text('JPEG')")
    page.wait_for_selector("#quality input", timeout=WAIT)
    saved = np.asarray(Image.open(download(page, tmp_path)))
    assert saved.shape == (*preview.shape[:2], 3) and saved.shape[1] < 700
    assert np.abs(saved.astype(int) - preview[..., :3]).mean() < 3


@pytest.mark.parametrize("path", examples(), ids=lambda p: p.stem)
def test_examples_come_out_right(page, path, tmp_path):
    remove(page, path)
    pixels = np.asarray(Image.open(download(page, tmp_path)))
    true = truth(path)
    assert pixels.shape == (*true.shape, 4)
    assert iou(pixels[..., 3] / 255, true) >= 0.9


def test_examples_are_on_the_page(page):
    assert len(examples()) >= 6
    page.wait_for_selector("#examples button img", timeout=WAIT)
    page.click("#examples button >> nth=0")
    page.wait_for_selector("#photo img", timeout=WAIT)
    page.click("#start")
    page.wait_for_selector("#result .stage", timeout=WAIT)


def test_a_picture_is_pasted_from_the_clipboard(page, photo, app):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=app)
    page.evaluate(
        """async (data) => {
            const picture = await (await fetch(`data:image/png;base64,${data}`)).blob();
            await navigator.clipboard.write([new ClipboardItem({ "image/png": picture })]);
        }""",
        base64.b64encode(photo.read_bytes()).decode(),
    )
    page.locator("#photo button[aria-label='Paste from clipboard']").first.click()
    page.wait_for_selector("#photo img", timeout=WAIT)
    page.click("#start")
    page.wait_for_selector("#result .stage", timeout=WAIT)
    assert "800 × 600" in page.inner_text("#facts")


def test_a_visitor_can_come_back_to_an_earlier_result(page, photo, tmp_path, calls):
    other = tmp_path / "other.png"
    Image.fromarray(scene(400, 300)[0][:, ::-1]).save(other)
    remove(page, photo)
    page.click("#photo button[aria-label='Remove Image']")
    upload(page, other)
    page.click("#start")
    page.wait_for_function("document.querySelectorAll('#strip img').length === 2", timeout=WAIT)
    assert "300 × 400" in page.inner_text("#facts")
    assert "2 pictures" in page.inner_text("#total")
    page.click("#strip button.thumbnail-item >> nth=1")
    page.wait_for_function("document.querySelector('#facts').innerText.includes('800 × 600')", timeout=WAIT)
    assert len(calls) == 2
    assert np.asarray(Image.open(download(page, tmp_path))).shape == (600, 800, 4)


def test_visitors_never_see_each_others_pictures(page, photo, chromium, app):
    remove(page, photo)
    context = chromium.new_context()
    try:
        other = context.new_page()
        open_app(other, app)
        assert other.query_selector("#result .stage") is None
        assert other.query_selector("#strip img") is None
        other.click("#background label:has-text('Blur')")
        other.wait_for_timeout(500)
        assert other.query_selector("#result .stage") is None
        assert "Köln" not in other.content()
    finally:
        context.close()


def test_the_place_in_the_queue_is_on_the_page(page, photo, chromium, app, monkeypatch):
    """Two visitors press the button at once: the second sees that it waits and gets its result afterwards."""
    held = Held()
    monkeypatch.setitem(PROVIDERS, "builtin", held)
    upload(page, photo)
    page.click("#start")
    assert held.begun.wait(30)
    context = chromium.new_context()
    try:
        other = context.new_page()
        open_app(other, app)
        upload(other, photo)
        other.click("#start")
        other.wait_for_selector("text=queue: 1/1", timeout=WAIT)
        held.go.set()
        for each in (page, other):
            each.wait_for_selector("#result .stage", timeout=WAIT)
    finally:
        held.go.set()
        context.close()


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("report.png", b"%PDF-1.4\n%\xe2\xe3", "PDF"),
        ("empty.jpg", b"", "empty"),
        ("drawing.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        ("text.webp", b"hello there", "not a picture"),
    ],
)
def test_what_is_no_picture_gets_a_sentence(page, tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    page.set_input_files("#photo input[type=file]", str(path))
    page.wait_for_selector("#message .notice.error", timeout=WAIT)
    text = page.inner_text("#message")
    assert words in text and name in text
    assert "Traceback" not in page.content()


def test_half_a_photo_is_refused(page, tmp_path):
    out = io.BytesIO()
    Image.fromarray(scene()[0]).save(out, "JPEG")
    path = tmp_path / "half.jpg"
    path.write_bytes(out.getvalue()[: len(out.getvalue()) // 2])
    page.set_input_files("#photo input[type=file]", str(path))
    page.wait_for_selector("#message .notice.error", timeout=WAIT)
    assert "cut off" in page.inner_text("#message")


def test_without_a_photo_and_without_a_subject(page, tmp_path):
    page.click("#start")
    page.wait_for_selector("#message .notice.error", timeout=WAIT)
    assert "Choose a photo first" in page.inner_text("#message")
    path = tmp_path / "plain.png"
    Image.new("RGB", (300, 200), (90, 120, 150)).save(path)
    upload(page, path)
    page.click("#start")
    page.wait_for_function("document.querySelector('#message').innerText.includes('No clear subject')", timeout=WAIT)
    page.wait_for_selector("#start", timeout=WAIT)
    assert not page.is_visible("#cancel")


def test_formats_that_browsers_cannot_show_are_shown(page, tmp_path):
    path = tmp_path / "scan.tiff"
    Image.fromarray(scene(300, 400)[0]).save(path)
    page.set_input_files("#photo input[type=file]", str(path))
    page.wait_for_function(
        "(() => { const i = document.querySelector('#photo img'); return i && i.naturalWidth === 400; })()", timeout=WAIT
    )
    page.click("#start")
    page.wait_for_selector("#result .stage", timeout=WAIT)


def test_an_address_is_fetched_and_private_ones_are_not(page, web):
    out = io.BytesIO()
    Image.fromarray(scene(300, 400)[0]).save(out, "PNG")
    page.fill("#address input, #address textarea", web(out.getvalue(), "/pictures/a%20photo.png"))
    page.click("#load")
    page.wait_for_selector("#photo img", timeout=WAIT)
    page.fill("#address input, #address textarea", "http://10.0.0.1/a.png")
    page.click("#load")
    page.wait_for_selector("#message .notice.error", timeout=WAIT)
    page.fill("#address input, #address textarea", "file:///etc/passwd")
    page.click("#load")
    page.wait_for_function("document.querySelector('#message').innerText.includes('no web address')", timeout=WAIT)


class Slow(Provider):
    """Works until it is stopped."""

    info = Builtin.info
    begun = threading.Event()
    stopped = threading.Event()

    def cut(self, photo: Photo, options: Mapping[str, Any], call: Call) -> Cutout:
        self.begun.set()
        call.progress(0.3, "Working for a long time")
        while not self.stopped.wait(0.02):
            if call.cancelled():
                self.stopped.set()
        call.check()
        raise AssertionError("not reached")


def test_cancel_reaches_the_provider(page, photo, monkeypatch):
    monkeypatch.setitem(PROVIDERS, "builtin", Slow())
    upload(page, photo)
    page.click("#start")
    assert Slow.begun.wait(30)
    page.wait_for_selector("text=Working for a long time", timeout=WAIT)
    page.click("#cancel")
    assert Slow.stopped.wait(30)
    page.wait_for_selector("#message .notice.info", timeout=WAIT)
    page.wait_for_selector("#start", timeout=WAIT)
    monkeypatch.undo()
    page.click("#start")
    page.wait_for_selector("#result .stage", timeout=WAIT)


class Broken(Provider):
    info = Builtin.info

    def cut(self, photo: Photo, options: Mapping[str, Any], call: Call) -> Cutout:
        raise ZeroDivisionError("secret detail")


def test_a_fault_of_ours_is_one_sentence(page, photo, monkeypatch):
    monkeypatch.setitem(PROVIDERS, "builtin", Broken())
    upload(page, photo)
    page.click("#start")
    page.wait_for_selector("#message .notice.error", timeout=WAIT)
    assert "went wrong" in page.inner_text("#message")
    assert "secret detail" not in page.content() and "ZeroDivision" not in page.content()


def test_the_handle_works_from_the_keyboard(page, photo):
    remove(page, photo)
    page.focus("#result .split")
    before = page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--split')")
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--split')") != before
    choose(page, "background", "Blur")
    page.wait_for_timeout(200)
    assert float(page.input_value("#result .split")) == 55, "the handle stays where it was put"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1440, 900), (390, 844)])
def test_accessible(chromium, app, photo, scheme, size):
    """No rule of axe-core (WCAG A and AA) is broken, before and after a removal and on the About tab."""
    from axe_playwright_python.sync_playwright import Axe

    context = chromium.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    try:
        page = context.new_page()
        open_app(page, f"{app}/?__theme={scheme}")
        rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}
        found = [Axe().run(page, options=rules)]
        remove(page, photo)
        page.wait_for_timeout(400)
        found.append(Axe().run(page, options=rules))
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "the page scrolls sideways"
        page.click("button[role=tab]:has-text('About')")
        page.wait_for_timeout(400)
        found.append(Axe().run(page, options=rules))
        assert [result.generate_report() for result in found if result.violations_count] == []
    finally:
        context.close()


def test_on_a_phone_the_result_comes_into_view(chromium, app, photo):
    context = chromium.new_context(viewport={"width": 390, "height": 844})
    try:
        page = context.new_page()
        open_app(page, app)
        remove(page, photo)
        page.wait_for_function("document.querySelector('#result').getBoundingClientRect().top < 300", timeout=WAIT)
    finally:
        context.close()


def test_nothing_is_asked_of_other_servers(chromium, app, photo):
    """No font, script or counter comes from anywhere else."""
    context = chromium.new_context()
    try:
        page = context.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        open_app(page, app)
        remove(page, photo)
        assert [url for url in asked if not url.startswith((app, "data:", "blob:"))] == []
    finally:
        context.close()
