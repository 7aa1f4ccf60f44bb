"""Cache of loaded networks with a memory budget per device."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from rmbg.errors import ModelError, RmbgError
from rmbg.inference import device as devices
from rmbg.inference import weights, zerogpu
from rmbg.inference.catalog import SEGMENT_ANYTHING, Model
from rmbg.inference.engines import Plan, check_output, import_torch, on_streams
from rmbg.inference.weights import Progress, WeightsFile
from rmbg.runtime.messages import Message
from rmbg.runtime.telemetry import Timer
from rmbg.settings import Settings

T = TypeVar("T")

#: Fraction of a device's memory that loaded networks may hold. The rest is for activations and for other programs.
MEMORY_FRACTION = 0.4

#: Maximum number of concurrent runs of an architecture. Each run holds its activations, 0.2 GB for IS-Net.
MAX_STREAMS = {"isnet": 8}


def _plan(model: Model, settings: Settings) -> Plan:
    """Engine, device, precision and streams for a network; raises NotReadyError as `devices.choose`."""
    return on_streams(devices.choose(settings, model.engines, model.architecture), MAX_STREAMS.get(model.architecture, 1))


def open_on_engine(model: Model, file: WeightsFile, plan: Plan, settings: Settings, progress: Progress) -> Any:
    """Load the model on the plan's engine."""
    # Engines are imported on use, as each takes seconds to import.
    if model.architecture == "onnx":
        from rmbg.inference.onnx_runner import OnnxRunner, OnnxRuntimeRunner

        if plan.engine == "onnxruntime":
            return OnnxRuntimeRunner(model, file, plan, progress)
        return OnnxRunner(model, file, plan, settings, progress)
    if plan.engine == "openvino":
        from rmbg.inference.openvino_runner import OpenVinoRunner

        return OpenVinoRunner(model, file, plan, settings, progress)
    import_torch()
    from rmbg.inference import torch_runner

    kinds = {**dict.fromkeys(SEGMENT_ANYTHING, torch_runner.SamRunner), "vitmatte": torch_runner.VitMatteRunner}
    return kinds.get(model.architecture, torch_runner.TorchRunner)(model, file, plan, progress)


def device_budget(device: str) -> int:
    """Bytes that networks may hold on `device`."""
    if device.startswith("cuda"):
        return int(import_torch().cuda.get_device_properties(device).total_memory * MEMORY_FRACTION)
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * MEMORY_FRACTION)
    return 4 * 2**30  # Windows, where the standard library cannot read the size of the memory


def is_out_of_memory(error: BaseException) -> bool:
    """True for an out-of-memory error of any engine; torch has an exception class for CUDA only."""
    messages = ("out of memory", "not enough memory", "can't allocate memory", "bad_alloc", "bad allocation")
    return isinstance(error, MemoryError) or any(message in str(error).lower() for message in messages)


def release_memory() -> None:
    """Collect garbage, and return free memory to the system and cached GPU memory to the driver."""
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # musl has no malloc_trim
            ctypes.CDLL(None).malloc_trim(0)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


@dataclass(eq=False)
class CacheEntry:
    """A network and its state.

    Attributes
    ----------
    turns : threading.Semaphore
        Limits the concurrent runs to the streams of the plan.
    lock : threading.Lock
        Held while the runner is loaded or unloaded.
    running : int
        Number of current runs; the runner is unloaded at 0 only.
    runner : object or None
        The loaded network, with its size in bytes as ``memory``, and a method ``run``.
    last_used : float
    warm : bool
        True if it has run since it was loaded.
    """

    model: Model
    plan: Plan
    file: WeightsFile
    turns: threading.Semaphore
    lock: threading.Lock = field(default_factory=threading.Lock)
    running: int = 0
    runner: Any = None
    last_used: float = 0.0
    warm: bool = False


