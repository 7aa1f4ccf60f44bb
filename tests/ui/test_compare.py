"""The Compare tab in Chromium: results, consent, render options, panes, blind vote, downloads."""

from __future__ import annotations

import csv
import io
import os
import re
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rmbg.compare.votes import Votes
from rmbg.errors import ServiceError
from rmbg.providers import PROVIDERS
from tests.benchmark.fakes import Fake
from tests.browser import Chromium, dark_phone
from tests.conftest import launched, open_app, select_providers
from tests.pictures import scene
from tests.servers.web import until
from tests.ui.axe import violations

pytestmark = pytest.mark.browser

WAIT = 60_000

LONG_ERROR = (
    "The service is down. Its address is https://queue.example.org/models/background-removal/requests/"
    "764cabcf-b745-4b3e-ae38-1200304cf45b/status. Try again later."
)


@pytest.fixture(scope="module")
def fakes() -> Iterator[dict[str, Fake]]:
    """Fake providers, registered before the page is built."""
    down = Fake("down", "remote", "0.002", fail={"mug"}, error=ServiceError(LONG_ERROR))
    providers = [Fake("near"), Fake("far", "remote", "0.018"), down, Fake("slow")]
    PROVIDERS.update({fake.info.id: fake for fake in providers})
    yield {fake.info.id: fake for fake in providers}
    for fake in providers:
        del PROVIDERS[fake.info.id]


@pytest.fixture(scope="module")
def own_app(own_data: None, fakes: dict[str, Fake]) -> Iterator[str]:
    with launched() as url:
        yield url


@pytest.fixture
def calls(fakes: dict[str, Fake]) -> None:
    """Reset the fake providers."""
    for fake in fakes.values():
        fake.calls.clear()
    fakes["slow"].wait = 0.0


@pytest.fixture(scope="module")
def visit(chromium: Chromium, own_app: str) -> Iterator[Any]:
    """The Compare tab that the tests of this file share."""
    with chromium.visit() as page:
        open_app(page, own_app)
        page.click("button[role=tab]:has-text('Compare')")
        page.wait_for_selector("#compare-start", timeout=WAIT)
        yield page


@pytest.fixture
def page(visit: Any, calls: None) -> Any:
    """The shared page with default options and without a photo; the results of an earlier comparison stay."""
    for group, label in (("compare-view", "Cutout"), ("compare-background", "Transparent"), ("mode", "Difference")):
        option = visit.locator(f"#{group} label:has-text('{label}')").first
        if option.is_visible() and not option.locator("input").is_checked():
            option.click()
    if visit.is_visible("#grid [data-viewer=fit]"):
        visit.click("#grid [data-viewer=fit]")
    if visit.is_checked("#blind input"):
        visit.uncheck("#blind input")
    if "Added" in visit.inner_text("#compare-photos"):
        visit.click("#compare-only")
        wait(visit, "!document.querySelector('#compare-photos').innerText.includes('Added')")
    if visit.is_visible("#compare-photo button[aria-label='Remove Image']"):
        visit.click("#compare-photo button[aria-label='Remove Image']")
        visit.wait_for_selector("#compare-photo input[type=file]", state="attached", timeout=WAIT)
    return visit


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "mug.png"
    Image.fromarray(scene(300, 400)[0]).save(path)
    return path


def upload(page: Any, path: Path) -> None:
    page.set_input_files("#compare-photo input[type=file]", str(path))
    page.wait_for_selector("#compare-photo img", timeout=WAIT)


#: True if the page has no results of the comparison that was there when `mark_old` was called.
NO_OLD = "!document.querySelector('#grid .old, #figures .old')"


def mark_old(page: Any) -> None:
    page.evaluate("document.querySelectorAll('#grid figure, #figures table').forEach((old) => old.classList.add('old'))")


def start(page: Any, *, paid: bool = False) -> None:
    """Start a comparison, and wait until the page has no results of an earlier one."""
    mark_old(page)
    page.click("#compare-start")
    if paid:
        page.click("#compare-yes", timeout=WAIT)
    wait(page, NO_OLD)


