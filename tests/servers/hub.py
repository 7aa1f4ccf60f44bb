"""Loopback Hugging Face hub that serves files from memory, with faults on demand.

with Hub() as hub:
    hub.files["briaai/RMBG-1.4"] = {"model.safetensors": data}
    hub.fault = "truncated"
"""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"

#: Faults with an HTTP status and the hub's error code, for every path.
REFUSALS = {
    "forbidden": (403, None),
    "no repository": (404, "RepoNotFound"),
    "no revision": (404, "RevisionNotFound"),
    "no file": (404, "EntryNotFound"),
    "broken": (500, None),
}
#: The response lacks the headers of a hub.
NO_HUB = "no hub"
#: Faults of the body: it always ends early; it ends early once and can be resumed; one byte is changed.
BODY_FAULTS = ("truncated", "interrupted", "corrupt")


class Hub:
    """The server and its recorded requests.

    Attributes
    ----------
    files : dict of repository to dict of file name to bytes
    fault : str or None
        One of `REFUSALS` or `BODY_FAULTS`, or `NO_HUB`.
    gated : bool
        Files require `token`; other tokens are those of accounts that have not accepted the license.
    token : str
    commit : str
        Commit of the branch ``main``; every other revision exists.
    requests : list of (method, path, range header or None)
    tokens : list of str
        Token of each request, empty for none.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.fault: str | None = None
        self.gated = False
        self.token = "accepted"
        self.commit = COMMIT
        self.requests: list[tuple[str, str, str | None]] = []
        self.tokens: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                hub.answer(self, body=False)

            def do_GET(self) -> None:
                hub.answer(self, body=True)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Hub:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request: BaseHTTPRequestHandler, *, body: bool) -> None:
        span = request.headers.get("Range")
        self.requests.append((request.command, request.path, span))
        repository, _, rest = request.path.lstrip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        bearer = (request.headers.get("Authorization") or "").removeprefix("Bearer ")
        self.tokens.append(bearer)
        if self.gated and bearer != self.token:
            return refuse(request, 403 if bearer else 401, "GatedRepo")
        if self.fault in REFUSALS:
            return refuse(request, *REFUSALS[self.fault])
        if repository not in self.files:
            return refuse(request, 404, "RepoNotFound")
        commit = self.commit if revision == "main" else revision
        if name not in self.files[repository]:
            return refuse(request, 404, "EntryNotFound", commit)
        self.send(request, self.files[repository][name], commit, span, body)

    def send(self, request: BaseHTTPRequestHandler, data: bytes, commit: str, span: str | None, body: bool) -> None:
        checksum = hashlib.sha256(data).hexdigest()
        start = int(span.removeprefix("bytes=").split("-")[0]) if span else 0
        part = data[start:]
        if self.fault == "corrupt":
            part = part[:-1] + bytes([part[-1] ^ 1])
        sent = part[: len(part) // 2] if body and self.fault in ("truncated", "interrupted") else part
        request.send_response(206 if span else 200)
        if self.fault != NO_HUB:
            request.send_header("X-Repo-Commit", commit)
        request.send_header("ETag", f'"{checksum}"')
        request.send_header("Accept-Ranges", "bytes")
        if span:
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        # With a matching Content-Length the client cannot tell a truncated body from a complete one.
        whole = self.fault == "truncated" and body
        request.send_header("Content-Length", str(len(sent) if whole else len(part)))
        request.end_headers()
        if body:
            request.wfile.write(sent)
            request.wfile.flush()
        if sent is not part:
            request.close_connection = True
        if body and self.fault == "interrupted":
            self.fault = None


def refuse(request: BaseHTTPRequestHandler, status: int, code: str | None, commit: str | None = None) -> None:
    request.send_response(status)
    if commit:
        request.send_header("X-Repo-Commit", commit)
    if code:
        request.send_header("X-Error-Code", code)
    request.send_header("Content-Length", "0")
    request.end_headers()
