"""The progress line: overwritten on a terminal, steps of 10 percent in a log, no error on a closed stream."""

from __future__ import annotations

import io
import sys

from rmbg.cli import output
from rmbg.cli.terminal import ProgressLine


class Stream(io.StringIO):
    """Standard error with a fixed result of `isatty`."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal  # also after close


def progress(line: ProgressLine) -> None:
    for step in range(0, 1001):
        line(step / 1000, "Downloading")
    line.clear()


def test_terminal_shows_each_percent_on_one_line(monkeypatch):
    stream = Stream(True)
    monkeypatch.setattr(sys, "stderr", stream)
    progress(ProgressLine())
    assert stream.getvalue().count("\n") == 0 and stream.getvalue().count("Downloading") == 101
    assert stream.getvalue().endswith(output.CLEAR_LINE)
    output.report("Done.")
    assert stream.getvalue().endswith(f"{output.CLEAR_LINE}rmbg: Done.\n")


def test_log_has_one_line_for_every_10_percent_or_none(monkeypatch):
    stream = Stream(False)
    monkeypatch.setattr(sys, "stderr", stream)
    progress(ProgressLine())
    assert stream.getvalue() == ""
    progress(ProgressLine(log=True))
    assert stream.getvalue().splitlines() == [f"Downloading {tenth}0%" if tenth else "Downloading 0%" for tenth in range(11)]


def test_closed_standard_error_is_ignored(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    progress(ProgressLine(log=True))
    output.report("Done.")
    closed = Stream(True)
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    progress(ProgressLine())
