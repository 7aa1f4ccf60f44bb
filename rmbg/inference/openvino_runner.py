"""Networks on OpenVINO, the fastest engine on a CPU.

A network is compiled once (its graph is built, its weights are arranged for this CPU). The result is cached in the data folder,
and later starts load it without importing torch.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rmbg import networks
from rmbg.inference import weights
from rmbg.inference.catalog import Model
from rmbg.inference.engines import Plan, import_torch
from rmbg.inference.weights import Progress, WeightsFile
from rmbg.runtime.messages import Message
from rmbg.runtime.threads import cpu_count, limited_cpu_count
from rmbg.settings import Settings

PRECISIONS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}

#: Seconds after which the temporary file of a compiled model counts as left over by a killed process.
UNFINISHED_SECONDS = 3600

#: Milliseconds between two checks for cancellation.
POLL_MILLISECONDS = 100

#: Bytes of the checksum at the end of a compiled model. It is not at the start, as OpenVINO needs aligned weights.
TRAILER = 32


class OpenVinoRunner:
    """A network on OpenVINO.

    Attributes
    ----------
    plan : Plan
    memory : int
        Bytes that the network holds, estimated by the size of the compiled model.
    """

    def __init__(self, model: Model, file: WeightsFile, plan: Plan, settings: Settings, progress: Progress) -> None:
        self.plan = plan
        folder = settings.data / "engines"
        shape = "" if model.width is None else f"-{model.width}x{model.size}"
        path = folder / f"{model.id.replace(':', '-')}{shape}-{fingerprint(model, file, plan)}.blob"
        compiled = load_compiled(path, plan, progress, model, settings.data)
        if compiled is None:
            progress(None, Message("Preparing {model} for this processor (once)", model=model.id))
            compiled = self.compile(model, file, plan)
            save_compiled(compiled, path, settings.data)
        self._run = Requests(compiled)
        try:
            self.memory = path.stat().st_size
        except OSError:  # not written, or deleted by another process
            self.memory = file.path.stat().st_size

    def compile(self, model: Model, file: WeightsFile, plan: Plan) -> Any:
        """Build the model's graph from its weights and compile it for this CPU."""
        import_torch()
        from rmbg.inference.openvino_graph import build_graph
        from rmbg.inference.torch_runner import load_network

        graph = build_graph(load_network(model, file), model.size, model.width)
        return core().compile_model(graph, "CPU", config(plan))

    def run(self, images: np.ndarray, check: Callable[[], None] | None = None) -> np.ndarray:
        """Compute masks, float32 (N, h, w) in [0, 1], of normalized images, float32 (N, 3, h, w).

        `check` is called repeatedly meanwhile; it raises to cancel the run.
        """
        return np.stack([self._run(image[None], check=check)[0][0, 0] for image in images])


class Requests:
    """Runs of a compiled model, each in a request of its own; thread-safe.

    Parameters
    ----------
    compiled : openvino.CompiledModel
    """

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._idle: list[Any] = []
        self._lock = threading.Lock()

    def __call__(self, *inputs: np.ndarray, check: Callable[[], None] | None = None) -> list[np.ndarray]:
        """Compute the outputs of the inputs; `check` is called repeatedly meanwhile, and raises to cancel the computation."""
        with self._lock:
            request = self._idle.pop() if self._idle else self._compiled.create_infer_request()
        if check is None:
            outputs = list(request.infer(list(inputs), share_inputs=True).values())
        else:
            request.start_async(list(inputs), share_inputs=True)
            try:
                while not request.wait_for(POLL_MILLISECONDS):
                    check()
            except BaseException:
                request.cancel()  # at the next operation of the graph
                raise
            outputs = [np.array(tensor.data) for tensor in request.output_tensors]
        with self._lock:
            self._idle.append(request)
        return outputs


def compile_graph(graph: Any, plan: Plan) -> Requests:
    """Compile the graph of a network for this CPU."""
    return Requests(core().compile_model(graph, "CPU", config(plan)))


def load_compiled(path: Path, plan: Plan, progress: Progress, model: Model, data: Path) -> Any:
    """Load a model that `save_compiled` has written; None if it is missing or damaged.

    The file is mapped into memory, so that its pages are shared by processes and are not copied. OpenVINO crashes on damaged
    files, so the checksum is verified first; a file that has not changed since the last time is not read for that.
    """
    if not path.is_file():
        return None
    progress(None, Message("Loading {model} on {device}", model=model.id, device=str(plan.device)))
    try:
        with open(path, "rb") as file:
            if file.seek(0, os.SEEK_END) <= TRAILER:
                return None
            file.seek(-TRAILER, os.SEEK_END)
            checksum = file.read(TRAILER)
        if weights.sha256(path, data, TRAILER) != checksum.hex():
            return None
        return MappedModel(path, plan)
    except (RuntimeError, OSError):
        return None


