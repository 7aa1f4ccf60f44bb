"""ASGI middleware around the whole app: rejects invalid requests and sets the security headers of every response.

It is the outermost layer and therefore precedes Gradio's own cross-origin middleware, which accepts any origin if the Host
is not a name that it recognizes as local.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from rmbg.rest.app import route_of
from rmbg.ui.guard.body import GuardedResponse, LimitedBody, body_limit
from rmbg.ui.guard.checks import DRAFT, FORWARDED, Origins, Proxies, Refused, check_content_type, check_origin, check_route
from rmbg.ui.guard.connections import CLIENT, address_of
from rmbg.ui.guard.limits import Limits
from rmbg.ui.languages import LANGUAGE, preferred

DIRECT = re.compile(f"(run|api)/.*|{DRAFT}")
QUEUED = re.compile("queue/join/?|call/.*")
MCP = re.compile("mcp(/.*)?")

#: Paths of the page and of what else is computed from the whole app.
COMPUTED = re.compile(r"/|.*/(config|gradio_api/(info|openapi\.json))/?")

#: Header with the address of an MCP client: Gradio calls the tools through a connection from this process.
SENDER = b"x-rmbg-client"

#: Caching of files, whose URLs are random: a file never changes, and only the browser of its visitor stores it.
FILE_CACHE = "private, max-age=3600, immutable"

#: Gradio's scripts and style sheets, whose names contain a hash of the content, and their caching.
ASSET = re.compile(r"/assets/[^/]+-[\w-]{8,9}\.(?:js|css)$")
ASSET_CACHE = "public, max-age=31536000, immutable"


@dataclass
class Guard:
    """ASGI middleware that checks every request, and applies `Limits` to those of a shared server.

    Attributes
    ----------
    app : ASGIApp
    origins : Origins
    proxies : Proxies
        The reverse proxies that are trusted.
    limits : Limits
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
    open_page : callable (session hash) -> context manager
        Counts a page as open for as long as its heartbeat lasts.
    ending : asyncio.Event
        Set before the server stops; ends the event streams, which otherwise last until the client disconnects.
    secret : str
        Precedes the address of the MCP client in the header `SENDER`, which Gradio copies to the call of a tool.
    """

    app: ASGIApp
    origins: Origins
    proxies: Proxies
    limits: Limits
    max_bytes: int
    max_upload: int
    embeddable: bool
    sign_in: bool
    proxied: Callable[[], None]
    open_page: Callable[[str], contextlib.AbstractContextManager[None]]
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    secret: str = field(default_factory=secrets.token_hex, repr=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # Gradio uses none
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        forwarded = any(name in Headers(scope=scope) for name in FORWARDED)
        scope = self._from_tool(self.proxies.received(scope))
        headers = Headers(scope=scope)
        response = GuardedResponse(send, self.embeddable)
        LANGUAGE.set(preferred(headers.get("accept-language", "")))
        try:
            check_origin(self.origins, scope, headers, embeddable=self.embeddable)
            route = check_route(scope, sign_in=self.sign_in)
            if route.startswith("file="):
                response.cache = FILE_CACHE
            elif ASSET.search(scope["path"]):
                response.cache = ASSET_CACHE
            check_content_type(scope, headers, route)
            if forwarded:
                self.proxied()
            CLIENT.set(address_of(scope))
            with contextlib.ExitStack() as stack:
                stack.enter_context(self.limits.request(address_of(scope)))
                is_upload = scope["method"] == "POST" and route.rstrip("/") == "upload"
                is_rest = route != "" and route == route_of(scope["path"])
                largest = self.max_upload if is_upload else self.max_bytes
                ending = self.ending if scope["method"] == "GET" else None
                body = LimitedBody(receive, body_limit(route, largest), largest, headers, response, ending)
                if scope["method"] == "POST":
                    body.completed = stack.enter_context(contextlib.ExitStack())
                    body.completed.enter_context(self.limits.unfinished(address_of(scope)))
                if is_upload:  # Gradio writes it to files while it arrives
                    self.limits.count_upload(address_of(scope), int(headers.get("content-length", self.max_upload)))
                    await self.app(scope, body, response)
                elif is_rest:  # read after the check of the client's key
                    self.limits.count_call(address_of(scope))
                    await self.app(scope, body, response)
                else:
                    if MCP.fullmatch(route):
                        sender = f"{self.secret} {address_of(scope)}".encode()
                        scope = {**scope, "headers": [*scope["headers"], (SENDER, sender)]}
                    await body.read(stack)
                    await self._enter(stack, scope, route, response)
                    await self.app(scope, body, response)
                if self.ending.is_set():
                    await response.finish()
        except ClientDisconnect:  # during an upload
            pass
        except Refused as refused:
            await response.refuse(refused.status, str(refused), receive if refused.status == 413 else None)

    def _from_tool(self, scope: Scope) -> Scope:
        """Return the scope of a call of a tool, which comes from this process, with the address of the MCP client."""
        values = [value.decode("latin-1") for name, value in scope["headers"] if name == SENDER]
        if not values:
            return scope
        scope = {**scope, "headers": [(name, value) for name, value in scope["headers"] if name != SENDER]}
        secret, _, address = values[0].partition(" ")
        return {**scope, "client": (address, 0)} if secrets.compare_digest(secret.encode(), self.secret.encode()) else scope

    async def _enter(self, stack: contextlib.ExitStack, scope: Scope, route: str, response: GuardedResponse) -> None:
        """Count a request by its route, or wait for a slot, which is released when the response starts."""
        address, method = address_of(scope), scope["method"]
        if method == "GET" and route.startswith("heartbeat/"):
            self.limits.count_call(address)
            stack.enter_context(self.open_page(route.partition("/")[2]))
        if method == "POST" and QUEUED.fullmatch(route):
            self.limits.count_call(address)
            self.limits.check_queue(address)
        if method == "POST" and DIRECT.fullmatch(route):
            self.limits.count_call(address)
            response.slot = stack.enter_context(await self.limits.direct_call(address))
        if method in ("GET", "HEAD") and COMPUTED.fullmatch(scope["path"]):
            response.slot = stack.enter_context(await self.limits.page())
