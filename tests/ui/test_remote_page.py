"""Services on the page: key, options, progress, price before, cost after, faults, the stop button; and no key left anywhere."""

from __future__ import annotations

import json
import logging
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rmbg import ledger
from rmbg.providers import PROVIDERS
from rmbg.settings import Settings
from tests.conftest import open_app
from tests.remote import WAYS, environment, hurry, picture  # noqa: F401
from tests.servers.fal import FAL_FAULTS, Fal
from tests.servers.service import KEY, Service
from tests.servers.web import until
from tests.ui.test_page import WAIT, Slow, upload

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("hurry")]

OWN = "visitors-own:key-of-this-visit"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(picture(320, 240))
    return path


def point_to(service: Service, folder: Path, monkeypatch: pytest.MonkeyPatch, **more: str) -> None:
    for name, value in environment(service, folder, RMBG_REMOTE_SECONDS="30", **more).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def fal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fal]:
    with Fal() as service:
        service.key = OWN
        point_to(service, tmp_path / "data", monkeypatch)
        yield service


def choose_provider(page: Any, title: str) -> None:
    page.click("#provider input")
    page.click(f"#provider li:has-text('{title}')")
    page.wait_for_selector("#key input[type=password]", timeout=WAIT)


def run(page: Any, path: Path, title: str, key: str = "") -> None:
    upload(page, path)
    choose_provider(page, title)
    if key:
        page.fill("#key input", key)
    page.click("#start")


def outcome(page: Any) -> str:
    """The sentence of a failure."""
    page.wait_for_selector("#message .notice", timeout=WAIT)
    return page.inner_text("#message .notice")


@pytest.mark.parametrize("way", [way for way in WAYS if way != "fal direct"])
def test_each_service_end_to_end(page, photo, tmp_path, monkeypatch, way):
    provider, _, server, _ = WAYS[way]
    with server() as service:
        point_to(service, tmp_path, monkeypatch)
        run(page, photo, PROVIDERS[provider].info.title)
        page.wait_for_selector("#result .stage", timeout=WAIT)
        assert len(service.jobs) == 1
        assert "for 100,000 a month" in page.inner_text("#facts")
        assert "charged" in page.inner_text("#total") or "listed" in page.inner_text("#total")


def test_a_key_for_this_visit(page, fal, photo, app, tmp_path, caplog):
    """The visitor's own key is used, its cost shown, and then it is nowhere: not in pages, stores, addresses or logs."""
    caplog.set_level(logging.DEBUG)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    upload(page, photo)
    choose_provider(page, "fal: RMBG 2.0")
    page.wait_for_function("document.querySelector('#provider-line').innerText.includes('$1,800 for 100,000 a month')")
    page.fill("#key input", OWN)
    page.click("#options-fal-rmbg-2\\.0 button")
    page.click("#option-sync_mode input")
    page.wait_for_timeout(300)
    page.click("#start")
    page.wait_for_selector("#result .stage", timeout=WAIT)
    assert fal.jobs[0]["arguments"]["sync_mode"] is False, "the option was changed"
    assert "$0.018 charged, $1,800 for 100,000 a month" in page.inner_text("#facts")
    assert "fal: RMBG 2.0: 1 picture, $0.018 charged" in page.inner_text("#total")
    assert ledger.of(Settings.from_environ()).spent_today() == 0, "that was not the owner's money"
    page.wait_for_selector("#start", timeout=WAIT)
    stores = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, document.body.outerHTML])")
    config = urllib.request.urlopen(f"{app}/config").read().decode()
    schema = urllib.request.urlopen(f"{app}/gradio_api/info").read().decode()
    left = [stores, config, schema, caplog.text, *sent, *(r.getMessage() for r in caplog.records)]
    left += [path.read_bytes().decode("latin1") for path in tmp_path.rglob("*") if path.is_file()]
    for secret in (OWN, KEY, *OWN.split(":"), *KEY.split(":")):
        assert not any(secret in text for text in left)
    assert '"key"' not in json.dumps(json.loads(schema)["named_endpoints"])


def test_a_service_does_not_wait_for_this_machine(page, chromium, app, fal, photo, monkeypatch):
    """One visitor works on this machine for a long time, another one asks a service meanwhile."""
    slow = Slow()
    monkeypatch.setattr(Slow, "begun", threading.Event())
    monkeypatch.setattr(Slow, "stopped", threading.Event())
    monkeypatch.setitem(PROVIDERS, "builtin", slow)
    upload(page, photo)
    page.click("#start")
    assert slow.begun.wait(30)
    context = chromium.new_context()
    try:
        other = context.new_page()
        open_app(other, app)
        run(other, photo, "fal: RMBG 2.0", OWN)
        other.wait_for_selector("#result .stage", timeout=WAIT)
        assert not slow.stopped.is_set() and page.is_visible("#cancel")
    finally:
        context.close()
    page.click("#cancel")
    assert slow.stopped.wait(30)


