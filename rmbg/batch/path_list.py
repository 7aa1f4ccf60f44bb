"""Inputs from a text file with paths and URLs."""

from __future__ import annotations

import os
import re
import threading
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rmbg.batch.entry import Entry
from rmbg.batch.names import encodable, label, safe_target
from rmbg.batch.walk import stamp_of
from rmbg.errors import InputError, PhotoError, ServiceError, printable, reason
from rmbg.images.source import read as read_source
from rmbg.net.download import fetch
from rmbg.providers.base import never_cancelled
from rmbg.settings import Settings

#: Maximum size of a list in bytes.
MAX_LIST_BYTES = 256 << 20

#: Deadline of one download in seconds.
DOWNLOAD_SECONDS = 30.0

#: Number of consecutive failed connections to a host after which its other URLs fail without a request.
MAX_HOST_FAILURES = 3

HTTP_URL = re.compile(r"(?i)https?://")


class PathList:
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
            return read_source(entry.locator, entry.name, self.settings)[0]
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