def compare(page: Any, path: Path, *ids: str, paid: bool = False) -> None:
    upload(page, path)
    select_providers(page, "compare", *ids)
    start(page, paid=paid)
    page.wait_for_selector("#figures table", timeout=WAIT)
    page.wait_for_selector("#compare-start", timeout=WAIT)


def names(page: Any) -> list[str]:
    return page.locator("#grid figcaption strong").all_inner_texts()


def download(page: Any, button: str, folder: Path) -> Path:
    with page.expect_download(timeout=WAIT) as waiting:
        page.click(button)
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def test_photo_and_paid_result_are_handed_over(page, photo, fakes, tmp_path):
    """Remove to Compare, then a result back to Remove, without a second call of the paid provider.

    The first test, as it checks the charges of the visit.
    """
    page.click("button[role=tab]:has-text('Remove')")
    page.set_input_files("#photo input[type=file]", str(photo))
    page.wait_for_selector("#photo img", timeout=WAIT)
    page.click("#to-compare")
    page.wait_for_selector("#compare-photo img", timeout=WAIT)
    select_providers(page, "compare", "near", "far")
    page.click("#compare-start")
    page.wait_for_selector("#compare-yes", timeout=WAIT)
    question, answer = page.locator("#compare-message").bounding_box(), page.locator("#compare-yes").bounding_box()
    assert question["y"] + question["height"] <= answer["y"], "the question is above its answers"
    mark_old(page)
    page.click("#compare-yes", timeout=WAIT)
    wait(page, NO_OLD)
    page.click("#grid [data-use]:has-text('Far')", timeout=WAIT)
    page.wait_for_selector("#result .stage", timeout=WAIT)
    page.wait_for_function("document.querySelector('#facts').innerText.includes('$0.018 charged')", timeout=WAIT)
    assert page.inner_text("#facts").split()[:2] == ["mug", "Far"]
    assert page.inner_text("#total").count("Far: 1 picture, $0.018 charged") == 1
    page.wait_for_selector("#save:enabled", timeout=WAIT)
    assert Image.open(download(page, "#save", tmp_path)).size == (400, 300)
    page.wait_for_selector("#strip img", timeout=WAIT)
    page.click("#to-compare")
    page.click("#compare-start")  # a new comparison removes the results of the old one, except for the one in Remove
    page.click("#compare-yes", timeout=WAIT)
    assert until(lambda: len(fakes["far"].calls) == 2, WAIT / 1000)
    page.wait_for_selector("#compare-start", timeout=WAIT)
    page.wait_for_selector("#grid [data-use]", timeout=WAIT)
    page.click("button[role=tab]:has-text('Remove')")
    assert Image.open(download(page, "#save", tmp_path)).size == (400, 300)
    assert len(fakes["far"].calls) == 2, "one call for each comparison"
    page.click("#photo button[aria-label='Remove Image']")
    page.click("button[role=tab]:has-text('Compare')")


def test_results_figures_and_downloads(page, photo, fakes, tmp_path):
    compare(page, photo, "builtin", "near", "far", "down", paid=True)
    assert names(page) == ["Photo", "Built-in", "Near", "Far", "Down"]
    assert "The service is down." in page.inner_text("#grid")
    assert "1 of 4 providers failed" in page.inner_text("#compare-message")
    sizes = {
        (box["width"], box["height"]) for box in (v.bounding_box() for v in page.locator("#grid :is(.stage, .waiting)").all())
    }
    assert len({(round(w), round(h)) for w, h in sizes}) == 1, "panes are of equal size"
    text = page.inner_text("#figures")
    assert "$0.018 charged" in text and "$1,800" in text and "reference" in text and "estimated" in text
    assert LONG_ERROR in text and "Estimate without a reference" in text
    wide, shown = page.evaluate("(e => [e.scrollWidth, e.clientWidth])(document.querySelector('#figures .scroll'))")
    assert wide <= shown, "the table fits, and the long error wraps below the provider's name"

    with zipfile.ZipFile(download(page, "#save-zip", tmp_path)) as archive:
        assert archive.namelist() == ["mug-builtin.png", "mug-near.png", "mug-far.png"]
        assert Image.open(io.BytesIO(archive.read("mug-far.png"))).size == (400, 300)
    sheet = Image.open(download(page, "#save-sheet", tmp_path))
    assert sheet.format == "PNG" and sheet.width > 4 * 400
    lines = list(csv.DictReader(download(page, "#save-csv", tmp_path).read_text().splitlines()))
    assert [line["provider"] for line in lines] == ["builtin", "near", "far", "down"]
    assert [len(fakes[name].calls) for name in ("near", "far", "down")] == [1, 1, 1]

    open_ratings(page)
    is_accessible(page)
    with dark_phone(page):
        is_accessible(page)


