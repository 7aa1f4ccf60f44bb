"""Messages for visitors: in their language, and without the advice that only the owner of the server can follow."""

from __future__ import annotations

import logging
import re

import gradio as gr

from rmbg.errors import RmbgError
from rmbg.message import Message
from rmbg.providers.base import Status
from rmbg.ui.languages import t

log = logging.getLogger(__name__)

#: Environment variables, commands and options of the command line in messages. Names of photos such as IMG_2041.HEIC are none.
OWNERS = re.compile(
    r"\b(?:RMBG_[A-Z_]{3,}|HF_(?:TOKEN|HOME|ENDPOINT|HUB_OFFLINE)|[A-Z]+_API_KEY|FAL_KEY|TMPDIR)\b|\bpip install\b"
    r"|(?<!\S)--(?:retry|max-cost)\b"
)

#: Advice in the place of that which was removed, and the message in the place of one about the configuration.
ANOTHER = "Choose another provider."
NOT_SET_UP = "This provider is not set up here. Choose another one. The log of the server has the details for its owner."


def for_visitor(text: str) -> str:
    """Return a message without the part for the owner of the server.

    Of a text that does not mark this part, the sentences about environment variables and packages are left out. One about the
    configuration of the server, which the first sentence names, is logged for its owner and replaced.
    """
    if isinstance(text, Message):
        return text.public
    if not OWNERS.search(text):
        return text
    cause, *advice = re.split(r"(?<=[.!?]) (?=[A-Z])", text)
    if OWNERS.search(cause):
        log.warning("%s", text)
        return NOT_SET_UP
    return " ".join([cause, *([sentence for sentence in advice if not OWNERS.search(sentence)] or [ANOTHER])])


def visitor_text(message: str | RmbgError) -> str:
    """Return a message or an error for a visitor, in the language of the request."""
    return t(for_visitor(str(message)))


def status_text(status: Status) -> str:
    """Return the status of a provider in the language of the request, without the clauses about environment variables."""
    if isinstance(status.text, Message):
        return visitor_text(status.text)
    if status.state == "unavailable" and OWNERS.search(status.text.partition("; ")[0]):
        return t("not set up here")
    return t("; ".join(part for part in status.text.split("; ") if not OWNERS.search(part)))


def page_error(message: str | RmbgError) -> gr.Error:
    """Return the exception that shows a message or an error to a visitor of the page or of the API."""
    return gr.Error(visitor_text(message), title=t("Error"), print_exception=False)
