"""Sign-in of visitors with Hugging Face on a Space whose metadata has ``hf_oauth``, and pages for a sign-in that fails."""

from __future__ import annotations

import importlib.util
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import gradio as gr
from gradio.utils import get_space
from starlette.datastructures import Headers
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as ASGIMessage

from rmbg.errors import NotReadyError, reason
from rmbg.providers.base import ProviderInfo
from rmbg.runtime.messages import Message
from rmbg.settings import Settings
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

    async def __call__(self, message: ASGIMessage) -> None:
        if self._replaced:
            return
        if message["type"] == "http.response.start":
            if message["status"] >= 500:
                await self.fail()
                return
            if self._final and urlsplit(Headers(scope=message).get("location", "")).path == LOGIN:
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


async def _page(send: Send, status: int, text: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
    body = render("sign_in.html", message=text, language=LANGUAGE.get())
    response = HTMLResponse(body, status, {"cache-control": "no-store"})
    response.raw_headers.extend(headers)
    await send({"type": "http.response.start", "status": status, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body})


#: Variables that a Space sets if its metadata has ``hf_oauth``.
VARIABLES = ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL")

#: Packages of the extra ``gradio[oauth]``, which a Space installs.
PACKAGES = ("authlib", "itsdangerous")

#: Variable of the tokens of Hugging Face.
HF_TOKEN = "HF_TOKEN"


@dataclass(frozen=True)
class SignIn:
    """Sign-in of a visitor.

    Attributes
    ----------
    token : str
    expires : float
        Seconds since the epoch.
    """

    token: str = field(repr=False)
    expires: float

    def valid_token(self) -> str:
        """Return the token; raises NotReadyError if it has expired."""
        if self.expires <= time.time():
            raise NotReadyError(Message("Your sign-in with Hugging Face has expired. Reload the page and sign in again."))
        return self.token


def available(environ: Mapping[str, str]) -> bool:
    """True on a Space with sign-in."""
    if get_space() is None:  # Gradio would take the token of the owner for that of every visitor
        return False
    return all(environ.get(name) for name in VARIABLES) and all(importlib.util.find_spec(name) for name in PACKAGES)


def button(app: gr.Blocks) -> None:
    """Create the button, which also signs out, and the event that sets its label when the page is opened.

    Gradio would make the event an endpoint of the API and a tool of MCP.
    """
    created = gr.LoginButton(size="sm", elem_id="sign-in", variant="secondary")
    event: Any = created.load_event_to_attach
    created.load_event_to_attach = None
    app.load(event[0], None, created, queue=False, show_progress="hidden", api_visibility="private")


def of_request(request: gr.Request | None) -> SignIn | None:
    """Return the sign-in of the visitor who has sent a request; None without one, and on a server without sign-in.

    It is read from the session that Gradio has verified. The type ``gr.OAuthToken`` does not tell an expired sign-in from none.
    """
    if not available(os.environ):
        return None
    session: Mapping[str, Any] = getattr(request, "session", None) or {}
    info = session.get("oauth_info") or {}
    token = info.get("access_token")
    return SignIn(str(token), float(info.get("expires_at") or 0)) if token else None


def key_of(info: ProviderInfo, key: str, visitor: SignIn | None) -> str:
    """Return the key for a call: the one on the page, or the visitor's token for Hugging Face's inference.

    Raises
    ------
    NotReadyError
        If the sign-in has expired.
    """
    return visitor.valid_token() if visitor is not None and not key.strip() and info.key_name == HF_TOKEN else key


def settings_of(info: ProviderInfo, settings: Settings, visitor: SignIn | None) -> Settings:
    """Return the settings for a call: with the visitor's token for downloads of a local provider, if there is no other.

    An expired sign-in is ignored, as most weights are available without a token.
    """
    if visitor is None or info.kind != "local" or settings.environ.get(HF_TOKEN) or visitor.expires <= time.time():
        return settings
    return replace(settings, environ={**settings.environ, HF_TOKEN: visitor.token})
