"""The Batch tab in Chromium: drop, table, filter, download, reload, consent, second attempt."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rmbg.cutout import Cutout
from rmbg.images.photo import Photo
from rmbg.providers import PROVIDERS
from rmbg.providers.base import RequestContext
from rmbg.providers.builtin import Builtin
from rmbg.ui.storage import storage
from tests.remote import environment
from tests.servers.runware import Runware
from tests.servers.web import until
from tests.ui.axe import violations
from tests.ui.test_paste import png, send, wait_for_notice

pytestmark = pytest.mark.browser

WAIT = 90_000


@pytest.fixture
def page(shared_page: Any) -> Any:
    """The shared page; the first test of the file deletes its files, which loads the page again."""
    shared_page.wait_for_function("window.rmbgTabs?.selected()", timeout=WAIT)
    return shared_page


def wait_for_rows(page: Any, count: int, selector: str = "#batch-table tbody tr") -> None:
    page.wait_for_function(
        "([selector, count]) => document.querySelectorAll(selector).length === count", arg=[selector, count], timeout=WAIT
    )


def wait_for_message(page: Any, text: str) -> None:
    page.locator("#batch-message .notice", has_text=text).wait_for(timeout=WAIT)


def names(page: Any) -> list[str]:
    return [cell.inner_text().splitlines()[0] for cell in page.query_selector_all("#batch-table tbody th")]


def pictures(count: int) -> list[tuple[str, str, bytes]]:
    return [(f"{number}.png", "image/png", png(120 + number, 90)) for number in range(count)]


def test_drop_of_several_files_to_download_and_reload(page, tmp_path):
    black = io.BytesIO()
    Image.new("RGB", (60, 40)).save(black, "PNG")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("sub/0.png", png(150, 100))
        archive.writestr("black.png", black.getvalue())
    files = [*pictures(2), ("photos.zip", "application/zip", packed.getvalue()), ("notes.txt", "text/plain", b"text")]
    send(page, "drop", *files)
    wait_for_notice(page, "1 file is no picture and was left out.")
    wait_for_message(page, "4 photos ready.")
    assert page.evaluate("rmbgTabs.selected()") == "batch"
    assert "At most 100 photos and 500 MB" in page.inner_text("#batch-limits")
    page.click("#batch-start")
    wait_for_message(page, "Done: 3 of 4 photos have a result.")
    assert names(page) == ["0.png", "1.png", "black.png", "sub/0.png"]
    assert len(page.query_selector_all("#batch-table img")) == 3
    assert violations(page) == []

    page.check("#batch-doubtful input")
    page.wait_for_function("!document.querySelector('#batch-table').innerText.includes('1.png')", timeout=WAIT)
    assert "black.png" in names(page)
    with page.expect_download(timeout=WAIT) as waiting:
        page.click("#batch-save")
    with zipfile.ZipFile(waiting.value.path()) as results:
        assert results.namelist() == ["0.png", "1.png", "sub/0.png"]

    page.reload()
    wait_for_rows(page, 4)
    assert page.evaluate("rmbgTabs.selected()") == "batch"
    page.click("#batch-table [data-open='3']")  # a photo of the archive
    page.wait_for_function("document.querySelector('#facts').innerText.includes('150 × 100')", timeout=WAIT)
    page.wait_for_selector("#photo img", timeout=WAIT)
    assert page.evaluate("rmbgTabs.selected()") == "remove"
    owned = storage().bytes_of()
    page.click("#delete-all")
    with page.expect_navigation(timeout=WAIT):  # the page is loaded again
        page.click("#delete-yes")
    assert until(lambda: storage().bytes_of() < owned, 60)


class Held(Builtin):
    """Built-in provider whose second photo lasts until it is released or cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.count, self.go, self.held = 0, threading.Event(), threading.Event()

    def cut(self, photo: Photo, options: Mapping[str, Any], context: RequestContext) -> Cutout:
        with context.device(context.check):
            self.count += 1
            if self.count == 2:
                self.held.set()
                assert until(lambda: self.go.is_set() or context.cancelled(), 120)
                context.check()
        return super().cut(photo, options, context)


def choose(page: Any, provider: str) -> None:
    page.click("#batch-provider input")
    page.click(f"#batch-provider li:has-text('{provider}')")


def test_paid_batch_is_asked_for_once_and_running_batch_survives_a_reload(page, tmp_path, monkeypatch):
    provider = Held()
    monkeypatch.setitem(PROVIDERS, "builtin", provider)
    page.evaluate("rmbgTabs.select('batch')")
    page.wait_for_selector("#batch-start", timeout=WAIT)
    send(page, "paste", *pictures(3))
    wait_for_message(page, "3 photos ready.")
    page.click("#batch-start")
    assert provider.held.wait(60)
    page.reload()
    wait_for_rows(page, 3)
    page.wait_for_selector("#batch-cancel", timeout=WAIT)
    wait_for_rows(page, 1, "#batch-table img")
    page.click("#batch-cancel")
    wait_for_message(page, "Stopped. The results so far are kept.")
    page.click("#batch-start")  # the files of the batch are on the server
    wait_for_message(page, "Done: 3 of 3 photos have a result.")
    assert provider.count == 4, "one photo was cancelled, none is repeated"

    with Runware() as service:
        for name, value in environment(service, Path(tmp_path), RMBG_REMOTE_SECONDS="60").items():
            monkeypatch.setenv(name, value)
        choose(page, PROVIDERS["runware-rembg-1.4"].info.title)
        page.wait_for_selector("#batch-key input[type=password]", timeout=WAIT)
        page.click("#batch-options-runware-rembg-1\\.4 button", timeout=WAIT)
        page.check("#batch-option-postProcessMask input", timeout=WAIT)
        page.click("#batch-start")
        wait_for_message(page, "This sends 3 photos to")
        assert "Expected charge for all: about $0.0039" in page.inner_text("#batch-message")
        page.wait_for_function(
            "document.activeElement.matches('#batch-message .notice') && "
            "document.activeElement.getBoundingClientRect().top >= 0",
            timeout=WAIT,
        )  # the question is in view
        page.click("#batch-no")
        page.wait_for_selector("#batch-yes", state="hidden", timeout=WAIT)
        assert not service.jobs
        page.click("#batch-start")
        page.click("#batch-yes", timeout=WAIT)
        wait_for_message(page, "Done: 3 of 3 photos have a result.")
        assert len(service.jobs) == 3 and "charged" in page.inner_text("#batch-table")
        assert all(job["task"]["settings"]["postProcessMask"] for job in service.jobs)
        shown = page.get_attribute("#batch-table img", "src")
        page.click("#batch-background label:has-text('White')")
        page.click("#batch-start")
        changed = (
            "shown => ![...document.querySelectorAll('#batch-table img')].some((image) => image.getAttribute('src') === shown)"
        )
        page.wait_for_function(changed, arg=shown, timeout=WAIT)
        wait_for_message(page, "Done: 3 of 3 photos have a result.")
        wait_for_rows(page, 3, "#batch-table img")
        assert len(service.jobs) == 3, "another background is not paid for again"
