"""Processes that turn photos into results: those of a batch, and one for each large photo that a server is asked for.

The steps around a small network hold Python's global lock for a quarter of their time, so that threads alone use no more than
about four cores, and those of a large photo delay all other threads. Each process has a network of its own. It gets photos and
returns encoded results through pipes, and it ends when its parent does.
"""

from __future__ import annotations

import io
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from rmbg.batch.plan import Recipe
from rmbg.batch.worker import Result, create_result, unexpected
from rmbg.errors import CancelledError, ModelError, RmbgError, reason
from rmbg.images.photo import label_of, open_photo
from rmbg.providers.base import RequestContext, run_directly
from rmbg.runtime import telemetry
from rmbg.runtime.threads import cpu_count, memory_limit, use_one_core
from rmbg.settings import Settings

log = logging.getLogger(__name__)

#: Least number of photos of a batch with several processes: the start of one takes as long as a few photos.
MIN_PHOTOS = 64

#: Bytes of memory that are set aside for one process.
PROCESS_BYTES = 500_000_000

#: Seconds between two checks for a cancellation.
POLL_SECONDS = 0.1

#: Starts the process, with the import path of its parent and without the current folder.
START_COMMAND = "import os, sys; sys.path[:] = sys.argv[1].split(os.pathsep); from rmbg.batch.processes import serve; serve()"


def supports(recipe: Recipe) -> bool:
    """True if photos of a recipe can be processed in several processes."""
    return recipe.provider.small_network and recipe.alpha_matting is None


