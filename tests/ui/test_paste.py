"""Pasting and dropping anywhere on the page, and the automatic start of a removal."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from PIL import Image

from rmbg.cutout import Cutout
from rmbg.images.photo import Photo
from rmbg.providers import PROVIDERS
from rmbg.providers.base import RequestContext
from rmbg.providers.builtin import Builtin
from rmbg.ui.components.inputs import Upload
from rmbg.ui.session import Session
from rmbg.ui.tabs import remove_actions
from tests.conftest import open_app
from tests.pictures import scene
from tests.servers.web import Exchange, Web, until
from tests.ui.test_page import DownloadingProvider

WAIT = 60_000

#: Dispatches a paste or drop event with files and texts, as a browser does, on the element that matches a selector.
SEND = """([kind, selector, files, texts]) => {
    const data = new DataTransfer();
    for (const [name, type, content] of files) {
        const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
        data.items.add(new File([bytes], name, { type }));
    }
    for (const [type, text] of Object.entries(texts)) data.setData(type, text);
    const target = document.querySelector(selector);
    const options = { bubbles: true, cancelable: true, composed: true };
    if (kind === "paste") {
        return target.dispatchEvent(new ClipboardEvent("paste", { ...options, clipboardData: data }));
    }
    return target.dispatchEvent(new DragEvent(kind, { ...options, dataTransfer: data }));
}"""


def png(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(scene(height, width)[0]).save(out, "PNG")
    return out.getvalue()


def send(
    page: Any, kind: str, *files: tuple[str, str, bytes], selector: str = ".masthead", texts: dict[str, str] | None = None
) -> bool:
    """Dispatch an event and return True if the page leaves it to the browser."""
    encoded = [[name, mime, base64.b64encode(content).decode()] for name, mime, content in files]
    return page.evaluate(SEND, [kind, selector, encoded, texts or {}])


def wait_for_photo(page: Any, field: str, width: int) -> None:
    page.wait_for_function(
        "([field, width]) => document.querySelector(`${field} img`)?.naturalWidth === width", arg=[field, width], timeout=WAIT
    )


def wait_for_notice(page: Any, text: str) -> None:
    page.locator("#page-notice", has_text=text).wait_for(timeout=WAIT)


@pytest.fixture
def photos() -> Iterator[Callable[[bytes], str]]:
    """Return a function that serves a picture and returns its URL."""
    body = [b""]

    class Pages(Web):
        def answer(self, exchange: Exchange) -> None:
            exchange.send(200, body[0], "image/png")

    with Pages() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RMBG_PHOTO_HOSTS", f"127.0.0.1:{server.port}")

        def put(data: bytes) -> str:
            body[0] = data
            return f"{server.url}/photo.png"

        yield put


@pytest.fixture
def page(shared_page: Any) -> Any:
    """The shared page in the Remove tab; a photo replaces the one before."""
    shared_page.evaluate("rmbgTabs.select('remove')")
    shared_page.wait_for_selector("#start", timeout=WAIT)
    shared_page.bring_to_front()
    shared_page.evaluate("document.dispatchEvent(new DragEvent('dragend'))")
    return shared_page


@pytest.mark.browser
def test_drop_anywhere_replaces_the_photo_of_the_selected_tab(page):
    assert not send(page, "dragover", ("a.png", "image/png", b"")), "the browser would open the file instead of the page"
    page.wait_for_selector("#drop-hint", timeout=WAIT)
    send(page, "drop", ("a.png", "image/png", png(300, 200)))
    wait_for_photo(page, "#photo", 300)
    assert not page.is_visible("#drop-hint")
    # A second photo replaces the first. Systems without the format report no type.
    send(page, "drop", ("b.webp", "", png(310, 200)), selector="#photo img")
    wait_for_photo(page, "#photo", 310)

    for tab, field, width in (("Compare", "#compare-photo", 320), ("Replace", "#replace-photo", 330)):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_selector(f"{field} .upload-container", timeout=WAIT)
        send(page, "drop", ("c.png", "image/png", png(width, 200)))
        wait_for_photo(page, field, width)
    # A tab without a photo field: the Remove tab is selected.
    page.get_by_role("tab", name="About").click()
    page.wait_for_function("rmbgTabs.selected() === 'about'", timeout=WAIT)
    send(page, "drop", ("d.png", "image/png", png(340, 200)))
    wait_for_photo(page, "#photo", 340)
    assert page.evaluate("rmbgTabs.selected()") == "remove"


@pytest.mark.browser
def test_messages_about_what_is_no_picture(page):
    picture = ("photo.png", "image/png", png(300, 200))
    send(page, "drop", ("notes.txt", "text/plain", b"text"), picture)
    wait_for_notice(page, "1 file is no picture and was left out.")
    wait_for_photo(page, "#photo", 300)
    send(page, "drop", ("report.pdf", "application/pdf", b"%PDF"))
    wait_for_notice(page, "report.pdf is not a picture.")
    send(page, "paste", texts={"text/plain": "some text"})
    wait_for_notice(page, "The clipboard has no picture.")
    page.dispatch_event("#page-notice button", "click")
    page.wait_for_selector("#page-notice", state="hidden", timeout=WAIT)

    assert send(page, "paste", selector="#address :is(input, textarea)", texts={"text/plain": "text for the field"})
    assert send(page, "paste", picture, selector="#address :is(input, textarea)", texts={"text/plain": "a picture with text"})
    page.evaluate("document.querySelector('.masthead').dispatchEvent(new DragEvent('dragstart', { bubbles: true }))")
    assert send(page, "drop", picture), "drags within the page are left to it"
    assert not page.is_visible("#page-notice")


@pytest.mark.browser
def test_picture_and_address_from_the_clipboard(page, app, photos):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=app)
    page.evaluate(
        """async (data) => {
            const picture = await (await fetch(`data:image/png;base64,${data}`)).blob();
            await navigator.clipboard.write([new ClipboardItem({ "image/png": picture })]);
        }""",
        base64.b64encode(png(350, 200)).decode(),
    )
    page.keyboard.press("Control+V")
    wait_for_photo(page, "#photo", 350)
    page.get_by_role("tab", name="Compare").click()
    page.wait_for_selector("#compare-photo .upload-container", timeout=WAIT)
    page.evaluate("address => navigator.clipboard.writeText(address)", photos(png(320, 200)))
    page.keyboard.press("Control+V")
    wait_for_notice(page, "The picture of an address is loaded in the Remove tab.")
    wait_for_photo(page, "#photo", 320)
    send(page, "drop", texts={"text/uri-list": f"# comment\r\n{photos(png(330, 200))}"})
    wait_for_photo(page, "#photo", 330)


class CancelledOnce(Builtin):
    """Built-in provider whose first run lasts until it is cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.started = threading.Event()

    def cut(self, photo: Photo, options: Mapping[str, Any], context: RequestContext) -> Cutout:
        if not self.started.is_set():
            self.started.set()
            assert until(context.cancelled, 600)
            context.check()
        return super().cut(photo, options, context)


