"""Object stores such as ``s3://``, ``gs://`` and ``hf://``, accessed through fsspec."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from rmbg.batch.entry import NO_STAMP, Entry
from rmbg.batch.names import encodable, safe_target
from rmbg.batch.walk import WILDCARD, is_picture, split_glob
from rmbg.errors import NotReadyError, OptionError, PhotoError, RmbgError, printable, reason
from rmbg.net.client import redact
from rmbg.providers.base import never_cancelled
from rmbg.settings import Settings
from rmbg.units import megabytes

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


class StoreSource:
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