def is_accessible(page: Any) -> None:
    """Check the tab with axe-core after a comparison; test_theme.py checks it before."""
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "the page scrolls sideways"
    wide, shown = page.evaluate("(e => [e.scrollWidth, e.clientWidth])(document.querySelector('#figures .scroll'))")
    assert wide <= shown, "all figures are visible"


def test_declined_consent_runs_no_provider(page, photo, fakes):
    upload(page, photo)
    select_providers(page, "compare", "near", "far")
    page.wait_for_function("document.querySelector('#price').innerText.includes('about $0.018')", timeout=WAIT)
    page.click("#compare-start")
    page.wait_for_selector("#compare-yes", timeout=WAIT)
    assert "This sends your photo to Far" in page.inner_text("#compare-message")
    page.click("#compare-no")
    page.wait_for_selector("#compare-yes", state="hidden", timeout=WAIT)
    assert not fakes["near"].calls and not fakes["far"].calls


def test_service_needs_a_key(page, photo):
    upload(page, photo)
    select_providers(page, "compare", "near", "runware-rmbg-2.0")
    page.click("#compare-start")
    wait(page, "document.querySelector('#compare-message').innerText.includes('Runware: RMBG 2.0 is not ready: needs a key')")
    page.click("#compare-keys button:has-text('Your keys')")
    page.fill("#compare-key-RUNWARE_API_KEY input", "some-key")
    page.click("#compare-start")
    page.wait_for_selector("#compare-yes", timeout=WAIT)
    page.click("#compare-no")
    page.fill("#compare-key-RUNWARE_API_KEY input", "")


def wait(page: Any, condition: str, argument: Any = None) -> None:
    page.wait_for_function(condition, arg=argument, timeout=WAIT)


def settled(page: Any) -> None:
    """Wait until the pictures of all panes are decoded."""
    wait(page, "[...document.querySelectorAll('#grid .stage > .layer img.after')].every((image) => image.naturalWidth > 0)")


#: Pictures of the panes as displayed.
SOURCES = "[...document.querySelectorAll('#grid .stage > .layer img.after')].map((image) => image.src)"

#: Transforms of the panes, rounded because columns differ by a hundredth of a pixel.
TRANSFORMS = """[...document.querySelectorAll('#grid .stage > .layer .camera')].map((camera) => {
    const { a, e, f } = new DOMMatrix(getComputedStyle(camera).transform);
    return [a, e, f].map((number) => Math.round(10 * number) / 10).join();
})"""


