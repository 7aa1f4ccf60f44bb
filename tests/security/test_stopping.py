"""Files of a server after it has stopped or was killed."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import stat
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from tests.security.server import Server, Visitor, picture
from tests.servers.web import until

SERVE = ("-m", "rmbg", "serve")

posix = pytest.mark.skipif(os.name == "nt", reason="signals and modes of POSIX")


def create_files(server: Server) -> None:
    """Create an upload, a session with a result and a download on the server."""
    with Visitor(server.url, "visitor") as visitor:
        visitor.remove(server.upload(picture(300, 400)))
        visitor.download()
        server.upload(picture(100, 100), "other.png")
        assert len(server.files()) >= 4, "the test must leave something to remove"
        (parent,) = [path for path in server.temporary.iterdir() if path.is_dir()]
        for folder in (parent, *[path for path in parent.iterdir() if path.is_dir()]):
            assert os.name == "nt" or stat.S_IMODE(folder.stat().st_mode) == 0o700, "folders are private"


@posix
@pytest.mark.parametrize(
    ("name", "entry"), [("SIGTERM", SERVE), ("SIGHUP", SERVE), ("SIGINT", ("app.py",))], ids=["TERM", "HUP", "INT app.py"]
)
def test_signal_removes_all_files(tmp_path, name, entry):
    number = getattr(signal, name)
    with Server(tmp_path, entry=entry) as server:
        if number == signal.SIGTERM:
            create_files(server)
        else:  # the same files are removed
            server.upload()
            assert server.files()
        began = time.monotonic()
        assert server.stop(number) == 0
        assert time.monotonic() - began < 60
    assert server.files() == []
    assert "Traceback" not in server.log.read_text()


def large_photo() -> bytes:
    """A photo of 12 megapixels."""
    out = io.BytesIO()
    Image.open(io.BytesIO(picture(300, 400))).resize((4000, 3000)).save(out, "JPEG")
    return out.getvalue()


@posix
def test_signal_stops_running_work(tmp_path):
    """A large photo is being processed; a heartbeat and an event stream are open."""
    with Server(tmp_path) as server:
        path = server.upload(large_photo())
        with Visitor(server.url, "visitor") as visitor:

            def request() -> None:
                with contextlib.suppress(Exception):  # the connection may be closed
                    visitor.remove(path)

            thread = threading.Thread(target=request, daemon=True)
            thread.start()
            time.sleep(1)
            assert server.stop(signal.SIGTERM) == 0
    assert server.files() == []


@posix
def test_next_start_removes_files_of_a_killed_server(tmp_path):
    with Server(tmp_path) as server:
        create_files(server)
        server.stop(signal.SIGKILL)
    left = server.files()
    assert left, "a killed server cannot remove its files"
    with Server(tmp_path) as running:
        assert until(lambda: not set(left) & set(running.files()), 30), sorted(set(left) & set(running.files()))


@posix
def test_start_keeps_files_of_running_servers(tmp_path):
    with Server(tmp_path) as first, Visitor(first.url, "visitor") as visitor:
        visitor.remove(first.upload(picture(300, 400)))
        kept = set(first.files())
        with Server(tmp_path) as second:
            assert kept <= set(second.files())
            second.stop(signal.SIGTERM)
        assert kept <= set(first.files())
        message = visitor.queued(
            visitor.event({"format", "quality", "view"}, {"file"}), {"format": "png", "quality": 90, "view": "cutout"}
        )
        assert message["success"], "the file at full size exists"


@posix
@pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="only root can change the owner of a folder")
def test_folder_of_another_user_is_rejected(tmp_path):
    """In a shared temporary folder another user may create the folder first."""
    with Server(tmp_path) as server:
        (parent,) = [path for path in server.temporary.iterdir() if path.is_dir()]
        server.stop(signal.SIGTERM)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o777)
    for make in (lambda: parent.mkdir(exist_ok=True), lambda: (parent.rmdir(), parent.symlink_to(elsewhere))):
        for child in parent.iterdir() if parent.is_dir() else []:
            child.unlink()
        make()
        os.chown(parent, 12345, 12345, follow_symlinks=False)
        with pytest.raises(AssertionError, match="another user"), Server(tmp_path):
            pass
        assert "Traceback" not in server.log.read_text()
        assert list(elsewhere.iterdir()) == []


def test_configured_temporary_folder_is_used(tmp_path):
    chosen = tmp_path / "large-disk"
    with Server(tmp_path, GRADIO_TEMP_DIR=str(chosen)) as server:
        assert Path(server.upload()).is_relative_to(chosen)
        assert server.files() == []
        if os.name != "nt":
            server.stop(signal.SIGTERM)
            assert [path for path in chosen.rglob("*") if path.is_file() and path.suffix != ".lock"] == []
