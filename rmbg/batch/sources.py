"""Sources of a batch: folder, glob, zip archive, single picture, list of paths and URLs, or object store."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rmbg.batch.archive import ZipSource, is_zip
from rmbg.batch.entry import Entry, Source
from rmbg.batch.names import encodable, label, without_suffix
from rmbg.batch.object_store import StoreSource
from rmbg.batch.path_list import HTTP_URL, PathList
from rmbg.batch.walk import WILDCARD, is_picture, split_glob, stamp_of, translate_glob, walk
from rmbg.errors import InputError, OptionError, reason
from rmbg.images.source import read as read_source
from rmbg.providers.base import never_cancelled
from rmbg.settings import Settings


@dataclass(frozen=True)
class FolderSource:
    """Pictures below a folder, or all files that match a pattern, regardless of their suffix."""

    root: Path
    settings: Settings
    exclude: Path | None = None
    pattern: re.Pattern[str] | None = None
    depth: int | None = None
    remote: bool = False

    def entries(self) -> list[Entry]:
        found: list[Entry] = []

        def unreadable(folder: str, error: OSError) -> None:
            if self.pattern is None:  # otherwise it may have no file that matches
                name = encodable(self._relative(folder))
                problem = f"The folder {label(name)} could not be read: {reason(error)}."
                found.append(Entry(f"{name}/", name, problem=problem))

        for path, info in walk(self.root, self.exclude, self.depth, unreadable):
            relative = self._relative(path)
            if self.pattern.fullmatch(relative) if self.pattern else is_picture(relative):
                name = encodable(relative)
                found.append(Entry(name, without_suffix(name), stamp_of(info), path))
        return sorted(found, key=lambda entry: entry.name)

    def read(self, entry: Entry, cancelled: Callable[[], bool] = never_cancelled) -> bytes:
        return read_source(entry.locator, entry.name, self.settings)[0]

    def _relative(self, path: str) -> str:
        return os.path.relpath(path, self.root).replace(os.sep, "/")


@dataclass(frozen=True)
class FileSource:
    """A single picture."""

    path: Path
    settings: Settings
    remote: bool = False

    def entries(self) -> list[Entry]:
        name = encodable(self.path.name)
        return [Entry(name, without_suffix(name), stamp_of(self.path.stat()), str(self.path))]

    def read(self, entry: Entry, cancelled: Callable[[], bool] = never_cancelled) -> bytes:
        return read_source(entry.locator, entry.name, self.settings)[0]


def open_source(text: str, settings: Settings, *, exclude: Path | None = None, hosts: tuple[str, ...] = ()) -> Source:
    """Return the source for the argument IN.

    Parameters
    ----------
    text : str
        Folder, glob, zip, picture, list of paths and URLs, or fsspec URL.
    settings : Settings
    exclude : Path, optional
        Folder that is skipped: the folder of the results, which may be inside the input folder.
    hosts : tuple of str
        Loopback hosts that the URLs of a list may contain.

    Raises
    ------
    InputError
        If the path does not exist, cannot be read or has an unsupported type.
    OptionError
        If `text` is an http(s) URL or has an unsupported protocol.
    """
    if HTTP_URL.match(text):
        raise OptionError("IN is a web URL. Write the URLs to a text file, one per line, and give that file.")
    if "://" in text:
        return StoreSource(text, settings)
    path = Path(text)
    try:
        if path.is_dir():
            return FolderSource(path, settings, exclude)
        if path.is_file():
            return _source_of_file(path, settings, hosts)
        exists = path.exists()
    except (OSError, ValueError) as error:
        raise InputError(f"{label(path)} could not be read: {reason(error)}.") from None
    if exists:
        raise InputError(f"{label(path)} is neither a file nor a folder. Choose another input.")
    if not WILDCARD.search(text):
        raise InputError(f"There is no file or folder {label(path)}. Check the name.")
    folder, parts = split_glob(text.replace(os.sep, "/"))
    root = Path(folder or ".")
    if not root.is_dir():
        raise InputError(f"There is no folder {label(root)}. Check the name.")
    return FolderSource(root, settings, exclude, translate_glob(parts), None if "**" in parts else len(parts))


def _source_of_file(path: Path, settings: Settings, hosts: tuple[str, ...]) -> Source:
    if is_zip(path):
        return ZipSource(path, settings)
    if is_picture(path.name):
        return FileSource(path, settings)
    return PathList(path, settings, hosts)
