"""The retouch tools and the clean-up in Chromium: mouse, touch, pen and keys, zoom, download, reload."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rmbg.cutout import Cutout
from rmbg.images.photo import Photo
from rmbg.inference import builtin_runner
from rmbg.providers import builtin
from tests.conftest import open_app
from tests.pictures import scene
from tests.ui.test_page import download
from tests.ui.test_viewer import choose, middle, pixels, remove, wait

pytestmark = pytest.mark.browser

WAIT = 90_000

#: Size of the photo, larger than the preview.
HEIGHT, WIDTH = 1200, 1600

#: Colors of the subject, of the photo at its left, and of transparent parts.
RED, GREEN, NOTHING = (190, 70, 40), (48, 150, 60), (0, 0, 0)


@pytest.fixture(scope="module")
def calls() -> Iterator[list[str]]:
    """Names of the photos that the built-in provider was run on."""
    names: list[str] = []
    cut = builtin.Builtin.cut

    def counted(self: builtin.Builtin, photo: Photo, options: Mapping[str, Any], context: Any) -> Cutout:
        names.append(photo.name)
        return cut(self, photo, options, context)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtin.Builtin, "cut", counted)
        yield names


@pytest.fixture(scope="module")
def visit(chromium: Any, app: str, calls: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A page with the result of a photo; all tests of this file use it."""
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(scene(HEIGHT, WIDTH)[0]).save(path)
    with chromium.visit() as page:
        open_app(page, app)
        remove(page, path)
        page.click("#clean-up button.label-wrap")
        yield page


@pytest.fixture
def page(visit: Any) -> Any:
    """The page with open tools, no strokes, a brush of 40 pixels that erases, no background, at zoom 1."""
    choose(visit, "background", "Transparent")
    choose(visit, "view", "Cutout")
    if not visit.query_selector(".stage.retouching"):
        visit.click("[data-viewer=retouch]")
    visit.wait_for_selector(".stage.composed", timeout=WAIT)
    visit.evaluate("document.querySelector('#retouch-clear').click()")  # aria-disabled without strokes
    visit.click("[data-viewer=fit]")
    visit.fill("#retouch-size input[type=number]", "40")
    visit.press("#retouch-size input[type=number]", "Enter")
    select(visit, "erase")
    wait(visit, "document.querySelector('#retouch-undo').ariaDisabled === 'true'")
    return visit


def select(page: Any, mode: str) -> None:
    page.click(f"#retouch-mode label:has(input[value={mode}])")
    page.wait_for_selector(f"#retouch-mode input[value={mode}]:checked", state="attached", timeout=WAIT)


def paint(page: Any, *points: tuple[float, float]) -> None:
    """Draw a stroke with the mouse; points are in fractions of the stage."""
    page.locator("#result .stage").scroll_into_view_if_needed()
    page.mouse.move(*middle(page, *points[0]))
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*middle(page, *point), steps=3)
    page.mouse.up()


def color_is(page: Any, u: float, v: float, color: tuple[int, int, int], tolerance: int = 14) -> None:
    """Wait until the canvas has a color at a point of the stage; transparent parts have (0, 0, 0)."""
    page.wait_for_function(
        """([u, v, color, tolerance]) => {
            const canvas = document.querySelector('canvas.retouch');
            const { data } = canvas.getContext('2d').getImageData(u * canvas.width, v * canvas.height, 1, 1);
            return color.every((value, index) => Math.abs((data[3] * data[index]) / 255 - value) <= tolerance);
        }""",
        arg=[u, v, list(color), tolerance],
        timeout=WAIT,
    )


def saved(page: Any, folder: Path) -> np.ndarray:
    """Download the cutout: uint8 (H, W, 4)."""
    folder.mkdir(exist_ok=True)
    return np.asarray(Image.open(download(page, folder)))


