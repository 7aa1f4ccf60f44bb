"""Other masks of a result: alpha matting, an own mask, objects found by SAM 2."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from rmbg.inference import torch_runner
from rmbg.matting.edges import AlphaMatting, EdgeSettings
from rmbg.matting.retouch import Stroke
from rmbg.ui.components.inputs import Upload
from rmbg.ui.results import Edits, Result
from rmbg.ui.session import Session
from rmbg.ui.storage import storage
from rmbg.ui.tabs import edits, retouch
from tests.conftest import launched, open_app
from tests.pictures import scene
from tests.ui.test_page import download
from tests.ui.test_session import add, cutout
from tests.ui.test_viewer import middle, remove, wait

WAIT = 90_000
HEIGHT, WIDTH = 300, 400


@pytest.fixture
def session(own_data: None) -> Iterator[Session]:
    session = Session()
    yield session
    session.close()


def left_half(height: int = HEIGHT, width: int = WIDTH) -> Image.Image:
    return Image.fromarray(np.where(np.arange(width) < width // 2, 255, 0).astype(np.uint8)[None].repeat(height, 0))


def upload(picture: Image.Image, folder: Path) -> Upload:
    picture.save(folder / "mask.png")
    return Upload(storage().store((folder / "mask.png").read_bytes(), "mask.png"), "mask.png")


def test_own_mask_is_the_base_of_other_edits(session, tmp_path):
    result = add(session, cutout())
    provided = result.full()
    empty, *page = edits.own_mask(session, upload(left_half(), tmp_path))
    assert empty is None and isinstance(page[0], str)
    full = result.full()
    assert (full.matte[:, :200] == 1).all() and (full.matte[:, 200:] == 0).all()
    np.testing.assert_array_equal(full.foreground[:, :200], full.photo.rgb[:, :200])
    assert result.preview.matte.mean() == pytest.approx(0.5, abs=0.01)
    result.edit(
        lambda edits: Edits(edits.base, edits.coarse, EdgeSettings(invert=True), (Stroke("erase", 9, ((300.0, 9.0),)),))
    )
    assert result.full().matte[100, 100] == 0 and result.full().matte[100, 300] == 1 and result.full().matte[9, 300] == 0
    result.release()
    assert result.preview.matte[100, 300] == 1, "read again"
    edits.restore(session)
    result.edit(lambda edits: Edits())
    np.testing.assert_array_equal(result.full().matte, provided.matte)
    assert not list(result.folder.glob("mask-*"))


def test_unfit_masks_are_reported(session, tmp_path):
    result = add(session, cutout())
    page = edits.own_mask(session, upload(left_half(300, 300), tmp_path))
    assert "300 x 300 pixels and the photo 400 x 300" in page[3] and result.edits == Edits()
    session.current = None
    assert "There is no result" in edits.own_mask(session, upload(left_half(), tmp_path))[3]


def test_alpha_matting_starts_from_the_mask_before_it(session):
    result = add(session, cutout())
    expected = result.full().refined(AlphaMatting(erode_size=6))
    values = ["closed-form", 240, 10, 6]
    for _ in range(2):
        page = edits.refine(0, session, *values)
        assert isinstance(page[0], str), page[2]
        np.testing.assert_allclose(result.full().matte, expected.matte, atol=2e-3)
    assert len(list(result.folder.glob("mask-????????-matte.npy"))) == 1, "former files are removed"
    assert "erode_size is 0" in edits.refine(0, session, "closed-form", 240, 10, 0)[2]
    assert "method is &#39;best&#39;" in edits.refine(0, session, "best", 240, 10, 5)[2]
    assert not session.mattings.active


def test_alpha_matting_that_was_cancelled_changes_nothing(session):
    result = add(session, cutout())
    run = session.mattings.start()
    session.mattings.cancel(wait=False)
    assert "Stopped" in edits.refine(run, session, "closed-form", 240, 10, 10)[2] and result.edits == Edits()


def test_result_in_memory_can_have_another_mask():
    kept = cutout()
    result = Result(kept, kept.width, kept.height, None, kept)
    result.replace_mask(kept.with_matte(np.zeros_like(kept.matte)))
    assert not result.full().matte.any() and not result.preview.matte.any() and not result.coarse().matte.any()
    result.replace_mask(None)
    np.testing.assert_array_equal(result.full().matte, kept.matte)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[" * 3000,
        "[1, true, 0.5, 0.5]",
        '["a", 1, 0.5, 0.5]',
        '["a", true, NaN, 0]',
        '["a", true, 0.5]',
        '["a", true, 2, 0]',
        '["a", true, "0", 0]',
        '["a", true, 1e999, 0]',
    ],
)
def test_invalid_points_change_nothing(session, text):
    result = add(session, cutout())
    answer = json.loads(retouch.select(session, text)[0])
    assert 10 < len(answer["error"]) < 90 and result.edits == Edits()


@pytest.fixture(scope="module")
def visit(chromium: Any, own_data: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A page with a result, on a server whose SAM 2 is a small network of random weights."""
    from transformers import Sam2Config, Sam2Model

    folder = tmp_path_factory.mktemp("weights")
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "blocks_per_stage": [1, 1, 2, 1],
        "global_attention_blocks": [3],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 2],
    }
    small = Sam2Config(vision_config={"backbone_config": backbone, "backbone_channel_list": [64, 32, 16, 8]})
    torch.manual_seed(0)
    save_file(
        {name: value.contiguous().clone() for name, value in Sam2Model(small).state_dict().items()}, folder / "sam2.safetensors"
    )
    path = folder / "photo.png"
    Image.fromarray(scene(HEIGHT, WIDTH)[0]).save(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_runner, "sam_config", lambda architecture: small)
        patch.setenv("RMBG_WEIGHTS", str(folder))
        patch.setenv("RMBG_DEVICE", "cpu")
        with launched() as url, chromium.visit() as page:
            open_app(page, url)
            remove(page, path)
            yield page


