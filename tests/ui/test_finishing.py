"""Canvas, shadows and outline on the Remove tab: options, display, download."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rmbg.errors import OptionError
from rmbg.render.canvas import PRESETS
from rmbg.ui.components import rendering
from rmbg.ui.components.rendering import OTHER_SIZE, RenderOptions
from tests.conftest import open_app
from tests.pictures import scene

WAIT = 90_000

#: Position of the Download button on the page, which may be scrolled.
PLACE = "(({ x, y }) => [x, y + scrollY])(document.querySelector('#save').getBoundingClientRect())"

#: True if the result is displayed at two to one.
WIDE = """(({ width, height }) => Math.abs(width / height - 2) < 0.05)(
  document.querySelector('#result .stage').getBoundingClientRect())"""


def test_options_of_the_page_become_a_finishing():
    assert RenderOptions().finishing().facts() == {}
    finishing = RenderOptions(canvas="amazon", padding=8, scale=90, x=5, shadow="both", strength=25, outline=2).finishing()
    canvas = finishing.canvas
    assert (canvas.width, canvas.height, str(canvas.padding), canvas.scale, canvas.x) == (2000, 2000, "8%", 90, 5)
    assert finishing.shadow.opacity == finishing.contact_shadow.opacity == 25 and str(finishing.outline.width) == "2%"
    assert RenderOptions(canvas=OTHER_SIZE, size="90x70", crop=True).crop_margin() is None


@pytest.mark.parametrize("size", ["", "wide", "5x5", "90000x90000", "-1x20"])
def test_invalid_size_of_a_visitor_is_an_error(size):
    with pytest.raises(OptionError):
        RenderOptions(canvas=OTHER_SIZE, size=size).finishing()


def test_presets_set_background_and_padding():
    kind, padding = rendering.choose_canvas("amazon", "transparent")
    assert kind["value"] == "#ffffff" and padding["value"] == PRESETS["amazon"].canvas.padding.value
    assert "value" not in rendering.choose_canvas("amazon", "blur")[0], "a chosen background is kept"


@pytest.fixture(scope="module")
def page(chromium: Any, app: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A page with the result of a photo whose subject is not in its center."""
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(scene(600, 800)[0][:560, 100:]).save(path)
    with chromium.visit({"width": 1440, "height": 915}) as page:
        open_app(page, app)
        page.set_input_files("#photo input[type=file]", str(path))
        page.wait_for_selector("#photo img", timeout=WAIT)
        page.click("#start")
        page.wait_for_selector("#result .stage", timeout=WAIT)
        page.wait_for_selector("#start", timeout=WAIT)
        page.wait_for_function("document.querySelector('img.after').naturalWidth > 0", timeout=WAIT)
        yield page


def stage(page: Any) -> np.ndarray:
    """Return the result as it is displayed, without the photo before: uint8 (H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(page.locator("#result .stage").screenshot(animations="disabled"))).convert("RGB"))


def fill(page: Any, name: str, value: str) -> None:
    page.fill(f"#{name} input[type=number]", value)
    page.keyboard.press("Tab")


@pytest.mark.browser
def test_display_matches_the_download_without_requests(page, tmp_path):
    """Preset, both shadows and an outline are composed by the browser; the file is the same picture at full size."""
    page.add_style_tag(content=".stage .divider { display: none } .stage { border-radius: 0 !important }")
    page.evaluate("document.documentElement.style.setProperty('--split', '0%')")
    download = page.evaluate(PLACE)
    page.click("#canvas input")
    page.click("li:has-text('Amazon')")
    page.wait_for_selector("#background input[value='#ffffff']:checked", state="attached", timeout=WAIT)
    seen: list[str] = []
    page.on("request", lambda request: seen.append(request.url))
    page.click("#finishing button.label-wrap")
    page.click("#shadow label[data-testid='Both-radio-label']")
    fill(page, "outline", "2")
    page.click("#background label:has(input[value='#facc15'])")
    page.wait_for_function(
        """() => {
          const effects = document.querySelector('.effects');
          const style = document.querySelector('#result .viewer').style;
          if (effects.hidden || effects.width < 400 || style.getPropertyValue('--ratio').split('/')[0] <= 0) return false;
          const line = effects.getContext('2d').getImageData(0, 0, effects.width, effects.height).data;
          let white = 0;
          for (let i = 0; i < line.length; i += 4) white += line[i] > 250 && line[i + 3] > 250;
          return white > 1000 && document.querySelector('.backdrop').style.background.includes('250, 204, 21');
        }""",
        timeout=WAIT,
    )
    shown = stage(page)[4:-4, 4:-4]  # the sides of the stage are at fractions of a pixel
    assert not [url for url in seen if "file=" in url]
    assert page.evaluate(PLACE) == download, "Download has not moved"
    with page.expect_download(timeout=WAIT) as saved:
        page.click("#save")
    saved.value.save_as(tmp_path / "saved.png")
    image = Image.open(tmp_path / "saved.png")
    assert image.mode == "RGB" and image.size == (2000, 2000)
    height, width = shown.shape[:2]
    expected = np.asarray(image.resize((width + 8, height + 8), Image.Resampling.BOX))[4:-4, 4:-4].astype(int)
    difference = np.abs(shown.astype(int) - expected).max(axis=2)
    assert difference.mean() <= 3 and (difference > 40).mean() <= 0.02


@pytest.mark.browser
def test_other_sizes_and_wrong_ones(page, tmp_path):
    page.click("#canvas input")
    page.click("li:has-text('Other…')")
    field = page.locator("#canvas-size").locator("input, textarea")
    field.fill("300x150")
    page.wait_for_function(WIDE, timeout=WAIT)
    with page.expect_download(timeout=WAIT) as saved:
        page.click("#save")
    saved.value.save_as(tmp_path / "saved.png")
    assert Image.open(tmp_path / "saved.png").size == (300, 150)
    field.fill("<b>9</b>")
    page.click("#save")
    page.wait_for_selector(".toast-body.error:has-text('There is no canvas')", timeout=WAIT)
    field.fill("300x150")
