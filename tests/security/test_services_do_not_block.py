"""Local networks do not wait for remote services of other visitors, and run one at a time."""

from __future__ import annotations

import contextlib
import queue
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file

from rmbg.providers import PROVIDERS
from rmbg.ui.lanes import SERVICES_AT_ONCE
from tests.benchmark.fakes import Fake, make_dataset
from tests.browser import Chromium
from tests.command import save_scene
from tests.conftest import launched, open_app, select_providers, upload_archive

#: Time limit for calls that must not wait, in seconds.
LONG = 120

#: Concurrent calls of the service, above all limits.
MANY = 6


class Service(Fake):
    """Service whose jobs block until the test releases them."""

    def __init__(self) -> None:
        super().__init__("far", "remote", "0.01")
        self.begun, self.go = threading.Semaphore(0), threading.Event()

    def cut(self, photo: Any, options: Any, context: Any) -> Any:
        self.begun.release()
        assert self.go.wait(2 * LONG)
        return super().cut(photo, options, context)


@pytest.fixture(scope="module")
def providers() -> Iterator[tuple[Fake, Service]]:
    """A local provider that counts its concurrent calls, and a service."""
    local, service = Fake("near", wait=0.05), Service()
    PROVIDERS.update(near=local, far=service)
    yield local, service
    del PROVIDERS["near"], PROVIDERS["far"]


@pytest.fixture
def local(providers: tuple[Fake, Service]) -> Fake:
    return providers[0]


@pytest.fixture
def service(providers: tuple[Fake, Service]) -> Iterator[Service]:
    service = providers[1]
    service.begun, service.go = threading.Semaphore(0), threading.Event()
    yield service
    service.go.set()


@pytest.fixture(scope="module")
def own_app(own_data: None, providers: Any) -> Iterator[str]:
    with launched() as url:
        yield url


