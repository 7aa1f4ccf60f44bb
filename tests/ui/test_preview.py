"""Result in the Remove tab before its full size: shown first, completed, cancelled, deleted, failed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rmbg.errors import PhotoError, RmbgError
from rmbg.images.photo import Photo, open_photo
from rmbg.matting.foreground import finish
from rmbg.providers import local
from rmbg.remove import remove_background
from rmbg.ui import results
from rmbg.ui.components.inputs import DecodedPhotos, Upload
from rmbg.ui.results import PREVIEW_SIDE, shrink
from rmbg.ui.session import Session
from rmbg.ui.storage import VISITOR
from rmbg.ui.tabs import edits, removal, remove_actions
from tests.pictures import scene

WIDTH, HEIGHT = 2000, 1500

WAIT = 60_000


class Gate:
    """Holds the computation at full size until it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.sizes: list[int] = []

    def finish(self, photo: Photo, matte: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.sizes.append(photo.width)
        if photo.width == WIDTH:
            assert self.opened.wait(60)
        return finish(photo, matte)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    monkeypatch.setattr(local, "finish", gate.finish)
    yield gate
    gate.opened.set()


@pytest.fixture
def session(own_data: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    monkeypatch.setattr(removal, "DISPLAY_SECONDS", 0)
    session = Session()
    yield session
    session.close()


@pytest.fixture
def upload(tmp_path: Path) -> Upload:
    path = tmp_path / "large.png"
    Image.fromarray(scene(HEIGHT // 5, WIDTH // 5)[0]).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(path)
    return Upload(str(path), path.name)


def begin(session: Session, upload: Upload) -> Iterator[tuple[Any, ...]]:
    return removal.remove(remove_actions.start_run(session, upload)[0], upload, "builtin", "", {}, session, None)


def is_skipped(update: Any) -> bool:
    return update == {"__type__": "update"}


def test_preview_is_followed_by_the_cutout_of_the_command_line(session, upload, gate):
    updates = begin(session, upload)
    page, facts, message, strip, total, save = next(updates)
    result = session.current
    assert result is not None and result.pending and (result.width, result.height) == (WIDTH, HEIGHT)
    assert "data-scene" in page and f'data-preview="{result.id}"' in facts and "full size" in facts
    assert is_skipped(strip) and is_skipped(total) and save["interactive"] is True and message == ""
    assert max(result.preview.width, result.preview.height) == PREVIEW_SIDE
    assert "is being computed" in remove_actions.part(session, "0,0,100,100,100", "cutout"), "a zoom does not wait"
    full: list[Any] = []
    waiting = threading.Thread(target=lambda: full.append(result.full()))
    waiting.start()
    assert not full and result.pending
    gate.opened.set()
    (last,) = updates
    waiting.join(60)
    assert is_skipped(last[0]), "the pictures stay"
    assert "data-preview" not in last[1] and " s (" in last[1] and "inference" in last[1] and "post-processing" in last[1]
    expected = remove_background(open_photo(upload.path))
    assert np.abs(full[0].matte - expected.matte).max() <= 0.5 / 65535 + 1e-7
    assert np.array_equal(full[0].foreground, expected.foreground)
    assert np.abs(result.preview.matte - shrink(expected, PREVIEW_SIDE).matte).mean() < 2e-3
    assert result.facts.timings is not None and session.spend.line() and not session.removals.active


def test_full_size_waits_for_the_display_of_the_preview(session, upload, gate, monkeypatch):
    monkeypatch.setattr(removal, "DISPLAY_SECONDS", 60)
    updates = begin(session, upload)
    next(updates)
    assert gate.sizes == [PREVIEW_SIDE]
    edits.controls_of(session, "")
    gate.opened.set()
    list(updates)
    assert gate.sizes == [PREVIEW_SIDE, WIDTH]


def test_run_continues_without_its_page(session, upload, gate):
    updates = begin(session, upload)
    next(updates)
    updates.close()  # type: ignore[attr-defined]
    gate.opened.set()
    result = session.results[0]
    assert result.full().width == WIDTH and not result.pending


def test_cancelled_preview_leaves_the_page(session, upload, gate):
    updates = begin(session, upload)
    next(updates)
    result = session.results[0]
    stopped = remove_actions.stop(session)
    assert "Stopped" in stopped[2] and "appears here" in stopped[5] and stopped[6] == "" and stopped[7]["interactive"] is False
    assert session.results == [] and session.current is None
    with pytest.raises(PhotoError, match="not finished"):
        result.full()
    gate.opened.set()
    list(updates)
    assert session.results == [] and not session.removals.active
    assert not list(session.own_folder().iterdir()), "no files remain"


def test_deleted_preview_does_not_come_back(session, upload, gate):
    updates = begin(session, upload)
    next(updates)
    session.delete(session.results)
    gate.opened.set()
    (last,) = updates
    assert all(is_skipped(update) for update in last), "the message about the deletion stays"
    assert session.results == [] and not list(session.own_folder().iterdir())


def test_error_after_the_preview_is_shown_in_its_place(session, upload, monkeypatch):
    def full(*arguments: Any) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results, "save", full)
    preview, last = begin(session, upload)
    assert "data-scene" in preview[0]
    assert "appears here" in last[0] and last[1] == "" and "notice error" in last[2] and "No space left" in last[2]
    assert last[5]["interactive"] is False and session.results == []


@pytest.fixture
def small(tmp_path: Path) -> Upload:
    path = tmp_path / "small.png"
    Image.fromarray(scene(60, 80)[0]).save(path)
    return Upload(str(path), path.name)


def test_small_photos_are_shown_before_they_are_stored(session, small, monkeypatch):
    stored, save = threading.Event(), results.save

    def slow(*arguments: Any) -> Path:
        assert stored.wait(60)
        return save(*arguments)

    monkeypatch.setattr(results, "save", slow)
    updates = begin(session, small)
    page, facts, message, strip, total, download = next(updates)
    result = session.current
    assert result is not None and result.pending and "data-scene" in page and message == ""
    assert "data-preview" not in facts and " s (" in facts and "1 picture" in total, "the figures are final"
    assert is_skipped(strip) and download["interactive"] is True
    remove_actions.stop(session)
    assert session.results == [result], "it is finished already"
    stored.set()
    (last,) = updates
    assert is_skipped(last[0]) and last[1] == facts and last[4] == total and len(last[3]["value"]) == 1
    assert not result.pending and result.full().width == 80


def test_result_is_stored_although_its_display_fails(session, small, monkeypatch):
    def fail(*arguments: Any) -> tuple[str, str, str]:
        raise RmbgError("No picture.")

    monkeypatch.setattr(removal, "render_page", fail)
    (only,) = begin(session, small)
    assert "No picture." in only[2] and len(only[3]["value"]) == 1
    assert session.results[0].full().width == 80, "it may be paid for"


def test_decoded_photo_is_taken_once_and_expires(tmp_path):
    now = [0.0]
    photo = Photo(np.zeros((10, 10, 3), np.uint8), name="x")
    photos = DecodedPhotos(max_bytes=650, seconds=60, clock=lambda: now[0])
    upload = Upload("/a", "mug.jpg")
    photos.put("/a", photo)
    taken = photos.take(upload)
    assert taken is not None and taken.rgb is photo.rgb and taken.name == "mug" and photos.take(upload) is None
    for path in ("/a", "/b", "/c"):
        photos.put(path, photo)
    assert photos.bytes == 600 and photos.take(upload) is None, "the oldest one is removed"
    now[0] = 61
    assert photos.take(Upload("/b", "b.jpg")) is None
    photos.sweep()
    assert photos.bytes == 0
    token = VISITOR.set("one")
    photos.put("/a", photo)
    VISITOR.reset(token)
    photos.forget("other")
    assert photos.bytes == 300
    photos.forget("one")
    assert photos.bytes == 0


@pytest.mark.browser
def test_page_shows_the_preview_and_keeps_the_focus(page, upload, gate):
    page.set_input_files("#photo input[type=file]", upload.path)
    page.wait_for_selector("#photo img")
    page.click("#start")
    page.wait_for_selector("#facts [data-preview]", timeout=WAIT)
    page.wait_for_function("document.querySelector('#result img.after').naturalWidth > 0")
    page.wait_for_function("document.activeElement.id === 'result'")
    assert page.is_visible("#cancel") and page.is_enabled("#save"), "the run has not ended"
    page.click("[data-viewer=actual]")
    page.wait_for_function("document.querySelector('.viewer-status').textContent.includes('being computed')")
    page.focus("#format input")
    gate.opened.set()
    page.wait_for_function("document.querySelector('#facts .facts:not([data-preview])')", timeout=WAIT)
    page.wait_for_function("!document.querySelector('#result img.detail').hidden", timeout=WAIT)
    assert page.evaluate("document.activeElement.closest('#format') !== null")
    page.wait_for_selector("#start:visible", timeout=WAIT)
