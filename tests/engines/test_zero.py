"""The shared card of Spaces: nothing elsewhere; there, networks are placed at the start and called through the decorator."""

import importlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from rmbg.engines import owner, torch_engine, weights, zero
from rmbg.engines.models import MODELS
from rmbg.engines.plan import Plan
from rmbg.errors import NotReadyError
from rmbg.settings import Settings

IMAGES = np.zeros((2, 3, 4, 4), np.float32)
calls = []


class FakeRunner:
    def __init__(self, model, file, plan, progress):
        assert plan == Plan("torch", "cuda", "bf16")

    def run(self, images):
        return images[:, 0]


@pytest.fixture
def space(monkeypatch):
    """The module as it is on such a Space, with a stand-in for the package that lends the card."""

    def lend(duration):
        def decorate(function):
            return lambda *given: (calls.append((duration, given[0])), function(*given))[1]

        return decorate

    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=lend))
    with monkeypatch.context() as patch:
        patch.setenv("SPACES_ZERO_GPU", "true")
        importlib.reload(zero)
        patch.setattr(torch_engine, "TorchRunner", FakeRunner)
        yield zero
    importlib.reload(zero)


def test_nothing_elsewhere():
    assert not zero.shared() and zero.place(Settings()) == {} and zero.RUNNERS == {}


def test_networks_are_placed_and_called(space, monkeypatch):
    def fetch(model, settings, progress):
        if model.gated:
            raise NotReadyError("needs a token")
        return SimpleNamespace(path="", sha256="")

    monkeypatch.setattr(weights, "fetch", fetch)
    assert space.place(Settings()) == {"rmbg-2.0": "needs a token"}
    arguments = (IMAGES, Settings(), lambda fraction, text: None, lambda: None)
    masks, plan = owner.Owner().masks(MODELS["rmbg-1.4"], *arguments)
    assert masks.shape == (2, 4, 4) and plan == space.PLAN
    assert calls == [(20, "rmbg-1.4")]
    with pytest.raises(NotReadyError, match=r"rmbg-2\.0 was not loaded when this Space started"):
        owner.Owner().masks(MODELS["rmbg-2.0"], *arguments)
