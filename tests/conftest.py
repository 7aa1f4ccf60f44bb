"""The app on a free port of this machine, and a real Chromium to look at it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

# Before anything reads them: nothing of the machine's own settings or proxies reaches a test.
for name in [n for n in os.environ if n.startswith("RMBG_") or n.lower() in ("http_proxy", "https_proxy", "all_proxy")]:
    del os.environ[name]
os.environ["NO_PROXY"] = "*"


@pytest.fixture(scope="session", autouse=True)
def own_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What outlives the process, and Gradio's temporary files, go to a folder of the tests."""
    folder = tmp_path_factory.mktemp("data")
    os.environ["RMBG_DATA"] = str(folder)
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "gradio")
    yield


@pytest.fixture(scope="session")
def app(own_data: None) -> Iterator[str]:
    """The address of the running app: the real one, started as `serve` starts it."""
    from rmbg import ui

    os.environ["RMBG_RESULT_HOSTS"] = "127.0.0.1"
    blocks = ui.launch(host="127.0.0.1", prevent_thread_lock=True, quiet=True)
    yield f"http://127.0.0.1:{blocks.server_port}"
    blocks.close(verbose=False)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    from tests.browser import arguments, executable

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=arguments())
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any, app: str) -> Iterator[Any]:
    """The app's page, freshly opened by a visitor of its own."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900}, accept_downloads=True)
    page = context.new_page()
    open_app(page, app)
    yield page
    context.close()


def open_app(page: Any, address: str) -> None:
    """Open the app and wait until it can be used."""
    page.goto(address)
    page.wait_for_selector("#photo input[type=file]", state="attached", timeout=30_000)
    page.wait_for_selector("#start")
