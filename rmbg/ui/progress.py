"""Progress of a run on the page."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context

import gradio as gr

from rmbg.ui.languages import t

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
