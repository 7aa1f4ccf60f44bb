"""The private temporary folder of this process, removed at exit, or at the next start after a crash.

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
from pathlib import Path

from filelock import FileLock, Timeout

from rmbg.errors import RmbgError

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
            self.parent = _private(parent / _name())
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
        lock = FileLock(_lock_of(folder), timeout=0)
        try:
            with lock:
                shutil.rmtree(folder, ignore_errors=True)
        except (Timeout, OSError):
            continue
        if not folder.exists():
            _lock_of(folder).unlink(missing_ok=True)


def _lock_of(folder: Path) -> Path:
    # Next to the folder, not in it: Windows cannot remove a folder that contains an open file.
    return folder.with_name(f"{folder.name}.lock")


def _name() -> str:
    """Name of the parent folder, with the user id, as users may share the temporary folder."""
    return f"rmbg-{os.getuid()}" if hasattr(os, "getuid") else "rmbg"


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


_current: Workspace | None = None
_current_lock = threading.Lock()


def workspace() -> Workspace:
    """Return the workspace of this process; the first call creates it and points ``GRADIO_TEMP_DIR`` at it.

    Its parent is the system's temporary folder, or the previous value of ``GRADIO_TEMP_DIR``.
    """
    global _current
    with _current_lock:
        if _current is None or _current._process != os.getpid():
            _current = Workspace(Path(os.environ.get(GRADIO_VARIABLE) or tempfile.gettempdir()))
            os.environ[GRADIO_VARIABLE] = str(_current.uploads)
            atexit.register(_current.remove)
        return _current
