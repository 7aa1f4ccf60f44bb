"""Routes for the operation of the server: ``/healthz`` and ``/metrics``."""

from __future__ import annotations

import json
from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from rmbg.ui.origins import FORWARDED, Origins, is_loopback
from rmbg.ui.request_checks import Refused, check_origin


class Operations:
    """ASGI middleware that answers these two routes and passes all other requests on.

    ``/healthz`` states whether the server accepts requests, under any name: load balancers send the address of the machine.
    ``/metrics`` is for programs of this machine by default; requests that a reverse proxy has forwarded get status 404.

    Parameters
    ----------
    app : ASGIApp
    origins : Origins
    access : {"local", "all", "off"}
        Who may read the metrics.
    stopping : callable () -> bool
        Returns True once the server is about to stop.
    metrics : callable () -> bytes
        Returns the metrics.
    """

    def __init__(
        self, app: ASGIApp, origins: Origins, access: str, stopping: Callable[[], bool], metrics: Callable[[], bytes]
    ) -> None:
        self._app, self._origins, self._access = app, origins, access
        self._stopping, self._metrics = stopping, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
        elif scope["path"] == "/healthz":
            status, state = (503, "stopping") if self._stopping() else (200, "ok")
            await _respond(scope, send, status, json.dumps({"status": state}).encode())
        elif scope["path"] == "/metrics":
            try:
                self._check(scope)
            except Refused as refused:
                await _respond(scope, send, refused.status, json.dumps({"detail": str(refused)}).encode())
            else:
                await _respond(scope, send, 200, self._metrics(), CONTENT_TYPE_LATEST)
        else:
            await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        check_origin(self._origins, scope, headers)
        peer = (scope.get("client") or ("", 0))[0]
        local = is_loopback(peer) and not any(name in headers for name in FORWARDED)
        if self._access == "off" or (self._access == "local" and not local):
            raise Refused(404, "Not found.")


async def _respond(scope: Scope, send: Send, status: int, body: bytes, kind: str = "application/json") -> None:
    headers = [
        (b"content-type", kind.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
