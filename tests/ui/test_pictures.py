"""Pictures of a result for the viewer: files, parts at full size, copies."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rmbg.billing.cost import Cost
from rmbg.cutout import Cutout
from rmbg.errors import OptionError, OutputError
from rmbg.images.photo import Photo
from rmbg.render.backgrounds import TRANSPARENT
from rmbg.ui import pictures
from rmbg.ui.components.rendering import BACKGROUNDS, RenderOptions
from rmbg.ui.results import PREVIEW_SIDE, shrink
from rmbg.ui.session import Session
from rmbg.ui.storage import Storage
from rmbg.ui.tabs.remove_actions import copy, part, render_page
from tests.pictures import scene
from tests.ui.test_session import add


def cutout(height: int, width: int, *, own_alpha: bool = False) -> Cutout:
    rgb, matte, foreground, _ = scene(height, width)
    alpha = np.where(matte > 0, 255, 0).astype(np.uint8) if own_alpha else None
    if alpha is not None:
        rgb = rgb * (alpha > 0)[..., None]
    return Cutout(Photo(rgb, alpha, "a photo"), matte, foreground, "builtin", 0.5, Cost(Decimal(0), "estimated"))


@pytest.fixture
def session() -> Any:
    session = Session()
    yield session
    session.close()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1,2,3",
        "1,2,3,4,5,6",
        "-1,0,9,9,9",
        "0,0,9,9,1e9",
        "0,0,9,9,0",
        "9,9,9,9,9",
        "500,0,600,9,9",
        "1" * 9000,
        "٣,0,9,9,9",
    ],
)
def test_invalid_parts_are_rejected(session, text):
    with pytest.raises(OptionError):
        pictures.Part.parse(text, 400, 300)
    add(session, cutout(30, 40))
    assert "Reload the page" in json.loads(part(session, text, "cutout"))["error"]


def test_part_has_the_pixels_of_the_full_size(session):
    full = cutout(1500, 2000)
    result = add(session, full)
    assert result.preview.width == PREVIEW_SIDE
    area = pictures.Part.parse("700,500,1300,99999,600", 2000, 1500)
    read = area.read(result)
    assert (read.width, read.height) == (600, 1000)
    np.testing.assert_array_equal(read.photo.rgb, full.photo.rgb[500:, 700:1300])
    np.testing.assert_array_equal(read.foreground, full.foreground[500:, 700:1300])
    np.testing.assert_allclose(read.matte, full.matte[500:, 700:1300], atol=1 / 65535)
    answer = json.loads(part(session, "700,500,1300,1100,300", "mask"))
    path = Path(result.pictures["cutout"][1]) if result.pictures else None
    assert path is None, "parts are not kept with the result"
    assert len(answer["pictures"]) == 2 and answer["area"] == "700,500,1300,1100,300"
    assert pictures.Part(0, 0, 2000, 1500, 500).read(result).width == 500, "downscaled to the screen"


def test_size_of_a_part_is_limited(session, monkeypatch):
    monkeypatch.setattr(pictures, "PART_SIDE", 64)
    result = add(session, cutout(300, 400))
    read = pictures.Part.parse("0,0,400,300,999999", 400, 300).read(result)
    assert max(read.width, read.height) == 64


def test_previews_are_encoded_once_and_again_after_a_change(session):
    result = add(session, cutout(60, 80))
    first = pictures.previews(result, result.preview)
    assert pictures.previews(result, result.preview) == first
    assert {Path(path).name for path in first.values()} == {f"a photo-{name}.webp" for name in first}
    Path(first["mask"]).unlink()
    again = pictures.previews(result, result.preview)
    assert again["cutout"] == first["cutout"] and again["mask"] != first["mask"]
    changed = replace(result.preview, matte=np.flipud(result.preview.matte).copy())
    others = pictures.previews(result, changed)
    assert set(others.values()) & set(again.values()) == {first["original"]}, "the photo does not change"
    removed = set(again.values()) - {first["original"]}
    assert not any(Path(path).exists() for path in removed), "the previous pictures are removed"
    result.discard()
    assert not any(Path(path).exists() for path in others.values())


def test_result_is_displayed_if_the_disk_is_full(session, monkeypatch):
    result = add(session, cutout(30, 40))

    def full(*_: object, **__: object) -> str:
        raise OutputError("No space left on device")

    monkeypatch.setattr(Storage, "store", full)
    page, facts, _ = render_page(session, result, RenderOptions())
    assert page.count("data:image/webp") == 4 and "40 × 30" in facts


def test_own_alpha_of_a_photo_is_kept(session):
    large = cutout(1300, 1600, own_alpha=True)
    result = add(session, large)
    add(session, cutout(20, 30))  # releases the preview
    preview = result.preview
    original = preview.render(view="original")
    assert original.shape[2] == 4 and original[0, 0, 3] == 0 and original[preview.height // 2, preview.width // 2, 3] == 255
    np.testing.assert_array_equal(result.full().photo.alpha, large.photo.alpha)
    edge = (original[..., 3] > 60) & (original[..., 3] < 255)
    assert edge.any() and original[..., 0][edge].min() >= 40, "colors at the edge are not darkened"


def test_copy_has_background_and_size(session, monkeypatch):
    monkeypatch.setattr(pictures, "COPY_SIDE", 50)
    result = add(session, cutout(80, 100))
    path, width, height = pictures.copy(result, TRANSPARENT, "cutout", None)
    assert (width, height) == (50, 40) and Path(path).name == "a photo-cutout.png"
    with Image.open(path) as image:
        assert image.mode == "RGBA" and image.size == (50, 40)
    answer = json.loads(copy(session, "", "cutout", "#dc2626"))
    assert answer["text"] == "Copied, 50 × 40" and answer["url"].startswith("gradio_api/file=")
    assert "not a color" in json.loads(copy(session, "", "cutout", "color", "nonsense"))["error"]


def test_all_backgrounds_can_be_rendered(session):
    result = add(session, cutout(30, 40))
    for _, kind in BACKGROUNDS:
        background = RenderOptions(kind=kind).background(session, full=True)
        assert result.full().render(background).shape[:2] == (30, 40)


def test_shrunk_photo_without_alpha_stays_opaque():
    assert shrink(cutout(300, 400), 100).photo.alpha is None
