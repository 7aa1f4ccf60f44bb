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
from rmbg.threads import cpu_count, one_core
from rmbg.timing import Timer

#: Compiled sizes of the input that are kept; each holds a copy of the weights (23 MB).
MAX_SIZES = 4

_load_lock = threading.Lock()


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
        forward, runs = _load(plan.engine, cpu_count() if one_core() and plan.engine == "openvino" else 1)
    with timer.phase("queue"):
        runs.acquire()
    try:
        with timer.phase("inference"):
            return tta.predict(forward, rgb)
    finally:
        runs.release()


@functools.cache
def _load(engine: str, streams: int) -> tuple[tta.Forward, threading.Semaphore]:
    """Load the network and run it once, as the first run compiles it or takes several times as long as later ones.

    Returns
    -------
    forward : tta.Forward
    runs : threading.Semaphore
        Limits the concurrent runs to `streams`. A single one uses all cores, so that concurrent ones would be slower.
    """
    try:
        if engine == "openvino":
            forward: tta.Forward = OpenVinoForward(streams)
        else:
            import_torch()
            from rmbg.networks.builtin import load, on_arrays

            forward = on_arrays(load())
        tta.predict(forward, np.zeros((32, 32, 3), np.uint8))
        return forward, threading.Semaphore(streams)
    except (OSError, ValueError) as error:
        raise ModelError(f"The built-in network could not be loaded ({error}). Reinstall the package.") from None


class OpenVinoForward:
    """The network on OpenVINO, compiled for each size of the input on its first use; a thread-safe `tta.Forward`.

    Parameters
    ----------
    streams : int
        Concurrent runs that share the cores.
    """

    def __init__(self, streams: int = 1) -> None:
        self._weights, self._streams = read_weights(), streams
        self._lock = threading.Lock()
        self._compiled: dict[tuple[int, ...], tuple[Any, list[Any]]] = {}

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, float]:
        with self._lock:
            compiled, idle = self._compile(*x.shape[2:])
            request = idle.pop() if idle else compiled.create_infer_request()
        logits, confidence = request.infer([x], share_inputs=True, share_outputs=True).values()
        result = logits[0, 0].copy(), float(confidence[0, 0])
        idle.append(request)
        return result

    def _compile(self, height: int, width: int) -> tuple[Any, list[Any]]:
        """Return the network for one size of the input, and its requests that are not in use."""
        from rmbg.inference.openvino_builtin import build_graph
        from rmbg.inference.openvino_runner import config, core

        if (height, width) not in self._compiled:
            while len(self._compiled) >= MAX_SIZES:
                del self._compiled[next(iter(self._compiled))]
            graph, properties = (
                build_graph(self._weights, height, width),
                config(Plan("openvino", "cpu", "fp32"), self._streams),
            )
            self._compiled[height, width] = core().compile_model(graph, "CPU", properties), []
        return self._compiled[height, width]
