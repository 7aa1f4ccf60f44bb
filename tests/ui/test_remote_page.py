"""Remote providers on the page: keys, options, progress, price, cost, faults, cancellation."""

from __future__ import annotations

import json
import logging
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rmbg.billing import ledger
from rmbg.billing.quote import PRICES
from rmbg.providers import PROVIDERS
from rmbg.settings import Settings
from tests.browser import Chromium
from tests.conftest import open_app
from tests.providers.test_cascade import Guess, only
from tests.remote import PROTOCOLS, environment, picture, short_delays  # noqa: F401
from tests.servers.fal import FAL_FAULTS, Fal
from tests.servers.runware import Runware
from tests.servers.service import KEY, Service
from tests.servers.web import until
from tests.ui.test_page import WAIT, clear, upload

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("short_delays")]

VISITOR_KEY = "visitors-own:key-of-this-visit"


@pytest.fixture
def page(shared_page: Any) -> Any:
    """The shared page with an empty Remove tab and the default provider; what was accepted and spent before stays."""
    shared_page.unroute_all()
    if not shared_page.input_value("#provider input").startswith("Best available"):
        shared_page.click("#provider input")
        shared_page.click("#provider li:has-text('Best available')")
        shared_page.wait_for_selector("#key input[type=password]", state="hidden", timeout=WAIT)
    clear(shared_page)
    return shared_page


@pytest.fixture(scope="module")
def other(chromium: Chromium, app: str) -> Iterator[Any]:
    """The page of another visitor, who has accepted and spent nothing at its first use."""
    with chromium.visit() as page:
        open_app(page, app)
        yield page


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(picture(320, 240))
    return path


def point_to(service: Service, folder: Path, monkeypatch: pytest.MonkeyPatch, **more: str) -> None:
    """Set the environment so that every provider uses `service`."""
    for name, value in environment(service, folder, RMBG_REMOTE_SECONDS="30", **more).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def fal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fal]:
    with Fal() as service:
        service.key = VISITOR_KEY
        point_to(service, tmp_path / "data", monkeypatch)
        yield service


#: Number of the last event after a change of the provider. Gradio sends each of them when the one before is answered.
LAST_CHANGE = """() => {
    const { components, dependencies } = window.gradio_config;
    const { id } = components.find((component) => component.props.elem_id === "provider");
    return dependencies.filter((each) => each.targets.some((target) => String(target) === `${id},change`)).at(-1).id;
}"""


def choose_provider(page: Any, title: str) -> None:
    """Select a provider and wait until the page has handled the change, which invalidates a consent."""
    if not page.input_value("#provider input").startswith(title):
        last = f'"fn_index":{page.evaluate(LAST_CHANGE)},'
        with page.expect_response(lambda response: last in (response.request.post_data or ""), timeout=WAIT):
            page.click("#provider input")
            page.click(f"#provider li:has-text('{title}')")
    page.wait_for_function(
        "title => document.querySelector('#provider input').value.startsWith(title)", arg=title, timeout=WAIT
    )
    page.wait_for_selector("#key input[type=password]", timeout=WAIT)


def run(page: Any, service: Service, path: Path, title: str, key: str = "") -> None:
    """Start a paid run with a photo, and accept its cost."""
    upload(page, path)
    start(page, service, title, key)


def start(page: Any, service: Service, title: str, key: str = "") -> None:
    """Start a paid run with the photo on the page, and accept its cost."""
    choose_provider(page, title)
    if key:
        page.fill("#key input", key)
    page.evaluate("document.querySelectorAll('#message .notice').forEach((old) => old.classList.add('old'))")
    page.click("#start")
    message = page.locator("#message .notice:not(.old)")
    # Without a question, the cost was accepted earlier in this visit.
    assert until(lambda: bool(service.seen) or message.count() > 0, WAIT / 1000)
    if message.count() and "Expected charge" in message.inner_text():
        page.click("#remove-yes", timeout=WAIT)


def spent(page: Any, pattern: str) -> int:
    """Return the number that is the group of a pattern in the total of the session; 0 without a match."""
    found = re.search(pattern, page.inner_text("#total"))
    return int(found[1]) if found else 0


