"""Shared fixtures: the running app on a free port, Chromium, and the command line in this process."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx._transports.default
import pytest
from hypothesis import settings

from tests.browser import Chromium
from tests.processes import share_server

# Before rmbg is imported: settings and proxies of the machine must not affect the tests.
for name in [n for n in os.environ if n.startswith("RMBG_") or n.lower() in ("http_proxy", "https_proxy", "all_proxy")]:
    del os.environ[name]
os.environ["NO_PROXY"] = "*"
os.environ["RMBG_PLUGINS"] = ""  # those that are installed here
# Gradio sets it when it builds the page. Commands would no longer be forked from then on (see tests.processes).
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "True"

# Each client of httpx loads the certificates of the machine, which takes 30 ms and which the loopback servers do not need.
httpx._transports.default.create_ssl_context = functools.cache(httpx._transports.default.create_ssl_context)

# nohup ignores the signal, and child processes would inherit that.
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


# The same examples in each run, without a time limit for one of them.
settings.register_profile("tests", derandomize=True, deadline=None, database=None, max_examples=60)
settings.load_profile("tests")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run the tests that take more than a minute")


def pytest_configure(config: pytest.Config) -> None:
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        share_server()  # before pytest-xdist starts its processes


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two more processes than cores, as tests wait for servers and browsers part of the time."""
    return (os.cpu_count() or 1) + 2


#: Folders with long test files. They run first, so that no process of pytest-xdist is left with a long file at the end.
LONG_FOLDERS = ("security", "ui", "batch", "providers", "networks", "inference", "cli", "benchmark")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONG_FOLDERS)}
    items.sort(key=lambda item: order.get(item.path.parent.name, len(order)))
    for item in items:
        if "long" in item.keywords:
            item.add_marker(pytest.mark.timeout(0))
            if not config.getoption("--long"):
                item.add_marker(pytest.mark.skip(reason="takes more than a minute; run with --long"))


@pytest.fixture(scope="session", autouse=True)
def own_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Redirect the data folder and Gradio's temporary files to a folder of the test session."""
    folder = tmp_path_factory.mktemp("data")
    os.environ["RMBG_DATA"] = str(folder)
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "gradio")
    yield


@contextlib.contextmanager
def launched() -> Iterator[str]:
    """Run the app in this process, as ``rmbg serve`` does; yields its URL."""
    from rmbg.ui import app

    blocks = app.launch(host="127.0.0.1", prevent_thread_lock=True, quiet=True)
    yield f"http://127.0.0.1:{blocks.server_port}"
    blocks.close(verbose=False)


@pytest.fixture(scope="session")
def app(own_data: None) -> Iterator[str]:
    """The app that tests without providers of their own share."""
    with launched() as url:
        yield url


@pytest.fixture
def disc(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Register the provider `tests.disc.Disc` as ``disc`` and return it."""
    from rmbg.providers import PROVIDERS
    from tests.disc import Disc

    provider = Disc()
    monkeypatch.setitem(PROVIDERS, "disc", provider)
    return provider


@pytest.fixture
def rmbg(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process; returns exit status, standard output and standard error."""
    from rmbg.__main__ import main

    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code
        return (status, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    """One Chromium for the whole test session."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = Chromium(playwright)
        yield chromium
        chromium.close()


@pytest.fixture
def page(chromium: Chromium, app: str) -> Iterator[Any]:
    """The page of the app for a new visitor."""
    with chromium.visit() as page:
        open_app(page, app)
        yield page


@pytest.fixture(scope="module")
def shared_page(chromium: Chromium, app: str) -> Iterator[Any]:
    """The page of a visitor that the tests of a file share; each of them restores or clears what it uses."""
    with chromium.visit() as page:
        open_app(page, app)
        yield page


def open_app(page: Any, address: str, *, at_once: bool = False) -> None:
    """Open the app and wait until its inputs are ready; `at_once` is the choice whether a photo starts a removal by itself."""
    if not at_once:
        page.add_init_script("try { localStorage.setItem('rmbg-at-once', 'off') } catch {}")
    page.goto(address)
    page.wait_for_selector("#photo input[type=file]", state="attached", timeout=30_000)
    page.wait_for_selector("#start")
    page.wait_for_function(
        f"document.querySelector('#at-once input')?.checked === {'true' if at_once else 'false'}", timeout=60_000
    )


def select_providers(page: Any, tab: str, *ids: str) -> None:
    """Select these providers, and no others, in Compare (`tab` is ``compare``) or Benchmark (``measure``)."""
    from rmbg.providers import PROVIDERS

    field = page.locator(f"#{tab}-providers")
    if field.locator(".token").count():
        field.locator(".remove-all").click()
    for name in ids:
        field.locator("input").click()
        title = PROVIDERS[name].info.title
        field.locator(f"li[aria-label='{title}'], li[aria-label^='{title} ·']").click()
    page.keyboard.press("Escape")
    page.wait_for_function(
        "([selector, count]) => document.querySelectorAll(selector).length === count",
        arg=[f"#{tab}-providers .token", len(ids)],
        timeout=60_000,
    )


def upload_archive(page: Any, path: Path) -> None:
    """Choose a zip in the Benchmark tab and wait until the upload has ended.

    Gradio shows the file's name during the upload already, but a click on the start button sends no file then.
    """
    page.click("#dataset label:has-text('My own zip')")
    page.set_input_files("#dataset-zip input[type=file]", str(path))
    page.wait_for_selector("#dataset-zip [data-testid=download-link]", timeout=120_000)
