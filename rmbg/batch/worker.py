"""Processing of one photo of a batch, from its bytes to its result, with the hooks of the caller."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rmbg.batch.manifest import HaltError, Outcome, State
from rmbg.batch.outputs import Output
from rmbg.batch.plan import Recipe, Task
from rmbg.cutout import Cutout
from rmbg.errors import CancelledError, ModelError, NoSubjectError, NotReadyError, OutputError, RmbgError, ServiceError
from rmbg.images.photo import Photo, open_photo
from rmbg.providers.base import DeviceTurn, RequestContext, never_cancelled, no_turn, run_directly
from rmbg.settings import Settings


@dataclass(frozen=True)
class Result:
    """An encoded result.

    Attributes
    ----------
    data : bytes
        Content of the file.
    width, height : int
        Of the photo.
    provisional : bool
        As in `Cutout`.
    outcome : Outcome
    """

    data: bytes
    width: int
    height: int
    provisional: bool
    outcome: Outcome


def create_result(
    recipe: Recipe,
    name: str,
    cutout: Cutout,
    settings: Settings,
    *,
    called: bool = True,
    cancelled: Callable[[], bool] = never_cancelled,
) -> Result:
    """Render and encode the cutout of the input `name`; `called` is False if no provider has run for it."""
    data = recipe.encode(cutout, cancelled, settings)
    outcome = Outcome(name, "done", " ".join(cutout.notes))
    if called:
        outcome = replace(outcome, cost=cutout.cost, seconds=cutout.seconds, confidence=cutout.confidence)
    return Result(data, cutout.photo.width, cutout.photo.height, cutout.provisional, outcome)


# Parts of a batch that its caller may replace.


@dataclass(frozen=True)
class Hooks:
    """Parts of a run that its caller may replace, such as a server that runs the batches of several visitors.

    Attributes
    ----------
    key : str or None
        API key of the calls, which is not stored; by default that of the environment.
    photo, device : callable (check) -> context manager
        Entered for each photo: the first one from decoding to encoding, the second one while a local network runs. They may
        wait, and call `check` meanwhile, which raises CancelledError.
    matte : callable (name) -> uint8 array (H, W) or None
        Returns the matte of an earlier run of the same local provider, which is then not run again.
    created : callable (name, cutout)
        Called with the name of the input and its cutout before the result is written; errors of the package are errors of the
        photo.
    """

    key: str | None = field(default=None, repr=False)
    photo: DeviceTurn = no_turn
    device: DeviceTurn = no_turn
    matte: Callable[[str], np.ndarray | None] = lambda name: None
    created: Callable[[str, Cutout], None] = lambda name, cutout: None


NO_HOOKS = Hooks()


# Processing of one photo of a batch, from its bytes to its result.


log = logging.getLogger(__name__)

#: Returns the cutout of a task and its photo with a digest, and False if it comes from a cache; `PaidCalls.cutout`.
Payments = Callable[[Task, Photo, str], tuple[Cutout, bool]]

#: Returns the result of a local provider for an input with a name and a content.
Render = Callable[[str, bytes], Result]


def unexpected(error: Exception) -> RmbgError:
    """Return the error of a photo for an exception that is not one of the package, which the log has."""
    return RmbgError(f"It failed with an unexpected {type(error).__name__}. See the log for details.")


@dataclass(frozen=True, eq=False)
class Worker:
    """Processes the tasks of a batch; thread-safe.

    Parameters
    ----------
    recipe : Recipe
    output : Output
    settings : Settings
    payments : callable (task, photo, digest) -> (cutout, called)
        Used instead of the provider if it is paid.
    cancelled : callable () -> bool
        Cancels the current photos.
    stopping : callable () -> bool
        Returns True if no further photo may start.
    hooks : Hooks
    """

    recipe: Recipe
    output: Output
    settings: Settings
    payments: Payments
    cancelled: Callable[[], bool]
    stopping: Callable[[], bool]
    hooks: Hooks = NO_HOOKS

    def process(self, task: Task, data: bytes | RmbgError, render: Render | None = None) -> tuple[Outcome, dict[str, Any]]:
        """Process one task and return its outcome, and the changed columns of its item.

        Parameters
        ----------
        task : Task
        data : bytes or RmbgError
            Content of the input, or the error that prevented reading it.
        render : callable (name, data) -> Result, optional
            Used in the place of this process if there are no hooks and the provider is local.

        Raises
        ------
        HaltError
            If no further photo can be processed.
        CancelledError
            If the photo was cancelled, or was not sent because the batch is stopping.
        """
        started = time.perf_counter()
        columns: dict[str, Any] = {
            "stamp": task.entry.stamp,
            "inference": self.recipe.inference,
            "rendering": self.recipe.rendering,
        }
        try:
            if isinstance(data, RmbgError):
                raise data
            columns["digest"] = hashlib.sha256(data).hexdigest()
            if self._unchanged(task, columns["digest"]):
                return Outcome(task.entry.name, "done", unchanged=True), {"stamp": task.entry.stamp}
            with self.hooks.photo(self._check):
                self.output.check(task.output)
                result = render(task.entry.name, data) if render else self._render(task, data, columns["digest"])
                self._write(task.output, result.data)
            outcome = result.outcome
            columns |= {"output": task.output, "size": len(result.data), "width": result.width, "height": result.height}
            if result.provisional:  # the next run processes the photo again
                columns["inference"] = ""
        except (CancelledError, HaltError):
            raise
        except NotReadyError as error:  # missing key or weights, budget or limit reached: affects all photos
            raise HaltError(str(error)) from None
        except RmbgError as error:
            outcome = self._failure(task, error)
        except Exception as error:  # an unexpected error of one photo must not end the batch
            log.exception("a photo of a batch failed")
            outcome = self._failure(task, unexpected(error))
        columns["seconds"] = round(time.perf_counter() - started, 3)
        times = task.item.times + (outcome.state == "done")
        return outcome, {"state": outcome.state, "message": outcome.message, "times": times, **columns}

    def _failure(self, task: Task, error: RmbgError) -> Outcome:
        charged = error.cost is not None and error.cost.usd != 0
        state: State = "charged" if charged else "failed"
        if isinstance(error, NoSubjectError):
            state = "nothing"
        systematic = isinstance(error, (ServiceError, ModelError))
        return Outcome(task.entry.name, state, str(error), systematic=systematic, cost=error.cost)

    def _unchanged(self, task: Task, digest: str) -> bool:
        item = task.item
        present = (digest, self.recipe.inference, self.recipe.rendering)
        return task.intact and (item.digest, item.inference, item.rendering) == present

    def _check(self) -> None:
        if self.cancelled() or self.stopping():
            raise CancelledError("Stopped.")

    def _render(self, task: Task, data: bytes, digest: str) -> Result:
        """Return the result of one photo in this process."""
        photo = open_photo(data, name=task.entry.name, settings=self.settings)
        self.recipe.check_photo(photo)
        if self.recipe.paid:
            cutout, called = self.payments(task, photo, digest)
        else:
            cutout, called = self._local_cutout(task, photo)
        self.hooks.created(task.entry.name, cutout)
        return create_result(self.recipe, task.entry.name, cutout, self.settings, called=called, cancelled=self.cancelled)

    def _local_cutout(self, task: Task, photo: Photo) -> tuple[Cutout, bool]:
        """Return a cutout from a matte of the caller, or by the provider; the second value is True if the provider has run."""
        matte = self.hooks.matte(task.entry.name)
        if matte is not None and matte.shape == (photo.height, photo.width):
            return self.recipe.restore(photo, matte), False
        context = RequestContext(self.settings, self.hooks.key, cancelled=self.cancelled, device=self.hooks.device)
        return run_directly(self.recipe.provider, photo, self.recipe.options, context), True

    def _write(self, name: str, data: bytes) -> None:
        try:
            self.output.write(name, data)
        except OutputError as error:
            try:
                self.output.probe(len(data))
            except OutputError:  # the output as a whole is not writable
                raise HaltError(str(error)) from None
            raise
