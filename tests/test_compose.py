"""Backgrounds: blending to half a level, what each kind paints, how they are written."""

import numpy as np
import pytest
from PIL import Image

from rmbg import compose
from rmbg.cutout import Cost, Cutout
from rmbg.errors import OptionError
from rmbg.photo import Photo
from tests.pictures import scene


def test_blending_is_exact_to_half_a_level():
    rng = np.random.default_rng(3)
    fore, behind = rng.integers(0, 256, (2, 300, 70, 3), np.uint8)
    alpha = rng.random((300, 70), np.float32)
    exact = alpha[..., None].astype(float) * fore + (1 - alpha[..., None].astype(float)) * behind
    assert np.abs(compose.blend(fore, alpha, behind) - exact).max() <= 0.5 + 1e-4


def test_transparent_is_straight_alpha_and_keeps_nothing_that_was_removed():
    photo, alpha, fore, _ = scene()
    pixels = compose.compose(fore, alpha, compose.TRANSPARENT, photo)
    assert pixels.shape == (240, 320, 4)
    np.testing.assert_array_equal(pixels[alpha > 0.01][:, :3], fore[alpha > 0.01])
    assert pixels[pixels[..., 3] == 0].max() == 0


def test_true_composites_on_every_background():
    """From the true foreground and alpha, the composite over the true background is the photo again."""
    photo, alpha, fore, back = scene()
    again = compose.compose(fore, alpha, compose.Background("image", image=back), photo)
    assert np.abs(again.astype(int) - photo).max() <= 1


def test_colour_and_gradient():
    photo, alpha, fore, _ = scene()
    white = compose.compose(fore, alpha, compose.parse_background("#fff"), photo)
    assert (white[alpha == 0] == 255).all() and white.shape == photo.shape
    graded = compose.compose(fore, alpha * 0, compose.parse_background("gradient:#000000,#ff0000"), photo)
    assert graded[0].max() == 0 and (graded[-1] == (255, 0, 0)).all()
    assert (np.diff(graded[:, 0, 0].astype(int)) >= 0).all()


def test_blur_leaves_no_shadow_of_the_subject():
    """Around a red subject on green, the blurred background stays green: the subject's colour does not bleed into it."""
    photo, alpha, _, back = scene()
    behind = compose.blurred(photo, alpha)
    ring = (alpha == 0) & (np.abs(behind.astype(int) - back).max(axis=2) > 25)
    assert ring.mean() < 0.001
    assert behind.shape == photo.shape and behind.dtype == np.uint8


def test_blur_survives_a_subject_that_fills_the_picture():
    photo = scene()[0]
    assert compose.blurred(photo, np.ones(photo.shape[:2], np.float32)).shape == photo.shape


@pytest.mark.parametrize("shape", [(50, 400), (400, 50), (7, 7), (240, 320)])
def test_pictures_cover_without_being_distorted(shape):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    image = np.stack([rows * 255 // shape[0], columns * 255 // shape[1], rows * 0], axis=-1).astype(np.uint8)
    assert compose.cover(image, 120, 160).shape == (120, 160, 3)
    middle = compose.cover(image, 120, 160)[60, 80]
    assert np.abs(middle.astype(int) - image[shape[0] // 2, shape[1] // 2]).max() <= 40


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("#f80", (255, 136, 0)),
        ("#ff8800", (255, 136, 0)),
        ("#ff8800cc", (255, 136, 0)),
        ("orange", (255, 165, 0)),
        ("rgb(1, 2, 3)", (1, 2, 3)),
        ("rgba(49.8, 200.2, 7.9, 1)", (50, 200, 8)),
        ("hsl(120, 100%, 50%)", (0, 255, 0)),
    ],
)
def test_colours(text, wanted):
    assert compose.colour(text) == wanted


@pytest.mark.parametrize("text", ["#12345", "no-colour", "rgb(1,2)", "#gggggg", "gradient:#fff", "gradient:#fff,#000,#111"])
def test_what_is_no_background_says_so(text):
    with pytest.raises(OptionError) as caught:
        compose.parse_background(text)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_pictures_by_path(tmp_path):
    path = tmp_path / "back ground.png"
    Image.new("RGB", (30, 20), (1, 2, 3)).save(path)
    background = compose.parse_background(str(path))
    assert background.kind == "image" and background.image is not None and background.image.shape == (20, 30, 3)
    with pytest.raises(OptionError, match="no background"):
        compose.parse_background(str(path), paths=False)
    with pytest.raises(OptionError, match="no file"):
        compose.parse_background(str(tmp_path / "none.png"))


def test_views_and_crop():
    photo, alpha, fore, _ = scene()
    cutout = Cutout(Photo(photo), alpha, fore, "test", 0.0, Cost(None, "unknown"))
    assert compose.render(cutout, view="mask").shape == (240, 320)
    np.testing.assert_array_equal(compose.render(cutout, view="original"), photo)
    cropped = compose.render(cutout, crop=0.0)
    assert cropped.shape[0] < 200 and cropped.shape[1] < 240
    assert (cropped[..., 3].max(axis=1) > 0).all()
