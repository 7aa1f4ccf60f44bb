"""Runs of one kind in a session, and the updates of their start and stop buttons."""

from __future__ import annotations

import threading
from typing import Any

import gradio as gr

from rmbg.cancellation import CancellationToken
from rmbg.ui.languages import t


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

    def abandon(self, number: int | None) -> None:
        """Cancel the run `number` if it has not begun and no other run was started after it."""
        with self._lock:
            if number == self._number and self.waiting:
                self._token.cancel_free()

    def cancel(self, *, wait: bool = True) -> str:
        """Cancel the current run and return its final message, see `CancellationToken.cancel`."""
        return self._token.cancel(wait=wait)


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
