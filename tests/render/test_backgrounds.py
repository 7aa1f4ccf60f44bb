"""rmbg.render: blending, each kind of background, notation, views and crop."""

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import grey_erosion

from rmbg.billing.cost import Cost
from rmbg.cutout import Cutout
from rmbg.errors import OptionError
from rmbg.images.photo import Photo
from rmbg.images.pixels import blend, parse_color
from rmbg.render import backgrounds
from rmbg.render.picture import compose
from tests.pictures import scene


def test_blending_is_exact_to_half_a_level():
    rng = np.random.default_rng(3)
    foreground, background = rng.integers(0, 256, (2, 300, 70, 3), np.uint8)
    alpha = rng.random((300, 70), np.float32)
    exact = alpha[..., None].astype(float) * foreground + (1 - alpha[..., None].astype(float)) * background
    assert np.abs(blend(foreground, alpha, background) - exact).max() <= 0.5 + 1e-4


def test_transparent_background_has_straight_alpha_and_black_removed_pixels():
    photo, alpha, foreground, _ = scene()
    pixels = compose(foreground, alpha, backgrounds.TRANSPARENT, photo)
    assert pixels.shape == (240, 320, 4)
    np.testing.assert_array_equal(pixels[alpha > 0.01][:, :3], foreground[alpha > 0.01])
    assert pixels[pixels[..., 3] == 0].max() == 0


def test_composite_over_an_image():
    """The composite of the true foreground, alpha and background is the photo."""
    photo, alpha, foreground, background = scene()
    composite = compose(foreground, alpha, backgrounds.Background("image", image=background), photo)
    assert np.abs(composite.astype(int) - photo).max() <= 1


def test_color_and_gradient():
    photo, alpha, foreground, _ = scene()
    white = compose(foreground, alpha, backgrounds.parse_background("#fff"), photo)
    assert (white[alpha == 0] == 255).all() and white.shape == photo.shape
    gradient = compose(foreground, alpha * 0, backgrounds.parse_background("gradient:#000000,#ff0000"), photo)
    assert gradient[0].max() == 0 and (gradient[-1] == (255, 0, 0)).all()
    assert (np.diff(gradient[:, 0, 0].astype(int)) >= 0).all()


@pytest.mark.parametrize("angle, start, end", [(0, (-1, 5), (0, 5)), (90, (5, 0), (5, -1)), ("-90deg", (5, -1), (5, 0))])
def test_gradient_with_an_angle(angle, start, end):
    """Position of the first and the second color, as row and column."""
    background = backgrounds.parse_background(f"gradient:#000000,#ff0000,{angle}")
    painted = np.broadcast_to(backgrounds.paint(background, *_unused()), (40, 60, 3))
    assert painted[start].max() == 0 and painted[end][0] == pytest.approx(255, abs=1e-3)
    assert np.ptp(painted[:, 30, 0]) == 0 or np.ptp(painted[20, :, 0]) == 0


def test_a_diagonal_gradient_reaches_both_colors_in_corners():
    background = backgrounds.parse_background("gradient:rgb(0, 0, 0),rgb(255, 255, 255),135")
    painted = backgrounds.paint(background, *_unused())
    assert painted[0, 0].max() == pytest.approx(0, abs=1e-3) and painted[-1, -1].min() == pytest.approx(255, abs=1e-3)
    assert (np.diff(painted[20, :, 0]) > 0).all() and (np.diff(painted[:, 20, 0]) > 0).all()


