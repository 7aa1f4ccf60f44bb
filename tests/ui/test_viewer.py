"""The viewer of the Remove tab: zoom, full size, backgrounds without requests, clipboard, keyboard and forced colors."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import open_app
from tests.pictures import scene
from tests.servers.web import until
from tests.ui.axe import violations

pytestmark = pytest.mark.browser

WAIT = 90_000

#: Size of the photo, twice that of the preview.
HEIGHT, WIDTH = 1800, 2400


@pytest.fixture(scope="module")
def visit(chromium: Any, app: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A page with the result of a photo; all tests of this file use it."""
    path = tmp_path_factory.mktemp("photo") / "A photo.png"
    Image.fromarray(scene(HEIGHT, WIDTH)[0]).save(path)
    with chromium.visit() as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        open_app(page, app)
        remove(page, path)
        yield page


@pytest.fixture
def page(visit: Any) -> Any:
    """The page with its default options, at zoom 1."""
    visit.emulate_media(forced_colors="none")
    choose(visit, "background", "Transparent")
    choose(visit, "view", "Cutout")
    visit.click("[data-viewer=fit]")
    wait(visit, "document.querySelector('.backdrop').style.background.startsWith('none') && !document.querySelector('.zoomed')")
    return visit


def remove(page: Any, path: Path) -> None:
    page.set_input_files("#photo input[type=file]", str(path))
    page.wait_for_selector("#photo img", timeout=WAIT)
    page.click("#start")
    page.wait_for_selector("#result .stage", timeout=WAIT)
    page.wait_for_selector("#start", timeout=WAIT)
    wait(page, "[...document.querySelectorAll('img.after, img.before')].every((image) => image.naturalWidth > 0)")


def wait(page: Any, condition: str, argument: Any = None) -> None:
    page.wait_for_function(condition, arg=argument, timeout=WAIT)


def choose(page: Any, group: str, label: str) -> None:
    page.click(f"#{group} label[data-testid='{label}-radio-label']")
    page.wait_for_selector(f"#{group} label[data-testid='{label}-radio-label'] input:checked", state="attached", timeout=WAIT)


def zoom(page: Any) -> float:
    return float(page.evaluate("document.querySelector('#result .viewer').style.getPropertyValue('--zoom')"))


def pan(page: Any) -> float:
    return float(page.evaluate("parseFloat(document.querySelector('#result .viewer').style.getPropertyValue('--pan-x'))"))


