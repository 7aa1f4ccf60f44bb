"""The network of the built-in provider on OpenVINO, or on torch where OpenVINO is not installed.

OpenVINO starts in a fraction of the time and takes half of the time a picture. Both compute in float32, with the same
results within 1e-5.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

import numpy as np

from rmbg.errors import ModelError
from rmbg.inference.device import choose_engine
from rmbg.inference.plan import Plan
from rmbg.inference.torch_import import import_torch
from rmbg.networks import tta
from rmbg.networks.builtin_spec import read_weights
from rmbg.settings import Settings
from rmbg.timing import Timer

#: Compiled sizes of the input that are kept; each holds a copy of the weights (23 MB).
MAX_SIZES = 4

_load_lock = threading.Lock()

#: Serializes inference: the network uses all cores, so concurrent runs would be slower.
_inference_lock = threading.Lock()


def choose_plan(settings: Settings) -> Plan:
    """Engine of the built-in network, which runs on the CPU in fp32.

    Raises
    ------
    NotReadyError
        If the settings name an engine that is not installed.
    """
    return Plan(choose_engine(settings.engine, "cpu"), "cpu", "fp32")


def predict(rgb: np.ndarray, plan: Plan, timer: Timer) -> tuple[np.ndarray, float]:
    """Predict the logits of a photo, float32 (h, w), and its confidence, see ``rmbg.networks.tta.predict``.

    Raises
    ------
    ModelError
        If the weights of the package are damaged.
    """
    with timer.phase("load"), _load_lock:
        forward = _load(plan.engine)
    with timer.phase("queue"):
        _inference_lock.acquire()
    try:
        with timer.phase("inference"):
            return tta.predict(forward, rgb)
    finally:
        _inference_lock.release()


@functools.cache
def _load(engine: str) -> tta.Forward:
    """Load the network and run it once, as the first run compiles it or takes several times as long as later ones."""
    try:
        if engine == "openvino":
            forward: tta.Forward = OpenVinoForward()
        else:
            import_torch()
            from rmbg.networks.builtin import load, on_arrays

            forward = on_arrays(load())
        tta.predict(forward, np.zeros((32, 32, 3), np.uint8))
        return forward
    except (OSError, ValueError) as error:
        raise ModelError(f"The built-in network could not be loaded ({error}). Reinstall the package.") from None


class OpenVinoForward:
    """The network on OpenVINO, compiled for each size of the input on its first use; a `tta.Forward`."""

    def __init__(self) -> None:
        self._weights = read_weights()
        self._compiled: dict[tuple[int, ...], Any] = {}

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, float]:
        from rmbg.inference.openvino_builtin import build_graph
        from rmbg.inference.openvino_runner import config, core

        height, width = x.shape[2:]
        if (height, width) not in self._compiled:
            while len(self._compiled) >= MAX_SIZES:
                del self._compiled[next(iter(self._compiled))]
            graph = build_graph(self._weights, height, width)
            self._compiled[height, width] = core().compile_model(graph, "CPU", config(Plan("openvino", "cpu", "fp32")))
        logits, confidence = self._compiled[height, width]([x]).values()
        return logits[0, 0].copy(), float(confidence[0, 0])
