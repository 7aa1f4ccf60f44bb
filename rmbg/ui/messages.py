"""Messages for visitors: in their language, and without the advice that only the owner of the server can follow."""

from __future__ import annotations

import logging

import gradio as gr

from rmbg.errors import RmbgError
from rmbg.message import Message, OwnerMessage
from rmbg.providers.base import Status
from rmbg.ui.languages import t

log = logging.getLogger(__name__)


def for_visitor(text: str) -> str:
    """Return a message without the part for the owner of the server.

    A message about the configuration of the server is logged for its owner and replaced.
    """
    if not isinstance(text, Message):
        return text
    if any(isinstance(part, OwnerMessage) for part in (text, *text.values.values())):
        log.warning("%s", text)
    return text.public


def visitor_text(message: str | RmbgError) -> str:
    """Return a message or an error for a visitor, in the language of the request."""
    return t(for_visitor(str(message)))


def status_text(status: Status) -> str:
    """Return the status of a provider in the language of the request, without the advice for the owner of the server."""
    return t(status.text.public if isinstance(status.text, Message) else status.text)


def page_error(message: str | RmbgError) -> gr.Error:
    """Return the exception that shows a message or an error to a visitor of the page or of the API."""
    return gr.Error(visitor_text(message), title=t("Error"), print_exception=False)
