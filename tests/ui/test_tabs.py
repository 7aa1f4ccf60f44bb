"""All tabs in Chromium: keyboard, width, ids, offer of a second provider."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser import DESKTOP, PHONE

pytestmark = pytest.mark.browser

WAIT = 120_000

TABS = ("Remove", "Batch", "Compare", "Replace", "Benchmark", "About")


def wait_for_tab(page: Any, name: str) -> None:
    page.wait_for_function(
        "name => document.querySelector('[role=tab][aria-selected=true]').innerText.trim() === name", arg=name, timeout=WAIT
    )


@pytest.fixture
def page(shared_page: Any) -> Any:
    return shared_page


def test_every_tab_is_reached_by_arrow_keys_on_a_phone(page):
    """test_theme.py checks the tabs with axe-core."""
    page.set_viewport_size(PHONE)
    page.locator("[role=tab]").first.focus()
    for name in TABS[1:]:
        page.keyboard.press("ArrowRight")
        wait_for_tab(page, name)
        assert page.evaluate("document.activeElement.innerText.trim()") == name, "the focus follows"
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{name} scrolls sideways"
    cards = page.locator("#providers .card")
    assert cards.count() > 5
    assert page.evaluate("[...document.querySelectorAll('.card')].every((card) => card.scrollWidth <= card.clientWidth)")
    page.keyboard.press("ArrowRight")
    wait_for_tab(page, "Remove")
    page.keyboard.press("End")
    wait_for_tab(page, "About")
    page.keyboard.press("Home")
    wait_for_tab(page, "Remove")
    assert page.locator("[role=tab][tabindex='0']").count() == 1, "Tab leaves the tabs"
    page.set_viewport_size(DESKTOP)


#: Element ids that occur more than once.
REPEATED_IDS = """() => {
    const ids = [...document.querySelectorAll("[id]:not([id=''])")].map((element) => element.id);
    return ids.filter((id, place) => ids.indexOf(id) !== place);
}"""


def test_element_ids_are_unique(page):
    """With the options of a provider in Remove that Batch and Replace have as well."""
    page.click("#provider input")
    page.click("#provider li:has-text('fal: RMBG 2.0')")
    page.click("#advanced-fal-rmbg-2\\.0 button", timeout=WAIT)
    page.wait_for_selector("#option-sync_mode", timeout=WAIT)
    for name in (*TABS[1:], TABS[0]):
        page.click(f"button[role=tab]:has-text('{name}')")
        wait_for_tab(page, name)
        if name == "Batch":
            page.click("#batch-provider input")
            page.click("#batch-provider li:has-text('fal: RMBG 2.0')")
            page.click("#batch-advanced-fal-rmbg-2\\.0 button", timeout=WAIT)
            page.wait_for_selector("#batch-option-sync_mode", timeout=WAIT)
        if name == "Replace":
            page.click("#advanced-fal-replace button")
            page.wait_for_selector("#replace-option-sync_mode", timeout=WAIT)
        assert page.evaluate(REPEATED_IDS) == [], name


def test_compare_offers_a_second_provider(page):
    page.click("button[role=tab]:has-text('Compare')")
    page.wait_for_selector("#second-choice label", timeout=WAIT)
    assert "A comparison needs two providers" in page.inner_text("#second-provider")
    page.click("#second-choice label:has-text('BiRefNet lite')")
    page.wait_for_selector("#second-provider", state="hidden", timeout=WAIT)
    assert page.locator("#compare-providers .token").all_inner_texts() == [
        "Built-in · quick first cutouts",
        "BiRefNet lite · fast fine edges · 178 MB",
    ]
    page.wait_for_function("document.querySelector('#price').innerText.includes('Free of charge')", timeout=WAIT)
    page.click("#compare-providers .token:has-text('BiRefNet lite') .token-remove")
    page.wait_for_selector("#second-choice label", timeout=WAIT)
