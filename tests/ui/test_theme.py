"""Controls in Chromium: contrast of borders, focus, size of targets, tab stops, contrast themes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import open_app
from tests.pictures import scene
from tests.ui import controls
from tests.ui.axe import violations

pytestmark = pytest.mark.browser

WAIT = 90_000
TABS = ("Remove", "Batch", "Compare", "Replace", "Benchmark", "About")


@pytest.fixture
def opened(chromium: Any, app: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page in a new context; the parameter has the options of the context."""
    options = {"viewport": {"width": 1440, "height": 900}, **request.param}
    context = chromium.new_context(**options)
    page = context.new_page()
    open_app(page, f"{app}/?__theme={options.get('color_scheme', 'light')}")
    yield page
    context.close()


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


@pytest.mark.parametrize(
    "opened",
    [{"color_scheme": "light"}, {"color_scheme": "dark", "viewport": {"width": 390, "height": 844}}],
    ids=["light", "dark phone"],
    indirect=True,
)
def test_controls_of_every_tab_can_be_seen_and_hit(opened):
    """Borders of fields, checkboxes and radio buttons at 3:1, targets of 24 pixels, and axe-core without a violation."""
    for name in TABS:
        show_tab(opened, name)
        if name == "Compare":
            opened.click("#compare-keys button.label-wrap")
            opened.wait_for_selector("#compare-key-FAL_KEY input", timeout=WAIT)
        assert opened.evaluate(controls.LOW_CONTRAST) == [], name
        assert opened.evaluate(controls.SMALL_TARGETS) == [], name
        assert opened.evaluate(controls.HIDDEN_TEXT) == [], name
        assert violations(opened) == [], name
    show_tab(opened, "Remove")
    opened.click("#crop input")
    slider = opened.locator("#margin input[type=range]")
    slider.wait_for(timeout=WAIT)
    pixels = np.asarray(Image.open(io.BytesIO(slider.screenshot())).convert("RGB"))
    row = luminance(pixels[len(pixels) // 2].astype(float))
    background = luminance(pixels[0, 0].astype(float))
    low, high = np.minimum(row, background), np.maximum(row, background)
    assert np.median((high + 0.05) / (low + 0.05)) >= 3, "the track of the slider"


@pytest.mark.parametrize("opened", [{}], ids=["desktop"], indirect=True)
def test_keyboard_reaches_download_in_eight_stops_with_visible_focus(opened, tmp_path: Path):
    path = tmp_path / "photo.png"
    Image.fromarray(scene(300, 400)[0]).save(path)
    opened.set_input_files("#photo input[type=file]", str(path))
    opened.wait_for_selector("#photo img", timeout=WAIT)
    opened.click("#start")
    opened.wait_for_selector("#result .stage", timeout=WAIT)
    opened.wait_for_selector("#save:not([disabled])", timeout=WAIT)
    opened.wait_for_selector("#start", timeout=WAIT)
    box = opened.locator("#save").bounding_box()
    assert box["y"] + box["height"] <= 900, "the download is on the first screen"
    for value in ("#ffffff", "#000000"):  # Gradio renames the radio buttons of a group with each choice
        opened.click(f"#background label:has(input[value='{value}'])")
        opened.wait_for_selector(f"#background input[value='{value}']:checked", state="attached", timeout=WAIT)
    opened.focus("#start")
    stops: list[str] = []
    while not stops or "save" not in stops[-1]:
        opened.keyboard.press("Tab")
        stop = opened.evaluate(
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
    opened.focus("#view input:checked")
    opened.keyboard.press("ArrowRight")
    opened.wait_for_function("document.querySelector('#result img.after').alt.startsWith('The mask')", timeout=WAIT)


@pytest.mark.parametrize("opened", [{"forced_colors": "active"}], ids=["forced colors"], indirect=True)
def test_contrast_themes_show_states(opened):
    """Colors of the page are replaced; checkboxes and radio buttons have the system's own look instead of a background."""
    looks = opened.evaluate(
        "[...document.querySelectorAll('input[type=checkbox], input[type=radio]')].map(e => getComputedStyle(e).appearance)"
    )
    assert len(looks) >= 9 and set(looks) == {"auto"}
    underlined = opened.evaluate(
        "getComputedStyle(document.querySelector('[role=tab][aria-selected=true]')).textDecorationLine"
    )
    assert underlined == "underline"
