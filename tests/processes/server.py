"""Fork server: imports the large packages once and forks a process for each connection of `relay.py`.

A script: its argument is the descriptor of a listening socket. It exits at the end of its standard input.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import importlib.abc
import importlib.machinery
import io
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import tempfile
import threading
import types
import warnings
from typing import Any

#: Values that modules of Gradio read from the environment when they are imported; replaced when a process imports Gradio.
SENTINELS: dict[str, Any] = {"GRADIO_TEMP_DIR": "/nonexistent/fork-server", "GRADIO_SERVER_PORT": 54_321}

#: Variables that nothing reads at import, and those in `SENTINELS`. If another one differs, a new interpreter is started.
RUN_TIME_PREFIXES = ("RMBG_", "PYTEST_", "RAY_", *SENTINELS)
RUN_TIME_VARIABLES = {
    *("FAL_KEY", "RUNWARE_API_KEY", "REMOVEBG_API_KEY", "GIGAROUTER_API_KEY", "HF_TOKEN"),
    *("TMPDIR", "TEMP", "TMP", "PYTHONUNBUFFERED", "PWD", "OLDPWD", "_", "SHLVL", "LINES", "COLUMNS", "LC_CTYPE"),
    *("GRADIO_ANALYTICS_ENABLED", "FORWARDED_ALLOW_IPS", "TORCHINDUCTOR_CACHE_DIR", "PYTHONBREAKPOINT"),
}

#: The environment before the imports, which add variables to it.
STARTED = dict(os.environ)


def run_time_only(environ: dict[str, str]) -> bool:
    """True if modules that this process has imported would be the same in a process with `environ`."""
    names = environ.keys() | STARTED.keys()
    # Imports add variables to the environment, also to that of the tests.
    differ = {name for name in names if environ.get(name) not in (STARTED.get(name), os.environ.get(name))}
    return all(name.startswith(RUN_TIME_PREFIXES) or name in RUN_TIME_VARIABLES for name in differ)


# --- modules -----------------------------------------------------------------------------------------------------------


class Stash(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loaded modules of Gradio and of the page, which become visible when a process imports the first of them.

    Before, the process sets the variables that Gradio reads at import.
    """

    def __init__(self, before: set[str]) -> None:
        own = ("gradio", "gradio_client", "rmbg")
        self.modules = {name: sys.modules.pop(name) for name in set(sys.modules) - before if name.split(".")[0] in own}
        for name in self.modules:
            parent, _, last = name.rpartition(".")
            if parent in sys.modules:
                delattr(sys.modules[parent], last)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name not in self.modules:
            return None
        sys.meta_path.remove(self)
        return importlib.machinery.ModuleSpec(name, self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module = self.modules[spec.name]
        self.spec = module.__spec__
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        module.__spec__ = self.spec
        for variable, sentinel in SENTINELS.items():
            self.replace(sentinel, type(sentinel)(os.environ.get(variable) or DEFAULTS[variable]()))
        sys.modules.update(self.modules)
        for name, other in self.modules.items():
            parent, _, last = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], last, other)

    def replace(self, old: Any, new: Any) -> None:
        for module in self.modules.values():
            for name, value in list(vars(module).items()):
                if type(value) is type(old) and value == old:
                    setattr(module, name, new)


#: Gradio's own defaults.
DEFAULTS = {"GRADIO_TEMP_DIR": lambda: f"{tempfile.gettempdir()}/gradio", "GRADIO_SERVER_PORT": lambda: 7860}


def preload() -> None:
    """Import what the commands and the page import."""
    os.environ.update({name: str(value) for name, value in SENTINELS.items()})
    from rmbg.cli.app import COMMANDS

    # Those that commands import when they need them.
    later = ("httpx", "huggingface_hub", "rmbg.inference.openvino_import", "rmbg.net.transport", "scipy.ndimage")
    for name in (*(f"rmbg.cli.{name}" for name in COMMANDS), *later):
        with contextlib.suppress(Exception):  # reported by the process that needs it
            importlib.import_module(name)
    with contextlib.suppress(Exception):
        importlib.import_module("rmbg.inference.engines").import_torch()
    before = set(sys.modules)
    with contextlib.suppress(Exception):
        importlib.import_module("rmbg.ui.app")
    sys.meta_path.insert(0, Stash(before))
    with contextlib.suppress(Exception):
        importlib.import_module("rmbg.inference.engines").import_torch()


