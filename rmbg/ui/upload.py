"""A picture box that hands over the file as it was uploaded, untouched, with its own name.

Gradio's own box opens every upload itself: it drops alpha, leaves EXIF rotations to chance and answers a broken file with a
message of its own. Here the door (rmbg.photo) is the only one that looks into files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import gradio as gr
from gradio import component_meta, processing_utils, utils
from gradio.context import LocalContext
from gradio.data_classes import ImageData

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


# Defining a component makes gradio write a type stub beside the file that defines it; ours is no library of components, and
# its folder may be read-only.
with patch.object(component_meta, "create_or_modify_pyi", create=True):

    class PhotoInput(gr.Image):
        """``gr.Image`` whose functions get an `Upload`. Give it ``type="filepath", image_mode=None``."""

        is_template = True  # the browser's half is that of gr.Image

        def preprocess(self, payload: ImageData | None) -> Any:
            if payload is None:
                return None
            if payload.url and payload.url.startswith("data:"):  # a webcam's picture comes inline
                path = _in_time(processing_utils.save_base64_to_cache(payload.url, cache_dir=self.GRADIO_CACHE))
            elif payload.path:
                path = payload.path
            else:
                raise gr.Error("The upload did not arrive; try it again.", print_exception=False)
            return Upload(path, payload.orig_name or Path(path).name)


def photo_input(**kwargs: Any) -> PhotoInput:
    """A `PhotoInput` that leaves files as they are."""
    return PhotoInput(type="filepath", image_mode=None, **kwargs)


def cached(data: bytes, name: str) -> str:
    """The path of a file with these bytes in Gradio's cache, where the page may read it and where it is removed in time."""
    return _in_time(processing_utils.save_bytes_to_cache(data, name, cache_dir=utils.get_upload_folder()))


def _in_time(path: str) -> str:
    """Have `path` removed with the uploads: of a file that a function has made Gradio does not always know."""
    blocks = LocalContext.blocks.get(None)
    if blocks is not None:
        blocks.upload_file_set.add(path)
    return path
