"""Sign-in of visitors with Hugging Face on a Space whose metadata has ``hf_oauth``.

The token of a visitor serves the calls of that visitor only: as the key for Hugging Face's inference, and for the download of
weights whose license the visitor has accepted. It is in a signed cookie, not on the server.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace

import gradio as gr
from gradio.utils import get_space

from rmbg.providers.base import ProviderInfo
from rmbg.settings import Settings

#: Variables that a Space sets if its metadata has ``hf_oauth``.
VARIABLES = ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL")

#: Packages of the extra ``gradio[oauth]``, which a Space installs.
PACKAGES = ("authlib", "itsdangerous")

#: Variable of the tokens of Hugging Face.
HF_TOKEN = "HF_TOKEN"


def available(environ: Mapping[str, str]) -> bool:
    """True on a Space with sign-in."""
    if get_space() is None:  # Gradio would take the token of the owner for that of every visitor
        return False
    return all(environ.get(name) for name in VARIABLES) and all(importlib.util.find_spec(name) for name in PACKAGES)


def button() -> gr.LoginButton:
    """Create the button, which also signs out."""
    return gr.LoginButton(size="sm", elem_id="sign-in", variant="secondary")


def key_of(info: ProviderInfo, key: str, token: gr.OAuthToken | None) -> str:
    """Return the key for a call: the one on the page, or the visitor's token for Hugging Face's inference."""
    return token.token if token is not None and not key.strip() and info.key_name == HF_TOKEN else key


def settings_of(info: ProviderInfo, settings: Settings, token: gr.OAuthToken | None) -> Settings:
    """Return the settings for a call: with the visitor's token for downloads of a local provider, if there is no other."""
    if token is None or info.kind != "local" or settings.environ.get(HF_TOKEN):
        return settings
    return replace(settings, environ={**settings.environ, HF_TOKEN: token.token})
