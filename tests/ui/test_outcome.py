"""Outcomes of the Remove tab: a result belongs to its photo, messages are seen and announced, the strip of results."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rmbg.cutout import Cutout
from rmbg.errors import OutputError
from rmbg.images import encode
from rmbg.images.photo import open_photo
from rmbg.inference import builtin_runner
from rmbg.providers import PROVIDERS, builtin
from rmbg.settings import Settings
from rmbg.ui import pictures
from rmbg.ui.components import viewer
from rmbg.ui.components.inputs import Upload
from rmbg.ui.runs import PROVIDER_SHARE, LateProgress, shown_progress
from rmbg.ui.session import Session
from rmbg.ui.storage import storage
from rmbg.ui.tabs import removal, remove_actions, strip
from tests.browser import PHONE, Chromium
from tests.conftest import open_app
from tests.pictures import scene
from tests.ui.test_page import WAIT, clear, download, message_is, remove, upload
from tests.ui.test_queue import BlockingProvider, Visitor
from tests.ui.test_session import add, cutout

IN_VIEW = """(selector) => {
    const element = document.querySelector(selector);
    if (!element) return false;
    const box = element.getBoundingClientRect();
    return box.height > 0 && box.top >= 0 && box.left >= 0 && box.right <= innerWidth && box.bottom <= innerHeight;
}"""

FOCUSED = "(selector) => document.activeElement?.matches(selector) ?? false"

ANNOUNCED = "([role, text]) => document.querySelector(`body > [role=${role}]`)?.textContent.includes(text)"

EMPTY = "document.querySelector('#result .empty') && !document.querySelector('#result .stage')"

NO_MESSAGE = "!document.querySelector('#message .notice')"


@pytest.fixture
def session(own_data: None) -> Iterator[Session]:
    session = Session()
    yield session
    session.close()


def picture(folder: Path, name: str, height: int = 60, width: int = 80) -> Upload:
    path = folder / f"{name}.png"
    Image.fromarray(scene(height, width)[0]).save(path)
    return Upload(str(path), path.name)


def run(session: Session, chosen: Upload) -> tuple[Any, ...]:
    """Remove the background of a photo as after a click on Start; returns the updates of the page."""
    *_, last = removal.remove(remove_actions.start_run(session, chosen)[0], chosen, "builtin", "", {}, session, None)
    return last


def is_skipped(update: Any) -> bool:
    return update == {"__type__": "update"}


def test_result_leaves_the_viewer_with_its_photo(session, tmp_path):
    first, second = picture(tmp_path, "first"), picture(tmp_path, "second")
    remove_actions.choose(session, first)
    run(session, first)
    assert session.current is not None and session.current.facts.photo.name == "first"
    assert all(is_skipped(update) for update in remove_actions.choose(session, first)), "a repeated event changes nothing"
    result, facts, save = remove_actions.choose(session, second)
    assert session.current is None and len(session.results) == 1
    assert "appears here" in result and facts == "" and save["interactive"] is False


def test_failure_shows_no_result_of_another_photo(session, tmp_path):
    """Also if the result of another photo was selected in the strip before the click on Start."""
    first = picture(tmp_path, "first")
    run(session, first)
    Image.new("RGB", (80, 60), (90, 120, 150)).save(tmp_path / "plain.png")
    plain = Upload(str(tmp_path / "plain.png"), "plain.png")
    remove_actions.choose(session, plain)
    session.current = session.results[0]
    started = remove_actions.start_run(session, plain)
    assert session.current is None and "appears here" in started[4] and started[6]["interactive"] is False
    (updates,) = removal.remove(started[0], plain, "builtin", "", {}, session, None)
    message = updates[2]
    assert "No clear subject" in message and session.current is None


def test_result_of_a_photo_that_was_replaced_meanwhile_is_in_the_strip_only(session, tmp_path, monkeypatch):
    first, second = picture(tmp_path, "first"), picture(tmp_path, "second")

    class Slow(builtin.Builtin):
        def cut(self, *arguments: Any) -> Cutout:
            remove_actions.choose(session, second)
            return super().cut(*arguments)

    monkeypatch.setitem(PROVIDERS, "builtin", Slow())
    page, facts, message, gallery, _, save = run(session, first)
    assert session.current is None and [result.facts.photo.name for result in session.strip] == ["first"]
    assert all(is_skipped(update) for update in (page, facts, save)) and "first is finished" in message
    assert len(gallery["value"]) == 1


def test_unexpected_exception_is_reported_without_details(session, tmp_path, monkeypatch):
    def fail(*arguments: Any) -> Cutout:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(builtin.Builtin, "cut", fail)
    _, _, message, *_ = run(session, picture(tmp_path, "any"))
    assert "internal error" in message and "secret" not in message and "ZeroDivision" not in message


def test_low_confidence_is_said_above_the_result(session, tmp_path, monkeypatch):
    alpha = scene(60, 80)[1]
    monkeypatch.setattr(
        builtin_runner, "predict", lambda rgb, plan, timer: (np.float32(12) * (alpha.astype(np.float32) - 0.5), 0.6)
    )
    _, facts, message, *_ = run(session, picture(tmp_path, "doubtful"))
    assert "Confidence: low" in facts and "doubtful" in facts and "confidence in this result" not in facts
    assert "notice warning" in message and "Retouch the result, try another provider" in message
    assert "<button" in message, "it opens the retouch tools"
    assert remove_actions.show(session)[2] == message, "it stays with other display options"


def test_thumbnails_are_rendered_once(session, monkeypatch):
    pictures = []
    encoded = encode.encode
    monkeypatch.setattr(encode, "encode", lambda *args, **kwargs: pictures.append(1) or encoded(*args, **kwargs))
    for count in range(1, 5):
        add(session, cutout(20, 20))
        gallery = strip.update(session)
        assert len(gallery["value"]) == len(pictures) == count


def test_deleted_results_leave_no_files(session):
    results = [add(session, cutout(20, 20)) for _ in range(3)]
    strip.update(session)
    files = [path for result in results for path in (result.folder, Path(result.pictures["strip"][1]))]
    assert all(path.exists() for path in files)
    *_, gallery = strip.delete_shown(session)
    assert session.results == results[:2] and session.current is None and len(gallery["value"]) == 2
    assert [path.exists() for path in files] == [True] * 4 + [False] * 2
    assert "Select one" in strip.delete_shown(session)[3]
    *_, gallery = strip.delete_all(session)
    assert session.results == [] and gallery["visible"] is False and not any(path.exists() for path in files)


def test_archive_has_a_file_for_each_result(session):
    path = pictures.write(session.owner, [("a.png", b"1"), ("a.png", b"2"), ("b.png", b"3"), ("a.png", b"4")])
    with zipfile.ZipFile(path) as packed:
        assert {name: packed.read(name) for name in packed.namelist()} == {
            "a.png": b"1",
            "a-2.png": b"2",
            "b.png": b"3",
            "a-3.png": b"4",
        }
    storage().discard(Path(path))


def test_archive_stays_within_the_quota(session, monkeypatch):
    kept = add(session, cutout(20, 20))
    before = {path for path in storage().root.uploads.rglob("*") if path.is_file()}
    monkeypatch.setattr(storage(), "session_bytes", storage().bytes_of(session.owner) + 1000)
    with pytest.raises(OutputError, match="larger than this server keeps"):
        pictures.write(session.owner, ((f"{number}.png", bytes(600)) for number in range(2)))
    assert kept.is_stored(), "no result was evicted"
    assert {path for path in storage().root.uploads.rglob("*") if path.is_file()} == before


def test_progress_of_a_provider_is_a_part_of_the_removal():
    shown: list[tuple[float, str]] = []
    show = shown_progress(lambda done, desc: shown.append((done, desc)))
    builtin.Builtin().cut(
        open_photo(Image.fromarray(scene(60, 80)[0])), {}, builtin.RequestContext(Settings.from_environ(), None, show)
    )
    show(None, "A step without a fraction")
    fractions = [done for done, _ in shown]
    assert fractions == sorted(fractions) and fractions[0] > 0 and fractions[-1] < PROVIDER_SHARE
    assert len({text for _, text in shown}) == len(shown) >= 4, "each stage has a name"


def test_progress_of_a_short_run_is_not_reported():
    shown: list[tuple[float | None, str]] = []
    progress = LateProgress(lambda done, text: shown.append((done, text)), seconds=3600)
    for done, text in ((0.0, "first"), (0.1, "second")):
        progress(done, text)
    assert shown == []
    progress.begin()
    progress(0.2, "third")
    assert shown == [(0.1, "second"), (0.2, "third")]
    progress.end()
    reported = threading.Event()
    progress = LateProgress(lambda done, text: reported.set(), seconds=0.01)
    progress(None, "a long step")
    assert reported.wait(60)


def test_no_duration_is_predicted(app):
    """The second run would have an estimate: the duration of the first one."""
    for name in ("estimate-1", "estimate-2"):
        messages = list(Visitor(app, name, (60, 80)).start())
        assert [message["eta"] for message in messages if message["msg"] == "process_starts"] == [None]
        assert [m["rank_eta"] for m in messages if m["msg"] == "estimation"].count(None) >= 1


def test_message_has_no_role_of_its_own():
    """Otherwise it would be announced twice."""
    assert "role=" not in viewer.notice("A message.") and 'tabindex="-1"' in viewer.notice("A message.")


@pytest.fixture(scope="module")
def phone_visit(chromium: Chromium, app: str) -> Iterator[Any]:
    """The page on a phone, which the tests of this file share."""
    with chromium.visit(PHONE) as page:
        open_app(page, app)
        yield page


@pytest.fixture
def phone(phone_visit: Any) -> Any:
    """The shared page with an empty Remove tab."""
    clear(phone_visit)
    return phone_visit


def clear_photo(page: Any) -> None:
    page.click("#photo button[aria-label='Remove Image']")
    page.wait_for_selector("#photo input[type=file]", state="attached", timeout=WAIT)
    page.wait_for_function(EMPTY, timeout=WAIT)


@pytest.mark.browser
def test_outcomes_are_seen_announced_and_belong_to_their_photo(phone, tmp_path):
    page = phone
    page.click("#start")
    message_is(page, "Choose a photo first")
    page.wait_for_function(IN_VIEW, arg="#message .notice.error", timeout=WAIT)
    page.wait_for_function(FOCUSED, arg="#message .notice", timeout=WAIT)
    page.wait_for_function(ANNOUNCED, arg=["alert", "Choose a photo first"], timeout=WAIT)

    mug, plain = Path(picture(tmp_path, "mug", 300, 400).path), tmp_path / "plain.png"
    Image.new("RGB", (300, 200), (90, 120, 150)).save(plain)
    remove(page, mug)
    page.wait_for_function(FOCUSED, arg="#result", timeout=WAIT)
    page.wait_for_function(ANNOUNCED, arg=["status", "Confidence: high"], timeout=WAIT)
    in_place = "(top => 0 <= top && top < 300)(document.querySelector('#result').getBoundingClientRect().top)"
    page.wait_for_function(in_place, timeout=WAIT)
    assert page.inner_text("#facts").startswith("mug")
    assert page.query_selector("#message .notice") is None and page.is_enabled("#save")

    clear_photo(page)
    page.wait_for_selector("#save[disabled]", timeout=WAIT)
    assert "mug" not in page.inner_text("#facts")
    upload(page, plain)
    page.click("#start")
    message_is(page, "No clear subject")
    page.wait_for_function(IN_VIEW, arg="#message .notice.error", timeout=WAIT)
    page.wait_for_selector("#start", timeout=WAIT)
    assert page.evaluate(EMPTY) and page.is_disabled("#save")

    page.click("#strip button[aria-label='mug, Built-in']")
    page.wait_for_selector("#result .stage", timeout=WAIT)
    page.wait_for_selector("#save:not([disabled])", timeout=WAIT)
    page.wait_for_function(NO_MESSAGE, timeout=WAIT)
    assert page.inner_text("#facts").startswith("mug")
    assert download(page, tmp_path).name == "mug-cutout.png"

    clear_photo(page)
    page.click("#strip button[aria-label='mug, Built-in']")
    page.wait_for_selector("#result .stage", timeout=WAIT)


@pytest.mark.browser
def test_field_keeps_the_focus_and_a_message_leaves_with_its_photo(phone, tmp_path):
    page = phone
    field = "#address input, #address textarea"
    page.fill(field, "file:///etc/passwd")
    page.press(field, "Enter")
    message_is(page, "not a valid web address")
    page.wait_for_function(IN_VIEW, arg="#message .notice.error", timeout=WAIT)
    page.wait_for_function(ANNOUNCED, arg=["alert", "not a valid web address"], timeout=WAIT)
    assert page.evaluate(FOCUSED, field)
    page.click("#examples button >> nth=0")
    page.wait_for_selector("#photo img", timeout=WAIT)
    page.wait_for_function(NO_MESSAGE, timeout=WAIT)


@pytest.mark.browser
def test_strip_is_downloaded_and_deleted(phone, tmp_path, monkeypatch, request):
    page = phone
    blocking = BlockingProvider()
    request.addfinalizer(blocking.release.set)  # a failure must not block the other tests
    monkeypatch.setitem(PROVIDERS, "builtin", blocking)
    first, second = (Path(picture(tmp_path, name, 60, 80).path) for name in ("first", "second"))
    upload(page, first)
    page.click("#start")
    assert blocking.started.wait(120)
    clear_photo(page)  # during the run
    upload(page, second)
    page.wait_for_function(EMPTY, timeout=WAIT)
    blocking.release.set()
    message_is(page, "first is finished")
    assert page.evaluate(EMPTY) and page.is_disabled("#save")
    page.wait_for_selector("#start", timeout=WAIT)
    page.click("#start")
    page.wait_for_selector("#result .stage", timeout=WAIT)
    page.wait_for_function("document.querySelectorAll('#strip img').length === 2", timeout=WAIT)
    names = page.eval_on_selector_all("#strip button.thumbnail-item", "buttons => buttons.map(b => b.innerText.trim())")
    assert names == ["second, Built-in", "first, Built-in"], "newest first"

    with page.expect_download(timeout=WAIT) as waiting:
        page.click("#strip-zip")
    waiting.value.save_as(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as packed:
        assert packed.namelist() == ["second-cutout.png", "first-cutout.png"]

    page.click("#strip-delete")
    message_is(page, "The result of second was deleted.")
    page.wait_for_function("document.querySelectorAll('#strip img').length === 1", timeout=WAIT)
    assert page.evaluate(EMPTY) and page.is_disabled("#save")
    page.click("#strip-clear")
    page.click("#strip-yes")
    message_is(page, "All results of this session were deleted.")
    page.wait_for_selector("#strip img", state="detached", timeout=WAIT)
    page.wait_for_selector("#strip-zip", state="hidden", timeout=WAIT)
    page.wait_for_selector("#strip-yes", state="hidden", timeout=WAIT)


@pytest.mark.browser
def test_phone_has_no_empty_area_among_the_options(phone):
    """Before a result: each row between the result and Download has a visible control in each of its columns."""
    page = phone
    page.wait_for_selector("#canvas", timeout=WAIT)
    bottom = page.locator("#view").bounding_box()
    canvas, below = page.locator("#canvas").bounding_box(), page.locator("#format").bounding_box()
    assert below["y"] - (bottom["y"] + bottom["height"]) < 130 and canvas["width"] > 300
    page.click("#background label[data-testid='Gradient-radio-label']")
    page.wait_for_selector("#background-options .for-gradient", state="visible", timeout=WAIT)
    assert page.locator("#format").bounding_box()["y"] <= below["y"] + 8, "the colors are beside the size"
    assert page.locator("#background-options").bounding_box()["x"] > canvas["x"]
