"""The server of the page in a process of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[1]

#: Seconds until a server has to answer, and between two requests until then.
LIMIT, INTERVAL = 120, 0.02


def free_port() -> int:
    """Return a free port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(folder: Path, port: int, **variables: str) -> subprocess.Popen[bytes]:
    """Start a server on 127.0.0.1 and return its process when it has answered a request for its page.

    Parameters
    ----------
    folder : Path
        For its temporary files, its data and its log.
    port : int
    variables : str
        Environment variables. Those of this process with the prefixes of the app and of Gradio are not passed on.

    Raises
    ------
    SystemExit
        If it does not start, with the end of its log.
    """
    temporary, log = folder / "tmp", folder / "server.log"
    temporary.mkdir(exist_ok=True)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RMBG_", "GRADIO_"))}
    environment = {**inherited, "TMPDIR": str(temporary), "RMBG_DATA": str(folder / "data"), **variables}
    words = [sys.executable, "-m", "rmbg", "serve", "--port", str(port)]
    with open(log, "wb") as output:
        process = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=output, stderr=output)
    limit = time.monotonic() + LIMIT
    while process.poll() is None and time.monotonic() < limit:
        with contextlib.suppress(httpx.HTTPError):
            httpx.get(f"http://127.0.0.1:{port}", trust_env=False, timeout=10).raise_for_status()
            return process
        time.sleep(INTERVAL)
    process.kill()
    process.wait()
    sys.exit(f"The server did not start: {log.read_text()[-2000:]}")
