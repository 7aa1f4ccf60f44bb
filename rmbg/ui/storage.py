"""Files of the visitors: the private temporary folder of this process, and quotas and expiry of the files in it.

The folder is removed at exit, or at the next start after a crash.

The folders of all processes are in one parent. A process holds the lock of its folder until it exits or is killed, so a
folder with a free lock is abandoned. Process ids are not sufficient: the system reuses them.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import shutil
import stat
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout
from gradio_client.utils import strip_invalid_filename_characters

from rmbg.errors import RmbgError
from rmbg.runtime.messages import Message
from rmbg.settings import Settings

#: Gradio reads its temporary folder from this variable, some of its modules once, others at every use.
GRADIO_VARIABLE = "GRADIO_TEMP_DIR"


class Workspace:
    """A new folder below `parent`, locked by this process.

    Attributes
    ----------
    folder : Path
        Mode 700, as are its subfolders.
    uploads : Path
        Subfolder in which Gradio stores uploads and from which it serves files.

    Raises
    ------
    RmbgError
        If the folder cannot be created, or its parent belongs to another user.
    """

    def __init__(self, parent: Path) -> None:
        self._process = os.getpid()
        try:
            # With the user id, as users may share the temporary folder.
            self.parent = _private(parent / (f"rmbg-{os.getuid()}" if hasattr(os, "getuid") else "rmbg"))
            # Between its creation and its lock another process would take the folder for abandoned.
            with FileLock(self.parent / "starting.lock"):
                remove_abandoned(self.parent)
                self.folder = self.parent / f"{self._process}-{secrets.token_hex(4)}"
                self.folder.mkdir(mode=0o700)
                self._lock = FileLock(_lock_of(self.folder))
                self._lock.acquire()
            self.uploads = self.folder / "uploads"
            self.uploads.mkdir(mode=0o700)
        except OSError as error:
            path = error.filename or parent
            raise RmbgError(
                f"The temporary folder {path} cannot be used: {error.strerror or error}. Set TMPDIR to another folder."
            ) from None

    def new_folder(self, prefix: str) -> Path:
        """Create an empty folder in this one."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=prefix, dir=self.folder))

    def remove(self) -> None:
        """Remove the folder with its contents, and release its lock."""
        if os.getpid() != self._process:  # a forked child must not remove the folder of its parent
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()
        _lock_of(self.folder).unlink(missing_ok=True)