@pytest.mark.browser
def test_removal_starts_at_once_and_the_next_photo_replaces_it(chromium, app, monkeypatch):
    provider = CancelledOnce()
    monkeypatch.setitem(PROVIDERS, "builtin", provider)
    with chromium.visit() as page:
        open_app(page, app, at_once=True)
        send(page, "paste", ("a.png", "image/png", png(300, 200)))
        assert provider.started.wait(120)
        page.wait_for_selector("#cancel", timeout=WAIT)
        send(page, "drop", ("b.png", "image/png", png(320, 240)))
        page.wait_for_function("document.querySelector('#facts').innerText.includes('320 × 240')", timeout=WAIT)
        page.wait_for_selector("#start", timeout=WAIT)
        assert page.inner_text("#message").strip() == "", "the cancelled run is not reported"

        page.uncheck("#at-once input")
        send(page, "drop", ("c.png", "image/png", png(340, 240)))
        wait_for_photo(page, "#photo", 340)
        page.reload()
        page.wait_for_selector("#at-once input:not(:checked)", state="attached", timeout=WAIT)


def test_only_free_and_ready_providers_start_at_once(monkeypatch, tmp_path):
    """The choice is made on the server, and the run is bound to the provider that was checked."""
    monkeypatch.setitem(PROVIDERS, "rmbg-1.4", DownloadingProvider())
    monkeypatch.setenv("FAL_KEY", "id:secret")  # a paid provider with a key is ready as well

    def started(provider: str, at_once: bool = True) -> bool:
        session = Session()
        remove_actions.start(session, at_once, provider, Upload(str(tmp_path / "a.png"), "a.png"))
        return session.removals.waiting

    assert started("builtin") and started("auto")
    assert not started("builtin", at_once=False)
    assert not any(started(provider) for provider in ("rmbg-1.4", "fal-rmbg-2.0", "removebg", "no-provider"))

    session, photo = Session(), Upload(str(tmp_path / "a.png"), "a.png")
    number, *_, kind = remove_actions.start(session, True, "auto", photo)
    assert session.removals.provider(number) == "builtin" and kind == "local"
    token = session.removals.begin(number)
    assert token is not None and remove_actions.start(session, True, "auto", photo)[0] != number + 1, "the same photo"
    again, *_ = remove_actions.start(session, True, "auto", Upload(str(tmp_path / "b.png"), "b.png"))
    assert again == number + 1 and token.cancelled() and session.removals.provider(number) == ""


def test_new_photo_does_not_cancel_a_paid_run(tmp_path):
    session = Session()
    token = session.removals.begin(session.removals.start(), paid=True)
    assert token is not None
    *_, kind = remove_actions.start(session, True, "builtin", Upload(str(tmp_path / "a.png"), "a.png"))
    assert not token.cancelled() and not session.removals.waiting and kind == ""
    remove_actions.abandon(session, 1)
    assert not token.cancelled(), "only a run that waits for the queue is cancelled"
    token.end()
    number, *_ = remove_actions.start(session, True, "builtin", Upload(str(tmp_path / "b.png"), "b.png"))
    assert session.removals.waiting
    remove_actions.abandon(session, number - 1)
    assert session.removals.active, "a late answer of the queue belongs to the run before"
    remove_actions.abandon(session, number)
    assert not session.removals.active
