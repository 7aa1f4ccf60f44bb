"""SHA-256 checksums of large files, stored with the state of each file, so that an unchanged file is not read again.

A change of size, modification time, change time or inode makes the checksum of a file unknown. A program can set the
modification time, but not the change time, so a replaced file of the same size and date is noticed as well.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from pathlib import Path
from typing import NamedTuple

from rmbg import files

#: File in the data folder with the checksums.
STORE = "checksums.json"

#: Age in nanoseconds from which on the times of a file identify its content. File systems have clocks of up to two seconds a
#: tick, within which a second change does not alter the times.
SETTLED_NS = 2_000_000_000

#: Checksums that are kept, the newest ones.
MAX_ENTRIES = 100

_lock = threading.Lock()
_memory: dict[Path, dict[str, Entry]] = {}


class State(NamedTuple):
    """Size in bytes, times in nanoseconds and inode of a file."""

    size: int
    modified: int
    changed: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> State:
        """Return the state of a file; raises OSError."""
        found = path.stat()
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


class Entry(NamedTuple):
    """Checksum of a file that had this state."""

    state: State
    sha256: str


def sha256(path: Path, data: Path, trailer: int = 0) -> str:
    """Return the SHA-256 checksum of a file without its last `trailer` bytes; a known file is not read.

    Parameters
    ----------
    path : Path
    data : Path
        Data folder, which has the stored checksums.
    trailer : int

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    state = State.of(path)
    stored = _entry(path, data)
    if stored is not None and stored.state == state:
        return stored.sha256
    now = time.time_ns()
    digest, left = hashlib.sha256(), state.size - trailer
    with open(path, "rb") as file:
        while left > 0 and (chunk := file.read(min(left, 2**22))):
            digest.update(chunk)
            left -= len(chunk)
    settled = max(state.modified, state.changed) < now - SETTLED_NS
    if settled and State.of(path) == state:
        remember(path, digest.hexdigest(), data, state)
    return digest.hexdigest()


def remember(path: Path, digest: str, data: Path, state: State | None = None) -> None:
    """Store the checksum of a file in its state, by default the present one; raises OSError if the file does not exist.

    Errors of writing the store are ignored: the next process computes the checksum again.
    """
    entry = Entry(state or State.of(path), digest)
    with _lock:
        entries = {**_read(data), **_memory.get(data, {})}
        entries.pop(str(path), None)
        _memory[data] = dict(list({**entries, str(path): entry}.items())[-MAX_ENTRIES:])
        with contextlib.suppress(OSError):
            data.mkdir(parents=True, exist_ok=True)
            files.write(data / STORE, json.dumps(_memory[data], indent=1).encode())


def _entry(path: Path, data: Path) -> Entry | None:
    with _lock:
        if str(path) not in _memory.get(data, {}):
            _memory[data] = {**_read(data), **_memory.get(data, {})}
        return _memory[data].get(str(path))


def _read(data: Path) -> dict[str, Entry]:
    """Stored checksums by path; empty if the store is missing or damaged."""
    try:
        entries = json.loads((data / STORE).read_bytes())
        return {str(name): Entry(State(*map(int, state)), str(digest)) for name, (state, digest) in entries.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
