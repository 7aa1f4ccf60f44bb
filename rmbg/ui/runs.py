"""Runs of a visitor: their progress, their start and stop buttons, and the end of all runs when the server stops."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import copy_context
from types import FrameType
from typing import Any, TypeVar

import gradio as gr

from rmbg.errors import RmbgError
from rmbg.runtime.cancellation import CancellationToken
from rmbg.ui.languages import t
from rmbg.ui.storage import workspace

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Arguments of events that are not in the API, and of those which also bypass the queue.
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
INSTANT: dict[str, Any] = {**PRIVATE, "queue": False, "show_progress": "hidden"}

INTERNAL_ERROR = "An internal error occurred. Try again, or choose another provider."

#: Progress callback of a provider: fraction, or None for a step without one, and text.
Report = Callable[[float | None, str], None]

#: Share of a removal's usual time at which the provider has ended.
PROVIDER_SHARE = 0.82

#: Seconds without a report. The browser takes longer to show one than a network takes for a step of a usual photo.
QUIET_SECONDS = 0.8


def shown_progress(progress: gr.Progress) -> Report:
    """Return a progress callback of a provider, whose part of a removal ends at `PROVIDER_SHARE`.

    A step without a fraction keeps the last one.
    """
    reached = 0.0

    def show(done: float | None, text: str) -> None:
        nonlocal reached
        reached = reached if done is None else PROVIDER_SHARE * min(max(done, 0.0), 1.0)
        progress(reached, desc=t(text))

    return show


class LateProgress:
    """Progress callback that begins to report after some seconds, with the last step until then.

    Parameters
    ----------
    report : callable (fraction or None, text)
    seconds : float
    """

    def __init__(self, report: Report, seconds: float = QUIET_SECONDS) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._quiet = True
        self._last: tuple[float | None, str] | None = None
        self._timer = threading.Timer(seconds, copy_context().run, (self.begin,))
        self._timer.daemon = True
        self._timer.start()

    def __call__(self, done: float | None, text: str) -> None:
        with self._lock:
            self._last = done, text
            if self._quiet:
                return
        self._report(done, text)

    def begin(self) -> None:
        """Report the last step, and all steps from now on."""
        with self._lock:
            self._quiet = False
            if self._last is not None:
                self._report(*self._last)

    def end(self) -> None:
        """Report nothing more by itself."""
        self._timer.cancel()


class Runs:
    """Successive runs of one kind, at most one active, each with a number and a cancellation token.

    The page sends the number with the inputs of a run, which distinguishes a late request from that of the next click.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._number = 0
        self._token = CancellationToken()
        self._token.end()
        self._provider = ""

    @property
    def active(self) -> bool:
        """True if the current run has neither ended nor been cancelled."""
        return self._token.open and not self._token.cancelled()

    def start(self) -> int:
        """Return the number of the active run; starts one if none is active. Called for a click on the start button."""
        with self._lock:
            return self._number if self.active else self._next()

    def restart(self, provider: str) -> int | None:
        """Cancel the active run, start one that is bound to `provider`, and return its number.

        Returns None if the active run may be charged for. Such a run is not cancelled.
        """
        with self._lock:
            if self.active and not self._token.cancel_free():
                return None
            return self._next(provider)

    def _next(self, provider: str = "") -> int:
        self._number += 1
        self._token, self._provider = CancellationToken(), provider
        return self._number

    @property
    def waiting(self) -> bool:
        """True if the current run was started and has not begun."""
        return self.active and not self._token.running

    def provider(self, number: int | None) -> str:
        """Provider to which the run `number` is bound; empty if the run uses the provider of the page."""
        with self._lock:
            return self._provider if number == self._number else ""

    def replaced(self, token: CancellationToken) -> bool:
        """True if another run was started after the run of `token`."""
        with self._lock:
            return token is not self._token

    def begin(self, number: int | None, *, paid: bool = False) -> CancellationToken | None:
        """Mark a run as begun and return its token.

        Parameters
        ----------
        number : int or None
            Return value of `start`. None or 0, from an API client that sends no click, starts a run.
        paid : bool
            True if the run may be charged.

        Returns
        -------
        CancellationToken or None
            None for a request that must not run: a duplicate, or one of an earlier click.

        Raises
        ------
        CancelledError
            If the run was cancelled before it began.
        """
        if not number:
            number = self.start()
        with self._lock:
            token = self._token if number == self._number else None
        return token if token is not None and token.begin(paid=paid) else None

    def run(
        self,
        number: int | None,
        work: Callable[[CancellationToken], T],
        failed: Callable[[RmbgError], T],
        unchanged: T,
        *,
        paid: bool = False,
    ) -> T:
        """Return the value of `work`, that of `failed` after an error, or `unchanged` for a request that must not run.

        The run ends with the message of the error. `number` and `paid` are those of `begin`.
        """
        token, message = None, ""
        try:
            token = self.begin(number, paid=paid)
            return unchanged if token is None else work(token)
        except RmbgError as error:
            message = str(error)
            return failed(error)
        except Exception:
            log.exception("A run failed")
            return failed(RmbgError(INTERNAL_ERROR))
        finally:
            if token is not None:
                token.end(message)

    def abandon(self, number: int | None) -> None:
        """Cancel the run `number` if it has not begun and no other run was started after it."""
        with self._lock:
            if number == self._number and self.waiting:
                self._token.cancel_free()

    def cancel(self, *, wait: bool = True) -> str:
        """Cancel the current run and return its final message, see `CancellationToken.cancel`."""
        return self._token.cancel(wait=wait)


