"""The Benchmark tab in Chromium: zip upload, consent, report, cancellation, errors."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rmbg.providers import PROVIDERS
from tests.benchmark.fakes import Fake, make_dataset
from tests.browser import Chromium
from tests.conftest import launched, open_app, select_providers, upload_archive

pytestmark = pytest.mark.browser

WAIT = 60_000


@pytest.fixture(scope="module")
def fakes() -> Iterator[dict[str, Fake]]:
    providers = [Fake("near"), Fake("far", "remote", "0.02"), Fake("slow", wait=60.0)]
    PROVIDERS.update({fake.info.id: fake for fake in providers})
    yield {fake.info.id: fake for fake in providers}
    for fake in providers:
        del PROVIDERS[fake.info.id]


@pytest.fixture(scope="module")
def own_app(own_data: None, fakes: dict[str, Fake]) -> Iterator[str]:
    with launched() as url:
        yield url


@pytest.fixture(scope="module")
def visit(chromium: Chromium, own_app: str) -> Iterator[Any]:
    """The page that the tests of this file share; test_theme.py checks the tab with axe-core."""
    with chromium.visit() as page:
        open_app(page, own_app)
        page.click("button[role=tab]:has-text('Benchmark')")
        page.wait_for_selector("#measure-start", timeout=WAIT)
        yield page


@pytest.fixture
def page(visit: Any, fakes: dict[str, Fake], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The shared page without a zip."""
    # A run does not call a provider for a picture that has a result in the data folder.
    monkeypatch.setenv("RMBG_DATA", str(tmp_path / "data"))
    for fake in fakes.values():
        fake.calls.clear()
    visit.unroute_all()
    if visit.is_visible("#dataset-zip button[aria-label='Clear']"):
        visit.click("#dataset-zip button[aria-label='Clear']")
        visit.wait_for_selector("#dataset-zip [data-testid=download-link]", state="detached", timeout=WAIT)
    return visit


def archive(tmp_path: Path, categories: tuple[str, ...]) -> Path:
    root = make_dataset(tmp_path / "chairs", categories=categories, count=2)
    path = tmp_path / "chairs.zip"
    with zipfile.ZipFile(path, "w") as out:
        for file in root.rglob("*.png"):
            out.write(file, file.relative_to(root).as_posix())
    return path


def choose(page: Any, path: Path, *ids: str) -> None:
    upload_archive(page, path)
    select_providers(page, "measure", *ids)


def wait_for_message(page: Any, text: str) -> None:
    page.wait_for_function(
        "text => document.querySelector('#measure-message').innerText.includes(text)", arg=text, timeout=WAIT
    )


def test_zip_to_report_and_second_run_without_charge(page, fakes, tmp_path):
    choose(page, archive(tmp_path, ("shop", "people")), "near", "far")
    page.click("#measure-start")
    wait_for_message(page, "expected to cost about $0.08")
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
    assert not page.is_visible("#measure-yes"), "all photos are measured, so no consent is needed"
    assert len(fakes["far"].calls) == 4


def test_run_can_be_cancelled_and_restarted(page, fakes, tmp_path):
    choose(page, archive(tmp_path, ("shop",)), "slow")
    page.click("#measure-start")
    page.wait_for_selector("#measure-cancel", timeout=WAIT)
    page.wait_for_function("document.body.innerText.includes('Slow 0 of 2')", timeout=WAIT)
    delayed: list[Any] = []
    page.route("**/predict*", lambda route: delayed.append((route, route.fetch())) if not delayed else route.continue_())
    page.click("#measure-cancel")
    wait_for_message(page, "The results so far are kept")
    page.wait_for_selector("#measure-start", timeout=WAIT)
    (late, response), *_ = delayed  # the response to the click itself arrives last
    late.fulfill(response=response)
    page.wait_for_timeout(500)
    wait_for_message(page, "The results so far are kept")
    page.click("#measure-start")
    page.wait_for_selector("#measure-cancel:has-text('Cancel'):enabled", timeout=WAIT)
    page.click("#measure-cancel")
    wait_for_message(page, "Stopped")


def test_missing_or_invalid_zip_is_reported(page, tmp_path):
    page.click("#dataset label:has-text('My own zip')")
    page.click("#measure-start")
    wait_for_message(page, "Choose a zip first.")
    path = tmp_path / "other.zip"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("readme.txt", "hello")
    choose(page, path, "near")
    page.click("#measure-start")
    wait_for_message(page, "is not a data set. A data set has folders CATEGORY/im")
