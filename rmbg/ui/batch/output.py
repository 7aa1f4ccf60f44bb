"""Results of a visitor's batch: files in a folder of the visit, within the visitor's disk quota."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from rmbg.batch.outputs import PROBE_BYTES, FolderOutput
from rmbg.errors import OutputError
from rmbg.ui.storage import storage

#: Bytes of the quota that stay free for mattes, thumbnails and the manifest of the photos in progress.
SPARE_BYTES = 8_000_000

#: Message if the results do not fit. Files in the quota are never evicted for a batch.
FULL = "The results need more disk space than this server gives one visitor. Download them, then send the other photos."


class VisitorOutput(FolderOutput):
    """Folder of results whose size counts for a visitor.

    Parameters
    ----------
    root : Path
    owner : callable () -> str
        Returns the owner in `Storage`, which changes when the page is reloaded.
    """

    def __init__(self, root: Path, owner: Callable[[], str]) -> None:
        super().__init__(root)
        self._folder, self._owner = root, owner
        self._lock = threading.Lock()

    def write(self, name: str, data: bytes) -> None:
        with self._lock:
            self._require(len(data))
            super().write(name, data)
            storage().keep(self._owner(), self._folder)

    def probe(self, count: int = PROBE_BYTES) -> None:
        self._require(count)
        super().probe(count)

    def _require(self, count: int) -> None:
        """Raise OutputError if the results and a zip archive of them would exceed the quota of the visitor."""
        files = storage()
        results = files.bytes_at(self._folder) + count
        if files.bytes_of(self._owner()) + count + results > files.session_bytes - SPARE_BYTES:
            raise OutputError(FULL)