class MappedModel:
    """Compiled model in a mapped file. OpenVINO reads the weights in place, so the file stays mapped as long as the model."""

    def __init__(self, path: Path, plan: Plan) -> None:
        from rmbg.inference.openvino_import import ov

        mapped = np.memmap(path, np.uint8, "c")[:-TRAILER]  # OpenVINO accepts writable memory only
        try:
            self._compiled = core().import_model(ov.Tensor(mapped, shared_memory=True), "CPU", config(plan))
        except TypeError:  # before OpenVINO 2025.4
            self._compiled = core().import_model(mapped.tobytes(), "CPU", config(plan))
        self._mapped = mapped  # after the model, as attributes are released in this order

    def create_infer_request(self) -> Any:
        """Return a request, as ``openvino.CompiledModel`` does."""
        return self._compiled.create_infer_request()


def save_compiled(compiled: Any, path: Path, data: Path) -> None:
    """Write a compiled model, followed by its checksum, to `path`, and delete older ones: those that differ in the last part.

    Errors of the file system are ignored: the next start compiles the model again.
    """
    temporary = path.with_suffix(f".{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        name = path.stem.rpartition("-")[0]
        for stale in path.parent.glob("*.blob"):
            if stale.stem.rpartition("-")[0] == name and stale != path:  # a prefix would also match other models
                with contextlib.suppress(OSError):  # mapped by another process, which prevents it on Windows
                    stale.unlink()
        for unfinished in path.parent.glob("*.part"):
            with contextlib.suppress(FileNotFoundError):  # another process may have completed it
                if time.time() - unfinished.stat().st_mtime > UNFINISHED_SECONDS:
                    unfinished.unlink()
        contents = compiled.export_model().getbuffer()
        checksum = hashlib.sha256(contents)
        with open(temporary, "wb") as file:
            file.write(contents)
            file.write(checksum.digest())
        inode = temporary.stat().st_ino
        temporary.replace(path)
        if (state := weights.State.of(path)).inode == inode:  # another process may have replaced it since
            weights.remember(path, checksum.hexdigest(), data, state)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()


def fingerprint(model: Model, file: WeightsFile, plan: Plan) -> str:
    """Hash of everything that a compiled model depends on: weights, model data, code, OpenVINO, CPU, precision."""
    openvino, cpu = importlib.metadata.version("openvino"), core().get_property("CPU", "FULL_DEVICE_NAME")
    facts = file.sha256, model.network_only, replace(plan, streams=1), openvino, cpu
    return hashlib.sha256(repr((facts, source_checksum())).encode()).hexdigest()[:20]


@functools.cache
def source_checksum() -> str:
    """Checksum of the modules that define the networks and their graphs."""
    folder = Path(__file__).parent
    engines = [path for pattern in ("openvino_*.py", "onnx_*.py") for path in sorted(folder.glob(pattern))]
    files = [*sorted(Path(networks.__file__).parent.glob("*.py")), *engines]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def config(plan: Plan) -> dict[str, str]:
    """OpenVINO's properties for a plan: one run on all cores, or concurrent ones that share the cores."""
    properties = {"INFERENCE_PRECISION_HINT": PRECISIONS[plan.precision], "PERFORMANCE_HINT": "LATENCY"}
    threads = limited_cpu_count()
    if plan.streams > 1:
        properties |= {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": str(plan.streams)}
        threads = cpu_count()
    if threads is None:
        return properties
    # Threads that are fewer than the cores are not pinned, as those of other processes could be on the same cores.
    return {**properties, "INFERENCE_NUM_THREADS": str(threads), "ENABLE_CPU_PINNING": "NO"}


def supported_precisions() -> list[str]:
    """Precisions that this CPU has instructions for; OpenVINO silently replaces others."""
    capabilities = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return [name for name, capability in (("fp32", "FP32"), ("bf16", "BF16"), ("fp16", "FP16")) if capability in capabilities]


@functools.cache
def core() -> Any:
    """OpenVINO's runtime."""
    from rmbg.inference.openvino_import import ov

    return ov.Core()
