"""A picture box that hands over the file as it was uploaded, untouched, with its own name.

Gradio's own box opens every upload itself: it drops alpha, leaves EXIF rotations to chance and answers a broken file with a
message of its own. Here the door (rmbg.photo) is the only one that looks into files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio import processing_utils, utils
from gradio.data_classes import ImageData

from rmbg.errors import PhotoError
from rmbg.photo import Photo, open_photo

#: What browsers show by themselves.
SHOWN_BY_BROWSERS = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")

@dataclass(frozen=True)
class Upload:
    """A file on the server and the name that it had on the visitor's machine."""

    path: str
    name: str

    def open(self) -> Photo:
        """The photo; PhotoError if it is none."""
        return open_photo(self.path, name=self.name)

from gradio.events import Dependency

class PhotoInput(gr.Image):
    """``gr.Image`` whose functions get an `Upload`."""

    is_template = True  # the browser's half is that of gr.Image

    def preprocess(self, payload: ImageData | None) -> Any:
        if payload is None:
            return None
        if payload.url and payload.url.startswith("data:"):
            path = processing_utils.save_base64_to_cache(payload.url, cache_dir=self.GRADIO_CACHE)
            return Upload(path, payload.orig_name or Path(path).name)
        if not payload.path:
            raise PhotoError("The upload did not arrive; try it again.")
        return Upload(payload.path, payload.orig_name or Path(payload.path).name)
    from typing import Callable, Literal, Sequence, Any, TYPE_CHECKING
    from gradio.blocks import Block

    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component

def cached(data: bytes, name: str) -> str:
    """The path of a file with these bytes in Gradio's cache, where the page may read it and where it is removed in time."""
    return processing_utils.save_bytes_to_cache(data, name, cache_dir=utils.get_upload_folder())
