"""The built-in provider at different confidences of its network."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from rmbg.errors import NoSubjectError
from rmbg.images.photo import open_photo
from rmbg.inference import builtin_runner
from rmbg.providers import builtin
from rmbg.providers.base import RequestContext
from rmbg.settings import Settings
from tests.pictures import EXAMPLES, scene
from tests.sentences import sentence


def cut(monkeypatch: pytest.MonkeyPatch, confidence: float):
    """Return the cutout of a scene by a network with a correct matte and the given confidence."""
    rgb, alpha = scene(300, 400)[:2]
    logits = np.float32(12) * (alpha.astype(np.float32) - np.float32(0.5))
    monkeypatch.setattr(builtin_runner, "predict", lambda rgb, plan, timer: (logits, confidence))
    return builtin.Builtin().cut(open_photo(Image.fromarray(rgb)), {}, RequestContext())


@pytest.mark.parametrize(("confidence", "level"), [(0.95, "high"), (0.85, "high"), (0.82, "medium")])
def test_confidence_is_part_of_the_cutout(monkeypatch: pytest.MonkeyPatch, confidence: float, level: str) -> None:
    cutout = cut(monkeypatch, confidence)
    assert (cutout.confidence, cutout.confidence_level, cutout.notes) == (confidence, level, ())
    assert cutout.summary()["confidence"] == confidence


def test_low_confidence_adds_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    cutout = cut(monkeypatch, 0.75)
    assert cutout.confidence_level == "low" and cutout.notes == (builtin.LOW_CONFIDENCE_NOTE,)
    sentence(cutout.notes[0])
    assert cutout.matte.max() == 1


def test_confidence_below_the_minimum_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoSubjectError, match="No clear subject"):
        cut(monkeypatch, 0.25)


def test_bf16_changes_the_matte_by_less_than_one_level() -> None:
    """On average; bf16 has three significant digits, and edges are where logits are small."""
    runner = pytest.importorskip("rmbg.inference.openvino_runner")
    if "bf16" not in runner.supported_precisions():
        pytest.skip("this CPU does not support bf16")
    photo = open_photo(EXAMPLES / "creative/im/bear.jpg")
    mattes = [
        builtin.Builtin().cut(photo, {}, RequestContext(Settings(precision=precision))).matte for precision in ("fp32", "bf16")
    ]
    assert not np.array_equal(*mattes)
    assert np.abs(mattes[0] - mattes[1]).mean() < 1 / 255
