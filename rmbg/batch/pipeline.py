"""Control of one run of a batch, and its pipeline on this machine, which reads photos while it processes others."""

from __future__ import annotations

import io
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from PIL import Image

from rmbg.batch.manifest import HaltError, Manifest, Outcome
from rmbg.batch.plan import Plan, Recipe, Task
from rmbg.batch.processes import MIN_PHOTOS, PhotoProcess, process_count, supports
from rmbg.batch.sources import Entry, Source
from rmbg.batch.worker import NO_HOOKS, Render, Worker
from rmbg.errors import CancelledError, RmbgError
from rmbg.images.decode import formats
from rmbg.providers.base import never_cancelled
from rmbg.runtime.threads import cpu_count, on_one_core

#: Number of consecutive failures of the provider that ends the batch, since the cause is then not a single photo.
MAX_CONSECUTIVE_FAILURES = 5

#: Seconds after a stop in which paid calls may still finish before they are cancelled.
PAID_GRACE_SECONDS = 5.0

#: Seconds after cancellation in which the current photos may end.
CANCEL_GRACE_SECONDS = 0.7

#: Maximum time in seconds that a thread waits before it checks for a stop.
POLL_INTERVAL = 0.2


class Run(ABC):
    """One run, on this machine or on a cluster.

    Parameters
    ----------
    tasks : sequence of Task
    manifest : Manifest
        Receives the outcomes.
    paid : bool
        Paid calls in progress may finish within `PAID_GRACE_SECONDS` after a stop.

    Attributes
    ----------
    stop : threading.Event
        No further photos are started; current photos are completed.
    abort : threading.Event
        Current photos are cancelled as well.
    machines : int
    """

    machines = 1

    def __init__(self, tasks: Sequence[Task], manifest: Manifest, *, paid: bool) -> None:
        self.stop, self.abort = threading.Event(), threading.Event()
        self.error: BaseException | None = None
        self._manifest = manifest
        self._grace = PAID_GRACE_SECONDS if paid else 0.0
        self._tasks: queue.Queue[Task] = queue.Queue()  # its unfinished tasks are those without an outcome
        for task in tasks:
            self._tasks.put(task)
        self._lock = threading.Lock()
        self._failures = 0  # consecutive ones of the provider
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()

    @abstractmethod
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

    def _active(self) -> bool:
        """Return True while photos are processed."""
        left = self._tasks.unfinished_tasks
        return left > self._tasks.qsize() or (left > 0 and not self.stop.is_set())

    def _process_tasks(self, process: Callable[[Task], Outcome]) -> None:
        """Process tasks, one at a time, until all of them have an outcome or the run stops."""
        while self._tasks.unfinished_tasks and not self.stop.is_set():
            try:
                task = self._tasks.get(timeout=POLL_INTERVAL)
            except queue.Empty:
                continue
            try:
                self._outcomes.put(process(task))
            except BaseException:
                self._tasks.put(task)  # for another thread, or for the next run
                raise
            finally:
                self._tasks.task_done()

    def _follow(self, update: Callable[[Outcome | None], None], cancelled: Callable[[], bool]) -> None:
        """Wait for the end of the run; the parameters and errors are those of `run`."""
        stopped_at = None
        try:
            while self._active() or not self._outcomes.empty():
                update(self._next_outcome())
                if stopped_at is None and cancelled():
                    stopped_at = time.monotonic()
                    self.stop.set()
                stopped_for = 0.0 if stopped_at is None else time.monotonic() - stopped_at
                if stopped_at is not None and stopped_for >= self._grace:
                    self._abort()
                if stopped_for >= self._grace + CANCEL_GRACE_SECONDS:
                    break
        except BaseException:
            self.stop.set()
            self._abort()
            raise
        if stopped_at is not None:
            left = self._tasks.unfinished_tasks
            raise CancelledError(f"Stopped. {left:,} photos are left. Run the same command again to continue.")
        if self.error is not None:
            raise self.error

    def _abort(self) -> None:
        self.abort.set()

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
        """Stop the run with an error; the first one is raised by `run`, except that of a cancelled photo."""
        with self._lock:
            if not isinstance(error, CancelledError):
                self.error = self.error or error
        self.stop.set()

    def _record(self, outcome: Outcome, columns: Mapping[str, Any]) -> Outcome:
        """Record an outcome; called before the next photo starts, which may be paid for.

        The run stops after `MAX_CONSECUTIVE_FAILURES`.
        """
        self._manifest.record(outcome.name, **columns)
        with self._lock:
            self._failures = failures = self._failures + 1 if outcome.systematic else 0
        if failures >= MAX_CONSECUTIVE_FAILURES:
            self._fail(HaltError(f"{failures} consecutive photos failed. {outcome.message}"))
        return outcome


