"""Standard output is complete or the command fails; other streams are never mixed into it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from tests.command import PATIENCE, ROOT, WITH_DISC, command, message, picture_size, run, save_scene, start, through_shell
from tests.servers.web import until

resource = pytest.importorskip("resource", reason="limits of Unix")

pytestmark = pytest.mark.skipif(os.name == "nt", reason="streams of Unix")

SIZE = (900, 700)

#: Provider of the tests to which the engine of a network makes no difference; the network takes seconds of CPU time.
DISC = ("--provider", "disc")


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photo whose cutout exceeds the capacity of a pipe."""
    return save_scene(tmp_path_factory.mktemp("photo") / "photo.png", SIZE[1], SIZE[0])


def slow_reader(number: int, process: subprocess.Popen[bytes], pause: float = 0.002) -> bytes:
    """Read a pipe to its end in small pieces with pauses."""
    parts = []
    while part := os.read(number, 3000):
        parts.append(part)
        time.sleep(pause)
    process.wait(PATIENCE)
    os.close(number)
    return b"".join(parts)


def non_blocking_pipe() -> tuple[int, int]:
    """Return a non-blocking pipe of one page, as left by some terminals and parent processes."""
    reading, writing = os.pipe()
    with contextlib.suppress(AttributeError, OSError):
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writing, False)
    return reading, writing


def unread(number: int) -> int:
    """Return the number of bytes in a pipe."""
    return int.from_bytes(fcntl.ioctl(number, termios.FIONREAD, bytes(4)), sys.byteorder)


@pytest.mark.parametrize("unbuffered", [False, True], ids=["buffered", "unbuffered"])
def test_picture_on_a_non_blocking_pipe_is_complete(photo, unbuffered):
    reading, writing = non_blocking_pipe()
    with start("remove", photo, "-", "--provider", "builtin", unbuffered=unbuffered, stdout=writing) as process:
        os.close(writing)
        data = slow_reader(reading, process)
        error = process.stderr.read()
    assert (process.returncode, error) == (0, b"")
    assert picture_size(data) == SIZE


@pytest.mark.parametrize("unbuffered", [False, True], ids=["buffered", "unbuffered"])
def test_table_on_a_non_blocking_pipe_is_complete(unbuffered):
    reading, writing = non_blocking_pipe()
    with start("providers", "--json", unbuffered=unbuffered, stdout=writing) as process:
        os.close(writing)
        assert until(lambda: unread(reading) >= 4096, PATIENCE)  # the pipe is full before the first read
        data = slow_reader(reading, process)
        error = process.stderr.read()
    assert (process.returncode, error) == (0, b"")
    assert len(data) > 4096 and len(json.loads(data)) > 10


