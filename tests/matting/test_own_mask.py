"""Masks that the user made: read_mask, and ``rmbg remove --mask``."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from rmbg.errors import OptionError, PhotoError
from rmbg.matting.retouch import read_mask
from rmbg.remove import remove_background
from tests.disc import save_photo

RAMP = np.tile(np.linspace(0, 255, 60).round().astype(np.uint8), (40, 1))


def test_gray_levels_and_alpha_are_the_mask():
    np.testing.assert_array_equal(read_mask(Image.fromarray(RAMP), 60, 40), RAMP / np.float32(255))
    colors = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    cut = Image.fromarray(np.dstack([colors, RAMP]))
    np.testing.assert_array_equal(read_mask(cut, 60, 40), RAMP / np.float32(255))


def test_mask_is_resized_if_the_ratio_fits():
    matte = read_mask(Image.fromarray(RAMP), 600, 400)
    assert matte.shape == (400, 600) and matte.dtype == np.float32 and abs(matte.mean() - 0.5) < 0.01
    assert read_mask(Image.fromarray(RAMP), 30, 20).shape == (20, 30)
    assert read_mask(Image.fromarray(RAMP[:, :59]), 1200, 800).shape == (800, 1200), "rounded to whole pixels"


def test_other_pictures_are_rejected():
    with pytest.raises(OptionError, match=r"The mask has 60 x 40 pixels and the photo 60 x 60\. Give a mask with the aspect"):
        read_mask(Image.fromarray(RAMP), 60, 60)
    with pytest.raises(OptionError, match="The mask has colors"):
        read_mask(Image.new("RGB", (60, 40), "red"), 60, 40)
    with pytest.raises(PhotoError, match="The mask cannot be read"):
        read_mask(b"no picture", 60, 40)


def test_command_uses_the_mask_instead_of_a_provider(rmbg, tmp_path):
    photo = save_photo(tmp_path / "photo.png")
    with Image.open(photo) as image:
        width, height = image.size
    mask = tmp_path / "mask.png"
    Image.fromarray(np.where(np.arange(width) < width // 2, 255, 0).astype(np.uint8)[None].repeat(height, 0)).save(mask)
    status, out, _ = rmbg("remove", photo, tmp_path / "out.png", "--mask", mask, "--json")
    assert status == 0 and json.loads(out)["provider"] == "own-mask"
    alpha = np.asarray(Image.open(tmp_path / "out.png"))[..., 3]
    assert (alpha[:, : width // 2] == 255).all() and (alpha[:, width // 2 :] == 0).all()
    status, _, err = rmbg("remove", photo, tmp_path / "no.png", "--mask", mask, "--provider", "builtin")
    assert status == 2 and "--mask is used instead of a provider" in err
    status, _, err = rmbg("remove", photo, tmp_path / "no.png", "--mask", tmp_path / "missing.png")
    assert status == 1 and "The mask cannot be read" in err and not (tmp_path / "no.png").exists()


def test_own_alpha_limits_the_mask(tmp_path):
    pixels = np.full((20, 30, 4), 200, np.uint8)
    pixels[:10, :, 3], pixels[10:, :, 3] = 128, 255
    cutout = remove_background(Image.fromarray(pixels), mask=Image.new("L", (30, 20), 255))
    assert cutout.matte[0, 0] == pytest.approx(128 / 255) and cutout.matte[15, 0] == 1
