"""Pictures in data URIs: checked for size before decoding, and stored like uploads."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from rmbg.settings import Settings
from tests.security.gradio_requests import FILE, App
from tests.security.test_file_references import PLACES, png


@pytest.fixture(scope="module")
def visitor(app: str) -> App:
    return App(app)


def stored(visitor: App) -> set[Path]:
    folder = Path(visitor.upload(png())).parents[1]
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("place", PLACES)
def test_data_uri_is_decoded(visitor, place):
    uri = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
    for reference in (
        {"url": uri},
        {"path": "photo.png", "url": uri, "meta": FILE},
        {"path": None, "url": uri, "orig_name": "a.png"},
    ):
        assert visitor.queue(place, [reference, *PLACES[place]]).success


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("head", ["data:image/png;base64,", "data:image/png,"])
def test_oversized_data_uri_is_rejected_and_not_stored(visitor, place, head):
    limit = Settings().max_bytes
    before = stored(visitor)
    size = limit * 3 // 2 if "base64" in head else limit + 1_000_000
    outcome = visitor.queue(place, [{"url": head + "A" * size, "meta": FILE}, *PLACES[place]])
    assert not outcome.success
    assert "limit of 40 MB" in outcome.message or "larger than" in outcome.message
    assert stored(visitor) == before


@pytest.mark.parametrize("uri", ["data:", "data:,", "data:image/png;base64", "data:image/png;base64,%%%", "data:;base64,AAA"])
def test_damaged_data_uri_is_one_sentence(visitor, uri):
    outcome = visitor.queue("remove_background", [{"url": uri}, *PLACES["remove_background"]])
    assert not outcome.success and outcome.message.endswith(".")
    assert "data URI" in outcome.message or "empty" in outcome.message


@pytest.mark.parametrize("place", ["remove_background"])
def test_text_fields_reject_data_uris(visitor, place):
    uri = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
    outcome = visitor.queue(place, [{"path": visitor.upload(png()), "meta": FILE}, {"url": uri}, *PLACES[place][1:]])
    assert not outcome.success and "takes text" in outcome.message
