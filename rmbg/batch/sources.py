"""Sources of a batch: folder, glob, zip archive, picture, list of paths and URLs, object store; names of their entries."""

from __future__ import annotations

import lzma
import os
import re
import threading
import unicodedata
import urllib.parse
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from rmbg.errors import InputError, NotReadyError, OptionError, PhotoError, RmbgError, ServiceError, printable, reason
from rmbg.images.decode import formats
from rmbg.images.photo import read as read_source
from rmbg.net.client import redact
from rmbg.net.download import fetch
from rmbg.providers.base import never_cancelled
from rmbg.runtime.messages import megabytes
from rmbg.settings import Settings

#: Stamp of an input without metadata that identify its version. Changes of such an input are not detected.
NO_STAMP = "-"


@dataclass(frozen=True)
class Entry:
    """One input of a batch.
    Attributes
    ----------
    name : str
        Unique in the source; primary key in the manifest. Always encodable as UTF-8.
    target : str
        Relative path of the result without suffix, with ``/`` as separator. Not unique.
    stamp : str
        Version of the content from metadata: size and times, or a checksum.
    locator : str
        Path, URL or member name for `Source.read`.
    problem : str
        Error message if the input is unusable, otherwise empty.
    """

    name: str
    target: str
    stamp: str = NO_STAMP
    locator: str = ""
    problem: str = ""


class Source(ABC):
    """Inputs of a batch.

    Attributes
    ----------
    settings : Settings
    remote : bool
        True if reads are dominated by network latency; the pipeline then uses more readers.
    """

    settings: Settings
    remote = False

    @abstractmethod
    def entries(self) -> list[Entry]:
        """Return all inputs, sorted by name."""

    def read(self, entry: Entry, cancelled: Callable[[], bool] = never_cancelled) -> bytes:
        """Return the bytes of one input, at most ``settings.max_bytes``; thread-safe.

        Raises
        ------
        RmbgError
            If the input cannot be read or is too large.
        """
        return read_source(entry.locator, entry.name, self.settings)[0]


# Names of inputs and results: encodable, portable, unique.


