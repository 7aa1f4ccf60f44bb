"""Control of one run of a batch, and its pipeline on this machine: readers load inputs while workers process them."""

from __future__ import annotations

import io
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from PIL import Image

from rmbg.batch.manifest import HaltError, Outcome
from rmbg.batch.plan import Plan, Recipe, Task
from rmbg.batch.processes import MIN_PHOTOS, PhotoProcess, process_count, supports
from rmbg.batch.sources import Source
from rmbg.batch.worker import NO_HOOKS, Worker
from rmbg.errors import CancelledError, RmbgError
from rmbg.images.decode import formats
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
    count : int
        Number of tasks.
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

    def __init__(self, count: int, *, paid: bool) -> None:
        self.stop, self.abort = threading.Event(), threading.Event()
        self.error: BaseException | None = None
        self._grace = PAID_GRACE_SECONDS if paid else 0.0
        self._count = count
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

    @abstractmethod
    def _active(self) -> bool:
        """Return True while photos are processed."""

    def _follow(self, update: Callable[[Outcome | None], None], cancelled: Callable[[], bool]) -> None:
        """Wait for the end of the run; the parameters and errors are those of `run`."""
        stopped_at = None
        left = self._count
        try:
            while self._active() or not self._outcomes.empty():
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

    def _count_failures(self, outcome: Outcome) -> None:
        """Stop the run after `MAX_CONSECUTIVE_FAILURES`, before the worker starts another photo, which may be paid for."""
        with self._lock:
            self._failures = failures = self._failures + 1 if outcome.systematic else 0
        if failures >= MAX_CONSECUTIVE_FAILURES:
            self._fail(HaltError(f"{failures} consecutive photos failed. {outcome.message}"))


# Pipeline of a batch: reader threads load inputs while worker threads turn them into results.


#: Default number of concurrent photos at a paid service.
PAID_JOBS = 4

#: Number of inputs read concurrently, from this machine and over the network.
READERS, REMOTE_READERS = 2, 8

#: Pixel budget of one worker in megapixels. A larger photo is processed alone.
MEGAPIXELS_PER_WORKER = 24

#: An input and its bytes, or the error that prevented reading it.
Input = tuple[Task, bytes | RmbgError]


def default_jobs(recipe: Recipe) -> int:
    """Return the default number of concurrent photos."""
    return PAID_JOBS if recipe.paid else max(2, cpu_count())


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


class Pipeline(Run):
    """Threads and queues of one run on this machine.

    Parameters
    ----------
    plan : Plan
    source : Source
    recipe : Recipe
    jobs : int, optional
        Number of concurrent photos; by default `default_jobs`.
    cores : int, optional
        Number of cores that the run may use; by default `cpu_count`.
    exclusive : bool
        True if the caller admits one local network at a time, which then uses all cores.
    """

    def __init__(
        self, plan: Plan, source: Source, recipe: Recipe, jobs: int | None, cores: int | None = None, exclusive: bool = False
    ) -> None:
        super().__init__(len(plan.tasks), paid=recipe.paid)
        self.source = source
        self.jobs = jobs or default_jobs(recipe)
        self._one_core = not exclusive and self.jobs >= (cores or cpu_count())
        self._tasks = iter(plan.tasks)
        self._budget = PixelBudget(self.jobs * MEGAPIXELS_PER_WORKER * 1_000_000)
        self._inputs: queue.Queue[Input | None] = queue.Queue(maxsize=self.jobs)
        self._readers: list[threading.Thread] = []
        self._workers: list[threading.Thread] = []
        self._processes: list[PhotoProcess] = []

    def run(self, worker: Worker, update: Callable[[Outcome | None], None], cancelled: Callable[[], bool]) -> None:
        self._readers = [self._start(self._read) for _ in range(REMOTE_READERS if self.source.remote else READERS)]
        # Hooks are callables of this process.
        if worker.hooks is NO_HOOKS and self._one_core and supports(worker.recipe) and self._count >= MIN_PHOTOS:
            self._processes = [PhotoProcess(worker.recipe, worker.settings) for _ in range(process_count(self.jobs))]
        own = [*self._processes, *[None] * (self.jobs - len(self._processes))]
        self._workers = [self._start(self._work, worker, process) for process in own]
        try:
            self._follow(update, cancelled)
        finally:
            self._close_processes()

    def _close_processes(self) -> None:
        for process in self._processes:
            process.close()

    def _active(self) -> bool:
        if self.abort.is_set():
            self._close_processes()
        if self._readers and not any(thread.is_alive() for thread in self._readers):
            self._readers = []
            self._start(self._put_end)
        return any(thread.is_alive() for thread in self._workers)

    def _stays_on_one_core(self, pixels: int) -> bool:
        """True for a photo that shares the cores with others; a large one may be alone."""
        return self._one_core and pixels <= MEGAPIXELS_PER_WORKER * 1_000_000

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

    def _work(self, worker: Worker, process: PhotoProcess | None) -> None:
        while not self.stop.is_set():
            try:
                item = self._inputs.get(timeout=POLL_INTERVAL)
            except queue.Empty:
                continue
            if item is None:
                return
            task, data = item
            try:
                pixels = 0 if isinstance(data, RmbgError) else pixel_count(data)
                one_core = self._stays_on_one_core(pixels)
                with self._budget.hold(pixels), on_one_core() if one_core else nullcontext():
                    if self.stop.is_set():
                        return
                    render = process.result if process is not None and process.ready and one_core else None
                    outcome = worker.process(task, data, render)
            except CancelledError:
                return
            except BaseException as error:
                self._fail(error)
                return
            self._count_failures(outcome)
            self._outcomes.put(outcome)