def test_strokes_are_shown_at_once_and_are_in_the_download(page, calls, tmp_path):
    provided = saved(page, tmp_path / "before")
    color_is(page, 0.5, 0.5, RED)
    paint(page, (0.45, 0.5), (0.55, 0.5))
    color_is(page, 0.5, 0.5, NOTHING)
    select(page, "keep")
    paint(page, (0.1, 0.2), (0.1, 0.3))
    color_is(page, 0.1, 0.25, GREEN, 30)
    result = saved(page, tmp_path / "after")  # a click at once: the last stroke may be on its way
    assert (result[HEIGHT // 2, WIDTH // 2] == 0).all(), "erased"
    assert result[HEIGHT // 4, WIDTH // 10, 3] == 255
    np.testing.assert_allclose(result[HEIGHT // 4, WIDTH // 10, :3], scene(HEIGHT, WIDTH)[0][HEIGHT // 4, WIDTH // 10], atol=1)
    half = np.flatnonzero(np.diff((result[:, WIDTH // 2, 3] > 127).astype(int)))
    radius = 20 * WIDTH / page.locator("#result .stage").bounding_box()["width"]
    hole = [row for row in half if abs(row - HEIGHT / 2) < 2 * radius]
    assert len(hole) == 2 and hole[1] - hole[0] == pytest.approx(2 * radius, abs=4), "the width of the circle on the screen"

    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    color_is(page, 0.5, 0.5, RED)
    np.testing.assert_array_equal(saved(page, tmp_path / "undone"), provided)
    select(page, "erase")  # the other mode shows removed parts faintly
    page.keyboard.press("Control+Shift+z")
    color_is(page, 0.5, 0.5, NOTHING)
    page.click("#retouch-redo")
    assert page.get_attribute("#retouch-redo", "aria-disabled") == "true"
    np.testing.assert_array_equal(saved(page, tmp_path / "redone"), result)
    assert calls == ["photo"], "the provider ran once"


def test_pictures_of_the_server_match_the_strokes(page):
    paint(page, (0.5, 0.45), (0.5, 0.55))
    select(page, "keep")
    paint(page, (0.15, 0.5), (0.2, 0.7))
    select(page, "erase")
    color_is(page, 0.2, 0.7, GREEN, 40)
    page.mouse.move(5, 5)  # hides the circle
    drawn = pixels(page).astype(int)
    page.click("#retouch-done")
    wait(page, "!document.querySelector('canvas.retouch:not([hidden])')")
    page.focus("#result .split")
    for _ in range(2):
        page.keyboard.press("Home")  # the divider, which the tools hide
    wait(page, "document.querySelector('#result .split').value === '0'")
    shown = pixels(page).astype(int)
    assert np.abs(drawn - shown)[:, 30:].mean() < 1
    strip = page.evaluate("document.querySelector('#strip img').src")
    page.click("[data-viewer=retouch]")
    page.wait_for_selector(".stage.composed", timeout=WAIT)
    page.click("#retouch-clear")
    page.click("#retouch-done")
    wait(page, "src => document.querySelector('#strip img').src !== src", strip)
    page.evaluate("Object.assign(document.querySelector('#result .split'), { value: 50 })")


def test_keys_change_brush_and_mode(page):
    page.hover("#result .stage")
    wait(page, "!document.querySelector('.brush-ring').hidden")
    page.focus("#result .split")
    for key, value in (("k", "keep"), ("E", "erase")):
        page.keyboard.press(key)
        page.wait_for_selector(f"#retouch-mode input[value={value}]:checked", state="attached", timeout=WAIT)
        wait(page, "mode => document.querySelector('.brush-ring').dataset.mode === mode", value)
    width = "document.querySelector('.brush-ring').offsetWidth"
    assert page.evaluate(width) == 40
    page.keyboard.press("]")
    page.keyboard.press("]")
    assert page.evaluate(width) > 50 and page.input_value("#retouch-size input[type=number]") == str(page.evaluate(width))
    page.keyboard.press("[")
    assert page.evaluate(width) < 50
    page.keyboard.press("Escape")
    page.wait_for_selector("#retouch", state="hidden", timeout=WAIT)
    assert page.get_attribute("[data-viewer=retouch]", "aria-pressed") == "false"


def test_strokes_are_where_they_are_painted_in_a_zoomed_picture(page, tmp_path):
    page.hover("#result .stage")
    page.mouse.move(*middle(page, 0.25, 0.25))
    page.keyboard.down("Control")
    for _ in range(4):
        page.mouse.wheel(0, -150)
    page.keyboard.up("Control")
    wait(page, "Number(document.querySelector('#result .viewer').style.getPropertyValue('--zoom')) > 4")
    zoom = page.evaluate("rmbgViewer.camera.zoom")
    select(page, "keep")
    paint(page, (0.25, 0.25))  # a click
    color_is(page, 0.25, 0.25, GREEN, 30)
    result = saved(page, tmp_path)
    rows, columns = np.nonzero(result[HEIGHT // 4 - 40 : HEIGHT // 4 + 40, WIDTH // 4 - 40 : WIDTH // 4 + 40, 3] > 127)
    assert (rows.mean(), columns.mean()) == (pytest.approx(40, abs=3), pytest.approx(40, abs=3))
    radius = 20 * WIDTH / page.locator("#result .stage").bounding_box()["width"] / zoom
    assert rows.size == pytest.approx(np.pi * radius**2, rel=0.2), "a finer brush"
    page.wait_for_selector("#result .stage.detailed", timeout=WAIT)
    color_is(page, 0.25, 0.25, GREEN, 30)
    x = page.evaluate("rmbgViewer.camera.x")
    page.focus("#result .split")
    page.keyboard.down(" ")
    paint(page, (0.5, 0.5), (0.45, 0.5))
    page.keyboard.up(" ")
    assert page.evaluate("rmbgViewer.camera.x") < x, "the space bar moves the picture"


def test_touch_and_pen_paint_and_two_fingers_zoom(page):
    fire = """([kind, ...events]) => {
        const stage = document.querySelector('#result .stage'), box = stage.getBoundingClientRect();
        stage.setPointerCapture = () => {};
        for (const [type, pointerId, u, v] of events) stage.dispatchEvent(new PointerEvent(type, { bubbles: true, pointerId,
            pointerType: kind, button: 0, clientX: box.left + u * box.width, clientY: box.top + v * box.height }));
        delete stage.setPointerCapture;
    }"""
    undo = "document.querySelector('#retouch-undo').ariaDisabled"
    for kind, v in (("touch", 0.45), ("pen", 0.55)):
        events = [("pointerdown", 21, 0.45, v), ("pointermove", 21, 0.5, v), ("pointermove", 21, 0.55, v)]
        page.evaluate(fire, [kind, *events, ("pointerup", 21, 0.55, v)])
        color_is(page, 0.5, v, NOTHING)
        page.click("#retouch-undo")
        color_is(page, 0.5, v, RED)
    assert page.evaluate("getComputedStyle(document.querySelector('.stage')).touchAction") == "none"
    first = [("pointerdown", 21, 0.45, 0.5), ("pointermove", 21, 0.5, 0.5), ("pointerdown", 22, 0.6, 0.5)]
    apart = [("pointermove", 22, 0.61, 0.5), ("pointermove", 22, 0.8, 0.5)]
    page.evaluate(fire, ["touch", *first, *apart, ("pointerup", 21, 0.5, 0.5), ("pointerup", 22, 0.8, 0.5)])
    wait(page, "rmbgViewer.camera.zoom > 1.5")
    assert page.evaluate(undo) == "true", "the stroke of the first finger is dropped"
    color_is(page, 0.5, 0.5, RED)


def test_rejected_stroke_is_reported_and_taken_back(page, monkeypatch):
    monkeypatch.setattr("rmbg.matting.retouch.MAX_STROKES", 0)
    paint(page, (0.45, 0.5), (0.55, 0.5))
    wait(page, "document.querySelector('.viewer-status').textContent.includes('Undo some strokes')")
    color_is(page, 0.5, 0.5, RED)


def test_clean_up_is_previewed_and_reset(page, tmp_path):
    page.click("#retouch-done")
    page.wait_for_selector("#retouch", state="hidden", timeout=WAIT)
    before = saved(page, tmp_path / "before")[..., 3]
    source = "document.querySelector('#result img.after').src"
    first = page.evaluate(source)
    page.evaluate(
        """() => new MutationObserver(() => {
            window.drafted ||= document.querySelector("#result img.after")?.src.startsWith("data:");
        }).observe(document.querySelector("#result"), { subtree: true, childList: true, attributes: true })"""
    )
    page.fill("#clean-shift input[type=number]", "30")
    page.press("#clean-shift input[type=number]", "Enter")
    wait(page, f"first => {source} !== first", first)
    grown = saved(page, tmp_path / "grown")[..., 3]
    assert (grown > 127).sum() > 1.1 * (before > 127).sum()
    wait(page, f"!{source}.startsWith('data:')")
    assert page.evaluate("window.drafted")
    page.click("#clean-invert input")
    wait(page, "document.querySelector('.viewer').dataset.scene.includes('\"box\": [0, 0, ')")
    page.click("#clean-reset")
    wait(page, f"first => {source} !== first && !document.querySelector('#clean-invert input').checked", first)
    wait(page, "!document.querySelector('.viewer').dataset.scene.includes('\"box\": [0, 0, ')")
    np.testing.assert_array_equal(saved(page, tmp_path / "reset")[..., 3], before)


def test_low_confidence_offers_to_retouch(page, tmp_path, monkeypatch):
    """The tools close with the result, also when another one is selected in the strip."""
    rgb, alpha, *_ = scene(60, 80)
    Image.fromarray(rgb).save(tmp_path / "doubtful.png")
    monkeypatch.setattr(
        builtin_runner, "predict", lambda rgb, plan, timer: (np.float32(12) * (alpha.astype(np.float32) - 0.5), 0.6)
    )
    page.click("#photo button[aria-label='Remove Image']")
    page.wait_for_selector("#retouch", state="hidden", timeout=WAIT)
    remove(page, tmp_path / "doubtful.png")
    wait(page, "document.querySelector('#message').innerText.includes('Retouch the result, try another provider')")
    page.click("#message button")
    page.wait_for_selector(".stage.retouching", timeout=WAIT)
    page.wait_for_selector("#retouch", timeout=WAIT)
    page.click("#strip button[aria-label='photo, Built-in']")
    page.wait_for_selector("#retouch", state="hidden", timeout=WAIT)
    wait(page, "width => rmbgViewer.scene().full[0] === width", WIDTH)


def test_strokes_survive_a_reload(page, tmp_path, calls):
    paint(page, (0.45, 0.5), (0.55, 0.5))
    color_is(page, 0.5, 0.5, NOTHING)
    erased = saved(page, tmp_path / "erased")
    page.reload()
    page.wait_for_selector("#result .stage", timeout=WAIT)
    page.wait_for_selector("#save:not([disabled])", timeout=WAIT)
    choose(page, "background", "Transparent")
    np.testing.assert_array_equal(saved(page, tmp_path / "reloaded"), erased)
    page.click("[data-viewer=retouch]")
    page.wait_for_selector(".stage.composed", timeout=WAIT)
    select(page, "erase")
    color_is(page, 0.5, 0.5, NOTHING)
    page.click("#retouch-undo")
    color_is(page, 0.5, 0.5, RED)
    assert saved(page, tmp_path / "undone")[HEIGHT // 2, WIDTH // 2, 3] == 255 and calls.count("photo") == 1