def test_who_stops_at_once_pays_nothing(page, fal, photo):
    """Cancel between the click on start and the moment when the removal begins: here the way into the queue is slow."""
    held: list[Any] = []
    upload(page, photo)
    choose_provider(page, "fal: RMBG 2.0")
    page.fill("#key input", OWN)
    page.wait_for_timeout(500)
    page.route("**/queue/join*", lambda route: route.continue_() if held else held.append(route))
    page.click("#start")
    page.click("#cancel")
    assert outcome(page).startswith("Stopped")
    assert held, "the removal was on its way"
    held[0].continue_()
    page.wait_for_timeout(2000)
    assert not fal.jobs and outcome(page).startswith("Stopped")
    page.wait_for_selector("#start", timeout=WAIT)
    page.click("#start")
    page.wait_for_selector("#result .stage", timeout=WAIT)
    assert len(fal.jobs) == 1


def test_a_full_queue_gives_the_button_back(page, fal, photo):
    upload(page, photo)
    choose_provider(page, "fal: RMBG 2.0")
    page.wait_for_timeout(500)
    page.route("**/queue/join*", lambda route: route.fulfill(status=503, json={"detail": "Queue is full!"}))
    page.click("#start")
    page.wait_for_selector("#start", timeout=WAIT)
    page.wait_for_selector("#cancel", state="hidden", timeout=WAIT)
    assert not fal.jobs


def test_without_a_key_the_page_says_what_is_needed(page, fal, photo, monkeypatch):
    monkeypatch.delenv("FAL_KEY")
    run(page, photo, "fal: RMBG 2.0")
    assert outcome(page) == "fal needs a key: give one, or set FAL_KEY."
    monkeypatch.setenv("FAL_KEY", KEY)
    monkeypatch.setenv("RMBG_SHARED", "1")
    page.click("#start")
    page.wait_for_function("document.querySelector('#message').innerText.includes('needs your own key here')")
    assert not fal.seen


def test_the_budget_of_the_servers_keys(page, fal, photo, monkeypatch):
    fal.key = KEY
    for name, value in {"RMBG_SHARED": "1", "RMBG_SERVER_KEYS": "1", "RMBG_DAILY_BUDGET_USD": "0.01"}.items():
        monkeypatch.setenv(name, value)
    run(page, photo, "fal: RMBG 2.0")
    assert "The limit of $0.01 a day for the keys of this server is reached" in outcome(page)
    assert not fal.seen


@pytest.mark.parametrize("name", ["401", "no balance", "422 with the picture", "page of a gateway", "dropped connection"])
def test_faults_are_one_sentence_on_the_page(page, fal, photo, name):
    fal.faults["stored"] = FAL_FAULTS[name]
    run(page, photo, "fal: RMBG 2.0", OWN)
    text = outcome(page)
    assert len(fal.jobs) == 1 and OWN not in text and len(text) < 250
    assert text.endswith(("Nothing was charged.", "You may have been charged $0.018."))
    if "may have been" in text:
        assert "1 picture at unknown cost" in page.inner_text("#total")


def test_progress_and_the_stop_button(page, fal, photo):
    fal.polls = 100_000
    run(page, photo, "fal: RMBG 2.0", OWN)
    page.wait_for_function('document.body.innerText.includes("Waiting in fal\'s queue")', timeout=WAIT)
    page.click("#cancel")
    assert outcome(page) == "Stopped. You may have been charged $0.018."
    assert until(lambda: len(fal.cancelled) == 1) and len(fal.jobs) == 1
    page.wait_for_selector("#start", timeout=WAIT)


def test_replacing_a_background(page, fal, photo):
    page.click("button[role=tab]:has-text('Replace')")
    page.set_input_files("#replace-photo input[type=file]", str(photo))
    page.wait_for_selector("#replace-photo img", timeout=WAIT)
    page.fill("#replace-key input", OWN)
    page.click("#replace-start")
    page.wait_for_selector("#replace-message .notice", timeout=WAIT)
    assert "either a prompt or a reference picture" in page.inner_text("#replace-message") and not fal.seen
    page.fill("#replace-prompt textarea", "a wooden table")
    page.click("#options-fal-replace button")
    page.wait_for_timeout(800)  # what is filled in before the boxes have settled is taken back
    page.fill("#option-seed input, #option-seed textarea", "42")
    page.fill("#option-num_images input[type=number]", "3")
    page.keyboard.press("Tab")
    page.wait_for_function("document.querySelector('#replace-price').innerText.includes('$0.069')")
    page.wait_for_timeout(300)
    page.click("#replace-start")
    page.wait_for_function("document.querySelectorAll('#replace-gallery img').length >= 3", timeout=WAIT)
    assert "seed 42" in page.inner_text("#replace-facts")
    assert "fal: Background Replace: 3 pictures" in page.inner_text("#replace-total")
    arguments = fal.jobs[0]["arguments"]
    assert arguments["prompt"] == "a wooden table" and arguments["num_images"] == 3 and len(fal.jobs) == 1
