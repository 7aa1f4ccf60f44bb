"""Graceful shutdown: SIGINT, SIGTERM and SIGHUP close the app and remove its files before the process exits."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

from rmbg.ui.workspace import workspace

#: Grace period in seconds for calls in progress. Container runtimes send SIGKILL ten seconds after SIGTERM.
GRACE_SECONDS = 8.0

#: Name of the threads that run the batches of visitors.
BATCH_NAME = "visitor batch"

#: Name of the threads of removals.
REMOVAL_NAME = "removal"

#: Names of anyio's worker threads, in which Gradio runs the event handlers, and of the threads of runs and batches.
WORKER_NAMES = ("AnyIO worker thread", "comparison", BATCH_NAME, REMOVAL_NAME)

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