def test_render_options_apply_to_all_results_without_requests(page, photo, fakes):
    compare(page, photo, "builtin", "near")
    settled(page)
    before = page.evaluate(SOURCES)
    changed = f"old => {{ const now = {SOURCES}; return now[0] === old[0] && now[1] !== old[1] && now[2] !== old[2]; }}"
    page.click("#compare-view label:has-text('Mask')")
    wait(page, changed, before)
    page.click("#compare-view label:has-text('Cutout')")
    wait(page, f"old => String({SOURCES}) === String(old)", before)
    settled(page)
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url))
    page.click("#compare-background label:has-text('White')")
    grounds = (
        "[...document.querySelectorAll('#grid .stage > .layer .backdrop')].map((e) => getComputedStyle(e).backgroundColor)"
    )
    wait(page, f"String({grounds}.slice(1)) === 'rgb(255, 255, 255),rgb(255, 255, 255)'")
    page.click("#compare-background label:has-text('Blur')")
    wait(page, "document.querySelectorAll('#grid .stage > .layer .backdrop')[2].style.background.includes('blur.webp')")
    page.click("#compare-background label:has-text('Transparent')")
    assert not [url for url in urls if "file=" not in url], "the browser composes views and backgrounds"
    assert len(fakes["near"].calls) == 1


def test_panes_zoom_move_and_magnify_together_at_full_size(page, tmp_path):
    path = tmp_path / "large.png"
    Image.fromarray(scene(1800, 2400)[0]).save(path)
    compare(page, path, "builtin", "near")
    settled(page)
    page.click("#grid [data-viewer=actual]")
    wait(page, "document.querySelectorAll('#grid .stage.detailed').length === 3")
    details = "[...document.querySelectorAll('#grid .stage > .layer img.detail')]"
    for width, share in page.evaluate(f"{details}.map((image) => [image.naturalWidth, image.style.width])"):
        assert width == pytest.approx(float(share.rstrip("%")) / 100 * 2400, abs=1), "one pixel for each pixel of the photo"
    zoomed = page.evaluate(TRANSFORMS)
    assert len(set(zoomed)) == 1 and float(zoomed[0].split(",")[0]) > 4

    box = page.locator("#grid .stage").nth(2).bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 30, box["y"] + 40, steps=3)
    page.mouse.up()
    moved = page.evaluate(TRANSFORMS)
    assert len(set(moved)) == 1 and moved != zoomed
    page.click("#compare-view label:has-text('Mask')")
    wait(
        page,
        "document.querySelectorAll('#grid img.after')[1].alt.startsWith('Mask') && document.querySelector('#grid .detailed')",
    )
    assert page.evaluate(TRANSFORMS) == moved, "a change of view keeps zoom and position"

    page.focus("#grid .stage >> nth=0")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(TRANSFORMS) != moved
    page.keyboard.press("0")
    assert page.evaluate(TRANSFORMS) == ["1,0,0"] * 3
    page.locator("#grid .stage").nth(2).hover()
    page.mouse.wheel(0, -150)
    wait(page, f"new Set({TRANSFORMS}).size === 1 && {TRANSFORMS}[0] !== '1,0,0'")
    page.click("#grid [data-viewer=fit]")

    page.click("#grid [data-viewer=loupe]")
    page.locator("#grid .stage").nth(1).hover()
    page.mouse.wheel(0, -100)
    wait(page, "document.querySelectorAll('#grid .glass.detailed').length === 3")
    page.click("#grid [data-viewer=loupe]")
    assert page.locator("#grid .glass").count() == 0


def test_pair_view_with_difference_map_and_slider(page, photo):
    compare(page, photo, "builtin", "near", "slow")
    page.wait_for_selector("#pair .legend", timeout=WAIT)
    assert "kept only by Built-in" in page.inner_text("#pair")
    page.click("#second input")
    page.click("[role=option]:has-text('Slow')")
    page.wait_for_function("document.querySelector('#pair').innerText.includes('kept only by Slow')", timeout=WAIT)
    page.click("#mode label:has-text('Slider')")
    page.wait_for_selector("#pair .split", state="attached", timeout=WAIT)
    wait(page, "[...document.querySelectorAll('#pair img:not(.detail)')].every((image) => image.naturalWidth > 0)")
    assert page.evaluate("[...document.querySelectorAll('#pair img:not(.detail)')].map((image) => image.alt)") == [
        "Cutout by Slow",
        "Cutout by Built-in",
    ]
    page.click("#pair [data-viewer=in]")
    wait(page, "document.querySelector('#pair .stage.zoomed') && !document.querySelector('#grid .stage.zoomed')")
    page.click("#reference input")
    page.click("[role=option]:has-text('Near')")
    row = "Array.from(document.querySelectorAll('#figures tr')).find(r => r.innerText.includes('Near'))"
    page.wait_for_function(f"{row}.innerText.includes('reference')", timeout=WAIT)