class ModelCache:
    """Loads each network on first use and unloads the least recently used ones when the budget is exceeded.

    Parameters
    ----------
    budget : callable (device) -> int
        Bytes that networks may hold on a device.
    open_runner : callable (model, file, plan, settings, progress) -> runner
    """

    def __init__(
        self,
        budget: Callable[[str], int] = device_budget,
        open_runner: Callable[[Model, WeightsFile, Plan, Settings, Progress], Any] = open_on_engine,
    ) -> None:
        self._budget, self._open_runner = budget, open_runner
        self._guard = threading.Lock()
        self._entries: dict[tuple[Model, Plan, WeightsFile], CacheEntry] = {}

    def predict(
        self,
        model: Model,
        images: np.ndarray,
        settings: Settings,
        progress: Progress,
        check: Callable[[], None],
        timer: Timer | None = None,
    ) -> tuple[np.ndarray, Plan]:
        """Compute the masks of prepared images.

        Parameters
        ----------
        model : Model
        images : float32 array (N, 3, h, w)
            Normalized, see ``rmbg.inference.preprocess``.
        settings, progress, check, timer
            As for `run`.

        Returns
        -------
        masks : float32 array (N, h, w)
            In [0, 1].
        plan : Plan
            Engine, device and precision that were used.
        """
        if zerogpu.is_zerogpu() and "torch" in model.engines:
            check()
            progress(None, Message("Waiting for the shared GPU to run {model}", model=model.id))
            with (timer or Timer()).phase("inference"):
                masks, plan = zerogpu.predict(model, images), zerogpu.plan(model)
        else:
            masks, plan = self.run(model, lambda runner: runner.run(images, check), settings, progress, check, timer)
        check_output(model.id, plan, masks)
        return masks, plan

    def run(
        self,
        model: Model,
        function: Callable[[Any], T],
        settings: Settings,
        progress: Progress,
        check: Callable[[], None],
        timer: Timer | None = None,
    ) -> tuple[T, Plan]:
        """Call a function with the model's runner, which is loaded if necessary.

        Parameters
        ----------
        model : Model
        function : callable (runner) -> T
            Has exclusive use of the runner, or of one of its streams. It is called again if memory runs out and other networks
            could be unloaded.
        settings : Settings
        progress : callable (fraction or None, text)
        check : callable
            Called between steps; raises to cancel.
        timer : Timer, optional
            Receives the seconds of each phase.

        Returns
        -------
        result : T
        plan : Plan
            Engine, device and precision that were used.

        Raises
        ------
        NotReadyError
            If the weights or the device are not available.
        ModelError
            If the network cannot be loaded or run; the next call may succeed.
        """
        if zerogpu.is_zerogpu():
            settings = replace(settings, device="cpu")  # on the shared GPU only preloaded networks can run
        plan = _plan(model, settings)

        def download_progress(fraction: float | None, text: str) -> None:
            check()  # a download takes minutes, and can be cancelled from this callback only
            progress(fraction, text)

        timer = timer or Timer()
        with timer.phase("download"):
            file = weights.fetch(model, settings, download_progress)
        check()
        with self._guard:
            new = CacheEntry(model.network_only, plan, file, threading.Semaphore(plan.streams))
            entry = self._entries.setdefault((model.network_only, plan, file), new)
        with timer.phase("queue"):
            entry.turns.acquire()
        try:
            with self._loaded_runner(entry, settings, progress, timer) as runner:
                check()
                progress(None, Message("Running {model} on {device}", model=model.id, device=str(plan.device)))
                entry.last_used = time.monotonic()
                with timer.phase("inference"):
                    result = self._retry(entry, lambda: function(runner))
                entry.warm = True
                return result, plan
        finally:
            entry.turns.release()

    def warm_up(self, model: Model, settings: Settings, progress: Progress, check: Callable[[], None]) -> None:
        """Load a network and run it once, unless it has run since it was loaded; raises as `run`."""
        if zerogpu.is_zerogpu():
            return
        blank = np.zeros((1, 3, *model.input_shape(model.size, model.size)), np.float32)
        plan = _plan(model, settings)
        with self._guard:
            entries = [entry for entry in self._entries.values() if (entry.model, entry.plan) == (model.network_only, plan)]
            warm = any(entry.warm and entry.runner is not None for entry in entries)
        if not warm:
            self.run(model, lambda runner: runner.run(blank, check), settings, progress, check)

    def loaded(self) -> list[str]:
        """Ids of the networks that are in memory."""
        with self._guard:
            return [entry.model.id for entry in self._entries.values() if entry.runner is not None]

    @contextlib.contextmanager
    def _loaded_runner(self, entry: CacheEntry, settings: Settings, progress: Progress, timer: Timer) -> Iterator[Any]:
        """Load the runner if necessary; it is not unloaded within the context."""

        def load() -> Any:
            self._free_memory(entry, entry.file.path.stat().st_size)
            return self._open_runner(entry.model, entry.file, entry.plan, settings, progress)

        with timer.phase("queue"):
            entry.lock.acquire()
        try:
            if entry.runner is None:
                with timer.phase("load"):
                    entry.runner, entry.warm = self._retry(entry, load), False
                    self._free_memory(entry, 0)
            runner = entry.runner
            entry.running += 1
        finally:
            entry.lock.release()
        try:
            yield runner
        finally:
            with entry.lock:
                entry.running -= 1

    def _others(self, entry: CacheEntry) -> list[CacheEntry]:
        """Entries of the same device, without `entry`."""
        with self._guard:
            return [other for other in self._entries.values() if other.plan.device == entry.plan.device and other is not entry]

    def _free_memory(self, keep: CacheEntry, required: int) -> None:
        """Unload the least recently used networks but `keep` until `required` more bytes fit into the budget of its device."""
        budget = self._budget(keep.plan.device)
        while True:
            # Each runner is read once: other threads unload networks without holding the guard.
            runners = [entry.runner for entry in [keep, *self._others(keep)]]
            used = sum(runner.memory for runner in runners if runner)
            if used + required <= budget or not self._unload_oldest(keep):
                return

    def _unload_oldest(self, keep: CacheEntry) -> bool:
        """Unload the least recently used network on the device of `keep` that is not running; False if there is no other."""
        candidates = [entry for entry in self._others(keep) if entry.runner]
        for entry in sorted(candidates, key=lambda entry: entry.last_used):
            if entry.lock.acquire(blocking=False):
                try:
                    if entry.running:
                        continue
                    entry.runner = None
                finally:
                    entry.lock.release()
                release_memory()
                return True
        return False

    def _retry(self, entry: CacheEntry, function: Callable[[], T]) -> T:
        """Call `function`, and again after each out-of-memory error as long as another network can be unloaded."""
        names = {"model": entry.model.id, "device": entry.plan.device}
        while True:
            try:
                return function()
            except RmbgError:
                raise
            except (MemoryError, RuntimeError) as error:
                # Copied, as the exception holds the frames, and with them the memory, of the failed call.
                out_of_memory = is_out_of_memory(error)
                reason = str(error).splitlines()[0][:200] if str(error) else "no reason given"
            release_memory()
            if not out_of_memory:
                text = "{model} failed on {device} ({engine}): {reason}. Try again, or choose another provider."
                raise ModelError(Message(text, **names, engine=entry.plan.engine, reason=reason))
            if not self._unload_oldest(entry):
                entry.runner = None
                release_memory()
                text = "{device} has not enough free memory for {model}. Close other programs, or choose a smaller model."
                raise ModelError(Message(text, **names))


MODEL_CACHE = ModelCache()
