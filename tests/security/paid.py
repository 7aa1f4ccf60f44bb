"""Commands in child processes against a loopback service, and photos for them."""

from __future__ import annotations

import importlib
import io
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.processes import python, with_constants
from tests.remote import environment
from tests.servers.service import Service

ROOT = Path(__file__).resolve().parents[2]

#: Time limit for a command on a busy machine, in seconds.
LIMIT = 120


def strip(width: int = 17_000, height: int = 20) -> bytes:
    """Return a PNG photo whose width exceeds the limit of WebP."""
    x, y = np.linspace(-1, 1, width), np.linspace(-1, 1, height)[:, None]
    inside = (np.hypot(x, y) < 0.8)[..., None]
    out = io.BytesIO()
    Image.fromarray(np.where(inside, (200, 60, 40), (40, 90, 160)).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def start(service: Service, data: Path, *arguments: object, **more: Any) -> subprocess.Popen[str]:
    """Start ``python -m rmbg`` against `service`.

    Uppercase names are environment variables, `constants` those of `with_constants`, and others arguments of ``Popen``. A
    command after the words `before` starts a new interpreter.
    """
    variables = {name: str(more.pop(name)) for name in list(more) if name.isupper()}
    env = {**os.environ, **environment(service, data), "RMBG_REMOTE_SECONDS": "60", "PYTHONUNBUFFERED": "1", **variables}
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # A background shell ignores SIGINT, and a child inherits that.
    options["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    before, constants = more.pop("before", []), more.pop("constants", None)
    program = with_constants(**constants) if constants else ("-m", "rmbg")
    command = [*before, sys.executable, *program, *map(str, arguments)] if before else python(*program, *arguments)
    return subprocess.Popen(command, cwd=ROOT, env=env, **{**options, **more})


def run(service: Service, data: Path, *arguments: object, **more: Any) -> tuple[int, str, str]:
    """Run a command and return its exit status, standard output and standard error.

    It runs in this process, which takes half a second less, unless one of `more` needs a process: `before`, or an argument of
    ``Popen``.
    """
    if any(not name.isupper() and name != "constants" for name in more):
        process = start(service, data, *arguments, **more)
        out, err = process.communicate(timeout=LIMIT)
        return process.returncode, out, err
    from rmbg.__main__ import main

    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2)]
    constants = more.pop("constants", {})
    with pytest.MonkeyPatch.context() as patch, open(os.devnull) as nothing:
        patch.setattr(tempfile, "tempdir", None)  # TMPDIR is read again
        for name, value in {**environment(service, data), "RMBG_REMOTE_SECONDS": "60", **more}.items():
            patch.setenv(name, str(value))
        for name, value in constants.items():
            module, _, constant = f"rmbg.{name}".replace("__", ".").rpartition(".")
            patch.setattr(importlib.import_module(module), constant, value)
        for name, stream in zip(("stdin", "stdout", "stderr"), (nothing, *streams), strict=True):
            patch.setattr(sys, name, stream)
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code
        for stream in streams:
            stream.flush()
    out, err = (stream.buffer.getvalue().decode() for stream in streams)
    return status, out, err


def calls(data: Path) -> list[tuple[str, int | None]]:
    """Return state and amount of every call in the ledger."""
    with sqlite3.connect(data / "ledger.sqlite3") as db:
        rows = db.execute("SELECT state, usd FROM calls ORDER BY id").fetchall()
    db.close()
    return rows
