"""Photos of a zip archive."""

from __future__ import annotations

import lzma
import re
import threading
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rmbg.batch.entry import Entry
from rmbg.batch.names import encodable, label, safe_target
from rmbg.batch.walk import is_picture
from rmbg.errors import InputError, PhotoError, printable, reason
from rmbg.images.source import read as read_source
from rmbg.providers.base import never_cancelled
from rmbg.settings import Settings

#: Maximum number of members of an archive.
MAX_MEMBERS = 1_000_000

#: Exceptions raised by `zipfile` on damaged or unsupported archives.
ARCHIVE_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
)


def is_zip(path: Path) -> bool:
    """True if a file has the suffix or the signature of a zip archive."""
    try:
        with open(path, "rb") as file:
            return path.suffix.lower() == ".zip" or file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    except OSError:
        return path.suffix.lower() == ".zip"


class ZipSource:
    """Pictures of an archive, read without unpacking it.

    No file is written under the name of a member, so path traversal is impossible. Decompression of a member stops at
    ``settings.max_bytes``.
    """

    remote = False

    def __init__(self, path: Path, settings: Settings) -> None:
        self.path, self.settings = path, settings
        try:
            self._archive = zipfile.ZipFile(path)
        except ARCHIVE_ERRORS as error:
            raise InputError(f"{label(path)} is not a valid zip archive: {reason(error)}. Create it again.") from None
        self._lock = threading.Lock()  # the reference count of ZipFile is not thread-safe
        if len(self._archive.filelist) > MAX_MEMBERS:
            raise InputError(f"{label(path)} has more than {MAX_MEMBERS:,} entries. Split it.")

    def __reduce__(self) -> tuple[Any, ...]:
        return ZipSource, (self.path, self.settings)

    def entries(self) -> list[Entry]:
        found = {}
        for member in self._archive.infolist():
            parts = re.split(r"[\\/]", member.filename)
            if member.is_dir() or not is_picture(member.filename) or any(p.startswith((".", "__MACOSX")) for p in parts[-1:]):
                continue
            if "__MACOSX" in parts:
                continue
            name = encodable(member.filename)
            stamp = f"{member.file_size}:{member.CRC:08x}"
            found[name] = Entry(name, safe_target(parts), stamp, member.filename, _problem(member, parts))
        return sorted(found.values(), key=lambda entry: entry.name)

    def read(self, entry: Entry, cancelled: Callable[[], bool] = never_cancelled) -> bytes:
        try:
            with self._lock, self._archive.open(entry.locator) as file:
                return read_source(file, entry.name, self.settings)[0]
        except ARCHIVE_ERRORS as error:
            if isinstance(error, PhotoError):
                raise
            raise PhotoError(f"{printable(entry.name, 60)} cannot be read from the archive: {reason(error)}.") from None


def _problem(member: zipfile.ZipInfo, parts: list[str]) -> str:
    name = printable(member.filename, 60)
    if ".." in parts or parts[0] == "" or ":" in parts[0]:
        return f"{name} has a path outside the archive and was skipped. Rename it in the archive."
    if member.flag_bits & 1:
        return f"{name} is encrypted. Unpack the archive first."
    return ""
