"""Messages for visitors: without the advice that only the owner of the server can follow."""

from __future__ import annotations

import logging
import re

import gradio as gr

from rmbg.errors import RmbgError
from rmbg.providers.base import Status

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
    """Return a message without the sentences about environment variables and the installation of packages.

    A message about the configuration of the server, which the first sentence names, is logged for its owner and replaced.
    """
    if not OWNERS.search(text):
        return text
    cause, *advice = re.split(r"(?<=[.!?]) (?=[A-Z])", text)
    if OWNERS.search(cause):
        log.warning("%s", text)
        return NOT_SET_UP
    return " ".join([cause, *([sentence for sentence in advice if not OWNERS.search(sentence)] or [ANOTHER])])


def status_text(status: Status) -> str:
    """Return the status of a provider without the clauses about environment variables."""
    if status.state == "unavailable" and OWNERS.search(status.text.partition("; ")[0]):
        return "not set up here"
    return "; ".join(part for part in status.text.split("; ") if not OWNERS.search(part))


def page_error(error: RmbgError) -> gr.Error:
    """Return the exception that shows an error of the package to a visitor of the page or of the API."""
    return gr.Error(for_visitor(str(error)), print_exception=False)