def open_ratings(page: Any) -> None:
    if not page.is_visible("#save-votes"):
        page.click("button:has-text('Ratings from blind votes')")
        page.wait_for_selector("#save-votes", timeout=WAIT)


def test_blind_comparison_hides_names_until_the_vote(page, photo):
    votes = Votes(Path(os.environ["RMBG_DATA"]) / "votes.sqlite3")
    count = len(votes.all())
    upload(page, photo)
    select_providers(page, "compare", "builtin", "near", "slow")
    page.click("#blind input")
    start(page)
    page.wait_for_selector("#cast", timeout=WAIT)
    assert names(page) == ["Photo", "A", "B", "C"]
    settled(page)
    before_vote = page.evaluate(SOURCES)
    page.click("#grid [data-viewer=in]")
    wait(page, f"new Set({TRANSFORMS}).size === 1 && {TRANSFORMS}[0].startsWith('1.5')")
    page.click("#second input")
    page.click("[role=option]:has-text('C')")
    page.wait_for_function("document.querySelector('#pair').innerText.includes('kept only by C')", timeout=WAIT)
    assert page.locator("#grid [data-use]").count() == 0
    assert not page.is_visible("#figures") and not page.is_visible("#save-zip")
    whole = page.inner_text("#grid") + page.inner_text("#pair") + page.inner_text("#vote")
    assert not any(title in whole for title in ("Built-in", "Near", "Slow", " s ·", "$"))
    page.click("#cast")
    page.wait_for_function("document.querySelector('#compare-message').innerText.includes('Choose the best')", timeout=WAIT)
    page.click("#vote label:has-text('Result B')")
    page.click("#cast")
    page.wait_for_selector("#figures table", timeout=WAIT)
    message = page.inner_text("#compare-message")
    drawn, winner = votes.all()[-1]
    titles = [f"{letter}: {PROVIDERS[name].info.title}" for letter, name in zip("ABC", drawn, strict=True)]
    assert names(page) == ["Photo", *titles], "letters and order stay, names are added"
    assert page.evaluate(SOURCES) == before_vote
    assert {zoom.split(",")[0] for zoom in page.evaluate(TRANSFORMS)} == {"1.5"}, "the zoom stays"
    assert page.locator("#figures tbody th").all_inner_texts()[1].startswith(titles[1])
    page.wait_for_function(f"document.querySelector('#pair').innerText.includes('kept only by {titles[2]}')", timeout=WAIT)
    assert page.input_value("#second input") == titles[2], "the selected pair stays"
    assert winner == drawn[1] and f"You chose {PROVIDERS[winner].info.title}" in message
    assert f"B: {PROVIDERS[winner].info.title}" in message
    assert len(votes.all()) == count + 1
    assert not page.is_visible("#cast")
    open_ratings(page)
    page.wait_for_selector("#ratings table", timeout=WAIT)
    rated = page.inner_text("#ratings")
    assert f"{count + 1} vote" in rated and "Built-in" in rated and "1 of 10 votes" in rated
    assert not re.search(r"\d+ to \d+", rated), "there is no interval before ten votes"


def test_cancel_keeps_completed_results(page, photo, fakes):
    fakes["slow"].wait = 60.0
    upload(page, photo)
    select_providers(page, "compare", "near", "slow")
    start(page)
    wait(page, "document.querySelectorAll('#grid .stage').length === 2")
    page.click("#compare-cancel")
    page.wait_for_selector("#figures table", timeout=WAIT)
    assert "Stopped." in page.inner_text("#grid")
    assert np.all([not thread.name.startswith("compare") or not fakes["slow"].at_once for thread in threading.enumerate()])


