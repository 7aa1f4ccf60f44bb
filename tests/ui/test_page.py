"""The Remove tab in Chromium: from a photo to a downloaded file, and errors."""

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
from rmbg.images.photo import Photo
from rmbg.providers import PROVIDERS
from rmbg.providers.base import READY, Provider, RequestContext, Status
from rmbg.providers.builtin import Builtin
from rmbg.settings import Settings
from tests.browser import DESKTOP, PHONE, Chromium, dark_phone
from tests.conftest import open_app
from tests.pictures import examples, iou, scene
from tests.servers.web import Exchange, Web
from tests.ui.axe import violations

pytestmark = pytest.mark.browser

WAIT = 60_000


@pytest.fixture
def page(shared_page: Any) -> Any:
    """The shared page with an empty Remove tab."""
    clear(shared_page)
    shared_page.bring_to_front()
    return shared_page


@pytest.fixture(scope="module")
def other(chromium: Chromium, app: str) -> Iterator[Any]:
    """The page of another visitor, opened at its first use."""
    with chromium.visit() as page:
        open_app(page, app)
        yield page


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Photo]:
    """Photos that the built-in provider was run on."""
    photos: list[Photo] = []
    cut = Builtin.cut

    def counted(self: Builtin, photo: Photo, options: Mapping[str, Any], context: RequestContext) -> Cutout:
        photos.append(photo)
        return cut(self, photo, options, context)

    monkeypatch.setattr(Builtin, "cut", counted)
    return photos


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photo with a clear subject and a long, non-ASCII name."""
    path = tmp_path / "Ein Foto mit langem Namen, 2026 (Köln).png"
    Image.fromarray(scene(600, 800)[0]).save(path)
    return path


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes, str], str]]:
    """Return a function that serves bytes under a path and returns their URL."""
    pages: dict[str, bytes] = {}

    class Pages(Web):
        def answer(self, exchange: Exchange) -> None:
            exists = exchange.seen.path in pages
            exchange.send(200 if exists else 404, pages.get(exchange.seen.path, b""), "image/png")

    with Pages() as server:
        monkeypatch.setenv("RMBG_PHOTO_HOSTS", f"127.0.0.1:{server.port}")

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


def clear(page: Any) -> None:
    """Remove results and photo of the Remove tab after its run has ended, and select the default display options."""
    page.wait_for_selector("#start", timeout=WAIT)
    for group, label in (("background", "Transparent"), ("view", "Cutout")):
        selector = f"#{group} label[data-testid='{label}-radio-label']"
        if not page.is_checked(f"{selector} input"):
            page.click(selector)
            page.wait_for_selector(f"{selector} input:checked", state="attached", timeout=WAIT)
    if page.is_checked("#crop input"):
        page.uncheck("#crop input")
    if not page.input_value("#format input").startswith("PNG"):
        page.click("#format input")
        page.click("[role=option]:has-text('PNG')")
    if page.is_visible("#strip-clear"):
        page.click("#strip-clear")
        page.click("#strip-yes", timeout=WAIT)
        page.wait_for_selector("#strip img", state="detached", timeout=WAIT)
        page.wait_for_selector("#strip-yes", state="hidden", timeout=WAIT)
    if page.is_visible("#photo button[aria-label='Remove Image']"):
        page.click("#photo button[aria-label='Remove Image']")
        page.locator("#photo button[aria-label='Upload file']").first.click()  # after a photo from the clipboard
        page.wait_for_selector("#photo input[type=file]", state="attached", timeout=WAIT)
        page.wait_for_function("!document.querySelector('#message .notice')", timeout=WAIT)
    page.wait_for_selector("#result .empty", timeout=WAIT)


def message_is(page: Any, text: str) -> None:
    page.wait_for_function("text => document.querySelector('#message').innerText.includes(text)", arg=text, timeout=WAIT)


def choose(page: Any, group: str, label: str) -> None:
    """Select one of a group of radio buttons and wait for the new picture or background."""
    look = "document.querySelector('#result img.after').src + document.querySelector('#result .backdrop').style.background"
    before = page.evaluate(look)
    page.click(f"#{group} label:has-text('{label}')")
    page.wait_for_function(f"old => {look} !== old", arg=before, timeout=WAIT)


def shown(page: Any) -> np.ndarray:
    """Return the displayed picture as decoded by the browser, uint8 (H, W, 4)."""
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


def test_render_options_and_download_run_the_provider_once(page, photo, calls, tmp_path):
    remove(page, photo)
    assert len(calls) == 1
    facts = page.inner_text("#facts")
    assert "Built-in" in facts and "800 × 600" in facts and "$" in facts and "estimated" in facts

    assert shown(page)[0, 0, 3] == 0
    for kind in ("Gradient", "Blur", "Other color"):
        choose(page, "background", kind)
    for view in ("Mask", "Original", "Cutout"):
        choose(page, "view", view)
    choose(page, "background", "Transparent")
    assert len(calls) == 1, "a change of render options must not run the provider again"

    (tmp_path / "out").mkdir()
    file = download(page, tmp_path / "out")
    assert file.name == "Ein Foto mit langem Namen, 2026 (Köln)-cutout.png"
    pixels = np.asarray(Image.open(file))
    assert pixels.shape == (600, 800, 4)
    assert iou(pixels[..., 3] / 255, scene(600, 800)[1]) > 0.95
    assert len(calls) == 1


class DownloadingProvider(Builtin):
    """Provider that downloads weights before its first photo."""

    info = replace(Builtin.info, id="rmbg-1.4", title="Downloading")
    downloaded = False

    def status(self, settings: Settings) -> Status:
        return READY if self.downloaded else Status("download", "downloads 9 MB on first use")

    def cut(self, photo: Photo, options: Mapping[str, Any], context: RequestContext) -> Cutout:
        self.downloaded = True
        return super().cut(photo, options, context)


def test_provider_status_is_updated_by_page_load_and_removal(chromium, app, photo, monkeypatch):
    monkeypatch.setitem(PROVIDERS, "rmbg-1.4", DownloadingProvider())
    status_includes = "document.querySelector('#provider-line').innerText.includes('{}')"
    with chromium.visit() as page:
        open_app(page, app)  # which was started before the provider was registered
        page.click("#provider input")
        page.click("[role=option]:has-text('Downloading ·'):has-text('downloads 9 MB')")
        page.wait_for_function(status_includes.format("downloads 9 MB"), timeout=WAIT)
        page.get_by_role("tab", name="Benchmark").click()
        page.click("#measure-providers input")
        page.wait_for_selector("#measure-providers li:has-text('downloads 9 MB on first use')", timeout=WAIT)
        page.keyboard.press("Escape")
        page.get_by_role("tab", name="Remove").click()
        remove(page, photo)
        page.wait_for_function(status_includes.format("ready"), timeout=WAIT)
        assert page.input_value("#provider input").startswith("Downloading") and "9 MB" not in page.input_value(
            "#provider input"
        )


def test_downloaded_file_matches_the_preview(page, photo, tmp_path):
    remove(page, photo)
    choose(page, "background", "Gradient")
    page.click("#crop input")
    page.wait_for_selector("#margin input", timeout=WAIT)
    page.focus("#result .split")
    split = "getComputedStyle(document.documentElement).getPropertyValue('--split')"
    for keys, place in ((["Home"], "0%"), (["ArrowRight"] * 10, "5%"), (["Home"], "0%")):
        for key in keys:
            page.keyboard.press(key)
        page.wait_for_function(f"{split} === '{place}'", timeout=WAIT)
    preview = Image.open(io.BytesIO(page.locator("#result .stage").screenshot(animations="disabled"))).convert("RGB")
    page.click("#format input")
    page.click("[role=option]:has-text('JPEG')")
    page.wait_for_selector("#quality input", timeout=WAIT)
    saved = Image.open(download(page, tmp_path))
    assert saved.mode == "RGB" and saved.width < 700
    assert saved.width / saved.height == pytest.approx(preview.width / preview.height, rel=0.02)
    small = np.asarray(saved.resize(preview.size)).astype(int)
    inner = slice(40, -40)  # without divider and rounded corners
    assert np.abs(small - np.asarray(preview))[inner, inner].mean() < 3


def test_example_can_be_selected_on_the_page(page):
    assert len(examples()) >= 6
    page.wait_for_selector("#examples button img", timeout=WAIT)
    page.click("#examples button >> nth=0")
    page.wait_for_selector("#photo img", timeout=WAIT)


def test_photo_can_be_pasted_from_the_clipboard(page, photo, app):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=app)
    page.evaluate(
        """async (data) => {
            const picture = await (await fetch(`data:image/png;base64,${data}`)).blob();
            await navigator.clipboard.write([new ClipboardItem({ "image/png": picture })]);
        }""",
        base64.b64encode(photo.read_bytes()).decode(),
    )
    page.locator("#photo button[aria-label='Paste from clipboard']").first.click()
    page.wait_for_function("document.querySelector('#photo img')?.naturalWidth === 800", timeout=WAIT)


def test_visitors_do_not_share_pictures(page, photo, request):
    remove(page, photo)
    other = request.getfixturevalue("other")  # opened after the removal
    assert other.query_selector("#result .stage") is None
    assert other.query_selector("#strip img") is None
    other.click("#background label:has-text('Blur')")
    other.wait_for_timeout(500)
    assert other.query_selector("#result .stage") is None
    assert "Köln" not in other.content()


def test_files_that_are_no_pictures_are_rejected(page, tmp_path):
    out = io.BytesIO()
    Image.fromarray(scene()[0]).save(out, "JPEG")
    for name, content, message in (
        ("report.png", b"%PDF-1.4\n%\xe2\xe3", "PDF"),
        ("half.jpg", out.getvalue()[: len(out.getvalue()) // 2], "cut off"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        page.wait_for_selector("#photo input[type=file]", state="attached", timeout=WAIT)
        page.set_input_files("#photo input[type=file]", str(path))
        page.locator("#message .notice.error", has_text=name).wait_for(timeout=WAIT)
        assert message in page.inner_text("#message") and "Traceback" not in page.content()


def test_public_url_is_downloaded_and_private_url_is_rejected(page, web):
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
    message_is(page, "not a valid web address")


class EndlessProvider(Provider):
    """Provider that runs until it is cancelled."""

    info = Builtin.info

    def __init__(self) -> None:
        self.started, self.cancelled = threading.Event(), threading.Event()

    def cut(self, photo: Photo, options: Mapping[str, Any], context: RequestContext) -> Cutout:
        self.started.set()
        context.progress(0.3, "Working for a long time")
        while not self.cancelled.wait(0.02):
            if context.cancelled():
                self.cancelled.set()
        context.check()
        raise AssertionError("not reached")


def test_cancel_reaches_the_provider(page, photo, monkeypatch):
    endless = EndlessProvider()
    monkeypatch.setitem(PROVIDERS, "builtin", endless)
    upload(page, photo)
    page.click("#start")
    assert endless.started.wait(120)
    page.wait_for_selector("text=Working for a long time", timeout=WAIT)
    page.click("#cancel")
    assert endless.cancelled.wait(120)
    page.wait_for_selector("#message .notice.info", timeout=WAIT)
    page.wait_for_selector("#start", timeout=WAIT)
    monkeypatch.undo()
    page.click("#start")
    page.wait_for_selector("#result .stage", timeout=WAIT)


def is_accessible(page: Any, size: dict[str, int]) -> None:
    """Check a result with axe-core (WCAG A and AA); test_theme.py and test_tabs.py check the tabs without results."""
    page.set_viewport_size(size)
    assert violations(page) == [], size
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "the page scrolls sideways"


def test_result_scrolls_into_view_on_a_phone_and_is_accessible(page, photo):
    with dark_phone(page):
        page.evaluate("scrollTo(0, 0)")
        remove(page, photo)
        page.wait_for_function("document.querySelector('#result').getBoundingClientRect().top < 300", timeout=WAIT)
        is_accessible(page, PHONE)
    is_accessible(page, DESKTOP)


def test_page_loads_nothing_from_other_hosts(chromium, app, photo):
    """Fonts, scripts and telemetry included."""
    context = chromium.new_context()
    try:
        page = context.new_page()
        urls: list[str] = []
        sizes: list[float] = []
        page.on("request", lambda request: urls.append(request.url))
        session = context.new_cdp_session(page)
        session.send("Network.enable")
        session.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
        open_app(page, app)
        assert sum(sizes) < 800_000 and len(sizes) < 130, (sum(sizes), len(sizes))
        remove(page, photo)
        assert [url for url in urls if not url.startswith((app, "data:", "blob:"))] == []
        scripts = {url for url in urls if "/assets/" in url and url.endswith((".js", ".css"))}
        assert len(scripts) > 50
        for url in sorted(scripts)[::20]:
            assert "immutable" in page.request.get(url).headers["cache-control"], "a second visit loads no scripts"
    finally:
        context.close()
