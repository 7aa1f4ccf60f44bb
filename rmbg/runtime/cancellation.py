"""The cancellation token of one run."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rmbg.errors import CancelledError

#: Seconds to wait for the end of a cancelled paid run. The service's response to the cancellation contains the charge.
STOP_TIMEOUT = 6.0


class CancellationToken:
    """Cancellation token of one run, which also holds the run's final message.

    A token is never reset. Each run has its own, so that a delayed step of a cancelled run cannot resume.

    Parameters
    ----------
    parent : callable () -> bool, optional
        ``cancelled`` of an enclosing run. Once it returns True, this run is cancelled as well.
    """

    def __init__(self, parent: Callable[[], bool] | None = None) -> None:
        self._parent = parent
        self._cancelled, self._ended = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._begun, self._paid, self._message = False, False, ""

    @property
    def running(self) -> bool:
        """True from `begin` to `end`."""
        return self._begun and not self._ended.is_set()

    @property
    def open(self) -> bool:
        """True until the run ends or is cancelled before it begins."""
        return not self._ended.is_set() and (self._begun or not self.cancelled())

    @property
    def paid(self) -> bool:
        """True if the run has begun and may be charged for."""
        return self._paid

    def cancelled(self) -> bool:
        """True once the run is cancelled; passed as the ``cancelled`` argument of long operations."""
        return self._cancelled.is_set() or (self._parent is not None and self._parent())

    def check(self) -> None:
        """Raise CancelledError if the run is cancelled."""
        if self.cancelled():
            raise CancelledError("Stopped.")

    def begin(self, *, paid: bool = False) -> bool:
        """Mark the run as begun.

        Parameters
        ----------
        paid : bool
            The run may be charged for.

        Returns
        -------
        bool
            False if the run has already begun. The request is then a duplicate and must not run.

        Raises
        ------
        CancelledError
            If the run was cancelled before it began.
        """
        with self._lock:
            if self._begun:
                return False
            if self.cancelled():
                raise CancelledError("Stopped; nothing was sent.")
            self._begun, self._paid = True, paid
            return True

    def cancel_free(self) -> bool:
        """Cancel the run without waiting, unless it has begun and may be charged for; returns True if it is cancelled."""
        with self._lock:
            if not (self._paid and self.running):
                self._cancelled.set()
            return self._cancelled.is_set()

    def end(self, message: str = "") -> None:
        """Mark the run as ended; a pending `cancel` returns `message`."""
        self._message = message
        self._ended.set()

    def cancel(self, *, wait: bool = True) -> str:
        """Cancel the run and return its final message.

        Parameters
        ----------
        wait : bool
            Wait up to `STOP_TIMEOUT` seconds for the message of a paid run, which states the possible charge.
        """
        with self._lock:
            running = self.running
            self._cancelled.set()
        if running and wait and self._paid:
            self._ended.wait(STOP_TIMEOUT)
        return (self._message if running else "") or "Stopped."
