"""Zip archives for downloads, written to disk file by file."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePath

from rmbg.errors import OutputError, reason
from rmbg.message import Message
from rmbg.ui.storage import storage

#: Name of the archive.
NAME = "rmbg-results.zip"


def write(owner: str, files: Iterable[tuple[str, bytes]]) -> str:
    """Write files, as (name, bytes), to a zip archive of the visitor `owner` and return its path.

    It expires like any download. Names that occur more than once get a number.

    Raises
    ------
    OutputError
        If the archive would exceed the visitor's quota, which would evict the results, or cannot be written.
    """
    path = None
    try:
        path = storage().new_file(NAME)
        _write(path, files, storage().session_bytes - storage().bytes_of(owner))
    except BaseException as error:
        if path is not None:
            storage().discard(path)
        if isinstance(error, OSError) and not isinstance(error, OutputError):
            raise OutputError(
                Message("The archive cannot be written on the server: {reason}. Try again later.", reason=reason(error))
            ) from None
        raise
    storage().keep(owner, path, seconds=storage().keep_seconds)
    return str(path)


def _write(path: Path, files: Iterable[tuple[str, bytes]], limit: int) -> None:
    names: set[str] = set()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # pictures are compressed already
        for name, data in files:
            if path.stat().st_size + len(data) > limit:
                raise OutputError(
                    "All results together are larger than this server keeps for one visitor. "
                    "Delete some of them, or download them one at a time."
                )
            unique = _unique(name, names)
            names.add(unique)
            archive.writestr(unique, data)


def _unique(name: str, names: set[str]) -> str:
    """Return `name` with the first number that makes it different from all of `names`."""
    stem, suffix = PurePath(name).stem, PurePath(name).suffix
    candidates = (f"{stem}-{number}{suffix}" for number in range(2, len(names) + 2))
    return name if name not in names else next(candidate for candidate in candidates if candidate not in names)
