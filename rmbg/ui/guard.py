"""ASGI middleware around the whole app: rejects invalid requests and sets the security headers of every response.

It is the outermost layer and therefore precedes Gradio's own cross-origin middleware, which accepts any origin if the Host
is not a name that it recognizes as local.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rmbg.ui.languages import LANGUAGE, preferred, t
from rmbg.ui.origins import FORWARDED, Origins, Proxies
from rmbg.ui.request_checks import DRAFT, Refused, check_content_type, check_origin, check_route
from rmbg.units import megabytes

DIRECT = re.compile(f"(run|api)/.*|{DRAFT}")
QUEUED = re.compile("queue/join/?|call/.*")

#: Concurrent direct calls; they bypass Gradio's queue and its concurrency limits.
DIRECT_AT_ONCE = 8

#: Limits for one client address of a shared server: open requests, at least one for each open page; direct calls that run
#: or wait; calls in the queue.
REQUESTS_PER_ADDRESS, DIRECT_PER_ADDRESS, QUEUED_PER_ADDRESS = 150, 24, 16

#: Direct calls that run or wait on the whole server.
DIRECT_WAITING = 40

#: Seconds of the sliding window in which the uploads of one address are added up.
UPLOAD_WINDOW = 600

#: Bytes around a file in a multipart body, and around a picture in a JSON body.
OVERHEAD = 1_000_000

#: Seconds for which the rest of a body is read that is refused as too large.
DISCARD_SECONDS = 10

#: The address of the client whose request is being handled.
CLIENT: ContextVar[str] = ContextVar("client", default="")

#: Caching of files, whose URLs are random: a file never changes, and only the browser of its visitor stores it.
FILE_CACHE = "private, max-age=3600, immutable"

#: Gradio's scripts and style sheets, whose names contain a hash of the content, and their caching.
ASSET = re.compile(r"/assets/[^/]+-[\w-]{8,9}\.(?:js|css)$")
ASSET_CACHE = "public, max-age=31536000, immutable"

#: Origins of the pages that embed a Space in a frame.
HUB = "https://huggingface.co https://*.hf.space"


@dataclass(frozen=True)
class Rules:
    """Configuration of the guard.

    Attributes
    ----------
    origins : Origins
    proxies : Proxies
        The reverse proxies that are trusted.
    max_bytes : int
        Size limit of a photo in a JSON body.
    max_upload : int
        Size limit of an upload: a photo, or all photos of a batch.
    upload_bytes : int
        Bytes that one address may upload to a shared server within `UPLOAD_WINDOW` seconds.
    embeddable : bool
        True if pages of the Hugging Face hub may show the app in a frame.
    sign_in : bool
        True if visitors may sign in.
    shared : callable () -> bool
        Returns True if the server has users besides its owner; the limits for each address then apply.
    proxied : callable () -> None
        Called for each request that was forwarded by a reverse proxy.
    queued : callable () -> list of Scope
        Returns the scopes of the calls that wait in the queue or run.
    """

    origins: Origins
    proxies: Proxies
    max_bytes: int
    max_upload: int
    upload_bytes: int
    embeddable: bool
    sign_in: bool
    shared: Callable[[], bool]
    proxied: Callable[[], None]
    queued: Callable[[], list[Scope]]


def upload_limit(max_bytes: int) -> int:
    """Return the limit of Gradio for an upload whose decoded file may have `max_bytes`.

    Gradio reports limits in units of 1024 * 1024 bytes and calls them MB, as other messages call a million bytes.
    """
    return max_bytes * 1_048_576 // 1_000_000


class Guard:
    """ASGI middleware that applies `Rules` to every request.

    Attributes
    ----------
    ending : asyncio.Event
        Set before the server stops; ends the event streams, which otherwise last until the client disconnects.
    """

    def __init__(self, app: ASGIApp, rules: Rules, open_page: Callable[[str], contextlib.AbstractContextManager[None]]) -> None:
        self.app, self.rules, self._open_page = app, rules, open_page
        self.ending = asyncio.Event()
        self._direct = asyncio.Semaphore(DIRECT_AT_ONCE)
        self._open: Counter[str] = Counter()
        self._waiting: Counter[str] = Counter()
        self._uploaded: dict[str, deque[tuple[float, int]]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # Gradio uses none
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        forwarded = any(name in Headers(scope=scope) for name in FORWARDED)
        scope = self.rules.proxies.received(scope)
        headers = Headers(scope=scope)
        response = _Response(send, self.rules.embeddable)
        LANGUAGE.set(preferred(headers.get("accept-language", "")))
        try:
            check_origin(self.rules.origins, scope, headers, embeddable=self.rules.embeddable)
            route = check_route(scope, sign_in=self.rules.sign_in)
            if route.startswith("file="):
                response.cache = FILE_CACHE
            elif ASSET.search(scope["path"]):
                response.cache = ASSET_CACHE
            check_content_type(scope, headers, route)
            if forwarded:
                self.rules.proxied()
            address = _address(scope)
            CLIENT.set(address)
            with self._counted(self._open, address, REQUESTS_PER_ADDRESS):
                ending = self.ending if scope["method"] == "GET" else None
                body = _Body(receive, *self._max_body(route), headers, response, ending)
                await self._dispatch(scope, body, response, route, address, headers)
                if self.ending.is_set():
                    await response.finish()
        except Refused as refused:
            await response.refuse(refused.status, str(refused), receive if refused.status == 413 else None)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send, route: str, address: str, headers: Headers) -> None:
        shared = self.rules.shared()
        with contextlib.ExitStack() as stack:
            if scope["method"] == "GET" and route.startswith("heartbeat/"):
                stack.enter_context(self._open_page(route.partition("/")[2]))
            if scope["method"] == "POST" and route.rstrip("/") == "upload" and shared:
                self._count_upload(address, int(headers.get("content-length", self.rules.max_upload)))
            if scope["method"] == "POST" and QUEUED.fullmatch(route) and shared:
                queued = sum(_address(other) == address for other in self.rules.queued())
                if queued >= QUEUED_PER_ADDRESS:
                    raise Refused(
                        429,
                        t(
                            "{count} calls from your address are in the queue already. Wait until they end and try again.",
                            count=queued,
                        ),
                    )
            if DIRECT.fullmatch(route):
                stack.enter_context(self._counted(self._waiting, address, DIRECT_PER_ADDRESS))
                if self._waiting.total() > DIRECT_WAITING:
                    raise Refused(429, "The server is busy. Wait a moment and try again.")
                async with self._direct:
                    await self.app(scope, receive, send)
                return
            await self.app(scope, receive, send)

    @contextlib.contextmanager
    def _counted(self, counter: Counter[str], address: str, limit: int) -> Iterator[None]:
        """Count a request for as long as it lasts."""
        if counter[address] >= limit and self.rules.shared():
            raise Refused(429, "Too many requests from your address are open. Wait a moment and try again.")
        counter[address] += 1
        try:
            yield
        finally:
            counter[address] -= 1
            if not counter[address]:
                del counter[address]

    def _count_upload(self, address: str, size: int) -> None:
        now = time.monotonic()
        for expired in [name for name, uploads in self._uploaded.items() if uploads[-1][0] < now - UPLOAD_WINDOW]:
            del self._uploaded[expired]
        recent = self._uploaded.setdefault(address, deque())
        while recent and recent[0][0] < now - UPLOAD_WINDOW:
            recent.popleft()
        if recent and sum(upload for _, upload in recent) + size > self.rules.upload_bytes:
            raise Refused(429, "The upload limit of your address is reached. Wait ten minutes and try again.")
        recent.append((now, size))

    def _max_body(self, route: str) -> tuple[int, int]:
        """Size limits of a request body and of the files in it, in bytes; base64 makes a picture in JSON larger by a third."""
        if route.rstrip("/") == "upload":
            return upload_limit(self.rules.max_upload) + OVERHEAD, self.rules.max_upload
        return upload_limit(self.rules.max_bytes) * 4 // 3 + OVERHEAD, self.rules.max_bytes


def _address(scope: Scope) -> str:
    """Address of the client, for limits."""
    return (scope.get("client") or ("", 0))[0]


class _Response:
    """`send` that adds the security headers, and discards the app's own response after `refuse`."""

    def __init__(self, send: Send, embeddable: bool) -> None:
        self._send, self._embeddable = send, embeddable
        self._started = self._refused = self._finished = False
        self.cache = ""  # value of the Cache-Control header of a successful response

    async def __call__(self, message: Message) -> None:
        if self._refused:
            return
        if message["type"] == "http.response.start":
            self._started = True
            headers = MutableHeaders(scope=message)
            headers["X-Content-Type-Options"] = "nosniff"
            headers["Referrer-Policy"] = "same-origin"
            if headers.get("content-type", "").startswith("text/event-stream"):
                headers["X-Accel-Buffering"] = "no"  # nginx would hold the events back
            if self.cache and message["status"] in (200, 206):
                headers["Cache-Control"] = self.cache
            if headers.get("content-type", "").startswith("text/html"):
                headers.add_vary_header("Accept-Language")
            if self._embeddable:
                headers["Content-Security-Policy"] = f"frame-ancestors 'self' {HUB}"
            else:
                headers["Content-Security-Policy"] = "frame-ancestors 'none'"
                headers["X-Frame-Options"] = "DENY"
        self._finished = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)

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


