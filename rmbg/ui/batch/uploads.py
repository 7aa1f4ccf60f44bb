"""Uploads of a visitor as the input of a batch: pictures and zip archives, within the limits of the server."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from rmbg.batch.archive import ARCHIVE_ERRORS, ZipSource, is_zip
from rmbg.batch.entry import Entry
from rmbg.batch.names import safe_part, without_suffix
from rmbg.errors import InputError, PhotoError, printable
from rmbg.images.source import read as read_source
from rmbg.message import Message
from rmbg.providers.base import never_cancelled
from rmbg.settings import Settings
from rmbg.ui.components.photo_input import Upload
from rmbg.ui.languages import t
from rmbg.units import megabytes, megapixels

#: Size limit of an archive's central directory in bytes, which `zipfile` parses as a whole.
MAX_DIRECTORY_BYTES = 4_000_000

#: Characters of a zip member's or a photo's name that are kept.
MAX_NAME = 120

NO_PHOTOS = "Choose photos or a zip archive first."


def limits(settings: Settings) -> str:
    """Return the limits of a batch in one sentence."""
    return t(
        "At most {count} photos and {total} at a time; a photo may have {size} and {pixels}.",
        count=settings.batch_files,
        total=megabytes(max_bytes(settings)),
        size=megabytes(settings.max_bytes),
        pixels=megapixels(settings.max_pixels),
    )


def max_bytes(settings: Settings) -> int:
    """Return the limit of the size of a batch; the results need the other half of the visitor's quota."""
    return min(settings.batch_bytes, settings.session_bytes // 2)


class UploadSource:
    """Pictures among the uploads of a visitor, and those in zip archives, which are read without unpacking them.

    Parameters
    ----------
    uploads : sequence of Upload
    settings : Settings

    Raises
    ------
    InputError
        If there are no pictures, or if they exceed the limits; the message is for the visitor.
    """

    remote = False

    def __init__(self, uploads: Sequence[Upload], settings: Settings) -> None:
        self.settings = settings
        self._archives: dict[str, ZipSource] = {}
        self._members: dict[str, Entry] = {}
        self._entries: list[Entry] = []
        if not uploads:
            raise InputError(NO_PHOTOS)
        _check_total(sum(_size(upload) for upload in uploads), settings)
        names: set[str] = set()
        for entry, archive, member in self._found(uploads):
            if len(self._entries) >= settings.batch_files:
                text = Message(
                    "There are more than {limit:,} photos. Send them in several batches.", limit=settings.batch_files
                )
                raise InputError(text)
            name = _unique(entry.name, names)
            names.add(name.casefold())
            unique = replace(entry, name=name)
            self._entries.append(unique)
            if archive is not None and member is not None:
                self._archives[name], self._members[name] = archive, member
        if not self._entries:
            raise InputError("There is no picture in the upload. Send files in a format such as JPEG, PNG, WebP or HEIC.")

    def entries(self) -> list[Entry]:
        return list(self._entries)

    def read(self, entry: Entry, cancelled: Callable[[], bool] = never_cancelled) -> bytes:
        if entry.name in self._members:
            return self._archives[entry.name].read(self._members[entry.name], cancelled)
        if not Path(entry.locator).is_file():
            raise PhotoError(Message("{name} is no longer on the server. Upload it again.", name=printable(entry.name, 60)))
        return read_source(entry.locator, entry.name, self.settings)[0]

    def path(self, entry: Entry) -> str | None:
        """Return the path of an uploaded photo that is on the server; None for a photo in an archive."""
        return entry.locator if entry.name not in self._members and Path(entry.locator).is_file() else None

    def _found(self, uploads: Sequence[Upload]) -> Iterator[tuple[Entry, ZipSource, Entry] | tuple[Entry, None, None]]:
        """Yield the pictures with their archive and its entry; photos have the names of their files without folders."""
        total = 0
        for upload in uploads:
            path = Path(upload.path)
            if not is_zip(path):
                name = safe_part(PurePosixPath(upload.name.replace("\\", "/")).name)
                yield Entry(name, without_suffix(name), _stamp(path), upload.path), None, None
                continue
            archive = open_archive(upload, self.settings)
            members = archive.entries()
            sizes = {member.locator: int(member.stamp.partition(":")[0]) for member in members}
            total += sum(sizes.values())
            _check_total(total, self.settings)
            for member in members:
                name = "/".join(safe_part(part) for part in re.split(r"[\\/]", member.name) if part not in ("", ".", ".."))
                name = name if len(name) <= MAX_NAME else safe_part(name[-MAX_NAME:])
                shown = replace(member, name=name or "photo", problem=member.problem)
                yield shown, archive, member


def open_archive(upload: Upload, settings: Settings) -> ZipSource:
    """Open an uploaded zip archive.

    Raises
    ------
    InputError
        If it is damaged, or has too many entries.
    """
    name = printable(upload.name, 60)
    if _directory_bytes(Path(upload.path)) > MAX_DIRECTORY_BYTES:
        raise InputError(
            Message("{name} has too many entries. Send at most {limit:,} photos.", name=name, limit=settings.batch_files)
        )
    try:
        return ZipSource(Path(upload.path), settings)
    except InputError:
        raise InputError(Message("{name} is not a valid zip archive. Create it again.", name=name)) from None


def _directory_bytes(path: Path) -> int:
    """Return the size of the central directory, which `zipfile.ZipFile` reads into memory; 0 if there is none."""
    try:
        with open(path, "rb") as file:
            record = zipfile._EndRecData(file)  # type: ignore[attr-defined]  # the same record as ZipFile uses
    except ARCHIVE_ERRORS:
        return 0
    return int(record[5]) if record else 0


def _check_total(size: int, settings: Settings) -> None:
    if size > max_bytes(settings):
        has, limit = megabytes(size), megabytes(max_bytes(settings))
        raise InputError(
            Message(
                "The photos have {size} together, more than the limit of {limit}. Send them in several batches.",
                size=has,
                limit=limit,
            )
        )


def _size(upload: Upload) -> int:
    try:
        return Path(upload.path).stat().st_size
    except OSError:
        return 0


def _stamp(path: Path) -> str:
    """Return the size and the name of an upload's folder, which Gradio derives from the content."""
    return f"{path.stat().st_size}:{path.parent.name}" if path.is_file() else "-"


def _unique(name: str, taken: Iterable[str]) -> str:
    """Return `name`, with a number before its suffix if its case-folded form is in `taken`."""
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - keeps the folders
    number, candidate = 1, name
    while candidate.casefold() in taken:
        number += 1
        candidate = f"{stem}-{number}{suffix}"
    return candidate