def alpha(page: Any, folder: Path) -> np.ndarray:
    """Download the cutout and return its alpha."""
    folder.mkdir()
    return np.asarray(Image.open(download(page, folder)))[..., 3]


def picture(page: Any) -> str:
    return page.evaluate("document.querySelector('#result img.after').getAttribute('src')")


def changed(page: Any, before: str) -> None:
    """Wait until another cutout is loaded."""
    wait(
        page,
        """(before) => {
            const image = document.querySelector('#result img.after');
            return image.getAttribute('src') !== before && image.naturalWidth > 0;
        }""",
        before,
    )


@pytest.mark.browser
def test_masks_on_the_page(visit, tmp_path):
    page = visit
    provided = alpha(page, tmp_path / "provided")
    page.click("#mask-tools button.label-wrap")
    page.wait_for_selector("#own-mask input[type=file]", state="attached", timeout=WAIT)
    assert "ViTMatte: " in page.inner_text("#matting-status") and "Apache 2.0" in page.inner_text("#matting-status")
    left_half().save(tmp_path / "half.png")
    before = picture(page)
    page.set_input_files("#own-mask input[type=file]", str(tmp_path / "half.png"))
    changed(page, before)
    half = alpha(page, tmp_path / "half")
    assert (half[:, :200] == 255).all() and (half[:, 200:] == 0).all()

    before = picture(page)
    page.click("#matting-start")
    changed(page, before)
    page.wait_for_selector("#matting-start", timeout=WAIT)
    refined = alpha(page, tmp_path / "refined")
    assert (refined != half).any() and (refined[:, :150] == 255).all()

    before = picture(page)
    page.click("#mask-restore")
    changed(page, before)
    np.testing.assert_array_equal(alpha(page, tmp_path / "restored"), provided)

    page.click("[data-viewer=retouch]")
    page.click("#retouch-mode label:has(input[value=subject])")
    page.wait_for_selector("#retouch-mode input[value=subject]:checked", state="attached", timeout=WAIT)
    assert not page.inner_text("#retouch-status").strip(), "SAM 2 is ready"
    before = picture(page)
    page.locator("#result .stage").scroll_into_view_if_needed()
    page.mouse.click(*middle(page, 0.1, 0.2))
    changed(page, before)
    page.click("#retouch-done")
    wait(page, "!document.querySelector('.stage.retouching')")
    added = alpha(page, tmp_path / "added").astype(int)
    assert (added >= provided.astype(int) - 1).all() and added.sum() > provided.sum()
