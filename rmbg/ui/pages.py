"""Compressed responses of the page and its configuration, which are kept: building them takes 0.2 s."""

from __future__ import annotations

from collections import OrderedDict

from starlette.datastructures import Headers
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rmbg.ui.guard.checks import PREFIX
from rmbg.ui.languages import LANGUAGE

#: Responses that are kept, by address of the page and language.
MAX_KEPT = 32

#: Headers on which the page depends besides the language: the addresses that it contains, and its compression.
HEADERS = ("host", "x-forwarded-host", "x-forwarded-proto", "x-gradio-server", "accept-encoding")


class Pages:
    """ASGI middleware for the page. Gradio compresses its scripts, and other responses are small.

    Parameters
    ----------
    app : ASGIApp
    keep : bool
        Send the same response to all visitors. False on a server with sign-in, whose page has the name of the visitor.
    """

    def __init__(self, app: ASGIApp, *, keep: bool) -> None:
        self._app, self._keep = app, keep
        self._compressed = GZipMiddleware(app, compresslevel=6)
        self._kept: OrderedDict[tuple[str, ...], list[Message]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or PREFIX in scope["path"]:
            await self._app(scope, receive, send)
        elif self._keep and scope["method"] == "GET" and scope["path"] in ("/", "/config") and not scope["query_string"]:
            await self._send_kept(scope, receive, send)
        else:
            await self._compressed(scope, receive, send)

    async def _send_kept(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        key = (scope["path"], scope["scheme"], LANGUAGE.get(), *(headers.get(name, "") for name in HEADERS))
        if key in self._kept:
            self._kept.move_to_end(key)
            for message in self._kept[key]:
                await send(_copy(message))
            return
        messages: list[Message] = []

        async def record(message: Message) -> None:
            messages.append(_copy(message))
            await send(message)

        await self._compressed(scope, receive, record)
        if messages and messages[0].get("status") == 200 and not messages[-1].get("more_body", False):
            self._kept[key] = messages
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)


def _copy(message: Message) -> Message:
    """Return a copy whose headers the guard may change."""
    return {**message, "headers": list(message["headers"])} if "headers" in message else dict(message)
