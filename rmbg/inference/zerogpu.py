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
from rmbg.inference.catalog import MODELS, Model
from rmbg.inference.plan import Plan
from rmbg.settings import Settings

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., object])

PLAN = Plan("torch", "cuda", "bf16")

#: Longest duration of a call in seconds. Calls with a shorter one have priority in the queue.
MAX_SECONDS = 20

#: The networks on the GPU, by model id.
RUNNERS: dict[str, Any] = {}


def is_zerogpu() -> bool:
    """True on a Space with ZeroGPU."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


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
        raise NotReadyError(
            f"{model.id} was not loaded when this Space started. Choose another provider; the log of the Space has the reason."
        )
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
    when = f"Try again in {retry[1]}" if retry else "Try again later"
    other = "or choose the built-in provider, which does not use it"
    if title == "ZeroGPU illegal duration":
        return NotReadyError(
            f"This Space requests more time on the shared GPU for {model.id} than your account may use. "
            "Log in to Hugging Face, or choose the built-in provider."
        )
    if title in ("ZeroGPU quota exceeded", "ZeroGPU pending credits exceeded") and "No GPU" not in text:
        return NotReadyError(f"The time on the shared GPU is used up. {when}, log in to Hugging Face, {other}.")
    if title in ("ZeroGPU queue timeout", "ZeroGPU quota exceeded", "ZeroGPU client error"):
        return NotReadyError(f"The shared GPU is busy. Try again in a minute, {other}.")
    if title == "ZeroGPU worker error" and "aborted" in text:
        return ModelError(f"The shared GPU was withdrawn before {model.id} was done. Try again, {other}.")
    if title == "ZeroGPU worker error":
        return ModelError(f"{model.id} failed on the shared GPU ({text}). Try again, {other}.")
    if "closed by visitor" in text:
        return CancelledError("Stopped.")
    return NotReadyError(f"The shared GPU could not be reached. Try again in a minute, {other}.")


def load_networks(settings: Settings) -> dict[str, str]:
    """Load all networks whose weights are available onto the GPU; must be called once, when the app starts.

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
        if model.architecture == "sam2":  # not a single call from image to mask
            continue
        try:
            RUNNERS[model.id] = TorchRunner(model, weights.fetch(model, settings, _no_progress), PLAN, _no_progress)
        except RmbgError as error:
            failures[model.id] = str(error)
    return failures


def _no_progress(fraction: float | None, text: str) -> None:
    """Progress callback that reports nothing."""
