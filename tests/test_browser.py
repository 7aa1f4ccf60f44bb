"""Visits in one Chromium are independent, and one that hangs is replaced."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.servers.web import Web

# Tests of the helpers of tests: they change with them, and with Chromium.
pytestmark = [pytest.mark.browser, pytest.mark.long]

STATE = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"


@pytest.fixture
def address() -> Iterator[str]:
    """Address of a page that takes some time to load."""
    with Web({"/": lambda exchange: exchange.send(200, b"<!doctype html><p>text" * 2000, "text/html")}) as web:
        yield web.url


def test_visits_share_no_state(chromium, address):
    for _ in range(2):
        with chromium.visit(viewport={"width": 300, "height": 200}, color_scheme="dark") as page:
            page.goto(address)
            assert page.evaluate(STATE) == '[{},{},""]'
            assert page.evaluate("[innerWidth, matchMedia('(prefers-color-scheme: dark)').matches]") == [300, True]
            page.evaluate("localStorage.a = sessionStorage.b = document.cookie = 'c=d; max-age=1000'")
            with chromium.visit() as other:
                other.goto(address)
                assert other.evaluate(STATE) == '[{},{},""]'
            assert page.evaluate("localStorage.a")


def test_browser_closes_during_a_navigation(chromium, address):
    def load_again(page):
        page.goto(address)
        page.evaluate("setTimeout(() => location.reload(), 0)")

    for _ in range(4):
        context = chromium.new_context()
        load_again(context.new_page())
        context.close()
        with chromium.visit() as page:
            load_again(page)


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_chromium_that_does_not_close_is_replaced(chromium, monkeypatch):
    context = chromium.new_context()
    context.new_page()
    monkeypatch.setattr("tests.browser.CLOSE_SECONDS", 1)
    os.kill(chromium.process, signal.SIGSTOP)
    with pytest.raises(AssertionError, match="did not close in 1 seconds"):
        context.close()
    monkeypatch.undo()
    with chromium.visit() as page:
        page.set_content("<p>new</p>")
        assert page.inner_text("p") == "new"
