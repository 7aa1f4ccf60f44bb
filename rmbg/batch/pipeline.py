"""Pipeline of a batch: reader threads load inputs while worker threads turn them into results.

Each worker handles a photo from its bytes to its result. Networks run in one thread at a time, so other photos are decoded,
refined and encoded meanwhile. The number of photos and of their pixels in memory is bounded.
"""

from __future__ import annotations

import io
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from PIL import Image

from rmbg.batch.entry import Source
from rmbg.batch.plan import Plan, Task
from rmbg.batch.recipe import Recipe
from rmbg.batch.worker import HaltError, Outcome, Worker
from rmbg.errors import CancelledError, RmbgError
from rmbg.images.decode import formats

#: Default number of concurrent photos at a paid service.
PAID_JOBS = 4

#: Number of inputs read concurrently, from this machine and over the network.
READERS, REMOTE_READERS = 2, 8

#: Pixel budget of one worker in megapixels. A larger photo is processed alone.
MEGAPIXELS_PER_WORKER = 24

#: Number of consecutive failures of the provider that ends the batch, since the cause is then not a single photo.
MAX_CONSECUTIVE_FAILURES = 5

#: Seconds after a stop in which paid calls may still finish before they are cancelled.
PAID_GRACE_SECONDS = 5.0

#: Seconds after cancellation in which the current photos may end.
CANCEL_GRACE_SECONDS = 0.7

#: Maximum time in seconds that a thread waits before it checks for a stop.
POLL_INTERVAL = 0.2

#: An input and its bytes, or the error that prevented reading it.
Input = tuple[Task, bytes | RmbgError]


def default_jobs(recipe: Recipe) -> int:
    """Return the default number of concurrent photos."""
    return PAID_JOBS if recipe.paid else max(2, os.cpu_count() or 1)


def pixel_count(data: bytes) -> int:
    """Return the number of pixels in the header of a picture, or 0 if it is not readable; decoding reports the error."""
    try:
        with Image.open(io.BytesIO(data), formats=formats()) as image:
            return image.width * image.height
    except Exception:  # Pillow raises many types of exceptions for damaged files
        return 0


class PixelBudget:
    """Limit of the total number of pixels in memory; a photo above the limit is admitted alone."""

    def __init__(self, limit: int) -> None:
        self._limit, self._held, self._count = limit, 0, 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Hold `pixels` of the budget, after waiting until they are available."""
        with self._changed:
            self._changed.wait_for(lambda: not self._count or self._held + pixels <= self._limit)
            self._held += pixels
            self._count += 1
        try:
            yield
        finally:
            with self._changed:
                self._held -= pixels
                self._count -= 1
                self._changed.notify_all()


class Pipeline:
    """Threads and queues of one run.

    Attributes
    ----------
    stop : threading.Event
        No further photos are started; current photos are completed.
    abort : threading.Event
        Current photos are cancelled as well.
    """

    def __init__(self, plan: Plan, source: Source, recipe: Recipe, jobs: int | None) -> None:
        self.source = source
        self.jobs = jobs or default_jobs(recipe)
        self.stop, self.abort = threading.Event(), threading.Event()
        self.error: BaseException | None = None
        self._grace = PAID_GRACE_SECONDS if recipe.paid else 0.0
        self._tasks = iter(plan.tasks)
        self._count = len(plan.tasks)
        self._lock = threading.Lock()
        self._failures = 0  # consecutive ones of the provider
        self._budget = PixelBudget(self.jobs * MEGAPIXELS_PER_WORKER * 1_000_000)
        self._inputs: queue.Queue[Input | None] = queue.Queue(maxsize=self.jobs)
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()

    def run(self, worker: Worker, update: Callable[[Outcome | None], None], cancelled: Callable[[], bool]) -> None:
        """Run all tasks.

        Parameters
        ----------
        worker : Worker
        update : callable (outcome or None)
            Called in this thread after each photo, and with None after `POLL_INTERVAL` seconds without an outcome.
        cancelled : callable () -> bool
            Stops the run.

        Raises
        ------
        CancelledError
            If the run was stopped.
        HaltError
            If no further photo can be processed.
        """
        readers = [self._start(self._read) for _ in range(REMOTE_READERS if self.source.remote else READERS)]
        workers = [self._start(self._work, worker) for _ in range(self.jobs)]
        stopped_at = None
        left = self._count
        try:
            while any(thread.is_alive() for thread in workers) or not self._outcomes.empty():
                if readers and not any(thread.is_alive() for thread in readers):
                    readers = []
                    self._start(self._put_end)
                outcome = self._next_outcome()
                update(outcome)
                if outcome is not None:
                    left -= 1
                if stopped_at is None and cancelled():
                    stopped_at = time.monotonic()
                    self.stop.set()
                stopped_for = 0.0 if stopped_at is None else time.monotonic() - stopped_at
                if stopped_at is not None and stopped_for >= self._grace:
                    self.abort.set()
                if stopped_for >= self._grace + CANCEL_GRACE_SECONDS:
                    break
        except BaseException:
            self.stop.set()
            self.abort.set()
            raise
        if stopped_at is not None:
            raise CancelledError(f"Stopped. {left:,} photos are left. Run the same command again to continue.")
        if self.error is not None:
            raise self.error

    def _next_outcome(self) -> Outcome | None:
        try:
            return self._outcomes.get(timeout=POLL_INTERVAL)
        except queue.Empty:
            return None

    def _start(self, target: Callable[..., None], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=target, args=arguments, daemon=True, name="batch")
        thread.start()
        return thread

    def _fail(self, error: BaseException) -> None:
        """Stop the run with an error; the first one is raised by `run`."""
        with self._lock:
            self.error = self.error or error
        self.stop.set()

    def _read(self) -> None:
        while not self.stop.is_set():
            with self._lock:
                task = next(self._tasks, None)
            if task is None:
                return
            data: bytes | RmbgError
            try:
                if task.entry.problem:
                    raise RmbgError(task.entry.problem)
                data = self.source.read(task.entry, self.stop.is_set)
            except CancelledError:
                return
            except RmbgError as error:
                data = error
            except Exception as error:  # an unexpected error ends the run, since the workers would wait forever
                self._fail(error)
                return
            self._put((task, data))

    def _put(self, item: Input | None) -> None:
        while not self.stop.is_set():
            try:
                return self._inputs.put(item, timeout=POLL_INTERVAL)
            except queue.Full:
                continue

    def _put_end(self) -> None:
        for _ in range(self.jobs):
            self._put(None)

    def _work(self, worker: Worker) -> None:
        while not self.stop.is_set():
            try:
                item = self._inputs.get(timeout=POLL_INTERVAL)
            except queue.Empty:
                continue
            if item is None:
                return
            task, data = item
            try:
                with self._budget.hold(0 if isinstance(data, RmbgError) else pixel_count(data)):
                    if self.stop.is_set():
                        return
                    outcome = worker.process(task, data)
            except CancelledError:
                return
            except BaseException as error:
                self._fail(error)
                return
            self._count_failures(outcome)
            self._outcomes.put(outcome)

    def _count_failures(self, outcome: Outcome) -> None:
        """Stop the run after `MAX_CONSECUTIVE_FAILURES`, before the worker starts another photo, which may be paid for."""
        with self._lock:
            self._failures = failures = self._failures + 1 if outcome.systematic else 0
        if failures >= MAX_CONSECUTIVE_FAILURES:
            self._fail(HaltError(f"{failures} consecutive photos failed. {outcome.message}"))