@pytest.mark.parametrize("unbuffered", [False, True], ids=["buffered", "unbuffered"])
def test_disk_that_fills_up_during_a_write(photo, tmp_path, unbuffered):
    """The first write is partial, as on a disk with little space left."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    with (
        open(tmp_path / "out.png", "wb") as out,
        start("remove", photo, "-", *DISC, unbuffered=unbuffered, stdout=out, preexec_fn=limit, entry=WITH_DISC) as process,
    ):
        error = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 1
    assert "File too large" in message(error)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize(
    ("arguments", "unbuffered"),
    [
        (("remove", "PHOTO", "-", *DISC), False),
        (("remove", "PHOTO", "-", *DISC), True),
        (("providers",), False),
        (("--help",), False),
    ],
)
def test_a_full_disk_is_a_failure(photo, arguments, unbuffered):
    arguments = tuple(photo if argument == "PHOTO" else argument for argument in arguments)
    with open("/dev/full", "wb") as full, start(*arguments, unbuffered=unbuffered, stdout=full, entry=WITH_DISC) as process:
        error = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 1 and "No space left on device" in message(error)


# --- outputs that are links or devices ---------------------------------------------------------------------------------


def test_symbolic_link_is_followed(photo, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "target.png", tmp_path / "link.png"
    target.write_bytes(b"previous content")
    target.chmod(0o640)
    link.symlink_to("elsewhere/target.png")
    done = run("remove", photo, link, *DISC, entry=WITH_DISC)
    assert (done.returncode, done.stderr) == (0, b"")
    assert link.is_symlink() and not target.is_symlink()
    assert picture_size(target.read_bytes()) == SIZE and stat.S_IMODE(target.stat().st_mode) == 0o640
    assert [entry.name for entry in (tmp_path / "elsewhere").iterdir()] == ["target.png"]


def test_symbolic_link_to_a_new_file(photo, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "link.png"
    link.symlink_to(tmp_path / "elsewhere" / "new.png")
    done = run("remove", photo, link, *DISC, entry=WITH_DISC)
    assert (done.returncode, done.stderr) == (0, b"") and link.is_symlink()
    assert picture_size((tmp_path / "elsewhere" / "new.png").read_bytes()) == SIZE


@pytest.mark.parametrize(("target", "words"), [("link.png", "link"), ("none/such/new.png", "no folder")])
def test_broken_link_is_detected_before_the_removal(photo, tmp_path, target, words):
    link = tmp_path / "link.png"
    link.symlink_to(target)
    done = run("remove", photo, link, "--provider", "builtin")
    assert done.returncode == 1 and words in message(done.stderr)
    assert [entry.name for entry in tmp_path.iterdir()] == ["link.png"] and link.is_symlink()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc")
@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_link_to_standard_output_is_not_replaced(photo, tmp_path, kind):
    """/dev/stdout is such a link; root could replace it by a file, for the whole system."""
    link = tmp_path / "stdout"
    link.symlink_to("/proc/self/fd/1")
    arguments = ("remove", photo, link, *DISC, "--format", "png")
    if kind == "pipe":
        done = run(*arguments, entry=WITH_DISC)
        data = done.stdout
    else:
        with open(tmp_path / "out.png", "wb") as out:
            done = run(*arguments, stdout=out, entry=WITH_DISC)
        data = (tmp_path / "out.png").read_bytes()
    assert (done.returncode, done.stderr) == (0, b"")
    assert link.is_symlink() and str(link.readlink()) == "/proc/self/fd/1"
    assert picture_size(data) == SIZE
    assert {entry.name for entry in tmp_path.iterdir()} <= {"stdout", "out.png"}


@pytest.mark.skipif(not Path("/dev/stdout").is_symlink(), reason="no /dev/stdout")
def test_standard_output_by_name(photo):
    before = Path("/dev/stdout").readlink()
    done = run("remove", photo, "/dev/stdout", *DISC, entry=WITH_DISC)
    assert (done.returncode, done.stderr) == (0, b"") and picture_size(done.stdout) == SIZE
    assert Path("/dev/stdout").readlink() == before


# --- streams that are closed -------------------------------------------------------------------------------------------


def test_messages_are_not_written_to_the_output_if_standard_error_is_closed(tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not a picture")
    done = through_shell("2>&-", "remove", broken, "-")
    assert (done.returncode, done.stdout) == (1, b"")
    done = through_shell("2>&-", "remove", broken)
    assert (done.returncode, done.stdout) == (2, b"")


def test_picture_is_complete_if_standard_error_is_closed(photo, tmp_path):
    done = through_shell("2>&-", "remove", photo, "-", "--provider", "builtin")
    assert done.returncode == 0 and picture_size(done.stdout) == SIZE
    done = through_shell("2>&-", "remove", photo, tmp_path / "out.png", "--provider", "builtin")
    assert (done.returncode, done.stdout) == (0, b"") and picture_size((tmp_path / "out.png").read_bytes()) == SIZE


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc")
@pytest.mark.parametrize("closed", [1, 2])
def test_files_do_not_reuse_the_descriptor_of_a_closed_stream(tmp_path, closed):
    """C libraries write messages to descriptor 2, which must not be that of a picture."""
    script = f'exec "$@" {closed}>&-'
    words = ["sh", "-c", script, "sh", *command("remove", "-", tmp_path / "out.png")]
    with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE) as process:
        process.stdin.write(bytes(1_000_000))  # above the capacity of a pipe, so the command has started to read
        process.stdin.flush()
        assert str(Path(f"/proc/{process.pid}/fd/{closed}").readlink()) == "/dev/null"
        process.stdin.close()
        assert process.wait(PATIENCE) == 1


def test_closed_standard_output_is_a_failure(photo, tmp_path):
    done = through_shell(">&-", "remove", photo, tmp_path / "out.png", "--provider", "builtin")
    assert (done.returncode, done.stderr) == (0, b"")
    for words in (("providers",), ("remove", photo, tmp_path / "out.png", "--provider", "builtin", "--json")):
        done = through_shell(">&-", *words)
        assert done.returncode in (1, 2) and "tandard output is closed" in message(done.stderr)
