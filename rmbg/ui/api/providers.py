"""API endpoint and MCP tool ``list_providers``; its name is stable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from rmbg.providers import PROVIDERS
from rmbg.providers.describe import describe
from rmbg.settings import Settings
from rmbg.ui.api.endpoint import Caller, add, key_header
from rmbg.ui.messages import status_text
from rmbg.ui.payload import CheckedBlocks


def build(app: CheckedBlocks) -> None:
    """Add the endpoint."""
    add(app, providers, (), [lambda: gr.JSON(label="providers")], name="list_providers", tool="list_providers")


async def providers(values: Mapping[str, Any], caller: Caller) -> list[dict[str, Any]]:
    """List the providers with status, price, model, license and options.

    Returns
    -------
    An object for each provider; key_header is the header that a call may have with the caller's own API key.
    """
    settings = Settings.from_environ()
    rows = []
    for provider in PROVIDERS.values():
        info, status = provider.info, provider.status(settings)
        row = describe(info, status, settings)
        row["status"]["text"] = status_text(status)
        rows.append(row | {"key_header": key_header(info) if info.key_name else None})
    return rows
