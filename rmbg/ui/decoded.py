"""Photos that were decoded to check an upload, for the removal that usually follows it."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from rmbg.images.photo import Photo
from rmbg.images.source import stem
from rmbg.ui.components.photo_input import Upload
from rmbg.ui.storage import visitor

#: Limit for all photos of the process in bytes, and the lifetime of one in seconds.
MAX_BYTES, SECONDS = 256 * 1024**2, 60.0


@dataclass(frozen=True)
class _Entry:
    photo: Photo
    owner: str
    expires: float


class DecodedPhotos:
    """Cache in which each photo can be taken once; the oldest ones are removed first.

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
