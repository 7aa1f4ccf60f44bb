"""Server in a child process, and raw requests to it."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from PIL import Image

from tests.pictures import scene
from tests.processes import python

ROOT = Path(__file__).resolve().parents[2]

#: Time limit for the start or stop of a server on a busy machine, in seconds.
PATIENCE = 120.0


#: Ports below those that the system assigns to other sockets between the choice of a port and the start of a server.
PORTS = range(10_000, 32_000)


def free_port(host: str = "127.0.0.1") -> int:
    while True:
        port = secrets.choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((host, port))
            return port


class Running:
    """Raw requests to a server that runs at a URL."""

    def __init__(self, url: str) -> None:
        self.url, self.port = url, urlsplit(url).port or 80

    def client(self, **headers: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, trust_env=False, timeout=180, headers=headers)

    def raw(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, str], str]:
        """Send one request with exactly these headers; underscores in their names become hyphens."""
        return raw(self.port, method, path, body, **headers)

    def upload(self, data: bytes | None = None, name: str = "photo.png") -> str:
        """Upload a picture and return its path on the server."""
        files = {"files": (name, picture() if data is None else data)}
        with self.client() as client:
            return client.post("/gradio_api/upload", files=files).raise_for_status().json()[0]


class Server(Running):
    """``python -m rmbg serve`` in a child process, for use in a ``with`` block.

    Attributes
    ----------
    temporary : Path
        The server's temporary folder (``TMPDIR``).
    """

    def __init__(
        self,
        folder: Path,
        *options: str,
        entry: tuple[str, ...] = ("-m", "rmbg", "serve"),
        host: str = "127.0.0.1",
        cwd: Path = ROOT,
        **env: str,
    ) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True, exist_ok=True)
        super().__init__(f"http://127.0.0.1:{free_port()}")
        self.host, self.cwd = host, cwd
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RMBG_", "GRADIO_", "SPACE_"))}
        self.env = {
            **kept,
            "TMPDIR": str(self.temporary),
            "TEMP": str(self.temporary),
            "RMBG_DATA": str(folder / "data"),
            "GRADIO_SERVER_PORT": str(self.port),
            "PYTHONUNBUFFERED": "1",
            **env,
        }
        own = ["--host", host, "--port", str(self.port)] if "serve" in entry else []
        self.command = python(*entry, *own, *options)
        self.log = folder / "server.log"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # background shells ignore SIGINT, which the server would inherit
            signal.signal(signal.SIGINT, signal.default_int_handler)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.cwd,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + PATIENCE
        while True:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}: {self.log.read_text()[-2000:]}")
            try:
                if self.client().get("/gradio_api/app_id").status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            if time.monotonic() > end:
                self.__exit__()
                raise AssertionError(f"the server did not start: {self.log.read_text()[-2000:]}")
            time.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait until the server exits, and return its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def files(self) -> list[str]:
        """Return all files below the temporary folder except lock files."""
        # os.walk skips folders that the server removes in the meantime; Path.rglob raises.
        paths = (Path(above) / name for above, _, names in os.walk(self.temporary) for name in names)
        return sorted(str(path.relative_to(self.temporary)) for path in paths if path.suffix != ".lock")


def raw(port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=180)
    try:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.putrequest(method, path, skip_host="Host" in sent, skip_accept_encoding=True)
        for name, value in sent.items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read().decode(errors="replace")
    finally:
        connection.close()


def picture(height: int = 120, width: int = 160) -> bytes:
    out = io.BytesIO()
    Image.fromarray(scene(height, width)[0]).save(out, "PNG")
    return out.getvalue()


class Visitor:
    """Open page, whose heartbeat lasts as long as the ``with`` block."""

    def __init__(self, url: str, name: str, **headers: str) -> None:
        self.url, self.name = url, name
        self.client = httpx.Client(base_url=url, trust_env=False, timeout=120, headers=headers)
        config = self.client.get("/config").raise_for_status().json()
        self.parts = {part["id"]: part["props"] for part in config["components"]}
        self.events = config["dependencies"]

    def __enter__(self) -> Visitor:
        self._stream = self.client.stream("GET", f"/gradio_api/heartbeat/{self.name}")
        self._beats = self._stream.__enter__().raise_for_status().iter_text()  # without a reference the stream is closed
        next(self._beats)
        for event in self.events:
            if event["backend_fn"] and event["queue"] is False and any(trigger == "load" for _, trigger in event["targets"]):
                self.call(event, {}).raise_for_status()
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.__exit__(None, None, None)
        self.client.close()

    def event(self, inputs: set[str], outputs: set[str], **wanted: Any) -> dict[str, Any]:
        """Return the first event with these inputs, outputs and values."""
        ids = {key: props.get("elem_id") for key, props in self.parts.items()}
        return next(
            event
            for event in self.events
            if all(event[name] == value for name, value in wanted.items())
            and inputs <= {ids.get(part) for part in event["inputs"]}
            and outputs <= {ids.get(part) for part in event["outputs"]}
        )

    def body(self, event: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
        parts = [self.parts.get(part, {}) for part in event["inputs"]]
        data = [given.get(part.get("elem_id"), part.get("value")) for part in parts]
        return {"session_hash": self.name, "fn_index": event["id"], "data": data}

    def call(self, event: dict[str, Any], given: dict[str, Any]) -> httpx.Response:
        """Call an event directly, as the page does for events without a queue."""
        return self.client.post("/gradio_api/run/predict", json=self.body(event, given))

    def queued(self, event: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
        """Call an event through the queue and return its last message."""
        joined = self.client.post("/gradio_api/queue/join", json=self.body(event, given)).raise_for_status()
        with self.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.name}) as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    message = json.loads(line[5:])
                    if message["msg"] == "process_completed" and message["event_id"] == joined.json()["event_id"]:
                        return message
        raise AssertionError("the run did not complete")

    def download(self, **changes: Any) -> dict[str, Any]:
        """Request the file of the current result and return the last message of the event."""
        look = {"format": "png", "quality": 90, "view": "cutout", "background": "transparent", "margin": 5}
        return self.queued(self.event({"format", "quality", "view"}, {"file"}), {**look, **changes})

    def remove(self, path: str, name: str = "photo.png") -> dict[str, Any]:
        """Remove the background of an uploaded photo."""
        photo = {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}
        return self.queued(self.event({"photo", "provider"}, {"strip"}), {"photo": photo, "provider": "builtin"})
