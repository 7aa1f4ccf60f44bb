"""What a visitor's session keeps: exact at full size, small in memory, gone at the end."""

from __future__ import annotations

import copy
import gc
from decimal import Decimal

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from rmbg import compose
from rmbg.cutout import Cost, Cutout
from rmbg.photo import Photo
from rmbg.ui import compare_actions
from rmbg.ui.look import Look
from rmbg.ui.session import KEPT, PREVIEW_SIDE, Session, shrink
from rmbg.ui.upload import Upload
from tests.pictures import scene


def cutout(height: int = 300, width: int = 400, cost: Cost | None = None) -> Cutout:
    photo, alpha, fore, _ = scene(height, width)
    fore = np.where((alpha > 0)[..., None], fore, np.uint8(0))
    return Cutout(Photo(photo), alpha, fore, "builtin", 0.5, cost or Cost(Decimal("0.018"), "charged"))


def test_the_full_size_comes_back_as_it_was():
    session = Session()
    kept = cutout()
    again = session.add(kept).full()
    np.testing.assert_array_equal(again.photo.rgb, kept.photo.rgb)
    np.testing.assert_array_equal(again.foreground, kept.foreground)
    np.testing.assert_allclose(again.matte, kept.matte, atol=1 / 65535)
    session.close()


def test_previews_stay_at_screen_size_whatever_the_photo():
    """This is what makes looking instant: twelve megapixels are shown from a copy of at most `PREVIEW_SIDE`."""
    session = Session()
    result = session.add(cutout(3000, 4000))
    assert max(result.preview.matte.shape) == PREVIEW_SIDE
    assert (result.width, result.height) == (4000, 3000)
    session.close()


def test_shrinking_makes_no_dark_rim():
    """The small copy's composite on white is the full composite made small, to a few levels, edge included."""
    large = cutout(1600, 2400)
    small = shrink(large, 600)
    white = compose.Background("colour", ((255, 255, 255),))
    wanted = np.asarray(compose.Image.fromarray(compose.render(large, white)).resize((600, 400), compose.Image.Resampling.BOX))
    assert np.abs(compose.render(small, white).astype(int) - wanted).max() <= 6


def test_files_go_with_the_session():
    session = Session()
    folder = session.add(cutout()).folder
    assert folder.exists()
    session.download_folder()
    session.close()
    assert not folder.exists() and not folder.parent.exists()


def test_files_go_with_a_session_that_nobody_closes():
    """Such as one that Gradio drops because there are too many, or those that there are when the server stops."""
    session = Session()
    folder = session.add(cutout(20, 20)).folder
    del session
    gc.collect()
    assert not folder.parent.exists()


def test_a_closed_session_can_be_used_again():
    session = Session()
    session.add(cutout(20, 20))
    session.close()
    assert session.add(cutout(20, 20)).full().width == 20
    session.close()


def test_only_so_many_results_are_kept():
    session = Session()
    first = session.add(cutout(20, 20)).folder
    for _ in range(KEPT):
        session.add(cutout(20, 20))
    assert len(session.results) == KEPT and not first.exists()
    assert str(KEPT + 1) in session.spend.line(), "what was spent is not forgotten with the picture"
    session.close()


def test_what_was_paid_is_counted_even_if_the_disk_is_full(monkeypatch):
    session = Session()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space"):
        session.add(cutout(20, 20))
    assert "1 picture, $0.018 charged" in session.spend.line()
    session.close()


def test_of_a_background_picture_only_the_screen_size_stays_in_memory(tmp_path):
    Image.fromarray(scene(200, 5000)[0]).save(tmp_path / "wide.png")
    session, look = Session(), Look(kind="image", image=Upload(str(tmp_path / "wide.png"), "wide.png"))
    small, full = look.background(session, full=False), look.background(session, full=True)
    assert small.image is not None and small.image.shape[1] == 2 * PREVIEW_SIDE
    assert full.image is not None and full.image.shape == (200, 5000, 3)
    assert look.background(session, full=False) is small, "it is read once"
    session.close()


def test_votes_that_cannot_be_read_are_a_sentence(monkeypatch, tmp_path):
    (tmp_path / "votes.sqlite3").write_bytes(b"this is no database" * 100)
    monkeypatch.setenv("RMBG_DATA", str(tmp_path))
    session = Session()
    with pytest.raises(gr.Error, match="The votes in"):
        compare_actions.save_votes(session, "", "", "")
    session.close()


def test_totals_never_mix_bases_or_count_the_unknown_as_nothing():
    session = Session()
    for cost in (Cost(Decimal("0.018"), "charged"), Cost(Decimal("0.018"), "charged"), Cost(None, "unknown")):
        session.add(cutout(20, 20, cost))
    assert session.spend.line() == (
        "This session: Built-in: 2 pictures, $0.036 charged ($1,800 for 100,000 a month), 1 picture at unknown cost"
    )
    session.close()


def test_every_visitor_begins_empty():
    session = Session()
    session.add(cutout(20, 20))
    assert copy.deepcopy(session).results == []
    session.close()