def _unused() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Photo, matte and foreground of 40 x 60 pixels, of which a gradient uses the size only."""
    return np.zeros((40, 60, 3), np.uint8), np.zeros((40, 60), np.float32), np.zeros((40, 60, 3), np.uint8)


def test_blurred_background_has_no_color_of_the_subject():
    """Around a red subject on green the blurred background stays green."""
    photo, alpha, foreground, background = scene()
    result = backgrounds.blurred(photo, alpha, foreground)
    difference = np.abs(result.astype(int) - background).max(axis=2)
    assert difference[alpha < 0.5].max() <= 4
    assert result.shape == photo.shape and result.dtype == np.uint8


def test_blur_beside_a_matte_that_is_too_small():
    photo, alpha, foreground, background = scene()
    result = backgrounds.blurred(photo, grey_erosion(alpha, (3, 3)), foreground)
    assert np.abs(result.astype(int) - background)[alpha < 0.5].max() <= 12


def test_hidden_colors_of_a_photo_do_not_appear_in_the_blur():
    photo, alpha, foreground, background = scene()
    own = np.full(alpha.shape, 255, np.uint8)
    own[:, :40] = 0
    own[:60, 40:100] = 128
    hidden = photo.copy()
    hidden[own == 0] = (255, 0, 255)
    result = backgrounds.blurred(hidden, alpha * (own / np.float32(255)), foreground, own)
    assert np.abs(result.astype(int) - background)[alpha == 0].max() <= 20
    white = backgrounds.blurred(hidden, np.zeros_like(alpha), foreground, np.zeros_like(own))
    assert (white == 255).all()


def test_a_corner_of_background_colors_all_of_the_blur():
    """The subject fills the photo except for a corner, from which no Gaussian reaches the other side."""
    photo = np.full((100, 400, 3), (180, 20, 20), np.uint8)
    photo[:20, :20] = (20, 160, 60)
    matte = np.ones((100, 400), np.float32)
    matte[:20, :20] = 0
    result = backgrounds.blurred(photo, matte, photo)
    assert np.abs(result.astype(int) - (20, 160, 60)).max() <= 3


def test_blurred_background_of_a_subject_that_fills_the_picture():
    photo = scene()[0]
    assert backgrounds.blurred(photo, np.ones(photo.shape[:2], np.float32), photo).shape == photo.shape


@pytest.mark.parametrize("shape", [(50, 400), (400, 50), (7, 7), (240, 320)])
def test_cover_keeps_proportions(shape):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    image = np.stack([rows * 255 // shape[0], columns * 255 // shape[1], rows * 0], axis=-1).astype(np.uint8)
    assert backgrounds.cover(image, 120, 160).shape == (120, 160, 3)
    center = backgrounds.cover(image, 120, 160)[60, 80]
    assert np.abs(center.astype(int) - image[shape[0] // 2, shape[1] // 2]).max() <= 40


@pytest.mark.parametrize(
    "fit, position", [("cover", (0, 0)), ("cover", (100, 100)), ("contain", (0, 0)), ("contain", (100, 50))]
)
def test_fit_and_position_of_a_picture(fit, position):
    """A picture of two halves, twice as wide as high, on a square of 100 pixels."""
    image = np.zeros((50, 100, 3), np.uint8)
    image[:, :50] = (200, 0, 0)
    image[:, 50:] = (0, 0, 200)
    background = backgrounds.Background("image", image=image, fit=fit, position=position)
    square = np.zeros((100, 100, 3), np.uint8)
    painted = backgrounds.paint(background, square, square[..., 0].astype(np.float32), square)
    assert painted.shape == (100, 100, 3)
    if fit == "cover":
        color = (200, 0, 0) if position[0] == 0 else (0, 0, 200)
        assert (painted[:, 5:-5] == color).all(axis=2).mean() > 0.99
    else:
        top = position[1] // 2
        assert (painted[top + 5, 10] == (200, 0, 0)).all() and (painted[top + 45, 90] == (0, 0, 200)).all()
        assert (painted == 255).all(axis=2).sum() == 5000


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
def test_colors(text, wanted):
    assert parse_color(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "#12345",
        "no-color",
        "rgb(1,2)",
        "#gggggg",
        "gradient:#fff",
        "gradient:#fff,#000,#111",
        "gradient:#fff,#000,361",
        "gradient:#fff,#000,nan",
        "gradient:#fff,#000,1,2",
    ],
)
def test_invalid_backgrounds_are_errors(text):
    with pytest.raises(OptionError) as caught:
        backgrounds.parse_background(text)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_pictures_by_path(tmp_path):
    path = tmp_path / "back ground.png"
    Image.new("RGB", (30, 20), (1, 2, 3)).save(path)
    background = backgrounds.parse_background(str(path))
    assert background.kind == "image" and background.image is not None and background.image.shape == (20, 30, 3)
    with pytest.raises(OptionError, match="is not a background"):
        backgrounds.parse_background(str(path), paths=False)
    with pytest.raises(OptionError, match="no file"):
        backgrounds.parse_background(str(tmp_path / "none.png"))


def test_views_and_crop():
    photo, alpha, foreground, _ = scene()
    cutout = Cutout(Photo(photo), alpha, foreground, "test", 0.0, Cost(None, "unknown"))
    assert cutout.render(view="mask").shape == (240, 320)
    np.testing.assert_array_equal(cutout.render(view="original"), photo)
    cropped = cutout.render(crop=0.0)
    assert cropped.shape[0] < 200 and cropped.shape[1] < 240
    assert (cropped[..., 3].max(axis=1) > 0).all()
