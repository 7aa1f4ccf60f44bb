"""Drop-in replacement of rembg: signature, types in and out, options."""

from __future__ import annotations

import importlib.util
import inspect
import io

import numpy as np
import pytest
from PIL import Image

from rmbg.compat.rembg import MODELS, new_session, remove
from rmbg.providers import PROVIDERS
from tests.pictures import examples, iou, truth

PATH = next(path for path in examples() if path.stem == "teapot")

#: Parameters of ``rembg.remove`` 2.0.86 and their defaults.
PARAMETERS = {
    "data": inspect.Parameter.empty,
    "alpha_matting": False,
    "alpha_matting_foreground_threshold": 240,
    "alpha_matting_background_threshold": 10,
    "alpha_matting_erode_size": 10,
    "session": None,
    "only_mask": False,
    "post_process_mask": False,
    "bgcolor": None,
    "force_return_bytes": False,
    "args": inspect.Parameter.empty,
    "kwargs": inspect.Parameter.empty,
}


@pytest.fixture(scope="module")
def photo():
    with Image.open(PATH) as image:
        return image.convert("RGB").resize((408, 510))


@pytest.fixture(scope="module")
def cutout(photo):
    return remove(photo)


def test_signature():
    assert {name: p.default for name, p in inspect.signature(remove).parameters.items()} == PARAMETERS


@pytest.mark.skipif(importlib.util.find_spec("rembg") is None, reason="pip install rembg")
def test_signature_of_the_installed_rembg():
    import rembg

    theirs = inspect.signature(rembg.remove).parameters.values()
    ours = inspect.signature(remove).parameters.values()
    assert [(p.name, p.kind, p.default) for p in ours] == [(p.name, p.kind, p.default) for p in theirs]


def test_types_of_the_input_are_returned(photo, cutout):
    assert isinstance(cutout, Image.Image) and cutout.mode == "RGBA" and cutout.size == photo.size
    array = remove(np.asarray(photo))
    assert isinstance(array, np.ndarray) and np.array_equal(array, np.asarray(cutout))
    file = io.BytesIO()
    photo.save(file, "PNG")
    data = remove(file.getvalue())
    assert isinstance(data, bytes) and np.array_equal(np.asarray(Image.open(io.BytesIO(data))), array)
    forced = remove(photo, force_return_bytes=True, only_mask=True)
    assert isinstance(forced, bytes) and Image.open(io.BytesIO(forced)).mode == "L"
    with pytest.raises(ValueError, match="is not supported"):
        remove("photo.jpg")


def test_mask_is_the_alpha_of_the_cutout(photo, cutout):
    mask = remove(photo, only_mask=True)
    assert mask.mode == "L" and np.array_equal(np.asarray(mask), np.asarray(cutout)[..., 3])
    true = np.asarray(Image.fromarray((truth(PATH) * 255).astype(np.uint8)).resize(photo.size))
    assert iou(np.asarray(mask) / 255, true / 255) > 0.9


def test_background_color(photo, cutout):
    colored = np.asarray(remove(photo, bgcolor=(255, 0, 255, 255)))
    assert colored.shape[2] == 4 and (colored[..., 3] == 255).all()
    removed = np.asarray(cutout)[..., 3] == 0
    assert removed.mean() > 0.3 and (colored[removed] == (255, 0, 255, 255)).all()
    half = np.asarray(remove(photo, bgcolor=(0, 0, 0, 128)))
    assert (half[removed][:, 3] == 128).all()


def test_post_processed_mask_is_binary_and_close(photo, cutout):
    mask = np.asarray(remove(photo, only_mask=True, post_process_mask=True))
    alpha = np.asarray(cutout)[..., 3]
    assert set(np.unique(mask)) == {0, 255} and len(np.unique(alpha)) > 50
    assert iou(mask / 255, alpha / 255) > 0.98


def test_alpha_matting_changes_the_edge_only(photo, cutout):
    refined = np.asarray(remove(photo, alpha_matting=True, alpha_matting_erode_size=5))[..., 3]
    alpha = np.asarray(cutout)[..., 3]
    assert (refined != alpha).any() and iou(refined / 255, alpha / 255) > 0.9


def test_colors_of_the_photo_are_kept_with_putalpha(photo):
    kept = np.asarray(remove(photo, putalpha=True))
    assert np.array_equal(kept[..., :3], np.asarray(photo)) and (kept[..., 3] == 0).any()


def test_sessions():
    assert new_session().provider == "auto" and new_session("builtin").provider == "builtin"
    assert new_session("bria-rmbg", providers=["CPUExecutionProvider"]).provider == "rmbg-2.0"
    assert {provider for provider in MODELS.values() if provider != "auto"} <= set(PROVIDERS)
    with pytest.raises(ValueError, match="There is no provider 'other'"):
        new_session("other")


def test_orientation_is_applied(photo):
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    photo.save(file, "JPEG", exif=exif)
    assert remove(Image.open(io.BytesIO(file.getvalue())), only_mask=True).size == (photo.height, photo.width)