@pytest.fixture(autouse=True)
def own_measurements(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Store benchmark results in a folder of the test: a run does not call a provider for a picture that has a result."""
    monkeypatch.setenv("RMBG_DATA", str(tmp_path / "data"))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return save_scene(tmp_path / "mug.png")


@contextlib.contextmanager
def busy(service: Service, *calls: Any) -> Iterator[None]:
    """Keep these calls waiting for the service during the block; then release them and check that each succeeds."""
    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(call) for call in calls]
        try:
            for _ in range(SERVICES_AT_ONCE):
                assert service.begun.acquire(timeout=LONG)
            yield
            assert not any(future.done() for future in futures)
        finally:
            service.go.set()
        for future in futures:
            assert future.result(LONG)


#: Clients that make no call at present. A new one reads the description of the whole API.
IDLE: queue.SimpleQueue[Client] = queue.SimpleQueue()


def client(app: str, folder: Path) -> Client:
    return Client(app, verbose=False, download_files=str(folder))


def result_of(app: str, photo: Path, **call: Any) -> Any:
    """Call the API with a photo as a client that makes no other call at the same time."""
    try:
        caller = IDLE.get_nowait()
    except queue.Empty:
        caller = client(app, photo.parent / "files")
    result = caller.submit(image=handle_file(str(photo)), **call).result(timeout=LONG)
    IDLE.put(caller)
    return result


def remove(app: str, photo: Path, provider: str) -> Any:
    return result_of(app, photo, provider=provider, api_name="/remove_background")


def compare(app: str, photo: Path, providers: str) -> Any:
    table, _ = result_of(app, photo, providers=providers, confirm_paid=True, api_name="/compare")
    assert not any("error" in line for line in table), table
    return table


def test_api_removals_do_not_wait_for_services(own_app, service, photo):
    with busy(service, *[lambda: remove(own_app, photo, "far")] * MANY):
        assert remove(own_app, photo, "near")
        assert compare(own_app, photo, "near")


def test_api_comparisons_do_not_wait_for_services(own_app, service, photo):
    with busy(service, *[lambda: compare(own_app, photo, "near,far")] * MANY):
        assert remove(own_app, photo, "near")
        assert compare(own_app, photo, "near")


def test_local_networks_run_one_at_a_time(own_app, local, photo):
    local.most_at_once = 0
    calls = [(remove, "near"), (compare, "near"), (remove, "near"), (compare, "near,builtin")] * 2
    with ThreadPoolExecutor(len(calls)) as pool:
        results = [pool.submit(call, own_app, photo, names) for call, names in calls]
        assert all(result.result(LONG) for result in results)
    assert local.most_at_once == 1


@pytest.fixture(scope="module")
def other(chromium: Chromium, own_app: str) -> Iterator[Any]:
    """The page of a visitor who does not wait."""
    with chromium.visit() as page:
        open_app(page, own_app)
        yield page


@pytest.fixture(scope="module")
def visit(chromium: Chromium, own_app: str) -> Iterator[Any]:
    """The page of another visitor."""
    with chromium.visit() as page:
        open_app(page, own_app)
        yield page


@pytest.fixture
def waiting(visit: Any, service: Service) -> Iterator[Any]:
    """The page of a visitor who waits for the service until the end of the test."""
    yield visit
    service.go.set()


@pytest.mark.browser
def test_tabs_do_not_wait_for_services(own_app, waiting, other, service, photo, local):
    """While a visitor waits for a service in Compare, another one uses local networks in Benchmark, and then in Remove."""
    begin(waiting, "compare", photo, "near", "far")
    assert service.begun.acquire(timeout=LONG)
    assert remove(own_app, photo, "near")
    begin(other, "benchmark", photo, "near", "builtin")
    other.wait_for_selector("#report iframe", timeout=LONG * 1000)
    assert waiting.is_visible("#compare-cancel")
    open_tab(other, "Remove")
    if other.is_visible("#photo button[aria-label='Remove Image']"):
        other.click("#photo button[aria-label='Remove Image']")
        other.wait_for_selector("#result .empty", timeout=LONG * 1000)
    other.set_input_files("#photo input[type=file]", str(photo))
    other.wait_for_selector("#photo img", timeout=LONG * 1000)
    other.click("#start")
    other.wait_for_selector("#result .stage", timeout=LONG * 1000)
    assert waiting.is_visible("#compare-cancel")


def open_tab(page: Any, name: str) -> None:
    page.click(f"button[role=tab]:has-text('{name}')")


def begin(page: Any, tab: str, photo: Path, *ids: str) -> None:
    """Select providers in Compare or Benchmark and start, with consent if required."""
    prefix = {"compare": "compare", "benchmark": "measure"}[tab]
    open_tab(page, tab.title())
    page.wait_for_selector(f"#{prefix}-start", timeout=LONG * 1000)
    if tab == "compare":
        page.set_input_files("#compare-photo input[type=file]", str(photo))
        page.wait_for_selector("#compare-photo img", timeout=LONG * 1000)
    else:
        archive = zipped(make_dataset(photo.parent / "set", categories=("shop",), count=2))
        upload_archive(page, archive)
    select_providers(page, prefix, *ids)
    page.click(f"#{prefix}-start")
    if "far" in ids:
        page.click(f"#{prefix}-yes", timeout=LONG * 1000)


def zipped(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder.parent / "pictures"), "zip", folder))


def test_cancelled_call_leaves_the_device_queue(own_app, local, photo, monkeypatch):
    """The device is not reserved for a call that was cancelled while waiting."""
    held = threading.Event()
    begun = threading.Event()
    plain = local.cut

    def cut(picture: Any, options: Any, context: Any) -> Any:
        begun.set()
        assert held.wait(LONG)
        return plain(picture, options, context)

    monkeypatch.setattr(local, "cut", cut)
    call = {"provider": "near", "api_name": "/remove_background"}
    one, two = (client(own_app, photo.parent / name) for name in ("one", "two"))
    first = one.submit(image=handle_file(str(photo)), **call)
    assert begun.wait(LONG)
    second = two.submit(image=handle_file(str(photo)), **call)
    time.sleep(1)
    second.cancel()
    third = two.submit(image=handle_file(str(photo)), **call)
    time.sleep(0.5)
    held.set()
    assert first.result(LONG) and third.result(LONG)
