"""The Replace tab in Chromium: key, consent, the whole picture, several pictures, download."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import TimeoutError

from tests.remote import environment, picture, short_delays  # noqa: F401
from tests.servers.fal import Fal
from tests.ui.axe import violations

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("short_delays")]

WAIT = 120_000

VISITOR_KEY = "visitors-own:key-of-this-visit"


@pytest.fixture
def fal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fal]:
    with Fal() as service:
        service.key = VISITOR_KEY
        for name, value in environment(service, tmp_path / "data", RMBG_REMOTE_SECONDS="60").items():
            monkeypatch.setenv(name, value)
        yield service


@pytest.fixture
def page(shared_page: Any) -> Any:
    """The shared page; what was accepted and spent before stays."""
    return shared_page


def open_tab(page: Any, folder: Path) -> None:
    """Open the tab with a photo and the visitor's key."""
    path = folder / "photo.png"
    path.write_bytes(picture(320, 240))
    page.click("button[role=tab]:has-text('Replace')")
    page.wait_for_selector("#replace-photo .upload-container", timeout=WAIT)
    if page.is_visible("#replace-photo button[aria-label='Remove Image']"):
        page.click("#replace-photo button[aria-label='Remove Image']")
    page.set_input_files("#replace-photo input[type=file]", str(path))
    page.wait_for_selector("#replace-photo img", timeout=WAIT)
    page.fill("#replace-key input", VISITOR_KEY)


def wait_for_text(page: Any, selector: str, text: str) -> None:
    page.wait_for_function(
        "([selector, text]) => document.querySelector(selector)?.innerText.includes(text)", arg=[selector, text], timeout=WAIT
    )


def pictures(page: Any) -> int:
    """Return the number of pictures in the total of the session."""
    return sum(map(int, re.findall(r"fal: Background Replace: (\d+) picture", page.inner_text("#replace-total"))))


def set_pictures(page: Any, count: int, price: str) -> None:
    """Set the number of pictures; Gradio discards input that arrives while the section opens."""
    for _ in range(10):
        page.fill("#replace-option-num_images input[type=number]", str(count))
        page.keyboard.press("Tab")
        with contextlib.suppress(TimeoutError):
            page.wait_for_function(
                "price => document.querySelector('#replace-price').innerText.includes(price)", arg=price, timeout=WAIT / 10
            )
            return


def test_one_picture_is_shown_whole_after_consent(page, fal, tmp_path):
    open_tab(page, tmp_path)
    intro, photo, start = (page.locator(f"#replace-{part}").bounding_box() for part in ("intro", "photo", "start"))
    assert intro["y"] < photo["y"] < start["y"], "the need for a key is stated above the form"
    assert page.locator("#replace-key").bounding_box()["y"] < photo["y"]
    for protocol_word in ("queue", "inline", "Deletion at fal"):
        assert protocol_word not in page.inner_text("body"), "details of the protocol are in a closed section"
    page.click("#replace-start")
    wait_for_text(page, "#replace-message", "Describe the new background")
    page.wait_for_selector("#replace-start", timeout=WAIT)
    page.fill("#replace-prompt textarea", "a wooden table")
    page.click("#replace-start")
    wait_for_text(page, "#replace-message", "Expected charge: about $0.023.")
    page.wait_for_selector("#replace-yes", timeout=WAIT)
    assert violations(page) == [] and not fal.seen
    page.click("#replace-no")
    page.wait_for_selector("#replace-yes", state="hidden", timeout=WAIT)
    page.wait_for_selector("#replace-start", timeout=WAIT)
    page.click("#replace-start")
    page.click("#replace-yes", timeout=WAIT)
    page.wait_for_selector("#replace-result .whole", timeout=WAIT)
    page.wait_for_selector("#replace-start", timeout=WAIT)
    assert len(fal.jobs) == 1 and fal.jobs[0]["arguments"]["prompt"] == "a wooden table"

    loaded = "(image => image?.complete && image.naturalWidth > 0)(document.querySelector('#replace-result .whole img'))"
    page.wait_for_function(loaded, timeout=WAIT)
    frame, shown = (page.locator(f"#replace-result {part}").bounding_box() for part in (".whole", ".whole img >> nth=0"))
    assert frame == shown and abs(shown["width"] / shown["height"] - 4 / 3) < 0.02, "the picture is neither cropped nor halved"
    assert not page.is_visible("#replace-result .photo") and not page.is_visible("#replace-gallery")
    page.check("#replace-result .toggle input")
    assert page.is_visible("#replace-result .photo"), "the photo before is shown on demand"
    assert violations(page) == []
    with page.expect_download(timeout=WAIT) as waiting:
        page.click("#replace-save")
    waiting.value.save_as(tmp_path / "result.png")
    assert Image.open(tmp_path / "result.png").size == (320, 240)

    page.click("#replace-start")  # the price is accepted for this visit
    page.wait_for_function("document.querySelector('#replace-result .toggle input')?.checked === false", timeout=WAIT)
    assert len(fal.jobs) == 2 and not page.is_visible("#replace-yes")


def test_several_pictures_and_a_new_consent_for_their_price(page, fal, tmp_path):
    open_tab(page, tmp_path)
    before = pictures(page)
    page.fill("#replace-prompt textarea", "a wooden table")
    page.click("#advanced-fal-replace button")
    page.click("#options-fal-replace button")
    set_pictures(page, 2, "$0.046")
    with page.expect_response(lambda response: "42" in (response.request.post_data or ""), timeout=WAIT):
        page.fill("#replace-option-seed input, #replace-option-seed textarea", "42")
    page.click("#replace-start")
    page.wait_for_selector("#replace-yes", timeout=WAIT)
    page.wait_for_selector("#replace-start", timeout=WAIT)
    set_pictures(page, 3, "$0.069")
    page.click("#replace-yes")  # for the price of two pictures, which is not the current one
    wait_for_text(page, "#replace-message", "Expected charge: about $0.069.")
    assert not fal.seen
    page.click("#replace-yes", timeout=WAIT)
    page.wait_for_function("document.querySelectorAll('#replace-gallery img').length === 3", timeout=WAIT)
    page.wait_for_selector("#replace-start", timeout=WAIT)
    arguments = fal.jobs[0]["arguments"]
    assert arguments["num_images"] == 3 and arguments["seed"] == 42 and len(fal.jobs) == 1
    assert "seed 42" in page.inner_text("#replace-facts")
    assert pictures(page) == before + 3
    page.locator("#replace-gallery button:has(img)").nth(2).click()
    page.wait_for_selector("#replace-result img[alt='Picture 3 of 3']", timeout=WAIT)
    assert violations(page) == []

    page.reload()
    page.wait_for_function("document.querySelectorAll('#replace-gallery img').length === 3", timeout=WAIT)
    page.wait_for_selector("#replace-result img[alt='Picture 1 of 3']", timeout=WAIT)
    page.wait_for_selector("#replace-photo img", timeout=WAIT)
    assert page.input_value("#replace-prompt textarea") == "a wooden table" and "seed 42" in page.inner_text("#replace-facts")
    page.locator("#replace-gallery button:has(img)").nth(2).click()
    page.wait_for_selector("#replace-result img[alt='Picture 3 of 3']", timeout=WAIT)
    with page.expect_download(timeout=WAIT) as waiting:
        page.click("#replace-save")
    assert Image.open(waiting.value.path()).size == (320, 240) and len(fal.jobs) == 1
