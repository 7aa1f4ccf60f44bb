"""rmbg.inference.zerogpu: no effect elsewhere; on a Space networks are loaded at the start and run through the decorator."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import gradio
import httpx
import numpy as np
import pytest

from rmbg.errors import CancelledError, ModelError, NotReadyError
from rmbg.inference import model_cache, torch_runner, weights, zerogpu
from rmbg.inference.catalog import MODELS
from rmbg.inference.engines import Plan
from rmbg.providers import PROVIDERS
from rmbg.runtime.messages import Message
from rmbg.settings import Settings

IMAGES = np.zeros((2, 3, 4, 4), np.float32)
calls = []


class FakeRunner:
    def __init__(self, model, file, plan, progress):
        assert plan == Plan("torch", "cuda", "fp32" if model.id == "finegrain-box" else "bf16")

    def run(self, images):
        return images[:, 0]


def substitute():
    """A package ``spaces`` that records the calls of its decorator."""

    def gpu(duration):
        def decorate(function):
            return lambda *arguments: (calls.append((duration, arguments[0])), function(*arguments))[1]

        return decorate

    return SimpleNamespace(GPU=gpu)


def real():
    """The package ``spaces``; on hardware other than ZeroGPU its decorator returns the function."""
    spaces = pytest.importorskip("spaces")
    assert not spaces.config.Config.zero_gpu
    return spaces


@pytest.fixture
def package(request):
    return getattr(request, "param", substitute)()


@pytest.fixture
def space(package, monkeypatch):
    """The module as on a Space with ZeroGPU, with a substitute for the package ``spaces``, or the real one without effect."""
    monkeypatch.setitem(sys.modules, "spaces", package)
    with monkeypatch.context() as patch:
        patch.setenv("SPACES_ZERO_GPU", "true")
        importlib.reload(zerogpu)
        patch.setattr(torch_runner, "TorchRunner", FakeRunner)
        yield zerogpu
    importlib.reload(zerogpu)


def test_no_effect_on_other_machines():
    assert not zerogpu.is_zerogpu() and zerogpu.load_networks(Settings()) == {} and zerogpu.RUNNERS == {}


@pytest.mark.parametrize("package", [substitute, real], indirect=True)
def test_networks_are_loaded_at_the_start_and_called(space, package, monkeypatch):
    def fetch(model, settings, progress):
        if model.gated:
            raise NotReadyError("needs a token")
        return SimpleNamespace(path="", sha256="")

    present = "lucida", "finegrain-box"
    monkeypatch.setattr(weights, "fetch", fetch)
    monkeypatch.setattr(weights, "present", lambda model, settings: Path(model.id) if model.id in present else None)
    assert space.load_networks(Settings()) == {"rmbg-2.0": "needs a token"}
    assert set(space.RUNNERS) == {"rmbg-1.4", "birefnet", "birefnet-lite", *present}
    assert PROVIDERS["lucida"].status(Settings()).state == "ready"
    assert PROVIDERS["birefnet-hr"].status(Settings()).state == "unavailable"
    arguments = (IMAGES, Settings(), lambda fraction, text: None, lambda: None)
    masks, plan = model_cache.ModelCache().predict(MODELS["rmbg-1.4"], *arguments)
    assert masks.shape == (2, 4, 4) and plan == Plan("torch", "cuda", "bf16")
    assert calls == ([] if hasattr(package, "config") else [(20, "rmbg-1.4")]), "the real decorator has no effect here"
    _, plan = model_cache.ModelCache().predict(MODELS["finegrain-box"], *arguments)
    assert plan.precision == "fp32"
    calls.clear()
    with pytest.raises(NotReadyError, match=r"rmbg-2\.0 was not loaded when this Space started"):
        model_cache.ModelCache().predict(MODELS["rmbg-2.0"], *arguments)


def spaces_error(title, message):
    """As ``spaces.zero.gradio.error`` makes them."""
    return gradio.Error(message, title=title, print_exception=False)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            spaces_error(
                "ZeroGPU quota exceeded",
                "You have exceeded your free ZeroGPU quota (20s requested vs. 3s left). Try again in 4:13:02. Subscribe to <b>",
            ),
            NotReadyError,
            r"used up\. Try again in 4:13:02, log in",
        ),
        (
            spaces_error("ZeroGPU quota exceeded", "You have exceeded your runs limit. "),
            NotReadyError,
            "Try again later",
        ),
        (
            spaces_error("ZeroGPU quota exceeded", "Space app has reached its GPU limit. Try re-running outside of examples"),
            NotReadyError,
            "used up",
        ),
        (spaces_error("ZeroGPU quota exceeded", "No GPU was available after 60s. Try re-running"), NotReadyError, "is busy"),
        (spaces_error("ZeroGPU queue timeout", "No GPU was available after 60s"), NotReadyError, "is busy"),
        (spaces_error("ZeroGPU pending credits exceeded", "You have too many"), NotReadyError, "used up"),
        (
            spaces_error("ZeroGPU illegal duration", "The requested GPU duration (20s) is larger than the maximum allowed"),
            NotReadyError,
            "more time",
        ),
        (spaces_error("ZeroGPU worker error", "GPU task aborted"), ModelError, "withdrawn before"),
        (spaces_error("ZeroGPU worker error", "OutOfMemoryError"), ModelError, "OutOfMemoryError"),
        (spaces_error("ZeroGPU client error", "Expired ZeroGPU proxy token"), NotReadyError, "is busy"),
        (RuntimeError("Connection closed by visitor while queueing"), CancelledError, "Stopped"),
        (RuntimeError("ZeroGPU API /schedule error: 500 (Internal Server Error)"), NotReadyError, "could not be reached"),
        (httpx.ConnectError("[Errno 111] Connection refused"), NotReadyError, "could not be reached"),
        (AssertionError(), NotReadyError, "could not be reached"),
    ],
)
def test_errors_of_the_shared_card_are_sentences(space, monkeypatch, error, kind, words):
    def fail(name, images):
        raise error

    monkeypatch.setattr(space, "run", fail)
    monkeypatch.setitem(space.RUNNERS, "birefnet", object())
    with pytest.raises(kind, match=words) as caught:
        space.predict(MODELS["birefnet"], IMAGES)
    assert str(caught.value).endswith(".") and "<" not in str(caught.value)
    assert isinstance(str(caught.value), Message) or kind is CancelledError, "the page translates it"


def test_package_has_the_known_errors():
    spaces = real()
    folder = Path(spaces.__file__).parent / "zero"
    source = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    for title in (
        "illegal duration",
        "quota exceeded",
        "pending credits exceeded",
        "queue timeout",
        "client error",
        "worker error",
    ):
        assert f'"ZeroGPU {title}"' in source, title
    for words in ("No GPU was available", "Try again in", "closed by visitor", "GPU task aborted"):
        assert words in source, words
