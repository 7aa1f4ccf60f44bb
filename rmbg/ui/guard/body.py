"""Responses with security headers, which an error can replace until they start, and request bodies with limits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
import time
from typing import Any

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Receive, Send

from rmbg.rest.removebg import RETRY_SECONDS
from rmbg.runtime.messages import megabytes
from rmbg.ui.guard.checks import Refused
from rmbg.ui.guard.connections import GRACE_SECONDS, MINIMUM_RATE
from rmbg.ui.languages import t

#: Seconds for which the rest of a body is read that is refused as too large.
DISCARD_SECONDS = 10

#: Origins of the pages that embed a Space in a frame.
HUB = "https://huggingface.co https://*.hf.space"


#: Codes of remove.bg for the statuses of refused requests.
CODES = {413: "file_too_large", 429: "rate_limit_exceeded"}


class GuardedResponse:
    """`send` that adds the security headers, and discards the app's own response after `refuse`.

    Attributes
    ----------
    cache : str
        Value of the Cache-Control header of a successful response; empty for none.
    slot : ExitStack
        Closed when the response starts: its client may read it slowly.
    """

    def __init__(self, send: Send, embeddable: bool) -> None:
        self._send, self._embeddable = send, embeddable
        self._started = self._refused = self._finished = False
        self.cache, self.slot = "", contextlib.ExitStack()

    async def __call__(self, message: Message) -> None:
        if self._refused:
            return
        if message["type"] == "http.response.start":
            self._started = True
            self.slot.close()
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
        """Send an error in the formats of FastAPI and of Gradio, which Gradio's clients read, and of remove.bg.

        With `receive`, the rest of the body is discarded before the connection is closed: clients and proxies that are still
        sending it would lose the answer otherwise.
        """
        if self._started or self._refused:
            self._refused = True
            return
        errors = [{"title": t(message), "code": CODES.get(status, "invalid_request")}]
        body = json.dumps({"detail": t(message), "error": t(message), "errors": errors}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if status in (408, 413):
            headers.append((b"connection", b"close"))
        if status == 429:
            headers.append((b"retry-after", str(RETRY_SECONDS).encode()))
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


#: Bytes around a file in a multipart body, and around a picture in a JSON body.
OVERHEAD = 1_000_000


def upload_limit(max_bytes: int) -> int:
    """Return the limit of Gradio for an upload whose decoded file may have `max_bytes`.

    Gradio reports limits in units of 1024 * 1024 bytes and calls them MB, as other messages call a million bytes.
    """
    return max_bytes * 1_048_576 // 1_000_000


def body_limit(route: str, largest: int) -> int:
    """Return the size limit of a request body in bytes, for files of at most `largest` bytes.

    Base64 makes a picture in a JSON body larger by a third. `route` is the path after the prefix of the API.
    """
    limit = upload_limit(largest)
    return (limit if route.rstrip("/") == "upload" else limit * 4 // 3) + OVERHEAD


#: Bytes of a body that are kept in memory until it is complete; the others are in a temporary file.
MEMORY_BYTES = 1_000_000

#: Bytes of a message of `LimitedBody` after `read`.
CHUNK_BYTES = 65_536

SLOW = "The request did not arrive in time. Check the connection and send it again."


class LimitedBody:
    """`receive` that disconnects if the body is too large or too slow, or once `ending` is set.

    Messages name `max_bytes`, the limit of a file; `limit` is that of the body in bytes.

    Attributes
    ----------
    completed : ExitStack
        Closed once the body is complete.
    """

    def __init__(
        self,
        receive: Receive,
        limit: int,
        max_bytes: int,
        headers: Headers,
        response: GuardedResponse,
        ending: asyncio.Event | None,
    ) -> None:
        self._receive, self._limit, self._max_bytes = receive, limit, max_bytes
        self._response, self._ending, self._read, self._waited = response, ending, 0, 0.0
        self._is_complete = False
        self._stored: tempfile.SpooledTemporaryFile[bytes] | None = None
        self.completed = contextlib.ExitStack()
        length = headers.get("content-length", "0")
        if not length.isdigit() or len(length) > 15 or int(length) > limit:
            raise Refused(413, self._too_large)

    @property
    def _too_large(self) -> str:
        limit = megabytes(self._max_bytes)
        return t("The upload is larger than the limit of {limit}. Send fewer or smaller photos.", limit=limit)

    async def read(self, stack: contextlib.ExitStack) -> None:
        """Wait for the whole body, which is then received again, from a file that `stack` closes.

        Raises
        ------
        Refused
            If the body is not complete; the response has been sent already if a limit was exceeded.
        """
        stored = stack.enter_context(tempfile.SpooledTemporaryFile(MEMORY_BYTES))  # noqa: SIM115
        while not self._is_complete:
            message = await self()
            if message["type"] != "http.request":
                raise Refused(400, "The request ended before its body was complete.")
            stored.write(message.get("body", b""))
        stored.seek(0)
        self._stored = stored

    async def __call__(self) -> Any:
        if self._stored is not None:
            body = self._stored.read(CHUNK_BYTES)
            more = self._stored.tell() < self._read
            if not more:
                self._stored = None
            return {"type": "http.request", "body": body, "more_body": more}
        if self._is_complete:
            return await (self._receive() if self._ending is None else self._receive_until(self._ending))
        started = time.monotonic()
        with anyio.move_on_after(GRACE_SECONDS + self._read / MINIMUM_RATE - self._waited) as deadline:
            message = await self._receive()
        self._waited += time.monotonic() - started
        if deadline.cancelled_caught:
            await self._response.refuse(408, SLOW)
            return {"type": "http.disconnect"}
        self._read += len(message.get("body", b""))
        if self._read > self._limit:
            await self._response.refuse(413, self._too_large, self._receive)
            return {"type": "http.disconnect"}
        if not message.get("more_body", False):
            self._is_complete = True
            self.completed.close()
        return message

    async def _receive_until(self, ending: asyncio.Event) -> Any:
        tasks = [asyncio.ensure_future(self._receive()), asyncio.ensure_future(ending.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return tasks[0].result() if tasks[0].done() else {"type": "http.disconnect"}
        finally:
            for task in tasks:
                task.cancel()