def in_thread(work: Callable[[Callable[[T], None]], None]) -> Iterator[T]:
    """Call `work` in a thread of its own, and yield the values that it passes to its argument.

    A reload of the page closes this iterator and does not stop the thread.
    """
    values: queue.SimpleQueue[T | None] = queue.SimpleQueue()

    def run() -> None:
        try:
            work(values.put)
        finally:
            values.put(None)

    threading.Thread(target=copy_context().run, args=(run,), name=RUN_NAME).start()
    while (value := values.get()) is not None:
        yield value


def run_number() -> gr.Number:
    """Return the hidden field for the number of the last click on a start button."""
    return gr.Number(0, precision=0, visible="hidden", elem_classes="offstage")


def buttons(running: bool) -> tuple[Any, Any]:
    """Updates for a start and a stop button, of which one is visible at a time."""
    return gr.update(visible=not running), gr.update(visible=running, value=t("Cancel"), interactive=True)


def stopping() -> Any:
    """Update for the stop button of a run that was cancelled and has not ended yet.

    The message next to the button is left to the run: its final message may reach the page before the response to this
    click does.
    """
    return gr.update(value=t("Stopping…"), interactive=False)


#: Grace period in seconds for calls in progress. Container runtimes send SIGKILL ten seconds after SIGTERM.
GRACE_SECONDS = 8.0

#: Name of the threads that run the batches of visitors.
BATCH_NAME = "visitor batch"

#: Name of the threads of removals and comparisons.
RUN_NAME = "visitor run"

#: Names of anyio's worker threads, in which Gradio runs the event handlers, and of the threads of runs and batches.
WORKER_NAMES = ("AnyIO worker thread", RUN_NAME, BATCH_NAME)

#: SIGHUP is sent when a terminal is closed; Windows has SIGBREAK instead.
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")


@contextlib.contextmanager
def stop_event() -> Iterator[threading.Event]:
    """Yield an event that the first termination signal sets; a second signal ends the process at once.

    Signal handlers can be set in the main thread only. In other threads the event is never set.
    """
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    # Ignored signals stay ignored: SIGHUP under nohup, SIGINT in a background job of a shell.
    numbers = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.getsignal(number) for number in numbers}

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()
        for other in numbers:
            signal.signal(other, signal.SIG_DFL)

    for number in numbers:
        signal.signal(number, stop)
    try:
        yield stopped
    finally:
        if not stopped.is_set():
            for number, handler in previous.items():
                signal.signal(number, handler)


def wait_for_work(deadline: float) -> None:
    """Wait for the calls in progress; removes the files and exits the process if one runs past `deadline`.

    At a normal exit the interpreter would join their threads without a timeout, and shut down the thread pools that they use.

    Parameters
    ----------
    deadline : float
        In seconds of ``time.monotonic``.
    """
    workers = [thread for thread in threading.enumerate() if thread.name in WORKER_NAMES]
    for thread in workers:
        thread.join(max(0.0, deadline - time.monotonic()))
    if any(thread.is_alive() for thread in workers):
        workspace().remove()
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(0)
