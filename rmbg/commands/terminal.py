"""What commands have in common: the picture that comes in, a line of progress, tables, a question before money is spent."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path

from rmbg.errors import CancelledError, OptionError
from rmbg.photo import Photo, open_photo
from rmbg.prices import in_words
from rmbg.settings import Settings


def progress() -> Callable[[float | None, str], None] | None:
    """A line that is written over while somebody watches; nothing in a pipe or a log."""
    if sys.stderr is None or not sys.stderr.isatty():
        return None

    def show(fraction: float | None, text: str) -> None:
        done = "" if fraction is None else f" {fraction:4.0%}"
        sys.stderr.write(f"\r\033[K{text}{done}\r" if fraction != 1 else "\r\033[K")
        sys.stderr.flush()

    return show


def read_photo(name: str, settings: Settings) -> Photo:
    """The picture that a command is given as IN: a path, or ``-`` for standard input.

    Raises
    ------
    OptionError
        If standard input is closed.
    PhotoError
        If it is no picture.
    """
    if name != "-":
        return open_photo(Path(name), settings=settings)
    if sys.stdin is None:
        raise OptionError("Standard input is closed; name a file for IN.")
    return open_photo(sys.stdin.buffer, name="standard input", settings=settings)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Rows of cells, each column as wide as its widest cell."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def confirm(usd: Decimal, unknown: Sequence[str], *, yes: bool) -> None:
    """Ask before anything is sent that may cost money; free work passes without a word.

    Parameters
    ----------
    usd : Decimal
        What is expected to be charged.
    unknown : sequence of str
        Who may charge something that nobody knows.
    yes : bool
        The answer was given with the command.

    Raises
    ------
    CancelledError
        If the answer is no.
    OptionError
        If there is nobody to ask.
    """
    price = in_words(usd, unknown)
    if not price or yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise OptionError(f"This is expected to cost {price}; add --yes if that is meant.")
    sys.stderr.write(f"This is expected to cost {price}. Go on? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CancelledError("Nothing was sent.")
