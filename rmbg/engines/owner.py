"""The one owner of loaded networks: each is loaded once, memory stays under a budget, and running out of it is survived."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import numpy as np

from rmbg.engines import plan as plans
from rmbg.engines import weights, zero
from rmbg.engines.models import Model
from rmbg.engines.plan import Plan
from rmbg.engines.weights import Progress, Weights
from rmbg.errors import ModelError, RmbgError
from rmbg.settings import Settings

T = TypeVar("T")

#: The share of a device's memory that loaded networks may hold; the rest is for running them, and for others.
SHARE = 0.4


class Runner(Protocol):
    """A network that is ready to run.

    Attributes
    ----------
    plan : Plan
    memory : int
        Bytes that it holds.
    """

    plan: Plan
    memory: int

    def run(self, images: np.ndarray) -> np.ndarray:
        """float32 (N, 3, size, size), normalised, to masks float32 (N, size, size) in [0, 1]."""


@dataclass
class Slot:
    """The place of one network, loaded or not: whoever holds its lock loads it or runs it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    runner: Runner | None = None
    used: float = 0.0


class Owner:
    """Loads networks when they are first needed, and lets go of those not used for longest.

    Parameters
    ----------
    budget : callable (device) -> int
        Bytes that networks may hold on a device.
    open_runner : callable (model, weights, plan, settings, progress) -> Runner
    """

    def __init__(
        self,
        budget: Callable[[str], int] | None = None,
        open_runner: Callable[[Model, Weights, Plan, Settings, Progress], Runner] | None = None,
    ) -> None:
        self._budget = budget or device_budget
        self._open = open_runner or open_on_engine
        self._guard = threading.Lock()
        self._slots: dict[tuple[str, Plan, Weights], Slot] = {}

    def masks(
        self, model: Model, images: np.ndarray, settings: Settings, progress: Progress, check: Callable[[], None]
    ) -> tuple[np.ndarray, Plan]:
        """What the model makes of prepared images: float32 (N, 3, size, size) to (N, size, size), and what it ran on."""
        if zero.shared():
            check()
            progress(None, f"Waiting for the shared graphics card to run {model.id}")
            return zero.masks(model, images), zero.PLAN
        return self.run(model, lambda runner: runner.run(images), settings, progress, check)

    def run(
        self, model: Model, work: Callable[[Any], T], settings: Settings, progress: Progress, check: Callable[[], None]
    ) -> tuple[T, Plan]:
        """Have the model's runner do some work.

        Parameters
        ----------
        model : Model
        work : callable (runner) -> T
        settings : Settings
        progress : callable (fraction or None, text)
        check : callable
            Called between steps; raises to stop.

        Returns
        -------
        T, Plan
            What `work` returns, and what it ran on.

        Raises
        ------
        NotReadyError
            If weights or device are not there.
        ModelError
            If the network cannot be loaded or run; the next call may.
        """
        if zero.shared():
            settings = replace(settings, device="cpu")  # the shared card is for what was placed on it
        plan = plans.choose(settings, model.engines)

        def downloading(fraction: float | None, text: str) -> None:
            check()  # a download takes minutes, and is stopped from here only
            progress(fraction, text)

        file = weights.fetch(model, settings, downloading)
        check()
        with self._guard:
            slot = self._slots.setdefault((model.id, plan, file), Slot())
        with slot.lock:
            if slot.runner is None:
                slot.runner = self._attempt(model, plan, slot, lambda: self._load(model, file, plan, settings, progress))
                self._make_room(plan.device, 0, slot)
            check()
            progress(None, f"Running {model.id} on {plan.device}")
            slot.used = time.monotonic()
            runner = slot.runner
            return self._attempt(model, plan, slot, lambda: work(runner)), plan

    def loaded(self) -> list[str]:
        """Ids of the networks that are in memory."""
        with self._guard:
            return [key[0] for key, slot in self._slots.items() if slot.runner is not None]

    def _load(self, model: Model, file: Weights, plan: Plan, settings: Settings, progress: Progress) -> Runner:
        self._make_room(plan.device, file.path.stat().st_size, None)
        return self._open(model, file, plan, settings, progress)

    def _make_room(self, device: str, needed: int, keep: Slot | None) -> None:
        """Unload the networks not used for longest until `needed` more bytes fit into the budget."""
        while self._held(device) + needed > self._budget(device):
            if not self._unload_oldest(device, keep):
                return

    def _held(self, device: str) -> int:
        with self._guard:
            return sum(slot.runner.memory for key, slot in self._slots.items() if slot.runner and key[1].device == device)

    def _unload_oldest(self, device: str, keep: Slot | None) -> bool:
        """Unload one network that nobody is running; False if there is none."""
        with self._guard:
            idle = [
                (slot.used, slot)
                for key, slot in self._slots.items()
                if slot.runner and key[1].device == device and slot is not keep
            ]
        for _, slot in sorted(idle, key=lambda entry: entry[0]):
            if slot.lock.acquire(blocking=False):
                try:
                    slot.runner = None
                finally:
                    slot.lock.release()
                release_memory()
                return True
        return False

    def _attempt(self, model: Model, plan: Plan, slot: Slot, work: Callable[[], T]) -> T:
        """`work`, once more if memory ran out and other networks could be unloaded."""
        while True:
            try:
                return work()
            except RmbgError:
                raise
            except (MemoryError, RuntimeError) as error:
                full, reason = is_out_of_memory(error), str(error).splitlines()[0][:200] if str(error) else "no reason given"
            release_memory()
            if not full:
                raise ModelError(f"{model.id} failed on {plan.device} ({plan.engine}): {reason}.")
            if not self._unload_oldest(plan.device, slot):
                slot.runner = None
                release_memory()
                raise ModelError(
                    f"{plan.device} has not enough free memory for {model.id}; close other programs, or choose a smaller model."
                )


def open_on_engine(model: Model, file: Weights, plan: Plan, settings: Settings, progress: Progress) -> Runner:
    """The model on the plan's engine; each is imported only where it is used, as that takes seconds."""
    if model.architecture == "sam2":
        from rmbg.engines.sam2 import Sam2Runner

        return Sam2Runner(model, file, plan, progress)
    if plan.engine == "openvino":
        from rmbg.engines.openvino_engine import OpenVinoRunner

        return OpenVinoRunner(model, file, plan, settings, progress)
    from rmbg.engines.torch_engine import TorchRunner

    return TorchRunner(model, file, plan, progress)


def device_budget(device: str) -> int:
    """Bytes that networks may hold on `device`."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.get_device_properties(device).total_memory * SHARE)
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * SHARE)
    return 4 * 2**30  # Windows does not say without a further package


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an engine ran out of memory; torch has a class for it on graphics cards only."""
    words = ("out of memory", "not enough memory", "can't allocate memory", "bad_alloc", "bad allocation")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)


def release_memory() -> None:
    """Give back what unloaded networks held; torch keeps a graphics card's memory for itself otherwise."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


OWNER = Owner()