def outcome(page: Any) -> str:
    """Return the final message on the page, which replaces the request for consent."""
    page.wait_for_function(
        "(text => text && !text.includes('Expected charge'))(document.querySelector('#message .notice')?.innerText)",
        timeout=WAIT,
    )
    return page.inner_text("#message .notice")


def test_services_run_end_to_end(page, photo, tmp_path, monkeypatch):
    upload(page, photo)
    for count, protocol in enumerate(("Runware", "remove.bg", "Pixian"), 1):  # with a charged, a listed and an unknown cost
        with PROTOCOLS[protocol].server() as service:
            point_to(service, tmp_path, monkeypatch)
            title = PROVIDERS[PROTOCOLS[protocol].provider].info.title
            start(page, service, title)
            page.wait_for_function("n => document.querySelectorAll('#strip img').length === n", arg=count, timeout=WAIT)
            page.wait_for_selector("#start", timeout=WAIT)
            assert len(service.jobs) == 1
            known = PRICES[PROTOCOLS[protocol].provider].usd is not None
            facts = page.inner_text("#facts")
            assert title in facts and ("for 100,000 a month" if known else "cost unknown") in facts
            line = next(line for line in page.inner_text("#total").split(";") if title in line)
            assert "charged" in line or "listed" in line or ("unknown cost" in line and not known)


def test_key_of_the_visitor_is_used_and_not_stored(other, fal, photo, app, tmp_path, caplog):
    """The key is not in the page, browser storage, config, API schema, URLs, logs or files."""
    page = other
    caplog.set_level(logging.DEBUG)
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url))
    upload(page, photo)
    choose_provider(page, "fal: RMBG 2.0")
    page.wait_for_function("document.querySelector('#provider-line').innerText.includes('$1,800 for 100,000 a month')")
    page.fill("#key input", VISITOR_KEY)
    page.click("#advanced-fal-rmbg-2\\.0 button")
    # The value is in the request of this change, not in that of the start.
    with page.expect_response(lambda response: '"data":[null,false]' in (response.request.post_data or ""), timeout=WAIT):
        page.click("#option-sync_mode input")
    page.click("#start")
    page.click("#remove-yes", timeout=WAIT)
    page.wait_for_selector("#result .stage", timeout=WAIT)
    assert fal.jobs[0]["arguments"]["sync_mode"] is False, "the option was changed"
    assert "$0.018 charged, $1,800 for 100,000 a month" in page.inner_text("#facts")
    assert "fal: RMBG 2.0: 1 picture, $0.018 charged" in page.inner_text("#total")
    assert ledger.of(Settings.from_environ()).spent_today() == 0, "calls with the visitor's key do not count"
    page.wait_for_selector("#start", timeout=WAIT)
    storage = page.evaluate(
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, document.body.outerHTML])"
    )
    config = urllib.request.urlopen(f"{app}/config").read().decode()
    schema = urllib.request.urlopen(f"{app}/gradio_api/info").read().decode()
    texts = [storage, config, schema, caplog.text, *urls, *(r.getMessage() for r in caplog.records)]
    texts += [path.read_bytes().decode("latin1") for path in tmp_path.rglob("*") if path.is_file()]
    for secret in (VISITOR_KEY, KEY, *VISITOR_KEY.split(":"), *KEY.split(":")):
        assert not any(secret in text for text in texts)
    assert '"key"' not in json.dumps(json.loads(schema)["named_endpoints"])


def test_cancellation_before_the_queue_is_joined_sends_nothing(page, fal, photo):
    """The request that joins the queue is delayed until after the click on Cancel."""
    delayed: list[Any] = []
    run(page, fal, photo, "fal: RMBG 2.0", VISITOR_KEY)
    page.wait_for_selector("#result .stage", timeout=WAIT)
    page.wait_for_selector("#start", timeout=WAIT)
    page.route("**/queue/join*", lambda route: route.continue_() if delayed else delayed.append(route))
    page.click("#start")
    page.click("#cancel", timeout=WAIT)
    assert outcome(page).startswith("Stopped")
    assert delayed, "the removal was requested"
    delayed[0].continue_()
    page.wait_for_timeout(2000)
    assert len(fal.jobs) == 1 and outcome(page).startswith("Stopped")
    page.wait_for_selector("#start", timeout=WAIT)
    page.click("#start")
    page.wait_for_function("document.querySelectorAll('#strip img').length === 2", timeout=WAIT)
    assert len(fal.jobs) == 2