# --- processes ---------------------------------------------------------------------------------------------------------


class Process:
    """Process for one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        header, self.streams, _, _ = socket.recv_fds(connection, 8, 3)
        data = b""
        while len(data) < int.from_bytes(header, "big"):
            data += connection.recv(1 << 16)
        self.request: dict[str, Any] = json.loads(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python 3.12 warns of threads; those of OpenBLAS end before a fork
            self.pid = os.fork()
        if self.pid:
            for stream in self.streams:
                os.close(stream)
            self.end = os.pidfd_open(self.pid)
            self.send(self.pid)

    def send(self, number: int) -> None:
        with contextlib.suppress(OSError):
            self.connection.sendall(number.to_bytes(8, "big"))

    def close(self) -> None:
        """Kill the process if it still runs, and report its status."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.send(os.waitpid(self.pid, 0)[1])
        self.connection.close()
        os.close(self.end)

    def prepare(self) -> None:
        """Give this process the streams, signals, folder and environment of its request."""
        os.setpgid(0, 0)
        for number, stream in enumerate(self.streams):
            os.dup2(stream, number)
            os.close(stream)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(self.request["folder"])
        os.umask(self.request["umask"])
        environ = self.request["environ"]
        if not run_time_only(environ):
            os.execve(sys.executable, [sys.executable, *self.request["arguments"]], environ)
        added = {name: value for name, value in os.environ.items() if name not in STARTED and name not in SENTINELS}
        os.environ.clear()
        os.environ.update({**added, **environ})
        tempfile.tempdir = None
        open_streams(unbuffered=bool(environ.get("PYTHONUNBUFFERED")))

    def run(self) -> None:
        """Run the program as the interpreter does, with this module's frames below it."""
        first, *rest = self.request["arguments"]
        sys.path[0] = self.request["folder"]
        if first == "-m":
            sys.argv = rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        elif first == "-c":
            sys.argv = ["-c", *rest[1:]]
            main = types.ModuleType("__main__")
            sys.modules["__main__"] = main
            exec(compile(rest[0], "<string>", "exec"), vars(main))
        else:
            sys.argv = [first, *rest]
            runpy.run_path(first, run_name="__main__")


def open_streams(*, unbuffered: bool) -> None:
    """Open the standard streams anew, as the interpreter does."""

    def text(number: int, mode: str, **options: Any) -> io.TextIOWrapper:
        raw = open(number, f"{mode}b", buffering=0, closefd=False)  # noqa: SIM115 - open until the process exits
        if mode == "r":
            return io.TextIOWrapper(io.BufferedReader(raw), **options)
        buffer: Any = raw if unbuffered else io.BufferedWriter(raw)
        return io.TextIOWrapper(buffer, line_buffering=raw.isatty() or number == 2, write_through=unbuffered, **options)

    sys.stdin = sys.__stdin__ = text(0, "r")  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = text(1, "w")  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = text(2, "w", errors="backslashreplace")  # type: ignore[misc]


def exit_quickly(code: object) -> None:
    """Exit as the interpreter does, but without clearing all modules; returns if that needs the interpreter."""
    if code is not None and not isinstance(code, int):
        return
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except (OSError, ValueError):
        return
    os._exit((code or 0) & 255)


def serve(listener: socket.socket) -> Process | None:
    """Fork processes until the end of standard input; in a forked process, return its request."""
    processes: set[Process] = set()
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(listener, selectors.EVENT_READ)
        while True:
            ready = [key.data or key.fileobj for key, _ in selector.select()]
            # Before a new process starts, those whose relay was killed have ended.
            for process in {item for item in ready if isinstance(item, Process)}:
                selector.unregister(process.connection)
                selector.unregister(process.end)
                processes.remove(process)
                process.close()
            if 0 in ready:
                break
            if listener in ready:
                process = Process(listener.accept()[0])
                if not process.pid:
                    for other in processes:
                        other.connection.close()
                        os.close(other.end)
                    process.connection.close()
                    listener.close()
                    return process
                processes.add(process)
                selector.register(process.connection, selectors.EVENT_READ, process)
                selector.register(process.end, selectors.EVENT_READ, process)
    for process in processes:
        process.close()
    return None


if __name__ == "__main__":
    preload()
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as listening:
        own = serve(listening)
    if own is not None:
        own.prepare()
        try:
            own.run()
        except SystemExit as stop:
            exit_quickly(stop.code)
            raise
        exit_quickly(0)
