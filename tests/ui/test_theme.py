"""Controls in Chromium: contrast of borders, focus, size of targets, tab stops, contrast themes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.browser import PHONE
from tests.conftest import open_app
from tests.pictures import scene
from tests.ui import controls
from tests.ui.axe import violations
from tests.ui.test_page import clear

pytestmark = pytest.mark.browser

WAIT = 90_000
TABS = ("Remove", "Batch", "Compare", "Replace", "Benchmark", "About")


@pytest.fixture
def page(shared_page: Any) -> Any:
    """The shared page with an empty Remove tab."""
    show_tab(shared_page, "Remove")
    clear(shared_page)
    shared_page.evaluate("scrollTo(0, 0)")
    return shared_page


def show_tab(page: Any, name: str) -> None:
    """Select a tab and wait for its content."""
    page.get_by_role("tab", name=name).click()
    page.get_by_role("tabpanel").locator("visible=true").first.wait_for(timeout=WAIT)
    page.wait_for_function(
        "name => document.querySelector('[role=tab][aria-selected=true]').textContent.trim() === name", arg=name, timeout=WAIT
    )


def luminance(colors: np.ndarray) -> np.ndarray:
    linear = np.where(colors <= 10, colors / 255 / 12.92, ((colors / 255 + 0.055) / 1.055) ** 2.4)
    return linear @ (0.2126, 0.7152, 0.0722)


def test_controls_of_every_tab_can_be_seen_and_hit_in_light_mode(page):
    check_controls(page)


def test_controls_of_every_tab_can_be_seen_and_hit_on_a_dark_phone(chromium, app):
    with chromium.visit(PHONE, color_scheme="dark") as page:
        open_app(page, f"{app}/?__theme=dark")
        check_controls(page)


def check_controls(page: Any) -> None:
    """Borders of fields, checkboxes and radio buttons at 3:1, targets of 24 pixels, and axe-core without a violation."""
    for name in TABS:
        show_tab(page, name)
        if name == "Compare":
            page.click("#compare-keys button.label-wrap")
            page.wait_for_selector("#compare-key-FAL_KEY input", timeout=WAIT)
        assert page.evaluate(controls.LOW_CONTRAST) == [], name
        assert page.evaluate(controls.SMALL_TARGETS) == [], name
        assert page.evaluate(controls.HIDDEN_TEXT) == [], name
        assert violations(page) == [], name
    show_tab(page, "Remove")
    page.click("#crop input")
    slider = page.locator("#margin input[type=range]")
    slider.wait_for(timeout=WAIT)
    pixels = np.asarray(Image.open(io.BytesIO(slider.screenshot())).convert("RGB"))
    row = luminance(pixels[len(pixels) // 2].astype(float))
    background = luminance(pixels[0, 0].astype(float))
    low, high = np.minimum(row, background), np.maximum(row, background)
    assert np.median((high + 0.05) / (low + 0.05)) >= 3, "the track of the slider"


def test_keyboard_reaches_download_in_eight_stops_with_visible_focus(page, tmp_path: Path):
    path = tmp_path / "photo.png"
    Image.fromarray(scene(300, 400)[0]).save(path)
    page.set_input_files("#photo input[type=file]", str(path))
    page.wait_for_selector("#photo img", timeout=WAIT)
    page.click("#start")
    page.wait_for_selector("#result .stage", timeout=WAIT)
    page.wait_for_selector("#save:not([disabled])", timeout=WAIT)
    page.wait_for_selector("#start", timeout=WAIT)
    box = page.locator("#save").bounding_box()
    assert box["y"] + box["height"] <= 900, "the download is on the first screen"
    for value in ("#ffffff", "#000000"):  # Gradio renames the radio buttons of a group with each choice
        page.click(f"#background label:has(input[value='{value}'])")
        page.wait_for_selector(f"#background input[value='{value}']:checked", state="attached", timeout=WAIT)
    page.focus("#start")
    stops: list[str] = []
    while not stops or "save" not in stops[-1]:
        page.keyboard.press("Tab")
        stop = page.evaluate(
            """() => {
                const element = document.activeElement, style = getComputedStyle(element);
                // A transparent range input lies on the picture, which shows the focus in its place.
                const shown = element.matches(".split") ? getComputedStyle(element.closest(".stage")) : style;
                const visible = shown.outlineStyle !== "none" && parseFloat(shown.outlineWidth) >= 2;
                return `${element.closest("[id]").id}${visible ? "" : " without focus"}`;
            }"""
        )
        stops.append(stop)
        assert len(stops) <= 8, stops
    assert not [stop for stop in stops if "without focus" in stop], stops
    assert stops.count("view") == stops.count("background") == 1, "arrow keys move within a group"
    page.focus("#view input:checked")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('#result img.after').alt.startsWith('The mask')", timeout=WAIT)


def test_contrast_themes_show_states(page):
    """Colors of the page are replaced; checkboxes and radio buttons have the system's own look instead of a background."""
    page.emulate_media(forced_colors="active")
    looks = page.evaluate(
        "[...document.querySelectorAll('input[type=checkbox], input[type=radio]')].map(e => getComputedStyle(e).appearance)"
    )
    underlined = page.evaluate("getComputedStyle(document.querySelector('[role=tab][aria-selected=true]')).textDecorationLine")
    page.emulate_media(forced_colors="none")
    assert len(looks) >= 9 and set(looks) == {"auto"}
    assert underlined == "underline"


def test_reduced_motion_ends_animations(page):
    """Also those of Gradio that repeat without end, such as the border of an element that is being updated."""
    page.emulate_media(reduced_motion="reduce")
    repetitions = page.evaluate(
        """() => {
            const element = document.querySelector("#start").parentElement.appendChild(document.createElement("i"));
            element.style.animation = "1s infinite fade";
            const style = getComputedStyle(element), found = [style.animationIterationCount, style.animationDuration];
            element.remove();
            return found;
        }"""
    )
    page.emulate_media(reduced_motion="no-preference")
    assert repetitions[0] == "1" and float(repetitions[1].rstrip("s")) < 0.001
