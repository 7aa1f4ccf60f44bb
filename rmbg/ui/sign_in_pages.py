"""Pages for a sign-in that fails: declined, not matched with the browser, or not completed by Hugging Face."""

from __future__ import annotations

import logging
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rmbg.errors import reason
from rmbg.ui.languages import LANGUAGE
from rmbg.ui.templates import render

log = logging.getLogger(__name__)

LOGIN, CALLBACK = "/login/huggingface", "/login/callback"

#: Query parameter of Gradio that counts how often a sign-in whose state does not match has been started again.
RESTARTS = "_nb_redirects"

#: Restarts before the page that reports it. Without a limit, a browser that stores no cookies would be redirected forever.
MAX_RESTARTS = 1

DECLINED = "The sign-in was declined at Hugging Face. Try again, or use the app without it."
NOT_MATCHED = "The sign-in could not be matched with this browser. Allow cookies for this site, and try again."
NOT_COMPLETED = "Hugging Face did not complete the sign-in. Try again in a minute."


class SignInPages:
    """ASGI middleware around Gradio's routes of the sign-in; Gradio responds to their errors with an empty status 500.

    The parameters of these routes contain codes, which are not logged.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"] if scope["type"] == "http" else ""
        if path not in (LOGIN, CALLBACK):
            await self._app(scope, receive, send)
            return
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        if path == CALLBACK and "error" in query:
            declined = query["error"][0] == "access_denied"
            await _page(send, *((403, DECLINED) if declined else (502, NOT_COMPLETED)))
            return
        restarts = query.get(RESTARTS, ["0"])[0]
        response = _Response(send, final=path == CALLBACK and (not restarts.isdecimal() or int(restarts) >= MAX_RESTARTS))
        try:
            await self._app(scope, receive, response)
        except Exception as error:  # of the client of OpenID, or of the hub's response
            log.warning("A sign-in failed: %s", reason(error))
            await response.fail()


class _Response:
    """`send` that replaces errors of the app, and if `final` the redirect that starts the sign-in again."""

    def __init__(self, send: Send, final: bool) -> None:
        self._send, self._final = send, final
        self._started = self._replaced = False

    async def __call__(self, message: Message) -> None:
        if self._replaced:
            return
        if message["type"] == "http.response.start":
            target = urlsplit(Headers(scope=message).get("location", "")).path
            if message["status"] >= 500:
                await self.fail()
                return
            if self._final and target == LOGIN:
                self._replaced = True
                cookies = [header for header in message["headers"] if header[0].lower() == b"set-cookie"]
                await _page(self._send, 400, NOT_MATCHED, cookies)
                return
            self._started = True
        await self._send(message)

    async def fail(self) -> None:
        """Report that the sign-in was not completed, unless a response has been sent."""
        if not self._started and not self._replaced:
            self._replaced = True
            await _page(self._send, 502, NOT_COMPLETED)


async def _page(send: Send, status: int, text: str, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    body = render("sign_in.html", message=text, language=LANGUAGE.get()).encode()
    kind = [(b"content-type", b"text/html; charset=utf-8"), (b"cache-control", b"no-store")]
    length = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*kind, *length, *(headers or [])]})
    await send({"type": "http.response.body", "body": body})
