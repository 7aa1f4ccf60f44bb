"""Progress of a batch: a bar on a terminal, regular lines in a log."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path

import pytest

from rmbg.batch.job import Progress
from rmbg.cli import batch as command
from tests.disc import save_photos
from tests.processes import python

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(os.name == "nt", reason="requires a POSIX terminal")
def test_terminal_shows_a_bar_with_rate_time_left_cost_and_failures(tmp_path):
    import fcntl
    import pty
    import struct
    import termios

    photos = save_photos(tmp_path / "in", 12)
    (photos / "bad.png").touch()
    terminal, stderr = pty.openpty()
    fcntl.ioctl(stderr, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    words = ["-m", "tests.disc", os.devnull, "0.3", "batch", photos, tmp_path / "out", "--provider", "disc"]
    process = subprocess.Popen(python(*words), cwd=ROOT, stderr=stderr, stdout=subprocess.DEVNULL)
    os.close(stderr)
    text = b""
    with contextlib.suppress(OSError):  # raised when the child closes the terminal
        while piece := os.read(terminal, 65536):
            text += piece
    os.close(terminal)
    assert process.wait(300) == 1
    shown = text.decode()
    assert "/13 [" in shown and "photos" in shown and "<" in shown and "$0, 1 failed" in shown
    assert "rmbg: bad.png: bad.png is empty" in shown and "1 of 13 photos have no result" in shown


def test_log_has_regular_lines(batch, tmp_path, disc, monkeypatch):
    monkeypatch.setattr(command, "LINE_INTERVAL", 0.2)
    disc.seconds = 0.2
    started = time.monotonic()
    status, _, err = batch(save_photos(tmp_path / "in", 8), tmp_path / "out", "--jobs", "2")
    lines = [line for line in err.splitlines() if " a second" in line]
    most = 2 + (time.monotonic() - started) / 0.2
    assert status == 0 and 1 <= len(lines) <= most and all(" of 8, " in line for line in lines)


def test_progress_counts():
    progress = Progress(total=100, kept=20, done=30, failed=10, seconds=8.0)
    assert progress.left == 40 and progress.rate == 5.0
    assert Progress(1, 0).rate == 0.0
