"""The Benchmark tab in a real browser: a zip in, a report out, nothing paid without a yes."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rmbg.providers import PROVIDERS
from tests.benchmark.fakes import Fake, make_dataset
from tests.conftest import open_app

pytestmark = pytest.mark.browser

WAIT = 60_000


@pytest.fixture(scope="module")
def fakes() -> Iterator[dict[str, Fake]]:
    made = [Fake("near"), Fake("far", "remote", "0.02"), Fake("slow", wait=60.0)]
    PROVIDERS.update({fake.info.id: fake for fake in made})
    yield {fake.info.id: fake for fake in made}
    for fake in made:
        del PROVIDERS[fake.info.id]


@pytest.fixture(scope="module")
def own_app(own_data: None, fakes: dict[str, Fake]) -> Iterator[str]:
    from rmbg import ui

    blocks = ui.launch(host="127.0.0.1", prevent_thread_lock=True, quiet=True)
    yield f"http://127.0.0.1:{blocks.server_port}"
    blocks.close(verbose=False)


@pytest.fixture
def page(chromium: Any, own_app: str, fakes: dict[str, Fake]) -> Iterator[Any]:
    for fake in fakes.values():
        fake.calls.clear()
    context = chromium.new_context(viewport={"width": 1440, "height": 900}, accept_downloads=True)
    page = context.new_page()
    open_app(page, own_app)
    page.click("button[role=tab]:has-text('Benchmark')")
    page.wait_for_selector("#measure-start", timeout=WAIT)
    yield page
    context.close()


def archive(tmp_path: Path, categories: tuple[str, ...]) -> Path:
    root = make_dataset(tmp_path / "chairs", categories=categories, count=2)
    path = tmp_path / "chairs.zip"
    with zipfile.ZipFile(path, "w") as out:
        for file in root.rglob("*.png"):
            out.write(file, file.relative_to(root).as_posix())
    return path


def choose(page: Any, path: Path, *ids: str) -> None:
    page.click("#dataset label:has-text('My own zip')")
    page.set_input_files("#dataset-zip input[type=file]", str(path))
    page.wait_for_selector(f"#dataset-zip :text('{path.stem}')", timeout=WAIT)
    for name in PROVIDERS:
        box = page.locator(f"[id='measure-{name}'] input")
        if box.is_enabled() and box.is_checked() != (name in ids):
            box.click()


def said(page: Any, words: str) -> None:
    page.wait_for_function(
        "words => document.querySelector('#measure-message').innerText.includes(words)", arg=words, timeout=WAIT
    )


def test_from_a_zip_to_a_report_and_nothing_paid_twice(page, fakes, tmp_path):
    choose(page, archive(tmp_path, ("shop", "people")), "near", "far")
    page.click("#measure-start")
    said(page, "expected to cost about $0.08")
    assert not fakes["far"].calls
    page.click("#measure-yes")
    page.wait_for_selector("iframe.report", timeout=WAIT)
    frame = page.frame_locator("iframe.report")
    text = frame.locator("main").inner_text()
    assert "Benchmark: chairs" in text and "Leaderboard" in text and "Published elsewhere, not measured here" in text
    with page.expect_download(timeout=WAIT) as waiting:
        page.click("#report-json")
    waiting.value.save_as(tmp_path / "results.json")
    assert waiting.value.suggested_filename == "chairs-results.json"
    assert {row["provider"] for row in json.loads((tmp_path / "results.json").read_text())["leaderboard"]} == {"near", "far"}
    assert len(fakes["far"].calls) == 4
    page.wait_for_selector("#measure-start", timeout=WAIT)
    page.click("#measure-start")
    page.wait_for_selector("#measure-start", state="visible", timeout=WAIT)
    page.wait_for_timeout(500)
    assert not page.is_visible("#measure-yes"), "all is measured, so nothing is asked"
    assert len(fakes["far"].calls) == 4


def test_a_run_can_be_stopped(page, fakes, tmp_path):
    choose(page, archive(tmp_path, ("shop",)), "slow")
    page.click("#measure-start")
    page.wait_for_selector("#measure-cancel", timeout=WAIT)
    page.wait_for_function("document.body.innerText.includes('Slow 0 of 2')", timeout=WAIT)
    held: list[Any] = []
    page.route("**/predict*", lambda route: held.append((route, route.fetch())) if not held else route.continue_())
    page.click("#measure-cancel")
    said(page, "What had come is kept")
    page.wait_for_selector("#measure-start", timeout=WAIT)
    (late, answer), *_ = held  # the answer to the click itself comes last
    late.fulfill(response=answer)
    page.wait_for_timeout(500)
    said(page, "What had come is kept")
    page.click("#measure-start")
    page.wait_for_selector("#measure-cancel:has-text('Cancel'):enabled", timeout=WAIT)
    page.click("#measure-cancel")
    said(page, "Stopped")


def test_what_is_wrong_is_said(page, tmp_path):
    page.click("#dataset label:has-text('My own zip')")
    page.click("#measure-start")
    said(page, "Choose a zip first.")
    path = tmp_path / "other.zip"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("readme.txt", "hello")
    choose(page, path, "near")
    page.click("#measure-start")
    said(page, "is no data set: it needs folders CATEGORY/im")


def test_accessible(page):
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]})
    assert not found.violations_count, found.generate_report()
