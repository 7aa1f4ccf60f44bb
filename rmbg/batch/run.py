"""Control of one run of a batch: outcomes, stop, cancellation, and the end after repeated failures."""

from __future__ import annotations

import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from rmbg.batch.outcome import HaltError, Outcome
from rmbg.batch.worker import Worker
from rmbg.errors import CancelledError

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
