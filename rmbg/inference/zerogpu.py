"""ZeroGPU, the GPU that Hugging Face Spaces share: assigned to one function call at a time, in a forked process.

Networks must be moved to the GPU when the app starts, in the process that is forked. Arguments and results of a call are plain
arrays. On other machines nothing in this module has an effect.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from rmbg.errors import CancelledError, ModelError, NotReadyError, RmbgError, printable, reason
from rmbg.inference import weights
from rmbg.inference.catalog import FULL_PRECISION, MODELS, SEGMENT_ANYTHING, Model
from rmbg.inference.engines import Plan
from rmbg.runtime.messages import Message
from rmbg.settings import Settings

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., object])

#: Longest duration of a call in seconds. Calls with a shorter one have priority in the queue.
MAX_SECONDS = 20

TOO_LONG = (
    "This Space requests more time on the shared GPU for {model} than your account may use. Log in to Hugging Face, or choose "
    "the built-in provider."
)
USED_UP = "The time on the shared GPU is used up. Try again later, log in to Hugging Face, or choose the built-in provider."
USED_UP_UNTIL = (
    "The time on the shared GPU is used up. Try again in {time}, log in to Hugging Face, or choose the built-in provider."
)
BUSY = "The shared GPU is busy. Try again in a minute, or choose the built-in provider, which does not use it."
WITHDRAWN = "The shared GPU was withdrawn before {model} was done. Try again, or choose the built-in provider."
FAILED = "{model} failed on the shared GPU ({reason}). Try again, or choose the built-in provider."
UNREACHABLE = "The shared GPU could not be reached. Try again in a minute, or choose the built-in provider."

#: Models whose weights are downloaded when the app starts. Others are loaded if the Space was built with them.
DOWNLOADED = ("rmbg-1.4", "rmbg-2.0", "birefnet", "birefnet-lite")

#: The networks on the GPU, by model id.
RUNNERS: dict[str, Any] = {}


def is_zerogpu() -> bool:
    """True on a Space with ZeroGPU."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def plan(model: Model) -> Plan:
    """Engine, device and precision of a network on the shared GPU."""
    return Plan("torch", "cuda", "fp32" if model.architecture in FULL_PRECISION else "bf16")


def on_gpu(function: F) -> F:
    """Decorate a function that needs the shared GPU; without ZeroGPU it is returned unchanged."""
    if not is_zerogpu():
        return function
    import spaces

    return spaces.GPU(duration=MAX_SECONDS)(function)


@on_gpu
def run(model_id: str, images: np.ndarray) -> np.ndarray:
    """Compute the masks of prepared images by a network of `RUNNERS`."""
    return RUNNERS[model_id].run(images)


def predict(model: Model, images: np.ndarray) -> np.ndarray:
    """Compute the masks of prepared images on the shared GPU.

    Raises
    ------
    NotReadyError
        If the network was not loaded when the app started, or the GPU is not available now.
    ModelError
        If the call failed on the GPU.
    CancelledError
        If the visitor left while waiting for the GPU.
    """
    if model.id not in RUNNERS:
        text = "{model} was not loaded when this Space started. Choose another provider; the log of the Space has the reason."
        raise NotReadyError(Message(text, model=model.id))
    try:
        return run(model.id, images)
    except RmbgError:
        raise
    except Exception as error:  # of Gradio, httpx, pickle or `spaces` itself
        log.warning("The shared GPU failed: %s", reason(error))
        raise explained(model, error) from None


def explained(model: Model, error: Exception) -> RmbgError:
    """Convert an error of the package ``spaces`` to one of this package, with a message for the visitor.

    ``spaces`` raises ``gradio.Error`` with a title for what concerns the visitor, and RuntimeError for its own failures.
    """
    title, text = str(getattr(error, "title", "")), printable(str(error), 200)
    retry = re.search(r"Try again in (\d[\d:]{0,20})", text)
    if title == "ZeroGPU illegal duration":
        return NotReadyError(Message(TOO_LONG, model=model.id))
    if title in ("ZeroGPU quota exceeded", "ZeroGPU pending credits exceeded") and "No GPU" not in text:
        return NotReadyError(Message(USED_UP_UNTIL, time=retry[1]) if retry else Message(USED_UP))
    if title in ("ZeroGPU queue timeout", "ZeroGPU quota exceeded", "ZeroGPU client error"):
        return NotReadyError(Message(BUSY))
    if title == "ZeroGPU worker error" and "aborted" in text:
        return ModelError(Message(WITHDRAWN, model=model.id))
    if title == "ZeroGPU worker error":
        return ModelError(Message(FAILED, model=model.id, reason=text))
    if "closed by visitor" in text:
        return CancelledError("Stopped.")
    return NotReadyError(Message(UNREACHABLE))


def load_networks(settings: Settings) -> dict[str, str]:
    """Load the networks onto the GPU; must be called once, when the app starts.

    Returns
    -------
    dict of model id to str
        For each network that could not be loaded, the reason.
    """
    failures: dict[str, str] = {}
    if not is_zerogpu():
        return failures
    from rmbg.inference.torch_runner import TorchRunner

    for model in MODELS.values():
        if model.architecture in SEGMENT_ANYTHING:  # not a single call from image to mask
            continue
        if model.id not in DOWNLOADED and weights.present(model, settings) is None:
            continue
        try:
            RUNNERS[model.id] = TorchRunner(model, weights.fetch(model, settings, _no_progress), plan(model), _no_progress)
        except RmbgError as error:
            failures[model.id] = str(error)
    return failures


def _no_progress(fraction: float | None, text: str) -> None:
    """Progress callback that reports nothing."""
