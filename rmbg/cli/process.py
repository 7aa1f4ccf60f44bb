"""Standard streams and signal handling of a command's process.

Python handles signals in the main thread between any two instructions, even during an import or a library's clean-up. A
command therefore runs in a second thread. The main thread waits for it, and a signal cancels the command's token.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from rmbg.runtime.cancellation import CancellationToken

#: Signals that stop a command. The exit status is then 128 plus the signal number.
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

#: Seconds after a signal within which a command can end by itself.
GRACE_SECONDS = 1.0

#: Seconds between two checks for a signal; on some systems, a signal does not interrupt a waiting thread.
POLL_SECONDS = 0.1


def open_standard_streams() -> None:
    """Open the null device for each standard stream that is closed.

    Otherwise the next file to be opened would receive the free descriptor, and output of a C library to descriptor 2 would end
    up in that file. ``sys.stdout`` stays None, which `output.write` reports. ``sys.stderr`` becomes a stream, because ``print``
    to None writes to standard output.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # opens the lowest free descriptor
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - open until the process exits


def exit_on_signals() -> dict[int, Any]:
    """Install handlers that end the process immediately, and return the previous handlers.

    Ignored signals stay ignored, as in a background job of a shell.
    """
    return _install(lambda number, frame: exit_now(128 + number, "Stopped."))


def default_signals() -> None:
    """Restore Python's default handlers: SIGINT raises KeyboardInterrupt, other signals end the process."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def exit_with(status: int) -> NoReturn:
    """Exit the process with the exit status of its command.

    A signal during interpreter shutdown does not change the status. After cancellation, threads that still run a network are
    not joined.
    """
    _install(lambda number, frame: exit_now(status))
    if status > 128:
        exit_now(status)
    sys.exit(status)


def restore(handlers: dict[int, Any]) -> None:
    """Install the signal handlers that an earlier call replaced."""
    for number, handler in handlers.items():
        signal.signal(number, handler)


def exit_now(status: int, message: str = "") -> NoReturn:
    """Exit the process without joining its threads, and write `message` to standard error."""
    if message:
        with contextlib.suppress(OSError):
            os.write(2, f"rmbg: {message}\n".encode())
    files = sys.modules.get("rmbg.runtime.files")
    if files is not None:
        files.remove_unfinished()
    os._exit(status)


def run_in_thread(work: Callable[[], int], token: CancellationToken) -> int:
    """Run a command in a thread and return its exit status; a signal cancels `token`.

    The process exits immediately on a signal before ``token.begin``, and on a second signal. Otherwise the command has
    `GRACE_SECONDS` to end. A paid command has `STOP_TIMEOUT` seconds more, because the service's response contains the charge.
    """
    from rmbg.runtime.cancellation import STOP_TIMEOUT

    outcome: list[int | BaseException] = []
    received: list[int] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            outcome.append(error)

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1 or not token.running:
            exit_now(128 + number, _message(token))

    previous = _install(stop)
    thread = threading.Thread(target=run, name="command", daemon=True)
    thread.start()
    try:
        while thread.is_alive() and not received:
            thread.join(POLL_SECONDS)
        if received:
            token.cancel(wait=False)
            thread.join(STOP_TIMEOUT + GRACE_SECONDS if token.paid else GRACE_SECONDS)
            if thread.is_alive():
                exit_now(128 + received[0], _message(token))
    finally:
        restore(previous)
    status = outcome[0]
    if isinstance(status, BaseException):
        raise status
    return 128 + received[0] if received and status else status


def _message(token: CancellationToken) -> str:
    if token.running and token.paid:
        return "Stopped. A service may have charged for the call; 'rmbg spent' lists it."
    return "Stopped."


def _install(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Install `handler` for all signals that are not ignored; a no-op outside the main thread, as Python requires."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, handler) for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN}
