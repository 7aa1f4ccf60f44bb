"""Networks on OpenVINO, the quickest way on a processor.

Preparing a network (writing its graph, arranging its weights for this processor) is done once: the result is kept in the data
folder, and later starts read it without importing torch.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np

from rmbg import networks
from rmbg.engines.models import Model
from rmbg.engines.plan import Plan
from rmbg.engines.weights import Progress, Weights
from rmbg.settings import Settings

PRECISIONS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


class OpenVinoRunner:
    """A network on OpenVINO.

    Attributes
    ----------
    plan : Plan
    memory : int
        Bytes that it holds: about the size of what is kept on disk, whatever share of it is narrowed to 16 bits.
    """

    def __init__(self, model: Model, file: Weights, plan: Plan, settings: Settings, progress: Progress) -> None:
        self.plan = plan
        folder = settings.data / "engines"
        path = folder / f"{model.id}-{fingerprint(model, file, plan)}.blob"
        compiled = read_prepared(path, plan, progress, model)
        if compiled is None:
            progress(None, f"Preparing {model.id} for this processor (once)")
            compiled = prepare(model, file, plan)
            keep(compiled, path, model)
        self.compiled = compiled
        self.memory = path.stat().st_size if path.exists() else file.path.stat().st_size

    def run(self, images: np.ndarray) -> np.ndarray:
        return np.stack([self.compiled([image[None]])[0][0, 0] for image in images])


def prepare(model: Model, file: Weights, plan: Plan) -> Any:
    """The model compiled for this processor, from its weights."""
    from rmbg.engines.openvino_graph import graph
    from rmbg.engines.torch_engine import network

    return core().compile_model(graph(network(model, file), model.size), "CPU", config(plan))


def read_prepared(path: Path, plan: Plan, progress: Progress, model: Model) -> Any:
    """What `keep` has written, ready to run; None if it is not there or cannot be used."""
    if not path.is_file():
        return None
    progress(None, f"Loading {model.id} on {plan.device}")
    try:
        with open(path, "rb") as file:
            checksum, data = file.read(32), file.read()
        # OpenVINO does not look whether a file is whole: it crashes.
        return core().import_model(data, "CPU", config(plan)) if hashlib.sha256(data).digest() == checksum else None
    except (RuntimeError, OSError):
        return None


def keep(compiled: Any, path: Path, model: Model) -> None:
    """Write a compiled model and its checksum to `path`, in place of what was prepared of the same model before.

    If that is not possible, because the disk is full or read-only, the next start prepares the model again.
    """
    temporary = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for stale in path.parent.glob("*.blob"):
            if stale.stem.rpartition("-")[0] == model.id:  # and not of one whose name goes on after it
                stale.unlink(missing_ok=True)
        data = compiled.export_model().getbuffer()
        with open(temporary, "wb") as file:
            file.write(hashlib.sha256(data).digest())
            file.write(data)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()


def fingerprint(model: Model, file: Weights, plan: Plan) -> str:
    """Changes with everything that a prepared model depends on: weights, input, our code, OpenVINO, processor, precision."""
    about = (file.sha256, model, plan, importlib.metadata.version("openvino"), core().get_property("CPU", "FULL_DEVICE_NAME"))
    return hashlib.sha256(repr((about, code())).encode()).hexdigest()[:20]


@functools.cache
def code() -> str:
    """A checksum of the modules that define the networks and their graphs."""
    folder = Path(__file__).parent
    files = [*sorted(Path(networks.__file__).parent.glob("*.py")), folder / "openvino_graph.py", Path(__file__)]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def config(plan: Plan) -> dict[str, str]:
    return {"INFERENCE_PRECISION_HINT": PRECISIONS[plan.precision], "PERFORMANCE_HINT": "LATENCY"}


def precisions() -> list[str]:
    """What this processor computes with; OpenVINO would quietly take another for one that it does not."""
    able = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return [name for name, word in (("fp32", "FP32"), ("bf16", "BF16"), ("fp16", "FP16")) if word in able]


@functools.cache
def core() -> Any:
    import openvino as ov

    return ov.Core()
