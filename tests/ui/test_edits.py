"""Edits of a result: strokes that the page sends, clean-up, and what is read for display and download."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rmbg.matting.edges import EdgeSettings
from rmbg.matting.retouch import Stroke
from rmbg.ui import results
from rmbg.ui.results import Edits, Result
from rmbg.ui.session import Session
from rmbg.ui.storage import storage
from rmbg.ui.tabs import edits, remove_actions, retouch, strip
from tests.ui.test_session import add, cutout

STROKE = {"mode": "erase", "radius": 60, "points": [1000, 750, 1100, 750]}


@pytest.fixture
def session(own_data: None) -> Any:
    session = Session()
    yield session
    session.close()


def send(session: Session, result: Result, keep: int, stroke: Any = None, number: int = 1) -> dict[str, Any]:
    """Send a request as the page does; returns the answer."""
    text = json.dumps({"number": number, "result": result.id, "keep": keep, "stroke": stroke})
    return json.loads(retouch.receive(session, text))


def test_strokes_are_in_every_picture_and_can_be_undone(session):
    result = add(session, cutout(1500, 2000))
    provided, preview = result.full(), result.preview
    assert send(session, result, 0, STROKE, 7) == {"number": 7, "strokes": 1}
    assert send(session, result, 1, {**STROKE, "mode": "keep", "points": [20, 20]}) == {"number": 1, "strokes": 2}
    full = result.full()
    assert full.matte[750, 1050] == 0 and full.matte[30, 30] == 1
    np.testing.assert_array_equal(full.foreground[30, 30], full.photo.rgb[30, 30])
    part = result.part(slice(700, 800), slice(900, 1300))
    np.testing.assert_allclose(part.matte, full.matte[700:800, 900:1300], atol=0.05)
    unretouched = result.part(slice(700, 800), slice(900, 1300), strokes=False)
    np.testing.assert_array_equal(unretouched.matte, provided.matte[700:800, 900:1300])
    assert result.preview.matte[450, 630] == 0 and result.preview.matte[18, 18] == 1
    np.testing.assert_array_equal(result.unretouched.matte, preview.matte)
    assert send(session, result, 0) == {"number": 1, "strokes": 0}
    np.testing.assert_array_equal(result.full().matte, provided.matte)
    np.testing.assert_array_equal(result.full().foreground, provided.foreground)
    np.testing.assert_array_equal(result.preview.matte, preview.matte)


def test_thumbnail_follows_the_edits(session):
    result = add(session, cutout())
    before = strip.update(session)["value"]
    assert strip.update(session)["value"] == before, "rendered once"
    send(session, result, 0, {**STROKE, "points": [200, 150]})
    assert strip.update(session)["value"] != before


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[" * 3000,
        "{}",
        '{"number": 1, "result": "RESULT", "keep": 0}',
        '{"number": 1, "result": "RESULT", "keep": 0, "stroke": null, "more": 1}',
        '{"number": 1, "result": "RESULT", "keep": -1, "stroke": null}',
        '{"number": 1, "result": "RESULT", "keep": 1, "stroke": null}',
        '{"number": 1, "result": "RESULT", "keep": true, "stroke": null}',
        '{"number": 1, "result": "RESULT", "keep": 0.0, "stroke": null}',
        '{"number": NaN, "result": "RESULT", "keep": 0, "stroke": null}',
        '{"number": 1, "result": "another", "keep": 0, "stroke": null}',
        '{"number": 1, "result": ["RESULT"], "keep": 0, "stroke": null}',
        '{"number": 1, "result": "RESULT", "keep": 0, "stroke": {"mode": "erase", "radius": 1e999, "points": [1, 1]}}',
        '{"number": 1, "result": "RESULT", "keep": 0, "stroke": {"mode": "erase", "radius": 5, "points": [-90, 1]}}',
        '{"number": 1, "result": "RESULT", "keep": 0, "stroke": "erase"}',
    ],
)
def test_invalid_requests_change_nothing(session, text):
    result = add(session, cutout(30, 40))
    answer = json.loads(retouch.receive(session, text.replace("RESULT", result.id)))
    assert 20 < len(answer["error"]) < 120 and result.edits == Edits()


def test_request_cannot_change_the_result_of_another_visitor(session):
    other = Session()
    try:
        result = add(other, cutout(30, 40))
        assert "deleted" in send(session, result, 0, {**STROKE, "radius": 5, "points": [1, 1]})["error"]
        assert result.edits == Edits()
    finally:
        other.close()


def test_number_of_strokes_is_limited(session, monkeypatch):
    monkeypatch.setattr("rmbg.matting.retouch.MAX_STROKES", 2)
    result = add(session, cutout())
    dot = {"mode": "keep", "radius": 2, "points": [5, 5]}
    assert [send(session, result, keep, dot)["strokes"] for keep in range(3)] == [1, 2, 2]
    assert len(result.edits.strokes) == 2


def test_clean_up_is_stored_at_full_size_and_can_be_reset(session):
    result = add(session, cutout(1500, 2000))
    provided, size = result.full(), storage().bytes_of(session.owner)
    values = [False, 0, 0, 0, 12, 0, False]
    page, *_ = edits.apply(session, result.id, *values)
    assert isinstance(page, str) and result.edits.edges == EdgeSettings(shift=12)
    full = result.full()
    expected = provided.cleaned(EdgeSettings(shift=12))
    np.testing.assert_allclose(full.matte, expected.matte, atol=1 / 65535)
    np.testing.assert_array_equal(result.part(slice(9, 90), slice(0, 500)).matte, full.matte[9:90, :500])
    assert result.preview.matte.mean() == pytest.approx(full.matte.mean(), abs=0.002), "the preview is scaled"
    assert storage().bytes_of(session.owner) > size, "the files count"
    send(session, result, 0, STROKE)
    assert result.full().matte[750, 1050] == 0, "strokes come after the clean-up"
    edits.apply(session, result.id, None, None, 0, 0, 0, 0, True)
    assert result.full().matte[30, 30] == 1 and result.full().matte[750, 1050] == 0
    assert len(list(result.folder.glob("cleaned-*-matte.npy"))) == 1, "former files are removed"
    edits.apply(session, result.id, *[False, 0, 0, 0, 0, 0, False])
    send(session, result, 0)
    np.testing.assert_array_equal(result.full().matte, provided.matte)
    assert "notice error" in edits.apply(session, result.id, False, 0, 0, 0, 51, 0, False)[2]


def test_clean_up_without_room_on_the_disk(session, monkeypatch):
    result = add(session, cutout())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results.np, "save", full)
    result.edit(lambda edits: replace(edits, edges=EdgeSettings(invert=True), strokes=(Stroke("keep", 9, ((5.0, 5.0),)),)))
    assert result.full().matte[150, 200] == 0 and result.full().matte[5, 5] == 1


def test_result_in_memory_can_be_edited():
    kept = cutout()
    result = Result(kept, kept.width, kept.height, None, kept)
    result.edit(lambda edits: replace(edits, edges=EdgeSettings(invert=True)))
    assert result.full().matte[0, 0] == 1 and result.full().matte[150, 200] == 0
    assert result.part(slice(0, 10), slice(0, 20)).matte.shape == (10, 20)


def test_controls_have_the_settings_of_the_shown_result(session):
    first, second = add(session, cutout(30, 40)), add(session, cutout(30, 40))
    edits.apply(session, second.id, True, 4, 0, 0, 0, 0, False)
    session.current = first
    assert edits.controls_of(session, second.id) == [first.id, False, 0, 0, 0.0, 0.0, 0.0, False]
    session.current = second
    assert edits.controls_of(session, first.id)[1:3] == [True, 4]
    assert all(isinstance(value, dict) for value in edits.controls_of(session, second.id)), "no answer overtakes the visitor"


def test_viewer_has_the_strokes_and_the_pictures_without_them(session):
    result = add(session, cutout())
    assert '"strokes": []' in remove_actions.show(session)[0].replace("&#34;", '"')
    send(session, result, 0, {**STROKE, "points": [200, 150]})
    page = remove_actions.show(session)[0].replace("&#34;", '"')
    assert '"points": [200.0, 150.0]' in page and "-cutout-unretouched.webp" in page and "-mask-unretouched.webp" in page
