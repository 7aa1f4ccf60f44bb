"""Finishing of a cutout: canvas, shadows, outline."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from rmbg.billing.cost import Cost
from rmbg.cutout import Cutout
from rmbg.errors import OptionError
from rmbg.images.photo import Photo
from rmbg.matting.matte import bounding_box
from rmbg.render import canvas, finishing
from rmbg.render.finishing import Finishing
from rmbg.render.notation import Length
from tests.pictures import disc, scene

#: Half a level of 8 bits.
HALF_LEVEL = 0.5 / 255


def cutout(matte: np.ndarray, color: tuple[int, int, int] = (200, 40, 20)) -> Cutout:
    """A cutout of one color on a green photo."""
    photo = np.full((*matte.shape, 3), (20, 160, 60), np.uint8)
    foreground = np.full_like(photo, color)
    return Cutout(Photo(photo), matte, foreground, "test", 0.0, Cost(None, "unknown"))


def rectangle(height: int, width: int, rows: slice, columns: slice) -> np.ndarray:
    matte = np.zeros((height, width), np.float32)
    matte[rows, columns] = 1
    return matte


@pytest.mark.parametrize("text", ["square", "amazon", "600x400", "400×700", "us-passport", "passport"])
def test_canvas_has_exactly_its_size(text):
    result = cutout(rectangle(300, 200, slice(20, 90), slice(130, 190)))
    size = canvas.parse_canvas(text)
    for view, channels in (("cutout", (4,)), ("mask", ()), ("original", (4,))):
        assert result.render(view=view, finishing=Finishing(size)).shape == (size.height, size.width, *channels)
    assert result.render("blur", finishing=Finishing(size)).shape == (size.height, size.width, 3)


@pytest.mark.parametrize("size", [(600, 400), (331, 517), (64, 2000)])
def test_subject_is_centered_and_fitted(size):
    """A subject in a corner of the photo; the padding is 10 percent of the shorter side."""
    width, height = size
    result = cutout(rectangle(300, 200, slice(3, 90), slice(130, 199)))
    mask = result.render(view="mask", finishing=Finishing.parse(canvas=f"{width}x{height}", padding="10%"))
    rows, columns = bounding_box(mask / np.float32(255), threshold=0.5)
    assert abs((rows.start + rows.stop) / 2 - height / 2) <= 1 and abs((columns.start + columns.stop) / 2 - width / 2) <= 1
    padding = 0.1 * min(size)
    assert min(rows.start, columns.start) == pytest.approx(padding, abs=1.5), "one pair of sides touches the padding"
    assert (rows.stop - rows.start) / (columns.stop - columns.start) == pytest.approx(87 / 69, rel=0.05)


def test_scale_and_position():
    result = cutout(rectangle(300, 300, slice(100, 200), slice(100, 200)))
    options = {"canvas": "500x500", "padding": "50px"}
    half = result.render(view="mask", finishing=Finishing.parse(**options, scale="50%", position="10,-20"))
    rows, columns = bounding_box(half / np.float32(255), threshold=0.5)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (200, 200)
    assert ((rows.start + rows.stop) / 2, (columns.start + columns.stop) / 2) == (150, 300)
    outside = result.render("#0000ff", finishing=Finishing.parse(**options, position="150,0"))
    assert (outside == (0, 0, 255)).all()


def test_a_portrait_stands_on_the_lower_side():
    """The subject is cut off by the photo's lower side, and must not float above the lower side of the canvas."""
    result = cutout(rectangle(200, 200, slice(60, 200), slice(50, 150)))
    for preset in ("passport", "us-passport"):
        size = canvas.PRESETS[preset].canvas
        mask = result.render(view="mask", finishing=Finishing(size))
        rows, columns = bounding_box(mask / np.float32(255), threshold=0.5)
        assert mask[-1, size.width // 2] == 255 and rows.stop == size.height
        assert rows.start == pytest.approx(size.padding_pixels, abs=1.5)
        assert (columns.start + columns.stop) / 2 == pytest.approx(size.width / 2, abs=1)


def test_unscaled_pixels_are_unchanged():
    photo, alpha, foreground, _ = scene(240, 320)
    result = Cutout(Photo(photo), alpha, foreground, "test", 0.0, Cost(None, "unknown"))
    rows, columns = bounding_box(alpha)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    placed = result.render(finishing=Finishing(canvas.Canvas(width, height, Length(0))))
    np.testing.assert_array_equal(placed, result.render()[rows, columns])


def test_resampled_edges_have_no_fringe():
    """The colors below alpha 0 are black; they must not darken the edge of a bright subject."""
    matte = disc(400, 150.0)
    result = cutout(matte, (250, 240, 230))
    result.foreground.setflags(write=True)
    result.foreground[matte == 0] = 0
    on_white = result.render("#ffffff", finishing=Finishing.parse(canvas="150x150"))
    assert on_white.min() >= 229


@pytest.mark.parametrize("blur_width", ["0", "3px", "10%"])
def test_shadow_is_never_inside_the_opaque_subject(blur_width):
    photo, alpha, foreground, _ = scene(300, 400)
    result = Cutout(Photo(photo), alpha, foreground, "test", 0.0, Cost(None, "unknown"))
    finishing = Finishing.parse(shadow=f"4%,6%,{blur_width},80", contact_shadow="60", outline="2%,#ffff00")
    for background in ("#ffffff", "transparent", "blur"):
        with_shadow = result.render(background, finishing=finishing)
        np.testing.assert_array_equal(with_shadow[alpha == 1][:, :3], foreground[alpha == 1])
        assert (with_shadow != result.render(background)).any()


def test_shadow_has_offset_opacity_and_blur():
    alpha = rectangle(400, 400, slice(100, 200), slice(100, 200))
    hard = finishing.drop_shadow(alpha, finishing.parse_shadow("30px,-10%,0,25"), 100)
    expected = rectangle(400, 400, slice(90, 190), slice(130, 230)) * np.float32(0.25)
    np.testing.assert_allclose(hard, expected, atol=1e-6)
    for sigma in (3, 24):  # directly, and on a small copy
        soft = finishing.drop_shadow(alpha, finishing.parse_shadow(f"0,0,{sigma},100"), 100)
        exact = ndimage.gaussian_filter(alpha.astype(np.float64), sigma, mode="constant", truncate=6)
        assert np.abs(soft - exact).max() <= 0.02, sigma
    at_the_top = finishing.drop_shadow(np.ones((200, 200), np.float32), finishing.parse_shadow("0,40px,10px,100"), 200)
    assert np.abs(np.diff(at_the_top[:, 100])).max() < 0.05, "no step"
    beyond = finishing.drop_shadow(alpha, finishing.parse_shadow("500px,0,2px,100"), 100)
    assert not beyond.any()


def test_contact_shadow_is_below_the_feet():
    """Two legs of different length under a seat: each has a shadow at its own end, and the seat has none."""
    alpha = rectangle(300, 300, slice(50, 120), slice(60, 240))
    alpha[120:250, 70:90] = 1
    alpha[120:242, 210:230] = 1
    found = finishing.contact_shadow(alpha, finishing.ContactShadow(opacity=60), bounding_box(alpha))
    assert found.max() <= 0.6 and found[250, 80] >= 0.4 and found[242, 220] >= 0.35
    assert found[:225].max() <= 0.02 and found[262:].max() <= 0.02, "flat"
    assert found[:, 140:160].max() <= 0.02


def test_outline_of_an_edge_has_its_width():
    """Straight edges at fractions of a pixel: the covered length is the width."""
    for edge in (40.0, 40.3, 40.5, 40.9):
        row = np.clip(edge - np.arange(120), 0, 1).astype(np.float32)
        alpha = np.repeat(row[None], 60, axis=0)
        for width in (1.0, 3.0, 7.5):
            covered = finishing.outline(alpha, width)[30].sum() - edge
            assert covered == pytest.approx(width, abs=0.3), (edge, width)


@pytest.mark.parametrize("width", [2.0, 6.0, 15.5])
def test_outline_of_a_disc_is_a_larger_disc(width):
    """Within half a pixel at any angle, also across the tiles in which distances are computed."""
    side = 700
    line = finishing.outline(disc(side, 250.0), width)
    larger = disc(side, 250.0 + width)
    center = (side - 1) / 2
    radius = np.hypot(*(np.mgrid[:side, :side] - center))
    assert line[radius > 250 + width + 1].max() <= HALF_LEVEL and line[radius < 250 + width - 1].min() >= 1 - HALF_LEVEL
    assert np.abs(line - larger).max() <= 0.5 and np.abs(line - larger).mean() <= 0.002


def test_outline_on_a_picture():
    pixels = cutout(rectangle(100, 100, slice(30, 70), slice(30, 70))).render(
        "#000000", finishing=Finishing.parse(outline="5px,#00f")
    )
    assert (pixels[25:30, 30:70] == (0, 0, 255)).all() and (pixels[24, 30:70] == 0).all()
    assert (pixels[30:70, 30:70] == (200, 40, 20)).all()


def test_blurred_background_on_a_canvas_has_no_color_of_the_subject():
    photo, alpha, foreground, background = scene(300, 300)
    result = Cutout(Photo(photo), alpha, foreground, "test", 0.0, Cost(None, "unknown"))
    finishing = Finishing.parse(canvas="400x400", padding="20%", position="30,30")
    pixels = result.render("blur", finishing=finishing)
    mask = result.render(view="mask", finishing=finishing)
    reds = pixels[..., 0].astype(int)[mask == 0]
    assert reds.max() <= background[..., 0].max() + 4


def test_layers_on_transparency_match_layers_on_a_color():
    """Compositing the transparent result on a color gives the picture that is rendered on it."""
    photo, alpha, foreground, _ = scene(200, 260)
    result = Cutout(Photo(photo), alpha, foreground, "test", 0.0, Cost(None, "unknown"))
    finishing = Finishing.parse(shadow="soft", contact_shadow="soft", outline="2px,#00ff00")
    clear = result.render(finishing=finishing).astype(np.float64)
    opacity = clear[..., 3:] / 255
    composed = opacity * clear[..., :3] + (1 - opacity) * (255, 0, 255)
    assert np.abs(composed - result.render("#ff00ff", finishing=finishing)).max() <= 1.5
    assert (clear[clear[..., 3] == 0] == 0).all()


def test_nothing_set_changes_nothing():
    result = cutout(disc())
    for background in ("transparent", "#123456"):
        np.testing.assert_array_equal(result.render(background, finishing=Finishing.parse()), result.render(background))
    assert Finishing.parse() == Finishing() and not Finishing().facts()


def test_an_empty_matte_is_rendered():
    pixels = cutout(np.zeros((50, 60), np.float32)).render(
        "#ffffff", finishing=Finishing.parse(canvas="80x80", shadow="soft", contact_shadow="soft", outline="3px")
    )
    assert (pixels == 255).all() and pixels.shape == (80, 80, 3)


def test_crop_and_canvas_exclude_each_other():
    with pytest.raises(OptionError, match="crop and a canvas"):
        cutout(disc()).render(crop=0.1, finishing=Finishing.parse(canvas="square"))


@pytest.mark.parametrize(
    "options",
    [
        {"canvas": "billboard"},
        {"canvas": "8x8"},
        {"canvas": "90000x10"},
        {"canvas": "12000x12000"},
        {"canvas": "999999999999x1"},
        {"canvas": "square", "padding": "50%"},
        {"canvas": "100x100", "padding": "49px"},
        {"canvas": "square", "padding": "-1px"},
        {"canvas": "square", "padding": "nan"},
        {"canvas": "square", "padding": "%"},
        {"canvas": "square", "scale": "0"},
        {"canvas": "square", "scale": "inf"},
        {"canvas": "square", "position": "1"},
        {"canvas": "square", "position": "1,900"},
        {"padding": "5%"},
        {"shadow": "hard"},
        {"shadow": "1,2,3"},
        {"shadow": "0,0,-1,50"},
        {"shadow": "0,0,1,101"},
        {"shadow": "0,0,1,50,no-color"},
        {"contact_shadow": "a"},
        {"contact_shadow": "1,2,3,4"},
        {"outline": "-1"},
        {"outline": "21%"},
        {"outline": "1,2"},
        {"outline": "x" * 5000},
    ],
)
def test_invalid_finishing_is_an_error(options):
    with pytest.raises(OptionError) as caught:
        Finishing.parse(**options)
    assert str(caught.value).endswith(".") and len(str(caught.value)) < 250
