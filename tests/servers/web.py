"""Minimal loopback web server: routes are functions, requests are recorded, and faults can be injected."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Seen:
    """Recorded request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Exchange(BaseHTTPRequestHandler):
    """Request handler with methods for correct and faulty responses."""

    protocol_version = "HTTP/1.1"
    web: Web

    def log_message(self, *args: Any) -> None:
        pass

    def _any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.seen = Seen(
            self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, self.rfile.read(length) if length else b""
        )
        self.web.seen.append(self.seen)
        with contextlib.suppress(ConnectionError):
            self.web.answer(self)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _any  # noqa: N815

    def send(self, status: int, body: bytes = b"", kind: str = "text/plain", **headers: str) -> None:
        """Send a complete response; underscores in header names become hyphens."""
        self.start(status, len(body), kind, **headers)
        self.wfile.write(body)

    def send_json(self, status: int, value: Any, **headers: str) -> None:
        self.send(status, json.dumps(value).encode(), "application/json", **headers)

    def start(self, status: int, length: int, kind: str, **headers: str) -> None:
        """Send the status line and headers; the caller writes the body."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def drip(self, body: bytes, pause: float, chunk_size: int = 1, kind: str = "image/png") -> None:
        """Send the body in chunks with a pause before each."""
        self.start(200, len(body), kind)
        for i in range(0, len(body), chunk_size):
            if self.web.closing.wait(pause):
                break
            self.wfile.write(body[i : i + chunk_size])
            self.wfile.flush()
        self.close_connection = True

    def hang(self) -> None:
        """Send nothing until the server closes, at most 20 seconds."""
        self.web.closing.wait(20)
        self.close_connection = True

    def drop(self) -> None:
        """Close the connection without a response, by a reset where the system supports it."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def cut(self, body: bytes, kind: str = "image/png", length: int | None = None) -> None:
        """Send fewer bytes than Content-Length announces."""
        self.start(200, length or len(body) * 2, kind)
        self.wfile.write(body)
        self.wfile.flush()
        self.close_connection = True


class Web:
    """Loopback server, used as a context manager. Override `answer` or add to `routes`."""

    def __init__(self, routes: dict[str, Callable[[Exchange], None]] | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.routes = routes or {}
        self.seen: list[Seen] = []
        self.closing = threading.Event()
        handler = type("Handler", (Exchange,), {"web": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    def answer(self, exchange: Exchange) -> None:
        route = self.routes.get(exchange.path.partition("?")[0])
        if route:
            route(exchange)
        else:
            exchange.send(404, b"not found")

    def __enter__(self) -> Any:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()


def tls_contexts(folder: Path, host: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the contexts of a server with a new certificate for `host`, and of a client that trusts it."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return server, ssl.create_default_context(cafile=str(certificate))


def until(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Wait for `condition`; True if it is met within `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return condition()
