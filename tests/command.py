"""Helpers that run the command line in a child process."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.pictures import scene
from tests.processes import python

ROOT = Path(__file__).resolve().parents[1]

#: Seconds that a command may take on a busy machine.
PATIENCE = 180


#: Arguments of the interpreter that run the command line, and those that run it with the provider ``disc`` as well.
RMBG, WITH_DISC = ("-m", "rmbg"), ("-m", "tests.disc", os.devnull, "0")


def command(*arguments: object, entry: tuple[str, ...] = RMBG) -> list[str]:
    """Return the command that runs ``rmbg`` with these arguments in a new interpreter."""
    return [sys.executable, *entry, *map(str, arguments)]


def start(
    *arguments: object,
    unbuffered: bool = False,
    new_interpreter: bool = False,
    entry: tuple[str, ...] = RMBG,
    environment: dict[str, str] | None = None,
    **options: Any,
) -> Any:
    """Start a command; its three streams are pipes unless `options` replaces them.

    The handler of SIGINT is reset: a shell ignores the signal in background jobs, and child processes inherit that.

    Parameters
    ----------
    new_interpreter : bool
        Start the command without the fork server (see `tests.processes`), as ``preexec_fn`` requires.
    """
    new = new_interpreter or "preexec_fn" in options
    words = command(*arguments, entry=entry) if new else python(*entry, *arguments)
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    before = options.pop("preexec_fn", None)

    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if before is not None:
            before()

    if os.name != "nt":
        options["preexec_fn"] = prepare
    return subprocess.Popen(
        words,
        cwd=ROOT,
        env={**os.environ, **({"PYTHONUNBUFFERED": "1"} if unbuffered else {}), **(environment or {})},
        **{**pipes, **options},
    )


def through_shell(redirection: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a new interpreter and in a shell with a redirection such as ``2>&-``."""
    shell = ["sh", "-c", f'exec "$@" {redirection}', "sh", *command(*arguments)]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.run(shell, cwd=ROOT, timeout=PATIENCE, **{**pipes, **options})


def run(*arguments: object, stdout: Any = subprocess.PIPE, entry: tuple[str, ...] = RMBG) -> subprocess.CompletedProcess[bytes]:
    """Run a command without standard input, and return its status and output."""
    with start(*arguments, entry=entry, stdin=subprocess.DEVNULL, stdout=stdout) as process:
        out, error = process.communicate(timeout=PATIENCE)
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)


def message(error: bytes) -> str:
    """Return the only line on standard error after checking that it is no traceback."""
    text = error.decode()
    assert "Traceback" not in text and "Error:" not in text, text
    assert text.startswith("rmbg: ") and text.count("\n") == 1 and text.endswith("\n"), text
    return text[:-1]


def save_scene(path: Path, height: int = 300, width: int = 400) -> Path:
    """Write a photo with a clear subject to `path`."""
    Image.fromarray(scene(height, width)[0]).save(path)
    return path


def picture_size(data: bytes) -> tuple[int, int]:
    """Return width and height of a picture after checking that it decodes and has opaque and transparent pixels."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        alpha = np.asarray(image)[..., 3]
        assert alpha.min() == 0 and alpha.max() == 255
        return image.size
