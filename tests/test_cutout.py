"""rmbg.cutout: edge settings after inference."""

from __future__ import annotations

import numpy as np
import pytest

from rmbg import AlphaMatting, EdgeSettings, OutputError, remove_background
from rmbg.billing.cost import Cost
from rmbg.cutout import Cutout
from rmbg.images.photo import Photo
from rmbg.matting.foreground import finish
from rmbg.providers import PROVIDERS
from tests.disc import Disc
from tests.pictures import scene
from tests.remote import cut, picture, settings
from tests.servers.removebg import RemoveBg


@pytest.fixture
def cutout() -> Cutout:
    photo, alpha, _, _ = scene()
    return Cutout(Photo(photo), *finish(Photo(photo), alpha), "test", 0.5, Cost(None, "unknown"), notes=("a note",))


def test_default_settings_return_the_same_cutout(cutout):
    assert cutout.cleaned(EdgeSettings()) is cutout
    assert "edges" not in cutout.summary()


def test_settings_change_matte_and_foreground_and_are_recorded(cutout):
    original = cutout.matte.copy()
    grown = cutout.cleaned(EdgeSettings(shift=3))
    assert grown.matte.sum() > 1.05 * cutout.matte.sum() and not grown.matte.flags.writeable
    assert grown.foreground[(cutout.matte == 0) & (grown.matte > 0.1)].any(axis=1).all()
    assert (grown.provider, grown.seconds, grown.cost, grown.notes) == ("test", 0.5, cutout.cost, ("a note",))
    assert grown.summary()["edges"] == {"shift": 3.0}
    np.testing.assert_array_equal(cutout.matte, original)


def test_an_inverted_cutout_has_the_colors_of_the_background(cutout):
    background = scene()[3]
    inverted = cutout.cleaned(EdgeSettings(invert=True))
    soft = (inverted.matte > 0.3) & (inverted.matte < 1)
    assert np.abs(inverted.foreground.astype(int) - background)[soft].mean() < 6


def test_growing_reveals_no_hidden_color():
    _, alpha, foreground, _ = scene()
    own = np.where(alpha > 0.5, 255, 0).astype(np.uint8)
    hidden = np.where((own > 0)[..., None], foreground, (255, 0, 255)).astype(np.uint8)
    cutout = Cutout(Photo(hidden, own), *finish(Photo(hidden, own), alpha), "test", 0.0, Cost(None, "unknown"))
    pixels = cutout.cleaned(EdgeSettings(shift=4, feather=2)).render()
    assert pixels[own == 0].max() == 0
    assert np.abs(pixels[..., :3].astype(int) - foreground)[pixels[..., 3] > 0].max() <= 8


def test_remove_background_applies_settings_after_one_run(monkeypatch):
    disc = Disc()
    monkeypatch.setitem(PROVIDERS, "disc", disc)
    photo = Photo(scene()[0])
    result = remove_background(photo, "disc", edges=EdgeSettings(feather=4))
    assert len(disc.calls) == 1 and result.edges == EdgeSettings(feather=4)
    assert ((result.matte > 0.01) & (result.matte < 0.99)).mean() > 0.02


def test_a_service_is_charged_once_for_any_number_of_settings(tmp_path):
    with RemoveBg() as service:
        cutout = cut(service, tmp_path, "remove.bg")
        results = [cutout.cleaned(EdgeSettings(shift=pixels)) for pixels in (-2, 1, 2)]
        assert len(service.jobs) == 1
    assert sorted(result.matte.sum() for result in results) == [result.matte.sum() for result in results]
    assert {result.cost for result in results} == {cutout.cost}


def test_alpha_matting_follows_the_photo_and_is_recorded(cutout):
    _, alpha, _, _ = scene()
    coarse = np.roll(alpha, 4, axis=1)
    rough = Cutout(cutout.photo, *finish(cutout.photo, coarse), "test", 0.0, Cost(None, "unknown"))
    refined = rough.refined(AlphaMatting(erode_size=20))
    assert np.abs(refined.matte - alpha).mean() < 0.8 * np.abs(coarse - alpha).mean()
    assert refined.summary()["alpha_matting"] == {"foreground_threshold": 240, "background_threshold": 10, "erode_size": 20}


def test_alpha_matting_keeps_translucent_pixels_of_the_photo():
    photo, alpha, _, _ = scene()
    own = np.full(alpha.shape, 255, np.uint8)
    own[:, :160] = 100
    translucent = Photo(photo, own)
    rough = Cutout(translucent, *finish(translucent, np.roll(alpha, 4, axis=1)), "test", 0.0, Cost(None, "unknown"))
    refined = rough.refined(AlphaMatting())
    np.testing.assert_allclose(refined.matte[own < 255], rough.matte[own < 255], atol=1e-6)
    assert np.abs(refined.matte - rough.matte)[own == 255].max() > 0.1


def test_cancelled_alpha_matting_of_a_paid_result_keeps_it(tmp_path):
    """The service has been paid for; the error names the file in which its result is kept."""
    steps: list[str] = []

    def progress(fraction: float | None, text: str) -> None:
        steps.append(text)

    with RemoveBg() as service, pytest.raises(OutputError, match=r"Stopped\. The result was paid for .* kept as "):
        remove_background(
            picture(),
            "removebg",
            alpha_matting=AlphaMatting(),
            progress=progress,
            cancelled=lambda: "Estimating the foreground colors" in steps,
            settings=settings(service, tmp_path),
        )
    assert len(service.jobs) == 1 and len(list((tmp_path / "recovered").iterdir())) == 1


def test_with_matte_copies_the_matte(cutout):
    matte = cutout.matte.copy()
    replaced = cutout.with_matte(matte)
    matte[...] = 0.5
    assert np.array_equal(replaced.matte, cutout.matte)
