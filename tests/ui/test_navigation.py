"""The selected tab in the address of the page: links, Back and Forward, reload."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser import PHONE
from tests.conftest import open_app

pytestmark = pytest.mark.browser

WAIT = 60_000


def wait_for_tab(page: Any, name: str) -> None:
    page.wait_for_function(
        "name => document.querySelector('[role=tab][aria-selected=true]')?.dataset.tabId === name", arg=name, timeout=WAIT
    )


def wait_for_address(page: Any, query: str) -> None:
    page.wait_for_function("query => location.search === query", arg=query, timeout=WAIT)


def test_tab_follows_back_forward_and_reload(page, app):
    for name, query in (("Compare", "?tab=compare"), ("About", "?tab=about"), ("Remove", "")):
        page.get_by_role("tab", name=name).click()
        wait_for_tab(page, name.lower())
        wait_for_address(page, query)
    for name in ("about", "compare", "remove"):
        page.go_back()
        wait_for_tab(page, name)
    assert page.url.rstrip("/") == app, "the first entry of the history is the page without a tab"
    page.go_forward()
    wait_for_tab(page, "compare")
    page.reload()
    wait_for_tab(page, "compare")
    page.wait_for_selector("#compare-start", timeout=WAIT)
    page.go_back()
    wait_for_tab(page, "remove")


def test_link_opens_a_tab_on_a_phone(chromium, app):
    """On a narrow screen the tab is in Gradio's menu. Other parameters stay, and an unknown tab is ignored."""
    with chromium.visit(PHONE) as page:
        page.goto(f"{app}/?__theme=dark&tab=about")
        wait_for_tab(page, "about")
        page.wait_for_selector("h2:has-text('Providers')", timeout=WAIT)
        page.evaluate("rmbgTabs.select('replace')")
        wait_for_tab(page, "replace")
        wait_for_address(page, "?__theme=dark&tab=replace")
        open_app(page, f"{app}/?tab=unknown")
        wait_for_tab(page, "remove")
