"""Child processes of tests. On Linux they are forked from a server process that has imported the large packages.

An import of Gradio or torch takes seconds of CPU time, and the tests start hundreds of processes. ``TEST_FORK=0`` starts a
new interpreter for each of them instead.
"""

from __future__ import annotations

import functools
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).resolve().parent

FORK = os.environ.get("TEST_FORK", "1") != "0" and sys.platform == "linux" and hasattr(os, "pidfd_open")


def python(*arguments: object) -> list[str]:
    """Return a command that is equivalent to ``python ARGUMENTS``, for ``subprocess``.

    The arguments are ``-m MODULE ...``, ``-c CODE ...`` or ``FILE ...``. Standard streams, working directory, environment,
    signals and exit status are those of the command. Not inherited are resource limits, capabilities, namespaces and further
    descriptors; a test of these, of closed streams or of the interpreter's start runs ``sys.executable``.
    """
    words = [str(argument) for argument in arguments]
    if not FORK:
        return [sys.executable, *words]
    return [*_relay(), *words]


def with_constants(**constants: float) -> tuple[str, ...]:
    """Return the arguments of `python` that replace ``-m rmbg``, with other values of constants; ``__`` in names is a dot."""
    pairs = [f"rmbg.{name.replace('__', '.')}={value}" for name, value in constants.items()]
    return "-m", "tests.processes.constants", *pairs


#: Path of the socket of a server that the processes of pytest-xdist share.
SHARED = "PYTEST_FORK_SERVER"


def share_server() -> None:
    """Start a server for this process and its child processes, which exits when this process does."""
    if FORK:
        os.environ[SHARED] = _server()


@functools.cache
def _relay() -> list[str]:
    """Return the command of the relay to the shared server, or to one of this process, which is started at the first call.

    The imports have ended on return, so that they do not count towards the time limit of a test's command.
    """
    relay = [sys.executable, "-I", "-S", str(FOLDER / "relay.py"), os.environ.get(SHARED) or _server()]
    subprocess.run([*relay, "-c", ""], stdin=subprocess.DEVNULL, check=True, timeout=600)
    return relay


def _server() -> str:
    """Start a server and return the path of its socket; it exits when this process does."""
    folder = tempfile.TemporaryDirectory(prefix="fork-", dir="/tmp")  # the path of a socket has at most 107 bytes
    path = f"{folder.name}/socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.processes.server", str(listener.fileno())],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )
    _kept.append((folder, process))
    return path


#: The folder is removed at exit, and the end of the pipe to its standard input stops the server.
_kept: list[object] = []