def pixels(page: Any) -> np.ndarray:
    """Return the stage as it is displayed: uint8 (H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(page.locator("#result .stage").screenshot(animations="disabled"))).convert("RGB"))


def middle(page: Any, u: float = 0.5, v: float = 0.5) -> tuple[float, float]:
    """Return the position of a point of the stage in the window."""
    box = page.locator("#result .stage").bounding_box()
    return box["x"] + u * box["width"], box["y"] + v * box["height"]


def requests(page: Any) -> list[str]:
    """Return a list to which the URL of each further request is appended."""
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url))
    return urls


def test_new_colors_need_no_requests(page):
    for label in ("Mask", "Original", "Cutout"):  # these pictures are loaded at their first use
        choose(page, "view", label)
        wait(page, "document.querySelector('img.after').complete")
    seen = requests(page)
    for label, color in (("Red", (220, 38, 38)), ("White", (255, 255, 255)), ("Black", (0, 0, 0))):
        choose(page, "background", label)
        wait(page, "color => getComputedStyle(document.querySelector('.backdrop')).backgroundColor === color", f"rgb{color}")
        np.testing.assert_allclose(pixels(page)[20, -20], color, atol=1)
    choose(page, "background", "Other color…")
    page.click("#color .dialog-button")
    for number in range(4):
        color = f"#{number:02x}80{255 - number:02x}"
        page.fill("#color .color-picker input", color)
        page.keyboard.press("Enter")
        expected = f"rgb({number}, 128, {255 - number})"
        wait(page, "color => getComputedStyle(document.querySelector('.backdrop')).backgroundColor === color", expected)
    page.keyboard.press("Escape")
    page.wait_for_selector("#color .color-picker", state="detached", timeout=WAIT)
    assert page.evaluate("document.activeElement.className").startswith("dialog-button")
    for label in ("Mask", "Original", "Cutout"):
        choose(page, "view", label)
    choose(page, "background", "Gradient")
    wait(page, "document.querySelector('.backdrop').style.background.includes('gradient')")
    assert seen == []
    choose(page, "background", "Blur")
    wait(page, "document.querySelector('.backdrop').style.background.includes('blur.webp')")
    assert len(seen) <= 1, "the blurred background is one small picture"


def test_pictures_are_files_with_names_that_the_browser_caches(page):
    position = middle(page, 0.75)
    image = page.evaluate("([x, y]) => document.elementFromPoint(x, y).outerHTML", position)
    assert image.startswith("<img") and 'class="after"' in image, "a right click is on the picture"
    response = page.request.get(page.evaluate("document.querySelector('img.after').src"))
    assert response.headers["content-type"] == "image/webp"
    assert "A%20photo-cutout.webp" in response.headers["content-disposition"]
    assert response.headers["content-disposition"].startswith("inline")
    assert "private" in response.headers["cache-control"] and "immutable" in response.headers["cache-control"]
    assert Image.open(io.BytesIO(response.body())).mode == "RGBA"
    assert "data:image" not in page.inner_html("#result")


def test_zoom_by_buttons_keys_wheel_and_double_click(page):
    page.click("[data-viewer=in]")
    assert zoom(page) == pytest.approx(1.5)
    assert "%" in page.inner_text(".viewer-status")
    page.click("[data-viewer=out]")
    assert zoom(page) == 1
    page.focus("#result .split")
    page.keyboard.press("+")
    page.keyboard.press("+")
    assert zoom(page) == pytest.approx(2.25)
    before = pan(page)
    page.keyboard.press("ArrowRight")
    assert pan(page) < before and page.input_value("#result .split") == "50", "arrow keys move the zoomed picture"
    page.keyboard.press("Shift+ArrowRight")
    assert float(page.input_value("#result .split")) > 50
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("-")
    page.keyboard.press("0")
    assert zoom(page) == 1
    page.mouse.move(*middle(page, 0.8))
    page.keyboard.down("Control")
    page.mouse.wheel(0, -150)
    page.keyboard.up("Control")
    wait(page, "document.querySelector('#result .zoomed')")
    page.mouse.dblclick(*middle(page, 0.8))
    wait(page, "!document.querySelector('#result .zoomed')")
    page.mouse.dblclick(*middle(page, 0.8))
    wait(page, "document.querySelector('#result .zoomed')")


def test_pinch_zooms(page):
    position = middle(page)
    page.evaluate(
        """([x, y]) => {
            const stage = document.querySelector('#result .stage');
            stage.setPointerCapture = () => {};
            const fire = (type, pointerId, dx) => stage.dispatchEvent(new PointerEvent(type,
                { bubbles: true, pointerId, pointerType: 'touch', button: 0, clientX: x + dx, clientY: y }));
            fire('pointerdown', 11, -50);
            fire('pointerdown', 12, 50);
            fire('pointermove', 12, 52);
            fire('pointermove', 11, -100);
            fire('pointermove', 12, 100);
            fire('pointerup', 11, -100);
            fire('pointerup', 12, 100);
            delete stage.setPointerCapture;
        }""",
        position,
    )
    assert 1.8 < zoom(page) < 2.2


def test_divider_and_zoomed_picture_can_be_dragged(page):
    x, y = middle(page)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(*middle(page, 0.7), steps=4)
    page.mouse.up()
    assert float(page.input_value("#result .split")) == pytest.approx(70, abs=1)
    page.click("[data-viewer=actual]")
    before = pan(page)
    page.mouse.move(*middle(page, 0.3))
    page.mouse.down()
    page.mouse.move(*middle(page, 0.2), steps=4)
    page.mouse.up()
    assert pan(page) == pytest.approx(before - 10, abs=1)
    page.mouse.move(*middle(page, 0.7))
    page.mouse.down()
    page.mouse.move(*middle(page, 0.5), steps=4)
    page.mouse.up()
    assert float(page.input_value("#result .split")) == pytest.approx(50, abs=1), "the divider moves in a zoomed picture too"


def test_zoomed_picture_has_the_pixels_of_the_photo(page):
    page.click("[data-viewer=actual]")
    page.wait_for_selector("#result .stage.detailed", timeout=WAIT)
    sizes = page.evaluate(
        "[...document.querySelectorAll('img.detail')].map((image) => [image.naturalWidth, image.style.width])"
    )
    for width, share in sizes:
        assert width == pytest.approx(float(share.rstrip("%")) / 100 * WIDTH, abs=1), "one pixel for each pixel of the photo"
    choose(page, "view", "Mask")
    wait(page, "document.querySelector('.stage.detailed') && document.querySelector('img.detail').complete")
    assert pixels(page)[100, -60].min() > 240, "the subject is white in the mask"
    page.click("[data-viewer=fit]")
    wait(page, "!document.querySelector('.stage.detailed')")


def test_original_is_displayed_while_button_or_key_is_held(page):
    choose(page, "background", "White")
    wait(page, "document.querySelector('.backdrop').style.background.includes('255')")
    corner = (20, -20)
    assert pixels(page)[corner].min() == 255
    box = page.locator("[data-viewer=hold]").bounding_box()
    page.mouse.move(box["x"] + 9, box["y"] + 9)
    page.mouse.down()
    assert pixels(page)[corner].max() < 200, "the green background of the photo"
    page.mouse.up()
    assert pixels(page)[corner].min() == 255
    page.focus("#result .split")
    page.keyboard.down("o")
    page.wait_for_selector("#result .stage.holding", timeout=WAIT)
    page.keyboard.up("o")
    page.wait_for_selector("#result .stage:not(.holding)", timeout=WAIT)


def test_loupe_magnifies_the_pixels_of_the_photo(page):
    page.mouse.move(*middle(page, 0.7, 0.4))
    page.focus("#result .split")
    page.keyboard.down("l")
    wait(page, "document.querySelector('#result .glass.detailed')")
    glass = "document.querySelector('#result .glass')"
    scale = f"new DOMMatrix(getComputedStyle({glass}.firstChild).transform).a"
    assert page.evaluate(scale) == 3
    page.mouse.move(*middle(page, 0.8, 0.4))
    wait(page, f"Math.abs(parseFloat({glass}.style.left) - 80) < 1")
    before = page.evaluate(f"{glass}.style.left")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(f"{glass}.style.left") != before, "arrow keys move the loupe"
    page.keyboard.up("l")
    page.wait_for_selector("#result .glass", state="detached", timeout=WAIT)

    page.click("[data-viewer=loupe]")
    assert page.get_attribute("[data-viewer=loupe]", "aria-pressed") == "true"
    page.mouse.move(*middle(page, 0.7, 0.4))
    page.mouse.wheel(0, -100)
    wait(page, f"{scale} === 4 && document.querySelector('.viewer-status').textContent === 'Loupe 400 %'")
    page.mouse.wheel(0, 100)
    page.mouse.wheel(0, 100)
    wait(page, f"{scale} === 2")
    page.evaluate(
        """([x, y]) => {
            const stage = document.querySelector('#result .stage');
            stage.setPointerCapture = () => {};
            const fire = (type, x) => stage.dispatchEvent(new PointerEvent(type,
                { bubbles: true, pointerId: 21, pointerType: 'touch', button: 0, clientX: x, clientY: y }));
            fire('pointerdown', x);
            fire('pointermove', x + 20);
            fire('pointerup', x + 20);
            delete stage.setPointerCapture;
        }""",
        middle(page, 0.3, 0.8),
    )
    over, finger = page.locator("#result .glass").bounding_box(), middle(page, 0.3, 0.8)
    assert over["y"] + over["height"] < finger[1], "the loupe is above the finger"
    assert over["x"] + over["width"] / 2 == pytest.approx(finger[0] + 20, abs=2)
    page.mouse.move(*middle(page, 0.3, 0.8))
    page.mouse.wheel(0, -100)
    page.click("[data-viewer=loupe]")
    assert page.locator("#result .glass").count() == 0


def test_picture_is_copied_at_full_size(page):
    page.bring_to_front()
    page.click("[data-viewer=copy]")
    wait(page, "document.querySelector('.viewer-status').textContent.startsWith('Copied')")
    assert f"{WIDTH} × {HEIGHT}" in page.inner_text(".viewer-status")
    size = page.evaluate(
        """async () => {
            const [item] = await navigator.clipboard.read();
            const bitmap = await createImageBitmap(await item.getType('image/png'));
            return [bitmap.width, bitmap.height];
        }"""
    )
    assert size == [WIDTH, HEIGHT]
    page.evaluate("() => { navigator.clipboard.write = () => Promise.reject(new DOMException('no', 'NotAllowedError')); }")
    page.click("[data-viewer=copy]")
    wait(page, "document.querySelector('.viewer-status').textContent.includes('does not let this page copy')")


def test_jpeg_is_displayed_with_the_color_of_the_file(page):
    checkered = pixels(page)[15:60, -60:-15].reshape(-1, 3)
    assert len(np.unique(checkered, axis=0)) > 1
    page.click("#format input")
    page.click("li:has-text('JPEG')")
    wait(page, "document.querySelector('#result .viewer[data-matte]')")
    assert len(np.unique(pixels(page)[15:60, -60:-15].reshape(-1, 3), axis=0)) == 1, "one color"
    page.click("#format input")
    page.click("li:has-text('PNG')")
    wait(page, "!document.querySelector('#result .viewer[data-matte]')")


def test_crop_is_displayed_without_requests(page):
    seen = requests(page)
    full = page.locator("#result .stage").bounding_box()
    page.click("#crop input")
    wait(page, "document.querySelector('#result .viewer').style.getPropertyValue('--scene-x') !== '0%'")
    cropped = page.locator("#result .stage").bounding_box()
    assert abs(cropped["width"] / cropped["height"] - full["width"] / full["height"]) > 0.1
    image = pixels(page)
    subject = np.abs(image.astype(int) - (190, 70, 40)).max(axis=2) < 60
    assert subject[:, image.shape[1] * 3 // 5].mean() > 0.7, "the subject fills the frame"
    page.click("#crop input")
    wait(page, "document.querySelector('#result .viewer').style.getPropertyValue('--scene-x') === '0%'")
    assert not [url for url in seen if "file=" in url]


def test_background_options_do_not_move_download(page):
    places = []
    for label in ("Transparent", "Other color…", "Gradient", "Blur", "Picture"):
        choose(page, "background", label)
        wait(
            page,
            "kind => document.documentElement.dataset.background === kind",
            page.evaluate("document.querySelector('#background :checked').value"),
        )
        places.append(page.locator("#save").bounding_box())
    assert all(place == places[0] for place in places)
    choose(page, "background", "Other color…")
    page.click("#color .dialog-button")
    page.wait_for_selector("#color .color-picker", timeout=WAIT)
    assert page.locator("#save").bounding_box() == places[0]
    page.keyboard.press("Escape")


def test_focus_and_zoom_stay_when_the_viewer_is_replaced(page, tmp_path):
    Image.fromarray(np.full((60, 80, 3), (10, 200, 30), np.uint8)).save(tmp_path / "green.png")
    choose(page, "background", "Picture")
    page.click("[data-viewer=in]")
    page.focus("#result .split")
    page.set_input_files("#background-picture input[type=file]", str(tmp_path / "green.png"))
    wait(page, "document.querySelector('.backdrop').style.background.includes('background.webp')")
    assert page.evaluate("document.activeElement.className") == "split"
    assert zoom(page) == pytest.approx(1.5)
    assert until(lambda: bool(np.abs(pixels(page)[20, -20].astype(int) - (10, 200, 30)).max() < 12), 20), pixels(page)[20, -20]


def test_controls_are_keyboard_operable_and_large_enough(page):
    page.focus("#background input[value='#ffffff']")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#background input[value='#000000']:checked", state="attached", timeout=WAIT)
    wait(page, "getComputedStyle(document.querySelector('.backdrop')).backgroundColor === 'rgb(0, 0, 0)'")
    page.focus("[data-viewer=out]")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.viewer") == "in"
    assert (
        page.evaluate("[...document.querySelectorAll('[data-viewer]')].filter((button) => button.tabIndex === 0).length") == 1
    )
    page.focus("[data-viewer=in]")
    page.keyboard.press("ArrowLeft")
    targets = page.locator("[data-viewer], #background label, #view label")
    for index in range(targets.count()):
        box = targets.nth(index).bounding_box()
        assert box["width"] >= 24 and box["height"] >= 24, targets.nth(index).inner_text()


def test_forced_colors(page):
    """Swatches and picture keep their colors, the selected swatch and the focus are visible."""
    page.emulate_media(forced_colors="active")
    choose(page, "background", "Red")
    np.testing.assert_allclose(pixels(page)[20, -20], (220, 38, 38), atol=1)
    swatch = "document.querySelector('#background label:has(:checked)')"
    assert page.evaluate(f"getComputedStyle({swatch}).backgroundColor") == "rgb(220, 38, 38)"
    assert page.evaluate(f"getComputedStyle({swatch}).outlineStyle") == "solid"
    page.focus("[data-viewer=out]")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("ArrowLeft")


def test_transparent_photo_is_on_the_checkerboard(page, tmp_path):
    rgb, alpha, *_ = scene(300, 400)
    Image.fromarray(np.dstack([rgb, np.where(alpha > 0, 255, 0).astype(np.uint8)])).save(tmp_path / "transparent.png")
    page.click("#photo button[aria-label='Remove Image']")
    wait(page, "!document.querySelector('#photo img')")
    page.set_input_files("#photo input[type=file]", str(tmp_path / "transparent.png"))
    page.wait_for_selector("#photo img", timeout=WAIT)
    page.click("#start")
    wait(page, "document.querySelector('#facts').innerText.includes('400 × 300')")
    wait(page, "document.querySelector('img.before').complete && document.querySelector('img.before').naturalWidth === 400")
    left = pixels(page)[15:60, 15:60].reshape(-1, 3)
    assert left.min() > 200 and len(np.unique(left, axis=0)) > 1, "the checkerboard is visible beside the subject"


def test_two_results_of_the_strip_are_compared(page, tmp_path):
    """Two results of one photo under a slider, and of two photos side by side."""
    page.click("#start")
    wait(page, "document.querySelectorAll('#strip img').length === 3")
    page.wait_for_selector("#start", timeout=WAIT)
    page.click("#strip-compare button")
    page.wait_for_selector("#strip-pair .split", state="attached", timeout=WAIT)
    pictures = "[...document.querySelectorAll('#strip-pair .layer > .camera img:not(.detail)')]"
    loaded = f"{pictures}.map((image) => image.naturalWidth)"
    wait(page, f"String({loaded}) === '400,400'")
    page.click("#strip-pair [data-viewer=in]")
    wait(page, "document.querySelector('#strip-pair .zoomed') && !document.querySelector('#result .zoomed')")
    page.click("#strip-second input")
    page.click("[role=option]:has-text('3. A photo')")
    wait(page, f"String({loaded}) === '400,1200'")
    page.click("#strip-pair [data-viewer=fit]")
    page.click("#strip-pair [data-viewer=in]")
    wait(page, "document.querySelectorAll('#strip-pair .stage.zoomed').length === 2")
    choose(page, "background", "Red")
    red = "getComputedStyle(document.querySelectorAll('#strip-pair .backdrop')[1]).backgroundColor === 'rgb(220, 38, 38)'"
    wait(page, red)
    assert violations(page) == []
    page.click("#strip img >> nth=2")  # the large photo
    wait(page, "document.querySelector('#facts').innerText.includes('2400')")
    page.click("#strip-delete")
    wait(page, "document.querySelectorAll('#strip img').length === 2")
    wait(page, f"String({loaded}) === '400,400'")


def test_address_of_a_picture_is_not_guessable(page):
    address = page.evaluate("document.querySelector('img.after').src")
    assert re.search("/uploads/[0-9a-f]{40}/", address)
    for folder in (address.rpartition("/")[0], address.partition("/uploads/")[0] + "/uploads"):
        assert page.request.get(folder).status == 403