class _Body:
    """`receive` that disconnects if the body is larger than `limit` bytes, or once `ending` is set.

    Messages name `max_bytes`, the limit of a file.
    """

    def __init__(
        self,
        receive: Receive,
        limit: int,
        max_bytes: int,
        headers: Headers,
        response: _Response,
        ending: asyncio.Event | None,
    ) -> None:
        self._receive, self._limit, self._max_bytes = receive, limit, max_bytes
        self._response, self._ending, self._read = response, ending, 0
        length = headers.get("content-length", "0")
        if not length.isdigit() or len(length) > 15 or int(length) > limit:
            raise Refused(413, self._too_large)

    @property
    def _too_large(self) -> str:
        limit = megabytes(self._max_bytes)
        return t("The upload is larger than the limit of {limit}. Send fewer or smaller photos.", limit=limit)

    async def __call__(self) -> Any:
        message = await (self._receive() if self._ending is None else self._receive_until(self._ending))
        self._read += len(message.get("body", b""))
        if self._read > self._limit:
            await self._response.refuse(413, self._too_large, self._receive)
            return {"type": "http.disconnect"}
        return message

    async def _receive_until(self, ending: asyncio.Event) -> Any:
        tasks = [asyncio.ensure_future(self._receive()), asyncio.ensure_future(ending.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return tasks[0].result() if tasks[0].done() else {"type": "http.disconnect"}
        finally:
            for task in tasks:
                task.cancel()
