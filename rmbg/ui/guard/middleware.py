"""ASGI middleware around the whole app: rejects invalid requests and sets the security headers of every response.

It is the outermost layer and therefore precedes Gradio's own cross-origin middleware, which accepts any origin if the Host
is not a name that it recognizes as local.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from rmbg.ui.guard.body import GuardedResponse, LimitedBody, body_limits
from rmbg.ui.guard.checks import DRAFT, FORWARDED, Origins, Proxies, Refused, check_content_type, check_origin, check_route
from rmbg.ui.guard.limits import Limits, address_of
from rmbg.ui.languages import LANGUAGE, preferred

DIRECT = re.compile(f"(run|api)/.*|{DRAFT}")
QUEUED = re.compile("queue/join/?|call/.*")

#: The address of the client whose request is being handled.
CLIENT: ContextVar[str] = ContextVar("client", default="")

#: Caching of files, whose URLs are random: a file never changes, and only the browser of its visitor stores it.
FILE_CACHE = "private, max-age=3600, immutable"

#: Gradio's scripts and style sheets, whose names contain a hash of the content, and their caching.
ASSET = re.compile(r"/assets/[^/]+-[\w-]{8,9}\.(?:js|css)$")
ASSET_CACHE = "public, max-age=31536000, immutable"


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
    embeddable : bool
        True if pages of the Hugging Face hub may show the app in a frame.
    sign_in : bool
        True if visitors may sign in.
    proxied : callable () -> None
        Called for each request that was forwarded by a reverse proxy.
    """

    origins: Origins
    proxies: Proxies
    max_bytes: int
    max_upload: int
    embeddable: bool
    sign_in: bool
    proxied: Callable[[], None]


class Guard:
    """ASGI middleware that applies `Rules` to every request, and `Limits` to those of a shared server.

    Attributes
    ----------
    ending : asyncio.Event
        Set before the server stops; ends the event streams, which otherwise last until the client disconnects.
    """

    def __init__(
        self, app: ASGIApp, rules: Rules, limits: Limits, open_page: Callable[[str], contextlib.AbstractContextManager[None]]
    ) -> None:
        self.app, self.rules, self.limits, self._open_page = app, rules, limits, open_page
        self.ending = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # Gradio uses none
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        rules = self.rules
        forwarded = any(name in Headers(scope=scope) for name in FORWARDED)
        scope = rules.proxies.received(scope)
        headers = Headers(scope=scope)
        response = GuardedResponse(send, rules.embeddable)
        LANGUAGE.set(preferred(headers.get("accept-language", "")))
        try:
            check_origin(rules.origins, scope, headers, embeddable=rules.embeddable)
            route = check_route(scope, sign_in=rules.sign_in)
            if route.startswith("file="):
                response.cache = FILE_CACHE
            elif ASSET.search(scope["path"]):
                response.cache = ASSET_CACHE
            check_content_type(scope, headers, route)
            if forwarded:
                rules.proxied()
            CLIENT.set(address_of(scope))
            with self.limits.request(address_of(scope)):
                ending = self.ending if scope["method"] == "GET" else None
                limits = body_limits(route, rules.max_bytes, rules.max_upload)
                body = LimitedBody(receive, *limits, headers, response, ending)
                await self._dispatch(scope, body, response, route, headers)
                if self.ending.is_set():
                    await response.finish()
        except Refused as refused:
            await response.refuse(refused.status, str(refused), receive if refused.status == 413 else None)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send, route: str, headers: Headers) -> None:
        address = address_of(scope)
        async with contextlib.AsyncExitStack() as stack:
            if scope["method"] == "GET" and route.startswith("heartbeat/"):
                stack.enter_context(self._open_page(route.partition("/")[2]))
            if scope["method"] == "POST" and route.rstrip("/") == "upload":
                self.limits.count_upload(address, int(headers.get("content-length", self.rules.max_upload)))
            if scope["method"] == "POST" and QUEUED.fullmatch(route):
                self.limits.check_queue(address)
            if DIRECT.fullmatch(route):
                await stack.enter_async_context(self.limits.direct_call(address))
            await self.app(scope, receive, send)
