"""Responses with security headers, which an error can replace until they start."""

from __future__ import annotations

import json

import anyio
from starlette.datastructures import MutableHeaders
from starlette.types import Message, Receive, Send

from rmbg.ui.languages import t

#: Seconds for which the rest of a body is read that is refused as too large.
DISCARD_SECONDS = 10

#: Origins of the pages that embed a Space in a frame.
HUB = "https://huggingface.co https://*.hf.space"


class GuardedResponse:
    """`send` that adds the security headers, and discards the app's own response after `refuse`.

    Attributes
    ----------
    cache : str
        Value of the Cache-Control header of a successful response; empty for none.
    """

    def __init__(self, send: Send, embeddable: bool) -> None:
        self._send, self._embeddable = send, embeddable
        self._started = self._refused = self._finished = False
        self.cache = ""

    async def __call__(self, message: Message) -> None:
        if self._refused:
            return
        if message["type"] == "http.response.start":
            self._started = True
            self._add_headers(MutableHeaders(scope=message), message["status"])
        self._finished = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)

    def _add_headers(self, headers: MutableHeaders, status: int) -> None:
        kind = headers.get("content-type", "")
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "same-origin"
        if kind.startswith("text/event-stream"):
            headers["X-Accel-Buffering"] = "no"  # nginx would hold the events back
        if self.cache and status in (200, 206):
            headers["Cache-Control"] = self.cache
        if kind.startswith("text/html"):
            headers.add_vary_header("Accept-Language")
        if self._embeddable:
            headers["Content-Security-Policy"] = f"frame-ancestors 'self' {HUB}"
        else:
            headers["Content-Security-Policy"] = "frame-ancestors 'none'"
            headers["X-Frame-Options"] = "DENY"

    async def finish(self) -> None:
        """Send the last body message of a response that has started."""
        if self._started and not self._finished:
            await self({"type": "http.response.body", "body": b""})

    async def refuse(self, status: int, message: str, receive: Receive | None = None) -> None:
        """Send an error in the format of FastAPI, which Gradio's clients read.

        With `receive`, the rest of the body is discarded before the connection is closed: clients and proxies that are still
        sending it would lose the answer otherwise.
        """
        if self._started or self._refused:
            self._refused = True
            return
        body = json.dumps({"detail": t(message)}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if status == 413:
            headers.append((b"connection", b"close"))
        await self({"type": "http.response.start", "status": status, "headers": headers})
        await self({"type": "http.response.body", "body": body, "more_body": receive is not None})
        if receive is not None:
            await _discard(receive)
            await self({"type": "http.response.body", "body": b""})
        self._refused = True


async def _discard(receive: Receive) -> None:
    """Read the rest of a body for at most `DISCARD_SECONDS`."""
    with anyio.move_on_after(DISCARD_SECONDS):
        while (message := await receive())["type"] == "http.request" and message.get("more_body", False):
            pass
