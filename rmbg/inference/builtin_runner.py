"""The networks of the built-in provider on OpenVINO, or on torch where OpenVINO is not installed.

OpenVINO starts in a fraction of the time and takes half of the time a picture. In float32 both have the same results within
1e-5. On processors with fast bfloat16, OpenVINO computes in it, in 40 % of the time.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from rmbg.errors import ModelError
from rmbg.inference.device import builtin_precision, choose_engine
from rmbg.inference.engines import Plan, import_torch, on_streams
from rmbg.networks import builtin_spec, refiner_spec, tta
from rmbg.networks.refiner_spec import SIDE
from rmbg.runtime.telemetry import Timer
from rmbg.settings import Settings

#: Compiled sizes of the input that are kept; each holds a copy of the weights (23 MB).
MAX_SIZES = 4

_load_lock = threading.Lock()

OPENVINO = Plan("openvino", "cpu", "fp32")


def choose_plan(settings: Settings) -> Plan:
    """Engine and precision of the built-in networks, which run on the CPU.

    Raises
    ------
    NotReadyError
        If the settings name an engine that is not installed.
    """
    engine = choose_engine(settings.engine, "cpu")
    return Plan(engine, "cpu", builtin_precision(engine, settings.precision))


class Networks(NamedTuple):
    """The loaded networks.

    Attributes
    ----------
    forward : tta.Forward
        The network of the coarse matte.
    correct : refiner_spec.Forward
        The refiner.
    runs : threading.Semaphore
        Limits the concurrent runs to the streams. A single one uses all cores, so that concurrent ones would be slower.
    """

    forward: tta.Forward
    correct: refiner_spec.Forward
    runs: threading.Semaphore


def predict(rgb: np.ndarray, plan: Plan, timer: Timer) -> tuple[np.ndarray, float]:
    """Predict the logits of a photo, float32 (h, w), and its confidence, see ``rmbg.networks.tta.predict``.

    Raises
    ------
    ModelError
        If the weights of the package are damaged.
    """
    with running(plan, timer) as networks:
        return tta.predict(networks.forward, rgb)


def correct(rgb: np.ndarray, coarse: np.ndarray, plan: Plan, timer: Timer) -> np.ndarray:
    """Predict the logits of a refined matte, see ``rmbg.networks.refiner_spec.Forward``.

    Raises
    ------
    ModelError
        If the weights of the package are damaged.
    """
    with running(plan, timer) as networks:
        return networks.correct(rgb, coarse)


@contextlib.contextmanager
def running(plan: Plan, timer: Timer) -> Iterator[Networks]:
    """Load the networks if needed, wait for one of their streams, and count the seconds of the three phases."""
    with timer.phase("load"), _load_lock:
        networks = _load(on_streams(plan))
    with timer.phase("queue"):
        networks.runs.acquire()
    try:
        with timer.phase("inference"):
            yield networks
    finally:
        networks.runs.release()


@functools.cache
def _load(plan: Plan) -> Networks:
    """Load the networks and run them once, as the first run compiles them or takes several times as long as later ones."""
    try:
        networks = openvino_networks(plan) if plan.engine == "openvino" else torch_networks(plan)
        tta.predict(networks.forward, np.zeros((32, 32, 3), np.uint8))
        networks.correct(np.zeros((1, 3, SIDE, SIDE), np.float32), np.zeros((1, 1, SIDE, SIDE), np.float32))
        return networks
    except (OSError, ValueError) as error:
        raise ModelError(f"The built-in network could not be loaded ({error}). Reinstall the package.") from None


def torch_networks(plan: Plan) -> Networks:
    """The networks on torch."""
    import_torch()
    from rmbg.networks import builtin, refiner

    net = builtin.load()
    correct = refiner.on_arrays(refiner.load(), net)
    return Networks(builtin.on_arrays(net), correct, threading.Semaphore(plan.streams))


def openvino_networks(plan: Plan = OPENVINO) -> Networks:
    """The networks on OpenVINO."""
    weights = builtin_spec.read_weights()
    return Networks(openvino_forward(weights, plan), openvino_refiner(weights, plan), threading.Semaphore(plan.streams))


def openvino_forward(weights: dict[str, np.ndarray], plan: Plan) -> tta.Forward:
    """The network on OpenVINO, compiled for each size of the input on its first use; thread-safe."""
    from rmbg.inference.openvino_builtin import builtin_graph
    from rmbg.inference.openvino_runner import compile_graph

    lock = threading.Lock()
    compiled = functools.lru_cache(MAX_SIZES)(lambda height, width: compile_graph(builtin_graph(weights, height, width), plan))

    def forward(x: np.ndarray) -> tuple[np.ndarray, float]:
        with lock:  # so that a size is compiled once
            run = compiled(*x.shape[2:])
        logits, confidence = run(x)
        return logits[0, 0], float(confidence[0, 0])

    return forward


def openvino_refiner(encoder: dict[str, np.ndarray], plan: Plan) -> refiner_spec.Forward:
    """The refiner on OpenVINO, with the weights of the built-in network as `encoder`; thread-safe."""
    from rmbg.inference.openvino_builtin import refiner_graph
    from rmbg.inference.openvino_runner import compile_graph

    run = compile_graph(refiner_graph(refiner_spec.read_weights(), encoder, SIDE), plan)
    return lambda rgb, coarse: run(rgb, coarse)[0][0, 0]