def test_comparison_survives_a_reload_until_it_is_deleted(page, photo, fakes):
    """The providers that are running at the reload are not stopped."""
    fakes["slow"].wait = 3.0
    upload(page, photo)
    select_providers(page, "compare", "near", "slow")
    page.click("#compare-start")
    assert until(lambda: fakes["slow"].at_once == 1, WAIT / 1000)
    page.reload()
    page.wait_for_selector("#figures table", timeout=WAIT)
    page.wait_for_selector("#compare-start", timeout=WAIT)
    settled(page)
    assert names(page) == ["Photo", "Near", "Slow"] and page.locator("#grid [data-use]").count() == 2
    page.wait_for_selector("#compare-photo img", timeout=WAIT)
    assert "kept only by Near" in page.inner_text("#pair")
    assert [len(fakes[name].calls) for name in ("near", "slow")] == [1, 1]
    page.reload()
    page.wait_for_selector("#grid .stage", timeout=WAIT)
    page.click("#delete-all")
    page.click("#delete-yes")
    page.wait_for_selector("#grid .empty", timeout=WAIT)
    assert page.query_selector("#compare-photo img") is None


def test_several_photos_have_one_table(page, photo, fakes, tmp_path):
    other = tmp_path / "cup.png"
    Image.fromarray(scene(320, 420)[0]).save(other)
    upload(page, photo)
    page.click("#compare-add")
    wait(page, "document.querySelector('#compare-photos').innerText.includes('mug.png')")
    wait(page, "!document.querySelector('#compare-photo img')")
    upload(page, other)
    select_providers(page, "compare", "near", "far", "down")
    wait(page, "document.querySelector('#price').innerText.includes('for 2 photos: about $0.04.')")
    page.click("#blind input")
    page.click("#compare-start")
    wait(page, "document.querySelector('#compare-message').innerText.includes('takes one photo')")
    page.click("#blind input")
    page.click("#compare-start")
    page.wait_for_selector("#compare-yes", timeout=WAIT)
    assert "your 2 photos to Far, Down. Expected charge: about $0.04." in page.inner_text("#compare-message")
    assert not fakes["near"].calls
    page.click("#compare-yes")
    wait(page, "document.querySelectorAll('#all-photos tbody tr').length === 9")
    page.wait_for_selector("#figures table", timeout=WAIT)
    page.wait_for_selector("#compare-start", timeout=WAIT)
    assert [fakes[name].calls for name in ("near", "far", "down")] == [["mug", "cup"]] * 3
    rows = [re.sub(r"\s+", " ", row.inner_text()) for row in page.locator("#all-photos tbody tr").all()]
    assert any("mug, Down" in row and "The service is down." in row for row in rows)
    assert any(row.startswith("Far, all photos 0.25 $0.036 charged") for row in rows)
    assert any("Down, all photos" in row and "1 of 2 photos failed." in row for row in rows)

    page.click("#all-photos button:has-text('mug, Near')")
    wait(page, "document.querySelector('#all-photos .shown').innerText.includes('mug')")
    settled(page)
    assert "The service is down." in page.inner_text("#grid") and page.locator("#grid .stage").count() == 3
    page.reload()
    wait(page, "document.querySelectorAll('#all-photos tbody tr').length === 9")
    assert "mug.png" in page.inner_text("#compare-photos")
    assert violations(page) == []
    page.click("#compare-only")
    wait(page, "!document.querySelector('#compare-photos').innerText.includes('mug.png')")
    assert [len(fakes[name].calls) for name in ("near", "far", "down")] == [2, 2, 2]


def test_missing_photo_and_missing_selection_are_reported(page, photo):
    page.click("#compare-start")
    wait(page, "document.querySelector('#compare-message').innerText.includes('Choose a photo first')")
    upload(page, photo)
    select_providers(page, "compare")
    page.click("#compare-start")
    page.wait_for_function("document.querySelector('#compare-message').innerText.includes('at least two')", timeout=WAIT)
