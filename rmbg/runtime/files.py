"""Atomic file writing, and TOML files."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Any

from rmbg.errors import OutputError, printable

_PACKAGE = Path(__file__).resolve().parents[1]

#: Example photos and mattes: in a checkout beside the package, otherwise in it.
EXAMPLES = next((folder for folder in (_PACKAGE / "examples", _PACKAGE.parent / "examples") if folder.is_dir()), _PACKAGE)

#: Longest chain of symbolic links that is followed; the limit of Linux.
MAX_LINKS = 40

#: System folders whose entries represent open files. /dev/stdout links into one of them.
STREAM_FOLDERS = ("/proc/", "/dev/fd/")

#: Temporary files that are being written, for `remove_unfinished`.
_unfinished: set[Path] = set()


def write(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path` atomically.

    A regular file is written under a temporary name in the same folder and renamed, so that a crash leaves the old file
    unchanged. Its permissions are preserved. Symbolic links are followed. Devices, named pipes and links to open files such as
    ``/dev/stdout`` are written to in place and never replaced.

    Raises
    ------
    OutputError
        If the folder is missing or not writable, or the disk is full.
    """
    check_writable(path)
    temporary = None
    try:
        target, stream = _resolved(Path(path))
        if stream:
            target.write_bytes(data)
            return
        old = _stat(target)
        mode = 0o666 if old is None else stat.S_IMODE(old.st_mode)
        temporary = target.with_name(f".{secrets.token_hex(4)}.part")
        _unfinished.add(temporary)
        # The system subtracts the umask from the mode, which is never wider than that of the old file.
        with open(temporary, "xb", opener=lambda path, flags: os.open(path, flags, mode)) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if old is not None:
            temporary.chmod(mode)
        temporary.replace(target)
    except OSError as error:
        raise _write_error(Path(path), error) from None
    finally:
        if temporary:
            temporary.unlink(missing_ok=True)
            _unfinished.discard(temporary)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise OutputError if `path` is not writable."""
    given = Path(path)
    if "\0" in str(given):
        raise OutputError(f"{_printable(given)} is not a valid file name. Choose another file name.")
    try:
        target, stream = _resolved(given)
        if target.is_dir():
            raise OutputError(f"{_printable(target)} is a folder. Choose a file name.")
        if not target.parent.is_dir():
            raise OutputError(f"There is no folder {_printable(target.parent)}. Create it first.")
        # Checked twice, as another thread may delete the file after the first check.
        if target.exists() and not os.access(target, os.W_OK) and target.exists():
            raise OutputError(f"{_printable(target)} exists and may not be written to. Choose another file name.")
        if not stream and not os.access(target.parent, os.W_OK):
            raise OutputError(f"The folder {_printable(target.parent)} may not be written to. Choose another folder.")
    except OutputError:
        raise
    except OSError as error:  # for example, a name that is too long
        raise _write_error(given, error) from None


def remove_unfinished() -> None:
    """Delete the temporary files of unfinished writes, before the process exits without joining its threads."""
    for path in list(_unfinished):
        path.unlink(missing_ok=True)


def _resolved(path: Path) -> tuple[Path, bool]:
    """Resolve symbolic links and return the target, and True if it must be written in place.

    Entries of `STREAM_FOLDERS` are not resolved, because the open files they link to may have been unlinked.
    """
    target = path
    for _ in range(MAX_LINKS):
        if f"{os.path.realpath(target.parent)}/".startswith(STREAM_FOLDERS):
            return target, True
        if not target.is_symlink():
            status = _stat(target)
            return target, status is not None and not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode)
        target = target.parent / target.readlink()
    raise OutputError(f"{_printable(path)} is part of a loop of symbolic links. Choose another file name.")


def _stat(path: Path) -> os.stat_result | None:
    """Status of a file, or None if it does not exist; other threads may delete it between two calls."""
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _write_error(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{_printable(path)} cannot be written: {error.strerror or error}. Choose another file or folder.")


def _printable(path: Path) -> str:
    return printable(str(path), 120)


def read_toml(path: Path) -> dict[str, Any]:
    """Return the contents of a TOML file.

    Raises
    ------
    OSError, ValueError
        If the file cannot be read, or is not TOML.
    """
    import tomlkit  # deferred: most processes read no TOML
    from tomlkit.exceptions import TOMLKitError

    try:
        return tomlkit.parse(path.read_text(encoding="utf-8")).unwrap()
    except (TOMLKitError, RecursionError) as error:
        raise ValueError(str(error)) from None
