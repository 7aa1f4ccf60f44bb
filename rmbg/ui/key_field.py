"""A box for a key: what is typed into it reaches the function that is called, and nothing else on the server."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import gradio as gr
from gradio import component_meta
from gradio.data_classes import GradioRootModel


class Typed(GradioRootModel):
    """A key on its way to a function. Gradio keeps the last value of every box for as long as it remembers the session, and
    writes it to disk for a link to the page; that value is the dump of this model."""

    root: str

    def model_dump(self, **kwargs: Any) -> Any:
        return ""


# Without a type stub beside this file, as for the picture box of upload.py.
with patch.object(component_meta, "create_or_modify_pyi", create=True):

    class KeyField(gr.Textbox):
        """``gr.Textbox`` whose value Gradio does not keep."""

        is_template = True  # the browser's half is that of gr.Textbox
        data_model = Typed

        def preprocess(self, payload: Typed | None) -> str:  # type: ignore[override]
            return "" if payload is None else payload.root


def key_field(elem_id: str = "key", label: str = "Key", **more: Any) -> KeyField:
    """A box for a key. Its value is sent with a request and kept nowhere: not in a State, not by the browser."""
    return KeyField(
        label=label,
        type="password",
        max_lines=1,
        elem_id=elem_id,
        html_attributes=gr.InputHTMLAttributes(autocomplete="off", spellcheck=False),
        **more,
    )
