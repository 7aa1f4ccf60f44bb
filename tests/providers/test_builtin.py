"""The built-in provider: what it does with the confidence of its network."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from rmbg.errors import NoSubjectError
from rmbg.photo import open_photo
from rmbg.providers import builtin
from rmbg.providers.base import Call
from tests.pictures import scene
from tests.sentences import sentence


def cut(monkeypatch: pytest.MonkeyPatch, confidence: float):
    """The cutout of a scene by a network that finds its subject and is as sure as it is told to be."""
    rgb, alpha = scene(300, 400)[:2]
    logits = np.float32(12) * (alpha.astype(np.float32) - np.float32(0.5))
    monkeypatch.setattr(builtin, "_predict", lambda rgb: (logits, confidence))
    return builtin.Builtin().cut(open_photo(Image.fromarray(rgb)), {}, Call())


def test_a_sure_network_has_nothing_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cut(monkeypatch, 0.6).notes == ()


def test_doubt_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cutout = cut(monkeypatch, 0.45)
    assert cutout.notes == (builtin.DOUBT,)
    sentence(cutout.notes[0])
    assert cutout.matte.max() == 1


def test_a_guess_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoSubjectError, match="No clear subject"):
        cut(monkeypatch, 0.25)
