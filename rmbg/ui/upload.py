"""A picture box that hands over the file as it was uploaded, untouched, with its own name.

Gradio's own box opens every upload itself: it drops alpha, leaves EXIF rotations to chance and answers a broken file with a
message of its own. Here the door (rmbg.photo) is the only one that looks into files.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio import processing_utils, utils
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


def photo_input(**kwargs: Any) -> gr.Image:
    """A ``gr.Image`` whose functions get an `Upload`.

    The method is replaced on the instance, as a subclass would make gradio write a type stub beside this file.
    """
    box = gr.Image(type="filepath", image_mode=None, **kwargs)
    setattr(box, "preprocess", partial(_hand_over, box.GRADIO_CACHE))  # noqa: B010 (mypy forbids the assignment)
    return box


def _hand_over(cache: str, payload: ImageData | None) -> Upload | None:
    """What a function gets for the file that the browser has uploaded, or sent inline (a webcam's picture)."""
    if payload is None:
        return None
    if payload.url and payload.url.startswith("data:"):
        path = processing_utils.save_base64_to_cache(payload.url, cache_dir=cache)
    elif payload.path:
        path = payload.path
    else:
        raise gr.Error("The upload did not arrive; try it again.", print_exception=False)
    return Upload(path, payload.orig_name or Path(path).name)


def cached(data: bytes, name: str) -> str:
    """The path of a file with these bytes in Gradio's cache, where the page may read it and where it is removed in time."""
    return processing_utils.save_bytes_to_cache(data, name, cache_dir=utils.get_upload_folder())
