"""ZeroGPU, the graphics card that Spaces share: lent to one function call at a time, in a process forked for it.

Networks must be placed on the card when the app starts, in the process that is forked; what goes in and out of the call are
plain arrays. Everywhere but on such a Space, all of this does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from rmbg.engines import weights
from rmbg.engines.models import MODELS, Model
from rmbg.engines.plan import Plan
from rmbg.errors import NotReadyError, RmbgError
from rmbg.settings import Settings

F = TypeVar("F", bound=Callable[..., object])

PLAN = Plan("torch", "cuda", "bf16")

#: Seconds of the card that a call may take; a shorter promise waits less in the queue.
SECONDS = 20


def shared() -> bool:
    """Whether this is a Space with a shared card."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def on_card(function: F) -> F:
    """`function` run with the shared card, where there is one."""
    if not shared():
        return function
    import spaces

    return spaces.GPU(duration=SECONDS)(function)


#: The networks that are on the card.
RUNNERS: dict[str, Any] = {}


@on_card
def run(name: str, images: np.ndarray) -> np.ndarray:
    """The masks of prepared images by the network called `name`, which `place` has put on the card."""
    return RUNNERS[name].run(images)


def masks(model: Model, images: np.ndarray) -> np.ndarray:
    """`run`, or a sentence about why it cannot."""
    if model.id not in RUNNERS:
        raise NotReadyError(f"{model.id} was not loaded when this Space started; its owner can see why in the Space's log.")
    return run(model.id, images)


def place(settings: Settings) -> dict[str, str]:
    """Put the networks on the card whose weights can be had; called once, when the app starts.

    Returns
    -------
    dict of model id to str
        Why those that are missing are.
    """
    missing: dict[str, str] = {}
    if not shared():
        return missing
    from rmbg.engines.torch_engine import TorchRunner

    for model in MODELS.values():
        if "openvino" not in model.engines:
            continue
        try:
            RUNNERS[model.id] = TorchRunner(model, weights.fetch(model, settings, quiet), PLAN, quiet)
        except RmbgError as error:
            missing[model.id] = str(error)
    return missing


def quiet(fraction: float | None, text: str) -> None:
    """Nobody watches while the app starts."""
