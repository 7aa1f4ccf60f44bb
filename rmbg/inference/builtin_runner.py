"""The network of the built-in provider on OpenVINO, or on torch where OpenVINO is not installed.

OpenVINO starts in a fraction of the time and takes half of the time a picture. Both compute in float32, with the same
results within 1e-5.
"""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING

import numpy as np

from rmbg.errors import ModelError
from rmbg.inference.device import choose_engine
from rmbg.inference.plan import Plan, on_streams
from rmbg.inference.torch_import import import_torch
from rmbg.networks import tta
from rmbg.networks.builtin_spec import read_weights
from rmbg.settings import Settings
from rmbg.timing import Timer

if TYPE_CHECKING:
    from rmbg.inference.openvino_runner import Requests

#: Compiled sizes of the input that are kept; each holds a copy of the weights (23 MB).
MAX_SIZES = 4

_load_lock = threading.Lock()

OPENVINO = Plan("openvino", "cpu", "fp32")


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
        forward, runs = _load(on_streams(plan))
    with timer.phase("queue"):
        runs.acquire()
    try:
        with timer.phase("inference"):
            return tta.predict(forward, rgb)
    finally:
        runs.release()


@functools.cache
def _load(plan: Plan) -> tuple[tta.Forward, threading.Semaphore]:
    """Load the network and run it once, as the first run compiles it or takes several times as long as later ones.

    Returns
    -------
    forward : tta.Forward
    runs : threading.Semaphore
        Limits the concurrent runs to the streams. A single one uses all cores, so that concurrent ones would be slower.
    """
    try:
        if plan.engine == "openvino":
            forward: tta.Forward = OpenVinoForward(plan)
        else:
            import_torch()
            from rmbg.networks.builtin import load, on_arrays

            forward = on_arrays(load())
        tta.predict(forward, np.zeros((32, 32, 3), np.uint8))
        return forward, threading.Semaphore(plan.streams)
    except (OSError, ValueError) as error:
        raise ModelError(f"The built-in network could not be loaded ({error}). Reinstall the package.") from None


class OpenVinoForward:
    """The network on OpenVINO, compiled for each size of the input on its first use; a thread-safe `tta.Forward`.

    Parameters
    ----------
    plan : Plan
    """

    def __init__(self, plan: Plan = OPENVINO) -> None:
        self._weights, self._plan = read_weights(), plan
        self._lock = threading.Lock()
        self._compiled: dict[tuple[int, ...], Requests] = {}

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, float]:
        with self._lock:
            run = self._compile(*x.shape[2:])
        logits, confidence = run(x)
        return logits[0, 0], float(confidence[0, 0])

    def _compile(self, height: int, width: int) -> Requests:
        """Return the network for one size of the input."""
        from rmbg.inference.openvino_builtin import build_graph
        from rmbg.inference.openvino_runner import Requests, config, core

        if (height, width) not in self._compiled:
            while len(self._compiled) >= MAX_SIZES:
                del self._compiled[next(iter(self._compiled))]
            graph = build_graph(self._weights, height, width)
            self._compiled[height, width] = Requests(core().compile_model(graph, "CPU", config(self._plan)))
        return self._compiled[height, width]
