"""API key field whose value is passed to the event handler and not stored on the server."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.data_classes import GradioRootModel

from rmbg.ui.components.metaclass import AppComponentMeta


class UnstoredText(GradioRootModel):
    """Text that is serialized as an empty string.

    Gradio keeps the serialized last value of every component for the lifetime of a session, and writes it to disk for deep
    links.
    """

    root: str

    def model_dump(self, **kwargs: Any) -> Any:
        return ""


class KeyField(gr.Textbox, metaclass=AppComponentMeta):
    """``gr.Textbox`` whose value Gradio does not store."""

    is_template = True  # uses the frontend of gr.Textbox
    data_model = UnstoredText

    def preprocess(self, payload: UnstoredText | None) -> str:  # type: ignore[override]
        return "" if payload is None else payload.root


def key_field(elem_id: str = "key", label: str = "Key", **more: Any) -> KeyField:
    """Return a password field whose value is sent with each request, and stored neither in a State nor by the browser."""
    return KeyField(
        label=label,
        type="password",
        max_lines=1,
        elem_id=elem_id,
        html_attributes=gr.InputHTMLAttributes(autocomplete="off", spellcheck=False),
        **more,
    )