# Pipeline of a batch: threads read photos and turn them into results.


#: Default number of concurrent photos at a paid service.
PAID_JOBS = 4

#: Number of inputs read concurrently, from this machine and over the network.
READERS, REMOTE_READERS = 2, 8

#: Pixel budget of one worker in megapixels. A larger photo is processed alone.
MEGAPIXELS_PER_WORKER = 24


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


class Admission:
    """Admission of photos within the memory and the cores for a number of concurrent ones.

    Parameters
    ----------
    jobs : int
    one_core : bool
        True if each of the concurrent photos is processed on one core.
    """

    def __init__(self, jobs: int, *, one_core: bool) -> None:
        self._places = threading.Semaphore(jobs)
        self._budget = PixelBudget(jobs * MEGAPIXELS_PER_WORKER * 1_000_000)
        self.one_core = one_core

    @contextmanager
    def hold(self, data: bytes | RmbgError) -> Iterator[bool]:
        """Hold memory and cores for an input; True if it has one core. A large photo has all of them, as it may be alone."""
        pixels = 0 if isinstance(data, RmbgError) else pixel_count(data)
        one_core = self.one_core and pixels <= MEGAPIXELS_PER_WORKER * 1_000_000
        with self._places, self._budget.hold(pixels), on_one_core() if one_core else nullcontext():
            yield one_core


def read_input(source: Source, entry: Entry, cancelled: Callable[[], bool] = never_cancelled) -> bytes | RmbgError:
    """Return the content of an input, or the error that prevents reading it; raises CancelledError."""
    if entry.problem:
        return RmbgError(entry.problem)
    try:
        return source.read(entry, cancelled)
    except CancelledError:
        raise
    except RmbgError as error:
        return error


class Pipeline(Run):
    """Threads and processes of one run on this machine.

    Parameters
    ----------
    plan : Plan
    manifest : Manifest
    source : Source
    recipe : Recipe
    jobs : int, optional
        Number of concurrent photos; by default the number of CPU cores, at least two, and `PAID_JOBS` at a paid service.
    exclusive : bool
        True if the caller admits one local network at a time, which then uses all cores.
    """

    def __init__(
        self, plan: Plan, manifest: Manifest, source: Source, recipe: Recipe, jobs: int | None, *, exclusive: bool = False
    ) -> None:
        super().__init__(plan.tasks, manifest, paid=recipe.paid)
        self._source = source
        self._jobs = jobs or (PAID_JOBS if recipe.paid else max(2, cpu_count()))
        self._admission = Admission(self._jobs, one_core=not exclusive and self._jobs >= cpu_count())
        self._readers = REMOTE_READERS if source.remote else READERS
        self._reading = threading.Semaphore(self._readers)
        self._processes: list[PhotoProcess] = []
        self._idle: list[PhotoProcess] = []

    def run(self, worker: Worker, update: Callable[[Outcome | None], None], cancelled: Callable[[], bool]) -> None:
        divisible = worker.hooks is NO_HOOKS and supports(worker.recipe)  # hooks are callables of this process
        if divisible and self._admission.one_core and self._tasks.qsize() >= MIN_PHOTOS:
            self._processes = [PhotoProcess(worker.recipe, worker.settings) for _ in range(process_count(self._jobs))]
            self._idle = list(self._processes)
        for _ in range(self._jobs + self._readers):
            self._start(self._work, worker)
        try:
            self._follow(update, cancelled)
        finally:
            self._close_processes()

    def _abort(self) -> None:
        super()._abort()
        self._close_processes()

    def _close_processes(self) -> None:
        for process in self._processes:
            process.close()

    def _work(self, worker: Worker) -> None:
        try:
            self._process_tasks(lambda task: self._process(worker, task))
        except BaseException as error:
            self._fail(error)

    def _process(self, worker: Worker, task: Task) -> Outcome:
        """Read a photo, ahead of its admission, and process it."""
        with self._reading:
            data = read_input(self._source, task.entry, self.stop.is_set)
        with self._admission.hold(data) as one_core, self._renderer(one_core) as render:
            if self.stop.is_set():
                raise CancelledError("Stopped.")
            return self._record(*worker.process(task, data, render))

    @contextmanager
    def _renderer(self, one_core: bool) -> Iterator[Render | None]:
        """Hold an idle process for a photo on one core, and return its renderer; None if no process is ready."""
        with self._lock:
            process = next((idle for idle in self._idle if one_core and idle.ready), None)
            if process is not None:
                self._idle.remove(process)
        try:
            yield None if process is None else process.result
        finally:
            if process is not None:
                self._idle.append(process)