def test_full_queue_restores_the_start_button(page, fal, photo):
    upload(page, photo)
    choose_provider(page, "fal: RMBG 2.0")
    page.wait_for_timeout(500)
    page.route("**/queue/join*", lambda route: route.fulfill(status=503, json={"detail": "Queue is full!"}))
    page.click("#start")
    page.wait_for_selector("#start", timeout=WAIT)
    page.wait_for_selector("#cancel", state="hidden", timeout=WAIT)
    assert not fal.jobs


def test_missing_key_is_reported(page, fal, photo, monkeypatch):
    monkeypatch.delenv("FAL_KEY")
    upload(page, photo)
    choose_provider(page, "fal: RMBG 2.0")
    page.click("#start")
    assert outcome(page) == "fal needs a key. Enter your own."
    monkeypatch.setenv("FAL_KEY", KEY)
    monkeypatch.setenv("RMBG_SHARED", "1")
    page.click("#start")
    page.wait_for_function("document.querySelector('#message').innerText.includes('needs your own key here')")
    assert not fal.seen


def test_service_faults_are_one_sentence_on_the_page(page, fal, photo):
    names, unknown = ("401", "422 with the picture", "gateway error page"), 0
    pattern = r"fal: RMBG 2.0: [^;]*?(\d+) pictures? at unknown cost"
    before = spent(page, pattern)
    for count, name in enumerate(names, 1):
        fal.faults["stored"] = FAL_FAULTS[name]
        if count == 1:
            run(page, fal, photo, "fal: RMBG 2.0", VISITOR_KEY)
        else:
            page.click("#start")  # the cost is accepted for this visit; the last message is cleared before the photo is sent
        assert until(lambda count=count: len(fal.jobs) == count, WAIT / 1000), name
        text = outcome(page)
        page.wait_for_selector("#start", timeout=WAIT)
        assert len(fal.jobs) == count and VISITOR_KEY not in text and len(text) < 250, name
        assert text.endswith(("Nothing was charged.", "You may have been charged $0.018.")), name
        if "may have been" in text:
            unknown += 1
            assert until(lambda count=before + unknown: spent(page, pattern) == count, WAIT / 1000)
    assert unknown, "some of the faults leave the charge unknown"


def test_progress_and_cancellation_of_a_queued_job(page, fal, photo):
    fal.polls = 100_000
    run(page, fal, photo, "fal: RMBG 2.0", VISITOR_KEY)
    page.wait_for_function('document.body.innerText.includes("Waiting in fal\'s queue")', timeout=WAIT)
    page.click("#cancel")
    assert outcome(page) == "Stopped. You may have been charged $0.018."
    assert until(lambda: len(fal.cancelled) == 1) and len(fal.jobs) == 1
    page.wait_for_selector("#start", timeout=WAIT)


def test_cascade_names_its_services_and_the_costs_of_its_steps(page, photo, tmp_path, monkeypatch):
    doubtful = Guess()
    doubtful.info = PROVIDERS["builtin"].info
    monkeypatch.setitem(PROVIDERS, "builtin", doubtful)
    pattern = r"Runware: BiRefNet: (\d+) picture"
    before = spent(page, pattern)
    with Runware() as service:
        point_to(service, tmp_path / "data", monkeypatch, **only("RUNWARE_API_KEY"))
        upload(page, photo)
        page.click("#provider input")
        page.click("#provider li:has-text('Cascade')")
        page.wait_for_selector("#options-cascade", timeout=WAIT)
        assert not page.locator("#key input").is_visible(), "the services use the keys of the server"
        page.click("#start")
        page.wait_for_selector("#remove-yes", timeout=WAIT)
        text = page.inner_text("#message")
        steps = "Built-in (free), then Runware: BiRefNet ($0.0006), then Runware: RMBG 2.0 ($0.018)"
        assert f"to Cascade: {steps}." in text and "at most $0.019" in text
        page.click("#remove-yes")
        page.wait_for_selector("#result .stage", timeout=WAIT)
        facts = page.inner_text("#facts")
        assert "Answered by Runware: BiRefNet. Built-in: confidence 0.40" in facts and "$0.0006 charged" in facts
        assert spent(page, pattern) == before + 1
        assert len(service.jobs) == 1
