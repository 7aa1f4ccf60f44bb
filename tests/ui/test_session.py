"""Results of a visitor's session: full size on disk, previews in memory, removal."""

from __future__ import annotations

import copy
import gc
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from rmbg.billing.cost import Cost
from rmbg.cutout import Cutout
from rmbg.errors import PhotoError
from rmbg.images.photo import Photo
from rmbg.render import backgrounds
from rmbg.ui.components.inputs import Upload
from rmbg.ui.components.rendering import RenderOptions
from rmbg.ui.results import PREVIEW_SIDE, Result, shrink
from rmbg.ui.session import MAX_RESULTS, Session
from rmbg.ui.storage import storage
from rmbg.ui.tabs import compare_actions
from tests.pictures import scene


def add(session: Session, cutout: Cutout) -> Result:
    """Add a result as a removal does."""
    result = session.begin(shrink(cutout, PREVIEW_SIDE), cutout.width, cutout.height, "", computed=True)
    session.complete(result, cutout)
    return result


def cutout(height: int = 300, width: int = 400, cost: Cost | None = None) -> Cutout:
    photo, alpha, foreground, _ = scene(height, width)
    foreground = np.where((alpha > 0)[..., None], foreground, np.uint8(0))
    return Cutout(Photo(photo), alpha, foreground, "builtin", 0.5, cost or Cost(Decimal("0.018"), "charged"))


def test_full_size_result_is_restored():
    session = Session()
    kept = cutout()
    restored = add(session, kept).full()
    np.testing.assert_array_equal(restored.photo.rgb, kept.photo.rgb)
    np.testing.assert_array_equal(restored.foreground, kept.foreground)
    np.testing.assert_allclose(restored.matte, kept.matte, atol=1 / 65535)
    session.close()


def test_preview_is_limited_to_screen_size():
    """Rendering a preview of at most `PREVIEW_SIDE` pixels is fast for any photo."""
    session = Session()
    result = add(session, cutout(1500, 2000))
    assert max(result.preview.matte.shape) == PREVIEW_SIDE
    assert (result.width, result.height) == (2000, 1500)
    session.close()


def test_shrunk_cutout_has_no_dark_fringe():
    """The composite of the small copy equals the downscaled full composite within a few levels."""
    large = cutout(1600, 2400)
    small = shrink(large, 600)
    white = backgrounds.Background("color", ((255, 255, 255),))
    expected = np.asarray(Image.fromarray(large.render(white)).resize((600, 400), Image.Resampling.BOX))
    assert np.abs(small.render(white).astype(int) - expected).max() <= 6


def test_closing_a_session_removes_its_files():
    session = Session()
    folder = add(session, cutout()).folder
    assert folder.exists()
    download = Path(session.download(b"data", "cutout.png"))
    assert download.read_bytes() == b"data" and download.name == "cutout.png"
    session.close()
    assert not folder.exists() and not folder.parent.exists()


def test_garbage_collection_of_a_session_removes_its_files():
    """Covers sessions that Gradio drops over its capacity, and those at server shutdown."""
    session = Session()
    folder = add(session, cutout(20, 20)).folder
    del session
    gc.collect()
    assert not folder.parent.exists()


def test_closed_session_can_be_reused():
    session = Session()
    add(session, cutout(20, 20))
    session.close()
    assert add(session, cutout(20, 20)).full().width == 20
    session.close()


def test_number_of_kept_results_is_limited():
    session = Session()
    first = add(session, cutout(20, 20)).folder
    for _ in range(MAX_RESULTS):
        add(session, cutout(20, 20))
    assert len(session.results) == MAX_RESULTS and not first.exists()
    assert str(MAX_RESULTS + 1) in session.spend.line(), "the total includes dropped results"
    session.close()


def test_cost_is_counted_if_the_disk_is_full(monkeypatch):
    session = Session()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space"):
        add(session, cutout(20, 20))
    assert "1 picture, $0.018 charged" in session.spend.line()
    session.close()


def test_background_picture_is_cached_at_screen_size_only(tmp_path):
    Image.fromarray(scene(200, 5000)[0]).save(tmp_path / "wide.png")
    session, options = Session(), RenderOptions(kind="image", image=Upload(str(tmp_path / "wide.png"), "wide.png"))
    small, full = options.background(session, full=False), options.background(session, full=True)
    assert small.image is not None and small.image.shape[1] == 2 * PREVIEW_SIDE
    assert full.image is not None and full.image.shape == (200, 5000, 3)
    assert options.background(session, full=False).image is small.image, "the file is read once"
    session.close()


def test_damaged_votes_file_is_reported(monkeypatch, tmp_path):
    (tmp_path / "votes.sqlite3").write_bytes(b"not a database" * 100)
    monkeypatch.setenv("RMBG_DATA", str(tmp_path))
    session = Session()
    with pytest.raises(gr.Error, match="The votes in"):
        compare_actions.save("votes", session, "", "", "")
    session.close()


def test_totals_separate_bases_and_unknown_costs():
    session = Session()
    for cost in (Cost(Decimal("0.018"), "charged"), Cost(Decimal("0.018"), "charged"), Cost(None, "unknown")):
        add(session, cutout(20, 20, cost))
    assert session.spend.line() == (
        "This session: Built-in: 2 pictures, $0.036 charged ($1,800 for 100,000 a month), 1 picture at unknown cost"
    )
    session.close()


def test_costs_of_concurrent_runs_add_up():
    """A visitor may remove a background and compare providers at the same time."""
    session, price = Session(), Cost(Decimal("0.01"), "charged")
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: [session.spend.add("builtin", price) for _ in range(2000)], range(4)))
    finally:
        sys.setswitchinterval(interval)
    assert "8000 pictures, $80.00 charged" in session.spend.line(), session.spend.line()
    session.close()


def test_folder_of_a_session_is_created_once(monkeypatch):
    session, barrier = Session(), threading.Barrier(4, timeout=120)
    folders = []

    def own_folder() -> None:
        barrier.wait()
        folders.append(session.own_folder())

    threads = [threading.Thread(target=own_folder) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(folders) == 4 and len(set(folders)) == 1
    session.close()
    assert not folders[0].exists()


def test_copied_session_is_empty():
    session = Session()
    add(session, cutout(20, 20))
    assert copy.deepcopy(session).results == []
    session.close()


def test_only_the_current_preview_stays_in_memory():
    session = Session()
    first, second = add(session, cutout(40, 30)), add(session, cutout(50, 60))
    assert first._preview is None and second._preview is not None
    assert first.facts.photo.name == "photo" and (first.width, first.height) == (30, 40)
    again = first.preview
    assert again.matte.shape == (40, 30) and not again.matte.flags.writeable
    session.current = first
    assert second._preview is None
    session.close()


def test_preview_is_read_while_another_event_releases_it(monkeypatch):
    session = Session()
    result = add(session, cutout(20, 30))
    values = iter([result.preview, None])
    monkeypatch.setattr(type(result), "_preview", property(lambda self: next(values), lambda self, value: None), raising=False)
    assert result.preview.width == 30
    session.close()


def test_evicted_result_is_reported():
    session = Session()
    result = add(session, cutout(20, 20))
    add(session, cutout(20, 20))
    storage().discard(result.folder)
    for read in (result.full, lambda: result.preview):
        with pytest.raises(PhotoError, match="make room"):
            read()
    session.close()
