"""The server of the page in a process of its own, and calls of its API."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
    return answering(process, f"http://127.0.0.1:{port}", log)


def answering(process: subprocess.Popen[bytes], url: str, log: Path) -> subprocess.Popen[bytes]:
    """Return the process of a server when it has answered a request for `url`; raises SystemExit if it ends before."""
    limit = time.monotonic() + LIMIT
    while process.poll() is None and time.monotonic() < limit:
        with contextlib.suppress(httpx.HTTPError):
            httpx.get(url, trust_env=False, timeout=10).raise_for_status()
            return process
        time.sleep(INTERVAL)
    process.kill()
    process.wait()
    sys.exit(f"The server did not start: {log.read_text()[-2000:]}")


def client(url: str, address: str | None = None) -> httpx.Client:
    """Return a client of the API of a server, which accepts an IP address from a proxy on the same machine."""
    headers = {} if address is None else {"X-Forwarded-For": address}
    # Reading the certificates of TLS would take the time of the server, which has the same cores. The server closes an idle
    # connection after five seconds.
    limits = httpx.Limits(keepalive_expiry=2)
    return httpx.Client(base_url=f"{url}/gradio_api", headers=headers, trust_env=False, verify=False, limits=limits)


def upload(client: httpx.Client, name: str, content: bytes) -> dict[str, Any]:
    """Upload a photo and return it as an argument of calls."""
    (path,) = client.post("/upload", files={"files": (name, content)}, timeout=600).raise_for_status().json()
    return {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}


@contextlib.contextmanager
def removal(client: httpx.Client, image: dict[str, Any], form: str) -> Iterator[Iterator[str]]:
    """Call the built-in provider and yield the lines of the event stream."""
    data = [image, "builtin", "transparent", False, form]
    call = client.post("/call/remove_background", json={"data": data}, timeout=600).raise_for_status().json()
    with client.stream("GET", f"/call/remove_background/{call['event_id']}", timeout=600) as response:
        yield response.iter_lines()
