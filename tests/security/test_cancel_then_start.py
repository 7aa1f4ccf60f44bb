"""A cancelled run stays cancelled when another run is started."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rmbg.errors import CancelledError
from rmbg.providers import PROVIDERS
from tests.benchmark.fakes import Fake
from tests.browser import Chromium
from tests.command import save_scene
from tests.conftest import launched, open_app, select_providers
from tests.servers.web import until

pytestmark = pytest.mark.browser

WAIT = 120_000


class Blocking(Fake):
    """Provider that blocks until the test releases it and checks for cancellation only then.

    Attributes
    ----------
    runs : list of dict
        For each run: ``go``, the event that releases it, and ``cancelled``, the value of ``context.cancelled()`` at its end.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.runs: list[dict[str, Any]] = []
        self.blocks = True

    def cut(self, photo: Any, options: Any, context: Any) -> Any:
        run: dict[str, Any] = {"go": threading.Event(), "cancelled": None, "photo": photo.name}
        self.runs.append(run)
        if self.blocks:
            assert run["go"].wait(WAIT / 1000)
        run["cancelled"] = context.cancelled()
        if run["cancelled"]:
            raise CancelledError("Stopped.")
        return super().cut(photo, options, context)


@pytest.fixture(scope="module")
def blocking() -> Iterator[Blocking]:
    fake = Blocking("near")
    PROVIDERS["near"] = fake
    yield fake
    del PROVIDERS["near"]


@pytest.fixture(scope="module")
def own_app(own_data: None, blocking: Blocking) -> Iterator[str]:
    with launched() as url:
        yield url


@pytest.fixture(scope="module")
def visit(chromium: Chromium, own_app: str) -> Iterator[Any]:
    with chromium.visit() as page:
        open_app(page, own_app)
        yield page


@pytest.fixture
def page(visit: Any, blocking: Blocking) -> Iterator[Any]:
    """The page that all tests of this file use, in the Remove tab, after all runs have ended."""
    blocking.runs.clear()
    blocking.blocks = True
    visit.click("button[role=tab]:has-text('Remove')")
    visit.wait_for_selector("#start", timeout=WAIT)
    yield visit
    blocking.blocks = False
    for run in blocking.runs:
        run["go"].set()
    visit.unroute_all(behavior="ignoreErrors")


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    return [save_scene(tmp_path / f"{name}.png") for name in ("first", "second")]


def choose_provider(page: Any) -> None:
    page.click("#provider input")
    page.click("#provider li:has-text('Near')")
    page.wait_for_function("document.querySelector('#provider-line').innerText.length > 0")
    page.wait_for_timeout(500)


def upload(page: Any, field: str, path: Path) -> None:
    if page.is_visible(f"#{field} button[aria-label='Remove Image']"):
        page.click(f"#{field} button[aria-label='Remove Image']")
    elif page.is_visible(f"#{field} button[aria-label='Clear']"):
        page.click(f"#{field} button[aria-label='Clear']")
    page.set_input_files(f"#{field} input[type=file]", str(path))
    page.wait_for_selector(f"#{field} img", timeout=WAIT)
    page.wait_for_timeout(500)


def test_cancelled_removal_is_discarded(page, blocking, photos):
    """A cancelled run that ends after the start of the next one has no result and does not affect it."""
    results = page.locator("#strip img").count()
    upload(page, "photo", photos[0])
    choose_provider(page)
    page.click("#start")
    assert until(lambda: len(blocking.runs) == 1, WAIT / 1000)
    page.click("#cancel")
    page.wait_for_selector("#start", timeout=WAIT)
    page.click("#start")
    page.wait_for_selector("#cancel", timeout=WAIT)
    page.wait_for_timeout(1500)  # the new run waits for the device, or has begun
    blocking.runs[0]["go"].set()
    assert until(lambda: blocking.runs[0]["cancelled"] is not None, WAIT / 1000)
    assert blocking.runs[0]["cancelled"] is True, "the cancelled run was resumed"
    assert until(lambda: len(blocking.runs) == 2, WAIT / 1000)
    page.wait_for_timeout(1500)
    assert page.is_visible("#cancel"), "the end of the cancelled run replaced the cancel button"
    assert page.inner_text("#message").strip() == ""
    blocking.runs[1]["go"].set()
    page.wait_for_selector("#result .stage", timeout=WAIT)
    page.wait_for_selector("#start", timeout=WAIT)
    assert len(blocking.runs) == 2 and blocking.runs[1]["cancelled"] is False
    assert page.locator("#strip img").count() <= results + 1, "one result of one run"


def test_cancelled_comparison_is_discarded(page, blocking, photos):
    """The start button is hidden until the run has ended, so the second click is made by a script."""
    page.click("button[role=tab]:has-text('Compare')")
    page.wait_for_selector("#compare-start", timeout=WAIT)
    upload(page, "compare-photo", photos[0])
    select_providers(page, "compare", "near", "builtin")
    page.click("#compare-start")
    assert until(lambda: len(blocking.runs) == 1, WAIT / 1000)
    page.click("#compare-cancel")
    page.wait_for_timeout(500)
    page.evaluate("document.querySelector('#compare-start') && document.querySelector('#compare-start').click()")
    page.wait_for_timeout(1000)
    blocking.runs[0]["go"].set()
    assert until(lambda: blocking.runs[0]["cancelled"] is not None, WAIT / 1000)
    assert blocking.runs[0]["cancelled"] is True
    page.wait_for_selector("#compare-start", timeout=WAIT)
    known = len(blocking.runs)
    blocking.blocks = False
    time.sleep(0.5)
    page.click("#compare-start")
    assert until(lambda: len(blocking.runs) > known, WAIT / 1000), "the click after the cancelled run begins a new one"
    page.wait_for_selector("#figures th:has-text('Near')", timeout=WAIT)
    page.wait_for_selector("#compare-start", timeout=WAIT)
    assert all(run["cancelled"] is False for run in blocking.runs[known:]) and len(blocking.runs) > known
