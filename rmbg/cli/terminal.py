"""Input, progress, tables and confirmation on the terminal, shared by the commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rmbg.billing.quote import Estimate
from rmbg.cli import output
from rmbg.errors import CancelledError, OptionError
from rmbg.images.photo import Photo, open_photo
from rmbg.settings import Settings


class ProgressLine:
    """Progress callback that prints to standard error.

    On a terminal, one line is overwritten. Elsewhere, one line is printed for every 10 percent if `log` is set.

    Parameters
    ----------
    log : bool
        Print progress even if standard error is not a terminal, for work that takes minutes.
    """

    def __init__(self, *, log: bool = False) -> None:
        self._log, self._last_line = log, ""

    def __call__(self, fraction: float | None, text: str) -> None:
        terminal = output.stderr_is_terminal()
        if not terminal and not self._log:
            return
        step = 1 if terminal else 10
        line = text if fraction is None else f"{text} {int(fraction * 100) // step * step}%"
        if line != self._last_line:
            self._last_line = line
            output.write_error(f"{output.CLEAR_LINE}{line}\r" if terminal else f"{line}\n")
        if fraction == 1:
            self.clear()

    def clear(self) -> None:
        """Clear the progress line on a terminal."""
        if output.stderr_is_terminal():
            output.write_error(output.CLEAR_LINE)


def read_photo(name: str, settings: Settings) -> Photo:
    """Read the picture of the argument IN, which is a path or ``-`` for standard input.

    Raises
    ------
    OptionError
        If standard input is closed.
    PhotoError
        If the input is not a picture or exceeds the limits.
    """
    if name != "-":
        return open_photo(Path(name), settings=settings)
    if sys.stdin is None:
        raise OptionError("Standard input is closed. Pass a file name as IN.")
    return open_photo(sys.stdin.buffer, name="standard input", settings=settings)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of cells with aligned columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    output.write_text("".join(f"{line}\n" for line in lines))


def confirm(charge: Estimate, *, yes: bool) -> None:
    """Prompt for consent to paid work; free work requires none.

    Parameters
    ----------
    charge : Estimate
        Expected charge.
    yes : bool
        True if consent was given with ``--yes``.

    Raises
    ------
    CancelledError
        If the user declines.
    OptionError
        If standard input is not a terminal.
    """
    if not charge or yes:
        return
    steps = "".join(f" Cascade: {steps}." for steps in charge.steps)
    if sys.stdin is None or not sys.stdin.isatty():
        raise OptionError(f"This is expected to cost {charge}; add --yes to accept the cost.{steps}")
    output.write_error(f"This is expected to cost {charge}.{steps} Continue? [y/N] ")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CancelledError("Cancelled. Nothing was sent.")
