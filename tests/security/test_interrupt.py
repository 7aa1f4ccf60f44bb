"""Ctrl-C at any time of a command: status 130, at most one sentence, no partial files, charge of a paid call."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.command import PATIENCE, save_scene, start
from tests.remote import environment
from tests.servers.fal import Fal
from tests.servers.web import until

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of Unix")

#: Times at which each command is interrupted; the variable INTERRUPT_MOMENTS sets another number.
MOMENTS = int(os.environ.get("INTERRUPT_MOMENTS", "3"))


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_scene(tmp_path_factory.mktemp("photo") / "photo.png", 1200, 1600)


def interrupted(process: subprocess.Popen[bytes], *, number: int = signal.SIGINT) -> tuple[int, bytes]:
    """Send a signal to a process and return its exit status and standard error."""
    process.send_signal(number)
    _, error = process.communicate(timeout=PATIENCE)
    return process.returncode, error


def is_clean(status: int, error: bytes, finished: tuple[int, ...] = (0,)) -> bool:
    """True if a command was stopped without a traceback, or had exited before the signal."""
    text = error.decode()
    if "Traceback" in text or "Exception ignored" in text or "Fatal" in text:
        # While the interpreter imports `site`, before it runs the program, it prints its own traceback.
        return "rmbg" not in text and ("site" in text or "<frozen runpy>" in text or "encodings" in text)
    if status == 130:
        return text == "" or (text.startswith("rmbg: ") and text.count("\n") == 1 and "topped" in text)
    # Before Python has installed its handler, the default action of the signal ends the process.
    return status in (-signal.SIGINT, *finished)


@pytest.mark.slow
def test_interrupt_at_any_time(photo, tmp_path):
    command = ("remove", photo, tmp_path / "out" / "o.png", "--provider", "builtin")
    (tmp_path / "out").mkdir()
    began = time.monotonic()
    with start(*command, new_interpreter=True) as process:
        process.communicate(timeout=PATIENCE)
    whole = time.monotonic() - began
    moments = random.Random("remove")
    failures = []
    for turn in range(MOMENTS):
        with start(*command, new_interpreter=True) as process:
            time.sleep(whole * (turn + moments.random()) / MOMENTS)
            status, error = interrupted(process)
        if not is_clean(status, error):
            failures.append((status, error.decode()[-600:]))
    assert not failures, f"{len(failures)} of {MOMENTS}: {failures[0]}"
    assert not [path for path in (tmp_path / "out").rglob("*.part")]


def test_second_interrupt_during_exit(photo, tmp_path):
    with start("compare", photo, "--providers", "builtin", "--out", tmp_path, new_interpreter=True) as process:
        time.sleep(2)
        for _ in range(20):
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                time.sleep(0.05)
        _, error = process.communicate(timeout=PATIENCE)
    assert is_clean(process.returncode, error), (process.returncode, error)


def test_sighup_and_sigterm_stop_a_command(photo, tmp_path):
    """SIGTERM and SIGHUP in the middle of a paid call: the job is cancelled, and no partial file remains."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        with Fal() as fal:
            fal.polls = 1_000_000
            more = environment(fal, tmp_path / "data", RMBG_REMOTE_SECONDS="100", RMBG_MAX_BYTES="10_000_000")
            words = ("remove", photo, tmp_path / "o.png", "--provider", "fal-rmbg-2.0")
            with start(*words, environment=more) as process:
                assert until(lambda fal=fal: any("status" in seen.path for seen in fal.seen), PATIENCE)
                status, error = interrupted(process, number=number)
            assert status == 128 + number and "You may have been charged" in error.decode()
            assert until(lambda fal=fal: len(fal.cancelled) == 1)
    assert not (tmp_path / "o.png").exists()