def process_count(workers: int) -> int:
    """Number of processes of a batch beside its first one, with a core for each, as far as half of the memory is sufficient."""
    count = min(workers, cpu_count()) - 1
    memory = memory_limit()
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        memory = min(physical, memory or physical)
    return count if memory is None else min(count, memory // (2 * PROCESS_BYTES))


class PhotoProcess:
    """A process that renders photos, used by one thread at a time.

    Parameters
    ----------
    recipe : Recipe
        One that `supports` accepts.
    settings : Settings
    """

    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        self._start_message = pickle.dumps((recipe, settings, False))
        self._provider = recipe.provider
        self._lock = threading.Lock()
        self._closed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = threading.Event()
        self._launch()

    @property
    def ready(self) -> bool:
        """True if the process has started and has loaded its network."""
        return self._ready.is_set()

    def result(self, name: str, data: bytes) -> Result:
        """Return the result of a photo once `ready`.

        Parameters
        ----------
        name : str
            Name of the input.
        data : bytes
            Its content.

        Raises
        ------
        RmbgError
            As in this process.
        ModelError
            If the process has ended. Another one is started.
        CancelledError
            After `close`.
        """
        process = self._process
        assert process is not None and process.stdin and process.stdout
        with telemetry.call(self._provider.info.id) as call:
            try:
                pickle.dump((name, data), process.stdin)
                process.stdin.flush()
                reply, details = pickle.load(process.stdout)
            except (OSError, EOFError, pickle.UnpicklingError):
                self._relaunch(process)
                raise _ended(process) from None
            result = _checked(reply, details)
            call.cost = result.outcome.cost
            return result

    def close(self) -> None:
        """End the process; a photo in progress raises CancelledError."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                _end(self._process)

    def _launch(self) -> None:
        """Start the process; it becomes `ready` later, or not at all if it cannot be started."""
        try:
            self._process = _start()
        except OSError:
            log.warning("a process of a batch cannot be started", exc_info=True)
            return
        threading.Thread(target=self._await_ready, args=(self._process,), daemon=True, name="batch-start").start()

    def _relaunch(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            _end(process)
            if self._closed:
                raise CancelledError("Stopped.")
            self._ready.clear()
            self._launch()

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin and process.stdout
        try:
            process.stdin.write(self._start_message)
            process.stdin.flush()
            if pickle.load(process.stdout) is True:
                self._ready.set()
        except (OSError, EOFError, pickle.UnpicklingError, ValueError):
            log.info("a process of a batch has not started")


def result_in_background(recipe: Recipe, settings: Settings, name: str, path: Path, check: Callable[[], None]) -> Result:
    """Return the result of a photo from a process of its own, which has the lowest priority and may use all cores.

    Parameters
    ----------
    recipe : Recipe
        One that `supports` accepts.
    settings : Settings
    name : str
        Name of the photo.
    path : Path
        Its file.
    check : callable () -> None
        Called while waiting; an exception that it raises ends the process.

    Raises
    ------
    RmbgError
        As in this process.
    ModelError
        If the process has ended or cannot be started.
    """
    with telemetry.call(recipe.provider.info.id) as call:
        try:
            process = _start(background=True)
        except OSError as error:
            raise ModelError(f"A process could not be started: {reason(error)}. Try again.") from None
        message: bytes | None = pickle.dumps((recipe, settings, True)) + pickle.dumps((name, path))
        try:
            while True:
                try:
                    output = io.BytesIO(process.communicate(message, POLL_SECONDS)[0])
                    break
                except subprocess.TimeoutExpired:
                    message = None  # it is being sent
                    check()
        finally:
            _end(process)
        try:
            pickle.load(output)  # it was ready
            result = _checked(*pickle.load(output))
        except (EOFError, pickle.UnpicklingError):
            raise _ended(process, f"The process of {label_of(name)}") from None
        call.cost = result.outcome.cost
        return result


def _start(*, background: bool = False) -> subprocess.Popen[bytes]:
    """Start a process; one of the background has the lowest priority on Windows already here."""
    return subprocess.Popen(
        [sys.executable, "-c", START_COMMAND, os.pathsep.join(sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # Signals of the terminal are for the parent. On Linux a session has its share of the cores, whatever the priority
        # of its processes (sched(7), autogroup).
        start_new_session=not background,
        creationflags=getattr(subprocess, "IDLE_PRIORITY_CLASS", 0) if background else 0,
    )


def _checked(reply: Result | RmbgError, details: str) -> Result:
    """Return a reply, or raise it; `details` go to the log."""
    if details:
        log.error("a photo failed\n%s", details)
    if isinstance(reply, RmbgError):
        raise reply
    return reply


def _ended(process: subprocess.Popen[bytes], subject: str = "Its process") -> ModelError:
    return ModelError(f"{subject} ended with status {process.returncode}, possibly for lack of memory. Try again.")


def serve() -> None:
    """Render the photos that arrive at standard input until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests = sys.stdin.buffer
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not mix with the replies
    recipe, settings, background = pickle.load(requests)
    if not background:
        use_one_core()
    elif hasattr(os, "nice"):
        os.nice(19)
    settings = replace(settings, environ=dict(os.environ))
    recipe.provider.warm_up(RequestContext(settings))
    _reply(replies, True)
    while True:
        try:
            name, data = pickle.load(requests)
        except EOFError:
            return
        _reply(replies, _answer(recipe, settings, name, data))


def _answer(recipe: Recipe, settings: Settings, name: str, data: bytes | Path) -> tuple[Result | RmbgError, str]:
    """Return the result of a photo or its error, and the traceback of an exception that is not one of the package."""
    try:
        photo = open_photo(data, name=name, settings=settings)
        recipe.check_photo(photo)
        cutout = run_directly(recipe.provider, photo, recipe.options, RequestContext(settings))
        return create_result(recipe, name, cutout, settings), ""
    except RmbgError as error:
        return error, ""
    except Exception as error:  # an unexpected error of one photo must not end the batch
        return unexpected(error), traceback.format_exc()


def _reply(stream: IO[bytes], message: Any) -> None:
    pickle.dump(message, stream, pickle.HIGHEST_PROTOCOL)
    stream.flush()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process, which writes no files, and wait for its end."""
    process.kill()
    process.wait()
