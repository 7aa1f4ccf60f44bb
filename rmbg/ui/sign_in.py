"""Sign-in of visitors with Hugging Face on a Space whose metadata has ``hf_oauth``.

The token of a visitor serves the calls of that visitor only: as the key for Hugging Face's inference, and for the download of
weights whose license the visitor has accepted. It is in a signed cookie, not on the server.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import gradio as gr
from gradio.utils import get_space

from rmbg.errors import NotReadyError
from rmbg.message import Message
from rmbg.providers.base import ProviderInfo
from rmbg.settings import Settings

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


def of_request(request: gr.Request) -> SignIn | None:
    """Return the sign-in of the visitor who has sent a request, None without one.

    It is read from the session that Gradio has verified. The type ``gr.OAuthToken`` does not tell an expired sign-in from none.
    """
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