def encodable(name: str) -> str:
    """Return a file name with undecodable bytes as backslash escapes, so that it can be encoded as UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def label(path: Path | str) -> str:
    """Return a path as printable text for messages."""
    return printable(encodable(str(path)), 120)


def without_suffix(name: str) -> str:
    """Return a relative path without the suffix of its last part."""
    return str(PurePosixPath(name).with_suffix(""))


def safe_part(part: str) -> str:
    """Return one part of an untrusted path as a portable file name, without separators and at most 200 characters long."""
    text = re.sub(r'[<>:"|?*\\/]', "_", "".join(c for c in part if c.isprintable())).strip(" .") or "photo"
    stem, suffix = PurePosixPath(text).stem, PurePosixPath(text).suffix
    return (stem[:120].encode()[:180].decode(errors="ignore").rstrip(" .") or "photo") + suffix[:20]


def safe_target(parts: Iterable[str]) -> str:
    """Return the relative path of a result from the parts of an untrusted path, without suffix and without traversal."""
    kept = [safe_part(part) for part in parts if part not in ("", ".", "..")]
    return without_suffix("/".join(kept or ["photo"]))


def unique_targets(wanted: Iterable[tuple[str, str]], taken: Iterable[str]) -> dict[str, str]:
    """Return targets that are unique on case-insensitive and Unicode-normalizing file systems as well.

    Parameters
    ----------
    wanted : iterable of (name, target)
        Inputs with their preferred targets. The first input with a target keeps it; for the others, the suffix of the
        input or a number is appended.
    taken : iterable of str
        Targets already in use by other inputs.

    Returns
    -------
    dict of name to target
    """
    used = {normalized(target) for target in taken}
    result = {}
    for name, target in wanted:
        suffix = PurePosixPath(name).suffix.lstrip(".").lower()
        suffix = suffix if suffix.isalnum() and len(suffix) <= 5 else ""
        choice, number = target, 1
        while normalized(choice) in used:
            choice = f"{target}.{suffix}" if number == 1 and suffix else f"{target}-{number}"
            number += 1
        used.add(normalized(choice))
        result[name] = choice
    return result


def normalized(target: str) -> str:
    """Return the Unicode-normalized, case-folded form of a target, for comparisons."""
    return unicodedata.normalize("NFC", target).casefold()


# Recursive listing of files, and globs.


#: Characters that make a name a glob.
WILDCARD = re.compile(r"[*?\[]")


def walk(
    root: Path,
    exclude: Path | None = None,
    depth: int | None = None,
    unreadable: Callable[[str, OSError], None] = lambda folder, error: None,
) -> Iterator[tuple[str, os.stat_result]]:
    """Yield path and status of the files below a folder, without hidden files.

    Symbolic links to folders are followed, but each folder is visited only once.

    Parameters
    ----------
    root : Path
    exclude : Path, optional
        Folder that is skipped.
    depth : int, optional
        Number of levels; 1 for the folder itself.
    unreadable : callable (folder, error), optional
        Called for each folder below `root` that cannot be read.

    Raises
    ------
    InputError
        If `root` cannot be read.
    """
    visited: set[tuple[int, int]] = set()
    if exclude is not None and exclude.is_dir():
        visited.add(_identity(exclude.stat()))
    real: deque[tuple[str, int]] = deque([(str(root), 1)])
    linked: deque[tuple[str, int]] = deque()  # visited last, so that a folder is listed under its real path
    while real or linked:
        folder, level = (real or linked).popleft()
        try:
            identity = _identity(Path(folder).stat())
            if identity in visited:
                continue
            visited.add(identity)
            with os.scandir(folder) as found:
                children = [child for child in found if not child.name.startswith(".")]
        except OSError as error:
            if folder == str(root):
                raise InputError(f"The folder {label(root)} could not be read: {reason(error)}.") from None
            if not isinstance(error, FileNotFoundError):  # deleted meanwhile
                unreadable(folder, error)
            continue
        for child in children:
            try:
                if child.is_dir():
                    if depth is None or level < depth:
                        (linked if child.is_symlink() else real).append((child.path, level + 1))
                elif child.is_file():
                    yield child.path, child.stat()
            except OSError:  # deleted meanwhile, or a loop of links
                continue


def stamp_of(info: os.stat_result) -> str:
    """Return size, mtime and ctime of a file as text; ctime detects replacements that preserve the mtime."""
    return f"{info.st_size}:{info.st_mtime_ns}:{info.st_ctime_ns}"


def is_picture(name: str) -> bool:
    """True if the file name has the suffix of a supported format."""
    known = formats()  # registers the suffixes with Pillow
    return Image.EXTENSION.get("." + name.rpartition(".")[2].lower()) in known


def split_glob(pattern: str) -> tuple[str, tuple[str, ...]]:
    """Return the folder before the first wildcard of a glob and the remaining parts."""
    parts = pattern.split("/")
    first = next(i for i, part in enumerate(parts) if WILDCARD.search(part))
    return "/".join(parts[:first]) or ("/" if pattern.startswith("/") else ""), tuple(parts[first:])


def matches_glob(names: Sequence[str], parts: Sequence[str]) -> bool:
    """True if a path matches a glob, both divided into parts; ``**`` matches any number of folders."""
    if not parts or not names:
        return not parts and not names
    if parts[0] == "**":
        return len(parts) == 1 or any(matches_glob(names[start:], parts[1:]) for start in range(len(names)))
    return fnmatchcase(names[0], parts[0]) and matches_glob(names[1:], parts[1:])


def _identity(info: os.stat_result) -> tuple[int, int]:
    return info.st_dev, info.st_ino


# Photos of a zip archive.


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


class ZipSource(Source):
    """Pictures of an archive, read without unpacking it.

    No file is written under the name of a member, so path traversal is impossible. Decompression of a member stops at
    ``settings.max_bytes``.
    """

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
            hidden = "__MACOSX" in parts or parts[-1].startswith((".", "__MACOSX"))
            if hidden or member.is_dir() or not is_picture(member.filename):
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


# Inputs from a text file with paths and URLs.


#: Maximum size of a list in bytes.
MAX_LIST_BYTES = 256 << 20

#: Deadline of one download in seconds.
DOWNLOAD_SECONDS = 30.0

#: Number of consecutive failed connections to a host after which its other URLs fail without a request.
MAX_HOST_FAILURES = 3

HTTP_URL = re.compile(r"(?i)https?://")


class PathList(Source):
    """Photos named by a text file with one path or URL per line; paths are relative to the current folder.

    Parameters
    ----------
    path : Path
        Text file in UTF-8. Empty lines and lines that start with ``#`` are skipped.
    settings : Settings
    hosts : tuple of str
        Loopback hosts, optionally with ports, that URLs may contain. Other private addresses are refused.
    """

    remote = True

    def __init__(self, path: Path, settings: Settings, hosts: tuple[str, ...] = ()) -> None:
        self.path, self.settings, self.hosts = path, settings, hosts
        self._failures: dict[str, int] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return PathList, (self.path, self.settings, self.hosts)

    def entries(self) -> list[Entry]:
        try:
            if self.path.stat().st_size > MAX_LIST_BYTES:
                raise InputError(f"{label(self.path)} is larger than {MAX_LIST_BYTES >> 20} MB. Split the list.")
            text = self.path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError:
            raise InputError(
                f"{label(self.path)} is not a folder, zip archive, picture or UTF-8 list of paths. Choose another input."
            ) from None
        except OSError as error:
            raise InputError(f"{label(self.path)} could not be read: {reason(error)}.") from None
        lines = dict.fromkeys(line.strip() for line in text.splitlines())
        found = {entry.name: entry for line in lines if line and not line.startswith("#") for entry in [_entry(line)]}
        return sorted(found.values(), key=lambda entry: entry.name)

    def read(self, entry: Entry, cancelled: Callable[[], bool] = never_cancelled) -> bytes:
        if not HTTP_URL.match(entry.locator):
            return super().read(entry)
        host = _host(entry.locator)
        if self._failures.get(host, 0) >= MAX_HOST_FAILURES:
            raise PhotoError(f"{printable(host, 60)} failed {MAX_HOST_FAILURES} times and was skipped. Try again later.")
        try:
            data = fetch(
                entry.locator,
                max_bytes=self.settings.max_bytes,
                loopback_hosts=self.hosts,
                deadline=DOWNLOAD_SECONDS,
                plain_http=True,
                cancelled=cancelled,
            )
        except ServiceError as error:
            if "(HTTP " not in str(error):  # a host that returned a status code is reachable
                with self._lock:
                    self._failures[host] = self._failures.get(host, 0) + 1
            raise PhotoError(str(error)) from None
        with self._lock:
            self._failures.pop(host, None)
        return data


def _entry(line: str) -> Entry:
    if HTTP_URL.match(line):
        return _url_entry(encodable(line))
    if "://" in line or "\0" in line:
        problem = f"{printable(line, 60)} is neither a path nor an http(s) URL. Correct the list."
        return Entry(printable(line, 500), "photo", problem=problem)
    name = encodable(line)
    target = safe_target(re.split(r"[\\/]" if os.name == "nt" else "/", os.path.splitdrive(name)[1]))
    try:
        return Entry(name, target, stamp_of(Path(line).stat()), line)
    except (OSError, ValueError) as error:
        return Entry(name, target, problem=f"{printable(name, 60)} could not be read: {reason(error)}.")


def _url_entry(line: str) -> Entry:
    try:
        path = urllib.parse.urlsplit(line).path
        host = _host(line)
    except ValueError:
        return Entry(line, "photo", problem=f"{printable(line, 60)} is not a valid URL. Correct the list.")
    parts = [urllib.parse.unquote(part) for part in path.split("/")]
    # The host is a folder of the target; as the last part it would lose its top-level domain as a suffix.
    return Entry(line, safe_target([host.replace(":", "_"), *parts, *([] if path.strip("/") else ["photo"])]), locator=line)


def _host(url: str) -> str:
    return urllib.parse.urlsplit(url).netloc.rpartition("@")[2].lower()


# Object stores such as ``s3://``, ``gs://`` and ``hf://``, accessed through fsspec.


#: Optional packages of file systems by protocol.
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}

#: Listing fields of different stores that identify the version of an object.
VERSION_FIELDS = (
    "ETag",
    "etag",
    "md5Hash",
    "crc32c",
    "blob_id",
    "oid",
    "mtime",
    "LastModified",
    "last_modified",
    "updated",
    "created",
)


def open_store(url: str) -> tuple[Any, str]:
    """Return the file system of a URL and the path in it.

    Raises
    ------
    OptionError
        If the protocol is unknown or not supported.
    NotReadyError
        If a package is missing or the store cannot be reached.
    """
    protocol = url.partition("://")[0].lower()
    if protocol in ("http", "https") or "::" in url:
        raise OptionError(f"{url_label(url)} is not an object store. Give a folder or a URL such as s3://bucket/folder.")
    try:
        import fsspec

        file_system, path = fsspec.core.url_to_fs(url)
    except ImportError:
        package = PACKAGES.get(protocol)
        name, command = package or f"the fsspec package for {printable(protocol, 20)}", f"pip install {package or 'it'}"
        raise NotReadyError(f"{url_label(url)} needs {name}. Run {command}.") from None
    except ValueError:
        raise OptionError(f"The protocol {printable(protocol, 20)}:// is unknown. Use s3, gs or hf.") from None
    except Exception as error:  # file systems have no common base class of errors
        raise store_error(url, error) from None
    return file_system, str(path)


def store_error(url: str, error: Exception) -> RmbgError:
    """Return an error of a file system as an exception with a message for the user."""
    return NotReadyError(f"{url_label(url)} cannot be used: {error_detail(error)}.")


def error_detail(error: Exception) -> str:
    """Return the description of an error of a file system without credentials."""
    return redact(reason(error), limit=120).rstrip(".")


def url_label(url: str) -> str:
    """Return a URL as printable text for messages, without user name and password."""
    return printable(re.sub(r"(?<=://)[^/@]*@", "", encodable(url)), 120)


class StoreSource(Source):
    """Pictures below a URL, or all objects that match it if it contains wildcards."""

    remote = True

    def __init__(self, url: str, settings: Settings) -> None:
        self.url, self.settings = url, settings
        self._fs, self._path = open_store(url)

    def entries(self) -> list[Entry]:
        try:
            found: dict[str, dict[str, Any]]
            if WILDCARD.search(self._path):
                root = split_glob(self._path)[0]
                found = self._fs.glob(self._path, detail=True)
            elif self._fs.isfile(self._path):
                root = self._path.rpartition("/")[0]
                found = {self._path: self._fs.info(self._path)}
            else:
                root = self._path
                found = self._fs.find(self._path, detail=True)
        except Exception as error:  # file systems have no common base class of errors
            raise store_error(self.url, error) from None
        root = root.rstrip("/") + "/"
        entries = []
        for path, info in found.items():
            relative = path.removeprefix(root).lstrip("/")
            hidden = any(part.startswith(".") for part in relative.split("/"))
            if info.get("type") == "file" and not hidden and (is_picture(relative) or WILDCARD.search(self._path)):
                name = encodable(relative)
                entries.append(Entry(name, safe_target(name.split("/")), _stamp(info), path))
        return sorted(entries, key=lambda entry: entry.name)

    def read(self, entry: Entry, cancelled: Callable[[], bool] = never_cancelled) -> bytes:
        limit = self.settings.max_bytes
        try:
            data = bytes(self._fs.cat_file(entry.locator, start=0, end=limit + 1))
        except Exception as error:  # file systems have no common base class of errors
            raise PhotoError(f"{printable(entry.name, 60)} could not be read: {error_detail(error)}.") from None
        if len(data) > limit:
            raise PhotoError(f"{printable(entry.name, 60)} is larger than {megabytes(limit)}. Make the file smaller.")
        return data


def _stamp(info: dict[str, Any]) -> str:
    versions = [str(info[name]) for name in VERSION_FIELDS if info.get(name)]
    return ":".join([str(info.get("size", "")), *versions]) if versions else NO_STAMP


# Sources of a batch: folder, glob, zip archive, single picture, list of paths and URLs, or object store.


@dataclass(frozen=True)
class FolderSource(Source):
    """Pictures below a folder, or all files that match the parts of a glob, regardless of their suffix."""

    root: Path
    settings: Settings
    exclude: Path | None = None
    pattern: tuple[str, ...] | None = None
    depth: int | None = None

    def entries(self) -> list[Entry]:
        found: list[Entry] = []

        def unreadable(folder: str, error: OSError) -> None:
            if self.pattern is None:  # otherwise it may have no file that matches
                name = encodable(self._relative(folder))
                problem = f"The folder {label(name)} could not be read: {reason(error)}."
                found.append(Entry(f"{name}/", name, problem=problem))

        for path, info in walk(self.root, self.exclude, self.depth, unreadable):
            relative = self._relative(path)
            if matches_glob(relative.split("/"), self.pattern) if self.pattern else is_picture(relative):
                name = encodable(relative)
                found.append(Entry(name, without_suffix(name), stamp_of(info), path))
        return sorted(found, key=lambda entry: entry.name)

    def _relative(self, path: str) -> str:
        return os.path.relpath(path, self.root).replace(os.sep, "/")


@dataclass(frozen=True)
class FileSource(Source):
    """A single picture."""

    path: Path
    settings: Settings

    def entries(self) -> list[Entry]:
        name = encodable(self.path.name)
        return [Entry(name, without_suffix(name), stamp_of(self.path.stat()), str(self.path))]


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
    return FolderSource(root, settings, exclude, parts, None if "**" in parts else len(parts))


def _source_of_file(path: Path, settings: Settings, hosts: tuple[str, ...]) -> Source:
    if is_zip(path):
        return ZipSource(path, settings)
    if is_picture(path.name):
        return FileSource(path, settings)
    return PathList(path, settings, hosts)
