"""Outputs of a batch: folder, zip archive or object store. Each result is written atomically."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rmbg.batch.sources import ARCHIVE_ERRORS, error_detail, label, open_store, url_label
from rmbg.errors import OptionError, OutputError, RmbgError, reason
from rmbg.runtime import files
from rmbg.runtime.messages import megabytes
from rmbg.settings import Settings

#: Name of the folder with the manifest and the matte cache of a batch.
STATE_FOLDER = ".rmbg-batch"

#: Size of the test file of `FolderOutput.probe` in bytes.
PROBE_BYTES = 65_536

#: Names of temporary files of `files.write`, left over if the process was killed.
TEMPORARY_NAME = re.compile(r"\.[a-z0-9_]{8}\.part")


class FolderOutput:
    """Results as files in a folder.

    Attributes
    ----------
    state : Path
        Local folder for the manifest and the matte cache.
    root : Path or None
        Folder of the results; None for archives and object stores.
    summary : Path
        Path of the summary without suffix.
    """

    def __init__(self, root: Path) -> None:
        self.root: Path | None = root
        self.state = root / STATE_FOLDER
        self.summary = root / "rmbg-summary"
        self._root = root

    def prepare(self) -> None:
        """Create folders and remove leftovers of killed runs; raises OutputError. Called while the manifest is locked."""
        _create_folder(self._root)
        self.probe()
        _remove_temporary_files(self._root)

    def size(self, name: str) -> int | None:
        """Return the size of a result in bytes, or None if it does not exist."""
        try:
            return (self._root / name).stat().st_size
        except (OSError, ValueError):
            return None

    def check(self, name: str) -> None:
        """Raise OutputError if a result with this name cannot be written."""
        target = self._root / name
        _create_folder(target.parent)
        files.check_writable(target)

    def write(self, name: str, data: bytes) -> None:
        """Write one result; raises OutputError. Thread-safe."""
        target = self._root / name
        _create_folder(target.parent)
        files.write(target, data)

    def discard(self, name: str) -> bool:
        """Remove a file, possibly written by another machine; returns False if it does not exist, and raises OutputError."""
        try:
            (self._root / name).unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise OutputError(f"{label(self._root)} could not be written: {reason(error)}.") from None
        return True

    def probe(self, count: int = PROBE_BYTES) -> None:
        """Raise OutputError if there is no space for `count` bytes, or if a test file cannot be written."""
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(self._root).free
            if free < count:
                raise OutputError(f"The disk of {label(self._root)} has only {megabytes(free)} left. Free some space.")
        path = self._root / probe_name()
        files.write(path, bytes(PROBE_BYTES))
        with contextlib.suppress(OSError):
            path.unlink()

    def finish(self) -> None:
        """Complete the output after a run that was not cancelled; raises OutputError."""


class ZipOutput(FolderOutput):
    """Results as a zip archive.

    Results are collected in a folder beside it, and the archive is written when the batch has ended, because an archive
    without its central directory, which comes last, is not readable after a crash.
    """

    def __init__(self, path: Path) -> None:
        state = path.with_name(f".{path.name}{STATE_FOLDER}")  # hidden, so that other batches skip it as an input
        super().__init__(state / "results")
        self.path, self.root, self.state = path, None, state
        self.summary = path.with_name(f"{path.stem}-summary")
        self._sizes: dict[str, int] = {}

    def prepare(self) -> None:
        files.check_writable(self.path)
        super().prepare()
        for leftover in self.path.parent.glob(f"{self.path.name}.*.part"):
            leftover.unlink(missing_ok=True)
        if self.path.exists():
            try:
                with zipfile.ZipFile(self.path) as archive:
                    self._sizes = {member.filename: member.file_size for member in archive.infolist()}
            except ARCHIVE_ERRORS as error:
                raise OutputError(f"{label(self.path)} is not a valid zip archive: {reason(error)}. Move it away.") from None

    def size(self, name: str) -> int | None:
        staged = super().size(name)
        return self._sizes.get(name) if staged is None else staged

    def finish(self) -> None:
        staged = {path.relative_to(self._root).as_posix(): path for path in self._root.rglob("*") if path.is_file()}
        if not staged and self.path.exists():
            return
        temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        try:
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
                if self.path.exists():
                    with zipfile.ZipFile(self.path) as old:
                        for member in old.infolist():
                            if member.filename not in staged:
                                _copy(old, member, archive)
                for name, path in sorted(staged.items()):
                    archive.write(path, name)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except (*ARCHIVE_ERRORS, zipfile.LargeZipFile) as error:
            results = label(self._root)
            raise OutputError(
                f"{label(self.path)} could not be written: {reason(error)}. The results are in {results}."
            ) from None
        finally:
            temporary.unlink(missing_ok=True)
        shutil.rmtree(self._root, ignore_errors=True)


class StoreOutput:
    """Results as objects of a store; the manifest is in the local data folder. The methods are those of `FolderOutput`."""

    def __init__(self, url: str, settings: Settings) -> None:
        self.url = url
        self.root: Path | None = None
        self.state = settings.data / "batch" / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16]
        self.summary = self.state / "rmbg-summary"
        self._fs, path = open_store(url)
        self._path = path.rstrip("/")
        self._sizes: dict[str, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_sizes": {}}  # only used for the plan

    def prepare(self) -> None:
        _create_folder(self.state)
        with self._errors():
            self._sizes = {
                path.removeprefix(self._path).lstrip("/"): int(info.get("size") or 0)
                for path, info in self._fs.find(self._path, detail=True).items()
            }

    def size(self, name: str) -> int | None:
        return self._sizes.get(name)

    def check(self, name: str) -> None:
        """Object stores have no folders to create."""

    def write(self, name: str, data: bytes) -> None:
        path = f"{self._path}/{name}"
        with self._errors():
            try:
                self._fs.pipe_file(path, data)
            except FileNotFoundError:  # object stores have no folders, but local and remote file systems do
                self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
                self._fs.pipe_file(path, data)
        self._sizes[name] = len(data)

    def discard(self, name: str) -> bool:
        path = f"{self._path}/{name}"
        with self._errors():
            found = bool(self._fs.exists(path))
            if found:
                self._fs.rm_file(path)
        return found

    def probe(self, count: int = PROBE_BYTES) -> None:
        with self._errors():
            path = f"{self._path}/{probe_name()}"
            self._fs.pipe_file(path, b"probe")
            self._fs.rm_file(path)

    def finish(self) -> None:
        """All results are complete already."""

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except RmbgError:
            raise
        except Exception as error:  # file systems have no common base class of errors
            raise OutputError(f"{url_label(self.url)} could not be written: {error_detail(error)}.") from None


#: Destination of the results.
Output = FolderOutput | StoreOutput


def open_output(text: str, settings: Settings) -> Output:
    """Return the output for the argument OUT, without creating anything.

    Raises
    ------
    OptionError
        If `text` is not a path or a supported URL.
    OutputError
        If the path exists and is a file.
    """
    if text.startswith("-") or not text.strip() or "\0" in text:
        raise OptionError("OUT is not a valid name. Give a folder, a zip or a URL such as s3://bucket/folder.")
    if "://" in text:
        return StoreOutput(text, settings)
    path = Path(text)
    if path.suffix.lower() == ".zip" and not path.is_dir():
        return ZipOutput(path)
    if path.exists() and not path.is_dir():
        raise OutputError(f"{label(path)} is a file. Give a folder, or a name that ends in .zip.")
    return FolderOutput(path)


def probe_name() -> str:
    """Return a unique name for a test file, since workers probe concurrently; it matches `TEMPORARY_NAME`."""
    return f".{secrets.token_hex(4)}.part"


def _create_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {label(folder)} could not be created: {error.strerror or error}.") from None


def _remove_temporary_files(root: Path) -> None:
    """Remove temporary files left over by killed processes."""
    for folder, _, names in os.walk(root):
        for name in names:
            if TEMPORARY_NAME.fullmatch(name):
                with contextlib.suppress(OSError):
                    Path(folder, name).unlink()


def _copy(old: zipfile.ZipFile, member: zipfile.ZipInfo, archive: zipfile.ZipFile) -> Any:
    with old.open(member) as source, archive.open(member.filename, "w", force_zip64=member.file_size > 1 << 30) as target:
        shutil.copyfileobj(source, target, 1 << 20)
