"""Drafts of the clean-up by their route, without a server."""

from __future__ import annotations

import base64
import io
import json
import secrets
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from starlette.testclient import TestClient

from rmbg.images.photo import Photo
from rmbg.matting.edges import UNCHANGED, EdgeSettings
from rmbg.matting.foreground import estimate_foreground
from rmbg.matting.retouch import Stroke
from rmbg.ui.drafts import MAX_BODY, Drafts
from rmbg.ui.results import DRAFT_SIDE, PREVIEW_SIDE, Edits
from rmbg.ui.session import TOKENS, Session
from tests.ui.test_session import add, cutout

TOKEN = secrets.token_urlsafe(32)


@pytest.fixture
def session(own_data: None) -> Any:
    session = Session()
    TOKENS.register(TOKEN, session)
    yield session
    session.close()


def client() -> TestClient:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return TestClient(Drafts(app), base_url="http://127.0.0.1")


def request(session: Session, edges: EdgeSettings, **changes: Any) -> dict[str, Any]:
    result = session.results[0].id
    return {"token": TOKEN, "result": result, "edges": asdict(edges), "view": "mask", "strokes": True} | changes


def picture(session: Session, edges: EdgeSettings, **changes: Any) -> tuple[np.ndarray, list[int]]:
    """Pixels and box of a draft."""
    answer = client().post("/gradio_api/draft", json=request(session, edges, **changes)).json()
    data = base64.b64decode(answer["picture"].partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data))), answer["box"]


@pytest.mark.parametrize("edges", [EdgeSettings(shift=-12), EdgeSettings(feather=20), EdgeSettings(invert=True)], ids=str)
def test_draft_shows_the_clean_up_without_storing_it(session, edges):
    result = add(session, cutout(1500, 2000))
    pixels, box = picture(session, edges)
    assert result.edits == Edits() and max(pixels.shape) == DRAFT_SIDE
    expected = result.preview.cleaned(replace(edges, shift=edges.shift * 0.6, feather=edges.feather * 0.6))
    reduced = Image.fromarray(expected.matte).resize(pixels.shape[1::-1], Image.Resampling.BOX)
    difference = np.abs(pixels[..., 0] / 255 - np.asarray(reduced))
    assert difference.mean() < 0.01 and np.quantile(difference, 0.99) < 0.12
    left, top, right, bottom = box
    assert 0 <= left < right <= PREVIEW_SIDE and 0 <= top < bottom <= PREVIEW_SIDE * 3 // 4
    inside = np.flatnonzero((expected.matte > 0.05).any(axis=0))
    assert abs(left - inside[0]) <= 3 and abs(right - 1 - inside[-1]) <= 3


def test_cutout_with_and_without_strokes(session):
    result = add(session, cutout(1500, 2000))
    result.edit(lambda edits: replace(edits, strokes=(Stroke("erase", 60, ((1000.0, 750.0),)),)))
    erased, _ = picture(session, EdgeSettings(shift=4), view="cutout")
    plain, _ = picture(session, EdgeSettings(shift=4), view="cutout", strokes=False)
    middle = DRAFT_SIDE * 3 // 8, DRAFT_SIDE // 2
    assert erased[middle][3] == 0 and plain[middle][3] == 255
    expected = result.unretouched.foreground[450, 600].astype(int)
    assert np.abs(plain[middle][:3] - expected).max() < 20


@pytest.mark.parametrize("edges", [EdgeSettings(shift=-12), EdgeSettings(invert=True)], ids=str)
def test_soft_edge_of_a_draft_has_the_colors_of_its_side(session, edges):
    """The colors are estimated once, for the matte before the clean-up."""
    alpha = gaussian_filter((np.hypot(*np.mgrid[-750:750, -1000:1000]) < 400).astype(np.float32), 6)
    red, blue = np.array([220.0, 30, 30]), np.array([30.0, 30, 220])
    rgb = (alpha[..., None] * red + (1 - alpha[..., None]) * blue).astype(np.uint8)
    add(session, replace(cutout(1500, 2000), photo=Photo(rgb), matte=alpha, foreground=estimate_foreground(rgb, alpha)))
    pixels, _ = picture(session, edges, view="cutout")
    soft = (pixels[..., 3] > 40) & (pixels[..., 3] < 215)
    own, other = (blue, red) if edges.invert else (red, blue)
    mean = pixels[soft][:, :3].mean(axis=0)
    assert soft.any() and np.abs(mean - own).max() < 0.5 * np.abs(mean - other).max()


@pytest.mark.parametrize(
    "changes",
    [
        {"token": "A" * 43},
        {"token": 5},
        {"result": "another"},
        {"view": "original"},
        {"edges": {"shift": 1}},
        {"edges": asdict(UNCHANGED) | {"shift": 51}},
        {"edges": asdict(UNCHANGED) | {"shift": "1"}},
        {"edges": None},
        {"more": 1},
        {"token": "x" * MAX_BODY},
    ],
    ids=str,
)
def test_invalid_requests_are_rejected(session, changes):
    add(session, cutout(30, 40))
    answer = client().post("/gradio_api/draft", json=request(session, UNCHANGED) | changes)
    assert answer.status_code == 400 and 10 < len(answer.json()["detail"]) < 200


@pytest.mark.parametrize("body", ["", "null", "[" * 3000, "{}"])
def test_other_bodies_are_rejected(session, body):
    assert client().post("/gradio_api/draft", content=body).status_code == 400


def test_result_of_another_visitor_is_not_found(session):
    other = Session()
    try:
        found = add(other, cutout(30, 40))
        add(session, cutout(30, 40))
        answer = client().post("/gradio_api/draft", json=request(session, UNCHANGED, result=found.id))
        assert answer.status_code == 400 and "deleted" in json.dumps(answer.json())
    finally:
        other.close()


@pytest.mark.parametrize(("method", "path"), [("GET", "draft"), ("POST", "drafts"), ("POST", "run/draft")])
def test_other_requests_are_passed_on(method, path):
    assert client().request(method, f"/gradio_api/{path}").status_code == 204
