"""Killed, stopped and concurrent batches, and damaged manifests."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from rmbg.batch.manifest import Manifest, _create
from tests.disc import results, save_photos
from tests.processes import python
from tests.sentences import sentence
from tests.servers.web import until

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="requires POSIX signals")


def start(log: Path, seconds: float, *arguments: object, program: str = "tests.disc") -> subprocess.Popen:
    """Start a batch with the provider `disc` in a child process."""
    command = python("-m", program, log, seconds, "batch", *arguments)
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*command, "--provider", "disc"], cwd=ROOT, start_new_session=True, **pipes)


def lines(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


def kill(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def rows(out: Path) -> list[tuple[str, str, int]]:
    with contextlib.closing(sqlite3.connect(out / ".rmbg-batch/manifest.sqlite3")) as db:
        return db.execute("SELECT name, state, times FROM items").fetchall()


@pytest.mark.parametrize("program", ["tests.disc", "tests.batch.two_processes"])
@pytest.mark.parametrize(("kills", "count"), [(3, 60), pytest.param(10, 1000, marks=pytest.mark.long)])
def test_killed_batch_resumes_without_repeating_results(tmp_path, kills, count, program):
    random = np.random.default_rng(count)
    photos, out, log = save_photos(tmp_path / "in", count), tmp_path / "out", tmp_path / "log"

    def run_and_kill(before: int) -> None:
        process = start(log, 0.05, photos, out, program=program)
        assert until(lambda: len(lines(log)) > before or process.poll() is not None, 120)
        time.sleep(float(random.uniform(0, 0.5)))
        kill(process)

    for _ in range(kills):
        run_and_kill(len(lines(log)))
    process = start(log, 0, photos, out, program=program)
    err = process.communicate(timeout=300)[1].decode()
    assert process.returncode == 0, err
    assert len(results(out)) == count and all(state == "done" and times == 1 for _, state, times in rows(out))
    # A kill repeats at most the current photo of each worker.
    again = sum(number - 1 for number in Counter(lines(log)).values())
    assert set(lines(log)) == {f"{number:04d}" for number in range(count)}
    assert again <= kills * max(2, os.cpu_count() or 1)
    assert not list(out.rglob("*.part"))
    for name in results(out):
        assert (out / name).read_bytes().endswith(b"IEND\xaeB`\x82")


def test_killed_batch_with_an_archive_resumes(tmp_path):
    photos, out, log = save_photos(tmp_path / "in", 30), tmp_path / "out.zip", tmp_path / "log"
    process = start(log, 0.05, photos, out)
    assert until(lambda: len(lines(log)) >= 8, 120)
    kill(process)
    assert not out.exists()
    process = start(log, 0, photos, out)
    err = process.communicate(timeout=300)[1].decode()
    assert process.returncode == 0, err
    with zipfile.ZipFile(out) as archive:
        assert archive.testzip() is None and len(archive.namelist()) == 30
    assert len(lines(log)) <= 30 + max(2, os.cpu_count() or 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_a_batch(tmp_path, number):
    photos, out, log = save_photos(tmp_path / "in", 200), tmp_path / "out", tmp_path / "log"
    process = start(log, 0.1, photos, out)
    assert until(lambda: len(results(out)) >= 3, 120)
    os.kill(process.pid, number)
    err = process.communicate(timeout=300)[1].decode()
    assert process.returncode == 128 + number
    assert sentence(err.strip()).startswith("rmbg: Stopped. ") and "Run the same command again to continue." in err
    done = {Path(name).stem for name in results(out)}
    assert 3 <= len(done) < 200 and not list(out.rglob("*.part"))
    process = start(log, 0, photos, out)
    process.communicate(timeout=300)
    assert process.returncode == 0 and len(results(out)) == 200
    assert all(Counter(lines(log))[name] == 1 for name in done)


def test_second_batch_with_the_same_output_is_rejected(tmp_path):
    photos, out, log = save_photos(tmp_path / "in", 40), tmp_path / "out", tmp_path / "log"
    first = start(log, 5, photos, out)  # longer than the start of the second process on a slow machine
    assert until(lambda: len(lines(log)) >= 1, 120)
    second = start(log, 0, photos, out)
    err = second.communicate(timeout=120)[1].decode()
    assert second.returncode == 1 and "Another batch is writing to this output" in sentence(err.strip())
    assert first.poll() is None
    kill(first)


def damage_in_the_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:12288] = os.urandom(8192)
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not a database, and longer than the header of one" * 20),
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
        damage_in_the_middle,
    ],
)
def test_damaged_manifest_is_reported_and_unchanged(batch, tmp_path, damage, disc):
    photos, out = save_photos(tmp_path / "in", 20), tmp_path / "out"
    assert batch(photos, out)[0] == 0
    path = out / ".rmbg-batch/manifest.sqlite3"
    damage(path)
    before = path.read_bytes()
    status, _, err = batch(photos, out)
    assert status == 1 and "Move it away" in sentence(err.strip())
    assert len(disc.calls) == 20 and path.read_bytes() == before
    shutil.rmtree(path.parent)
    assert batch(photos, out)[0] == 0 and len(disc.calls) == 40


def test_manifest_of_another_version_is_rejected(batch, tmp_path):
    photos, out = save_photos(tmp_path / "in", 2), tmp_path / "out"
    assert batch(photos, out)[0] == 0
    with contextlib.closing(sqlite3.connect(out / ".rmbg-batch/manifest.sqlite3")) as db:
        db.execute("PRAGMA user_version = 99")
    status, _, err = batch(photos, out)
    assert status == 1 and "another version" in sentence(err.strip())


def test_unsettled_calls_count_with_the_reserved_amount(tmp_path):
    path = tmp_path / "manifest.sqlite3"
    with Manifest(path) as manifest:
        calls = [manifest.begin_call("a", "digest", "settings", Decimal("0.02")) for _ in range(4)]
        manifest.end_call(calls[0].id, "answered", Decimal("0.03"), "charged")
        manifest.end_call(calls[1].id, "free", None)
        manifest.end_call(calls[2].id, "unknown", None)
        manifest.set_handle(calls[3].id, "job-3")
    with Manifest(path) as manifest:
        assert manifest.spent() == (Decimal("0.07"), Decimal("0.03"))
        assert manifest.bill() == {"charged": (1, Decimal("0.03")), "unknown": (2, Decimal("0.04"))}
        call = manifest.open_call("digest", "settings")
        assert (call.job, call.handle, call.state) == (calls[3].job, "job-3", "sent")
        assert manifest.open_call("digest", "others") is None
        assert manifest.names_with_open_calls() == {"a"}


def test_concurrent_starts_create_one_manifest(tmp_path):
    """A batch that starts at the same time must not replace a manifest that another batch has opened."""
    barrier = threading.Barrier(8, timeout=120)

    def create(path: Path) -> int:
        barrier.wait()
        _create(path)
        return path.stat().st_ino

    with ThreadPoolExecutor(8) as pool:
        for number in range(5):
            folder = tmp_path / str(number)
            folder.mkdir()
            path = folder / "manifest.sqlite3"
            assert len(set(pool.map(create, [path] * 8))) == 1
            assert list(folder.iterdir()) == [path]
