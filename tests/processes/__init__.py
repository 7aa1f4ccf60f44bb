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


@functools.cache
def _relay() -> list[str]:
    """Start the server of this process and return the command of its relay; the server exits when this process does.

    The imports have ended on return, so that they do not count towards the time limit of a test's command.
    """
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
    relay = [sys.executable, "-I", "-S", str(FOLDER / "relay.py"), path]
    subprocess.run([*relay, "-c", ""], stdin=subprocess.DEVNULL, check=True, timeout=600)
    return relay


#: The folder is removed at exit, and the end of the pipe to its standard input stops the server.
_kept: list[object] = []
