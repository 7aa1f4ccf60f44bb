"""The stop button of one kind of work: what runs looks at it, and what stops it hears how that ended."""

from __future__ import annotations

import threading
from typing import Any

import gradio as gr

from rmbg.errors import CancelledError

#: A service is told to stop when a visitor stops, and that may take this long.
LAST_WORDS_SECONDS = 6.0


class Switch:
    """Used by one run at a time."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._ended.set()
        self._words, self._paid = "", False

    def arm(self) -> None:
        """The visitor has clicked: earlier stops are forgotten, and one from now on counts, even before anything runs."""
        self._stop.clear()

    def begin(self, *, paid: bool = False) -> None:
        """Something runs from now on; `paid` says that it may be charged.

        Raises
        ------
        CancelledError
            If the visitor has stopped it on its way here.
        """
        if self.stopped():
            raise CancelledError("Stopped; nothing was sent.")
        self._paid = paid
        self._words = ""
        self._ended.clear()

    def end(self, words: str = "") -> None:
        """It has ended; `words` are for the visitor, if it was stopped."""
        self._words = words
        self._ended.set()

    def stopped(self) -> bool:
        """Whether the visitor wants no more of it."""
        return self._stop.is_set()

    def stop(self, *, wait: bool = True) -> str:
        """Stop it. A service may charge all the same: what is known of that is waited for if wished, and not for long."""
        runs = not self._ended.is_set()
        self._stop.set()
        if runs and wait and self._paid:
            self._ended.wait(LAST_WORDS_SECONDS)
        return (self._words if runs else "") or "Stopped."


def buttons(running: bool) -> tuple[Any, Any]:
    """Updates for a start and a stop button: the one is there while nothing runs, the other while something does."""
    return gr.update(visible=not running), gr.update(visible=running, value="Cancel", interactive=True)


def stopping() -> Any:
    """Update for a stop button whose run ends by itself soon. The button says so and not the message beside it, which
    belongs to the run: the run's last words may reach the page before the answer to the click does.
    """
    return gr.update(value="Stopping…", interactive=False)
