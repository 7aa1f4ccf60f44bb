"""File component for several uploads, which passes their paths and original names to event handlers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import ImageData, ListFiles

from rmbg.ui.components.metaclass import AppComponentMeta
from rmbg.ui.components.photo_input import Upload, uploaded_path
from rmbg.ui.storage import storage, visitor


class FilesInput(gr.File, metaclass=AppComponentMeta):
    """``gr.File`` that passes a list of `Upload` to event handlers; requires ``file_count="multiple"``."""

    is_template = True  # uses the frontend of gr.File

    def preprocess(self, payload: ListFiles | None) -> Any:  # type: ignore[override]
        uploads = []
        for file in [] if payload is None else payload.root:
            path = uploaded_path(file.path)
            storage().keep(visitor(), Path(path))  # does not expire while the page is open
            uploads.append(Upload(path, file.orig_name or Path(path).name))
        return uploads

    def api_info(self) -> dict[str, Any]:
        """Return the schema of the list without references, which Gradio's MCP server places where they do not resolve."""
        return {"type": "array", "title": "ListFiles", "items": ImageData.model_json_schema()}


def files_input(**kwargs: Any) -> FilesInput:
    """Return a `FilesInput` for pictures and zip archives; their content is checked when it is read."""
    return FilesInput(file_count="multiple", **kwargs)
