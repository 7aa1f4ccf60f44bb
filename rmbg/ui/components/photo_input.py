"""Image component that passes the uploaded file and its original name to event handlers.

``gr.Image`` decodes uploads itself: it drops alpha, handles EXIF orientation inconsistently and reports broken files in its
own words. Here only `rmbg.images.photo` decodes files.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio import utils
from gradio.data_classes import ImageData

from rmbg.images.photo import Photo, open_photo
from rmbg.ui.components.metaclass import AppComponentMeta
from rmbg.ui.messages import page_error
from rmbg.ui.storage import storage, visitor

#: Suffixes of the formats that browsers can show.
SHOWN_BY_BROWSERS = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")


@dataclass(frozen=True)
class Upload:
    """An uploaded file and its original name."""

    path: str
    name: str

    def open(self) -> Photo:
        """Decode the photo; raises PhotoError if the file is not a picture."""
        return open_photo(self.path, name=self.name)

    def release(self) -> None:
        """Let the file expire soon; called when the API call that used it has ended."""
        storage().release(Path(self.path))


class PhotoInput(gr.Image, metaclass=AppComponentMeta):
    """``gr.Image`` that passes an `Upload` to event handlers; requires ``type="filepath", image_mode=None``."""

    is_template = True  # uses the frontend of gr.Image

    def preprocess(self, payload: ImageData | None) -> Any:
        if payload is None:
            return None
        path = uploaded_path(payload.path)
        storage().keep(visitor(), Path(path))  # does not expire while the page is open
        return Upload(path, payload.orig_name or Path(path).name)


def uploaded_path(path: Any) -> str:
    """Return the absolute path of a file in Gradio's upload folder.

    Gradio stores uploads, examples and results as ``FOLDER/FILE`` in that folder. Paths of any other form are rejected
    without access to the file system, and symbolic links are not followed.

    Raises
    ------
    gr.Error
        If `path` is not such a file. The message does not depend on the existence of a file.
    """
    try:
        if not isinstance(path, str) or "\0" in path:
            raise ValueError
        root, absolute = (Path(os.path.abspath(p)) for p in (utils.get_upload_folder(), path))  # noqa: PTH100 - without I/O
        relative = absolute.relative_to(root)
        stored = root.resolve() / relative
        if len(relative.parts) != 2 or stored.resolve(strict=True) != stored or not stat.S_ISREG(stored.lstat().st_mode):
            raise ValueError
    except (ValueError, OSError, RuntimeError):
        raise page_error("The file is not among the uploads of this server. Upload it again.") from None
    return str(absolute)


def photo_input(**kwargs: Any) -> PhotoInput:
    """Return a `PhotoInput` that does not convert files."""
    return PhotoInput(type="filepath", image_mode=None, **kwargs)


def store_file(data: bytes, name: str) -> str:
    """Write a file that the page can load, and return its path; it expires with the visitor's other files."""
    return storage().store(data, name)
