"""Components for uploads, which pass `Upload` to event handlers, and a cache of the photos decoded to check them."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr
from gradio import utils
from gradio.data_classes import FileData, ImageData, ListFiles

from rmbg.images.decode import open_image
from rmbg.images.photo import Photo, open_photo, stem
from rmbg.ui.languages import page_error
from rmbg.ui.storage import storage, visitor


class FilesInput(gr.File):
    """``gr.File`` that passes a list of `Upload` to event handlers; requires ``file_count="multiple"``."""

    is_template = True  # uses the frontend of gr.File

    def preprocess(self, payload: ListFiles | None) -> Any:  # type: ignore[override]
        return [Upload.received(file) for file in ([] if payload is None else payload.root)]

    def api_info(self) -> dict[str, Any]:
        """Return the schema of the list without references, which Gradio's MCP server places where they do not resolve."""
        return {"type": "array", "title": "ListFiles", "items": ImageData.model_json_schema()}


def files_input(**kwargs: Any) -> FilesInput:
    """Return a `FilesInput` for pictures and zip archives; their content is checked when it is read."""
    return FilesInput(file_count="multiple", **kwargs)


#: Suffixes of the formats that browsers can show.
SHOWN_BY_BROWSERS = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")


@dataclass(frozen=True)
class Upload:
    """An uploaded file and its original name."""

    path: str
    name: str

    @classmethod
    def received(cls, file: FileData | ImageData) -> Upload:
        """Check and keep a file that the page sends; raises gr.Error if it is not one of the uploads."""
        path = uploaded_path(file.path)
        storage().keep(visitor(), Path(path))  # does not expire while the page is open
        return cls(path, file.orig_name or Path(path).name)

    def open(self) -> Photo:
        """Decode the photo; raises PhotoError if the file is not a picture."""
        return open_photo(self.path, name=self.name)

    @property
    def pixels(self) -> int:
        """Number of pixels by the header of the file; 0 if it is not a picture."""
        with contextlib.suppress(Exception), open_image(Path(self.path).read_bytes()) as image:
            return image.width * image.height
        return 0

    def release(self) -> None:
        """Let the file expire soon; called when the API call that used it has ended."""
        storage().release(Path(self.path))


class PhotoInput(gr.Image):
    """``gr.Image`` that passes an `Upload` to event handlers; requires ``type="filepath", image_mode=None``."""

    is_template = True  # uses the frontend of gr.Image

    def preprocess(self, payload: ImageData | None) -> Any:
        return None if payload is None else Upload.received(payload)


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


#: Limit for all photos of the process in bytes, and the lifetime of one in seconds.
MAX_BYTES, SECONDS = 256 * 1024**2, 60.0


@dataclass(frozen=True)
class _Entry:
    photo: Photo
    owner: str
    expires: float


class DecodedPhotos:
    """Cache of photos that were decoded to check an upload, for the removal that usually follows.

    Each photo can be taken once; the oldest ones are removed first.

    Parameters
    ----------
    max_bytes : int
    seconds : float
        Lifetime.
    clock : callable () -> float
    """

    def __init__(
        self, max_bytes: int = MAX_BYTES, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_bytes, self._seconds, self._clock = max_bytes, seconds, clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """Size of all photos in bytes."""
        return sum(_size(entry.photo) for entry in self._entries.values())

    def put(self, path: str, photo: Photo) -> None:
        """Add the photo of the upload with this path, for the current visitor."""
        with self._lock:
            self._entries[path] = _Entry(photo, visitor(), self._clock() + self._seconds)
            self._entries.move_to_end(path)
            while self.bytes > self._max_bytes:
                self._entries.popitem(last=False)

    def take(self, upload: Upload) -> Photo | None:
        """Remove and return the photo of an upload; None if it is not here."""
        with self._lock:
            entry = self._entries.pop(upload.path, None)
        if entry is None or entry.expires < self._clock():
            return None
        return replace(entry.photo, name=stem(upload.name))

    def forget(self, owner: str) -> None:
        """Remove the photos of a visitor."""
        self._keep(lambda entry: entry.owner != owner)

    def sweep(self) -> None:
        """Remove expired photos."""
        now = self._clock()
        self._keep(lambda entry: entry.expires >= now)

    def _keep(self, kept: Callable[[_Entry], bool]) -> None:
        with self._lock:
            self._entries = OrderedDict((path, entry) for path, entry in self._entries.items() if kept(entry))


def _size(photo: Photo) -> int:
    return photo.rgb.nbytes + (0 if photo.alpha is None else photo.alpha.nbytes)


#: The photos of this process.
DECODED = DecodedPhotos()