def remove_abandoned(parent: Path) -> None:
    """Remove the folders below `parent` whose locks are free, and their lock files."""
    for folder in [path for path in parent.iterdir() if path.is_dir() and not path.is_symlink()]:
        with contextlib.suppress(Timeout, OSError), FileLock(_lock_of(folder), timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            _lock_of(folder).unlink(missing_ok=True)


def _lock_of(folder: Path) -> Path:
    # Next to the folder, not in it: Windows cannot remove a folder that contains an open file.
    return folder.with_name(f"{folder.name}.lock")


def _private(folder: Path) -> Path:
    """Create `folder` with mode 700, or check the owner of an existing one.

    In a world-writable folder another user may have created it before, as a link or with read access.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if not hasattr(os, "getuid"):  # the temporary folder of Windows is the user's own
        return folder
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise RmbgError(f"The temporary folder {folder} belongs to another user. Remove it, or set TMPDIR to another folder.")
    if stat.S_IMODE(status.st_mode) != 0o700:
        folder.chmod(0o700)
    return folder


_LOCK = threading.RLock()  # of the two functions that create the objects of this process


@cache
def _workspace_of(process: int) -> Workspace:
    created = Workspace(Path(os.environ.get(GRADIO_VARIABLE) or tempfile.gettempdir()))
    os.environ[GRADIO_VARIABLE] = str(created.uploads)
    atexit.register(created.remove)
    return created


def workspace() -> Workspace:
    """Return the workspace of this process; the first call creates it and points ``GRADIO_TEMP_DIR`` at it.

    Its parent is the system's temporary folder, or the previous value of ``GRADIO_TEMP_DIR``. A forked process has its own.
    """
    with _LOCK:
        return _workspace_of(os.getpid())


#: Lifetime in seconds of uploads that no call has used, unless that of a visit is shorter.
UNUSED_SECONDS = 900

#: Lifetime in seconds of the partial file of an interrupted upload.
PARTIAL_SECONDS = 60

#: The session hash of the visitor whose event is being handled.
VISITOR: ContextVar[str] = ContextVar("visitor", default="")


@dataclass(eq=False)
class _Item:
    """A file or folder. `expires` is None while a page may use it; `seen` is the last time at which that page was open."""

    owner: str
    size: int
    expires: float | None = None
    seen: float = field(default_factory=time.monotonic)
    changed: float = field(default_factory=time.time)


class Storage:
    """Files below a workspace, with size, expiry and owner (the session hash of a visitor).

    Parameters
    ----------
    root : Workspace
    session_bytes, server_bytes : int
        Quotas of one visitor and of the server.
    keep_seconds : float
        Lifetime of the files of a finished API call and of a download.
    visit_seconds : float
        Lifetime of the files of a closed page.
    """

    def __init__(
        self, root: Workspace, session_bytes: int, server_bytes: int, keep_seconds: float, visit_seconds: float
    ) -> None:
        self.root, self.session_bytes, self.server_bytes = root, session_bytes, server_bytes
        self.keep_seconds, self.visit_seconds = keep_seconds, visit_seconds
        self._unused_seconds = min(UNUSED_SECONDS, visit_seconds)
        self._items: dict[Path, _Item] = {}  # oldest first
        self._deleted: deque[str] = deque(maxlen=1000)  # owners whose visit was deleted; their pages are reloaded
        self._lock = threading.RLock()

    def bytes_of(self, owner: str | None = None) -> int:
        """Return the size of one visitor's files, or of all files."""
        with self._lock:
            return sum(item.size for item in self._items.values() if owner in (None, item.owner))

    def bytes_at(self, path: Path) -> int:
        """Return the registered size of a file or folder; 0 if it is not registered."""
        item = self._items.get(path)
        return 0 if item is None else item.size

    def new_file(self, name: str) -> Path:
        """Return a path that Gradio serves, in a new folder with a random name; call `keep` after the file is written."""
        folder = self.root.uploads / secrets.token_hex(20)
        folder.mkdir(mode=0o700, parents=True)
        return folder / strip_invalid_filename_characters(Path(name).name)

    def store(self, data: bytes, name: str, *, seconds: float | None = None) -> str:
        """Write a file for the current visitor and return its path; see `keep`.

        Raises
        ------
        RmbgError
            If the file cannot be written.
        """
        path = self.root.uploads
        try:
            path = self.new_file(name)
            path.write_bytes(data)
        except OSError as error:
            if path != self.root.uploads:
                _remove(path)
            text = "The file cannot be written on the server: {reason}. Try again in a few minutes."
            raise RmbgError(Message(text, reason=error.strerror)) from None
        self.keep(visitor(), path, seconds=seconds)
        return str(path)

    def keep(self, owner: str, path: Path, *, seconds: float | None = None) -> None:
        """Register a file or folder as the newest of `owner`; evicts older ones beyond a quota.

        It is removed if the visit of `owner` was deleted.

        Parameters
        ----------
        seconds : float, optional
            Lifetime; by default as long as the owner's page is open.
        """
        with self._lock:
            self._items.pop(path, None)
            if owner in self._deleted:
                _remove(path)
                return
            self._items[path] = _Item(owner, _size(path), None if seconds is None else time.monotonic() + seconds)
            self._make_room(owner, path)

    def measure(self, path: Path) -> None:
        """Update the size of a registered folder after a change of its files; evicts older files beyond a quota."""
        with self._lock:
            item = self._items.get(path)
            if item is not None:
                item.size = _size(path)
                self._make_room(item.owner, path)

    def release(self, path: Path) -> None:
        """Start the lifetime of an upload whose API call has ended; a new upload of the same file resets it."""
        with self._lock:
            item = self._items.get(path)
            if item is not None:
                item.expires, item.changed = time.monotonic() + self.keep_seconds, time.time()

    def discard(self, path: Path) -> None:
        """Remove a file or folder."""
        with self._lock:
            self._items.pop(path, None)
        _remove(path)

    def discard_all(self, owner: str) -> None:
        """Remove all files of a visitor."""
        with self._lock:
            paths = [path for path, item in self._items.items() if item.owner == owner]
        for path in paths:
            self.discard(path)

    def delete_visit(self, owner: str) -> None:
        """Remove all files of a visitor, and those that its runs store later."""
        with self._lock:
            self._deleted.append(owner)
        self.discard_all(owner)

    def transfer(self, owner: str, new_owner: str) -> None:
        """Make `new_owner` the owner of all files of `owner`."""
        with self._lock:
            for item in self._items.values():
                if item.owner == owner:
                    item.owner = new_owner

    def sweep(self, is_live: Callable[[str], bool], in_use: Iterable[str]) -> set[str]:
        """Remove expired files and return their paths.

        Parameters
        ----------
        is_live : callable (owner) -> bool
            Returns True if a page of the owner is open.
        in_use : iterable of str
            Files of the page itself, and of calls that wait in the queue or run; these are kept.
        """
        in_use, now, removed = {os.path.realpath(path) for path in in_use}, time.monotonic(), set()
        with self._lock:
            self._register_uploads(in_use)
            for path, item in list(self._items.items()):
                if is_live(item.owner):
                    item.seen = now
                if os.path.realpath(path) in in_use:
                    continue
                expires = item.seen + self.visit_seconds if item.expires is None else item.expires
                if item.expires is not None and item.changed < _changed(path):  # uploaded again by another visitor
                    self._items[path] = _Item("", item.size, now + self._unused_seconds)
                elif expires < now or not path.exists():
                    self.discard(path)
                    removed.add(str(path))
            self._make_room("", None)
        return removed

    def _register_uploads(self, in_use: set[str]) -> None:
        """Register the uploads since the last sweep; removes the partial files of interrupted ones."""
        for parent, _, names in os.walk(self.root.uploads):
            for path in (Path(parent) / name for name in names):
                if path in self._items or os.path.realpath(path) in in_use:
                    continue
                if path.parent != self.root.uploads:
                    self._items[path] = _Item("", _size(path), time.monotonic() + self._unused_seconds)
                elif time.time() - _changed(path) > PARTIAL_SECONDS:
                    with contextlib.suppress(OSError):  # the folder stays, as an upload may be about to write to it
                        path.unlink()

    def _make_room(self, owner: str, newest: Path | None) -> None:
        """Evict files beyond the quotas, except `newest`."""
        quotas: list[tuple[str | None, int]] = [(owner, self.session_bytes)] if owner else []
        for name, limit in [*quotas, (None, self.server_bytes)]:
            if self.bytes_of(name) <= limit:
                continue
            paths = [path for path, item in self._items.items() if path != newest and name in (None, item.owner)]
            for path in sorted(paths, key=Path.exists):  # those that were removed already, then the oldest
                if self.bytes_of(name) > limit:
                    self.discard(path)


def visitor() -> str:
    """Return the session hash of the visitor whose event is being handled; empty outside of events."""
    return VISITOR.get()


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(_size(Path(parent) / name) for parent, _, names in os.walk(path) for name in names)
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0


def _changed(path: Path) -> float:
    """Time of the last write or rename of a file, in seconds since the epoch; 0 if it does not exist."""
    with contextlib.suppress(OSError):
        return path.lstat().st_ctime
    return 0.0


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink()
    with contextlib.suppress(OSError):  # the folder that `new_file` made for this file
        path.parent.rmdir()


@cache
def _storage_of(root: Workspace) -> Storage:
    settings = Settings.from_environ()
    return Storage(root, settings.session_bytes, settings.storage_bytes, settings.keep_seconds, settings.visit_seconds)


def storage() -> Storage:
    """Return the storage of this process; the first call creates it with the quotas of the environment."""
    with _LOCK:
        return _storage_of(workspace())
