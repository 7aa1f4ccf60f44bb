"""Weights of the published networks: found in the user's folder or downloaded, verified by checksum, and read.

Checksums of large files are stored with the state of each file, so that an unchanged file is not read again. A change of size,
modification time, change time or inode makes the checksum of a file unknown. A program can set the modification time, but not
the change time, so a replaced file of the same size and date is noticed as well.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rmbg.errors import ModelError, NotReadyError, printable
from rmbg.inference import hub, release
from rmbg.inference.catalog import Model
from rmbg.inference.hub import Progress
from rmbg.runtime import files
from rmbg.runtime.messages import NOT_SET_UP, Message, OwnerMessage
from rmbg.settings import Settings

#: File in the data folder with the checksums.
STORE = "checksums.json"

#: Age in nanoseconds from which on the times of a file identify its content. File systems have clocks of up to two seconds a
#: tick, within which a second change does not alter the times.
SETTLED_NS = 2_000_000_000

#: Checksums that are kept, the newest ones.
MAX_ENTRIES = 100

_lock = threading.Lock()
_memory: dict[Path, dict[str, Entry]] = {}


class State(NamedTuple):
    """Size in bytes, times in nanoseconds and inode of a file."""

    size: int
    modified: int
    changed: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> State:
        """Return the state of a file; raises OSError."""
        found = path.stat()
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


class Entry(NamedTuple):
    """Checksum of a file that had this state."""

    state: State
    sha256: str


def sha256(path: Path, data: Path, trailer: int = 0) -> str:
    """Return the SHA-256 checksum of a file without its last `trailer` bytes; a known file is not read.

    Parameters
    ----------
    path : Path
    data : Path
        Data folder, which has the stored checksums.
    trailer : int

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    state = State.of(path)
    if (digest := known(path, data)) is not None:
        return digest
    now = time.time_ns()
    digest = _content_sha256(path, state.size - trailer)
    settled = max(state.modified, state.changed) < now - SETTLED_NS
    if settled and State.of(path) == state:
        remember(path, digest, data, state)
    return digest


def known(path: Path, data: Path) -> str | None:
    """Return the stored checksum of a file in its present state, None if it would have to be read; raises OSError."""
    stored = _entries(data).get(str(path))
    return stored.sha256 if stored is not None and stored.state == State.of(path) else None


def _content_sha256(path: Path, size: int) -> str:
    """Checksum of the first `size` bytes of a file, which is read."""
    digest, left = hashlib.sha256(), size
    with open(path, "rb") as file:
        while left > 0 and (chunk := file.read(min(left, 2**22))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest()


def remember(path: Path, digest: str, data: Path, state: State | None = None) -> None:
    """Store the checksum of a file in its state, by default the present one; raises OSError if the file does not exist.

    Errors of writing the store are ignored: the next process computes the checksum again.
    """
    entry = Entry(state or State.of(path), digest)
    with _lock:
        entries = _entries(data)
        entries.pop(str(path), None)
        _memory[data] = dict(list({**entries, str(path): entry}.items())[-MAX_ENTRIES:])
        with contextlib.suppress(OSError):
            data.mkdir(parents=True, exist_ok=True)
            files.write(data / STORE, json.dumps(_memory[data], indent=1).encode())


def _entries(data: Path) -> dict[str, Entry]:
    """Known checksums by path; those of the file are none if it is missing or damaged."""
    try:
        stored = json.loads((data / STORE).read_bytes())
        entries = {str(name): Entry(State(*map(int, state)), str(digest)) for name, (state, digest) in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        entries = {}
    return {**entries, **_memory.get(data, {})}


# Weights of the published networks: found in the user's folder or downloaded, verified by checksum, and read.

#: File in the data folder that records the commit and checksum of each download.
MANIFEST = "weights.json"

#: Held while the manifest is read and rewritten, as several models may be downloaded at once.
_manifest_lock = threading.Lock()


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights whose checksum is known and, for a download, verified."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Download:
    """An entry of the manifest.

    Attributes
    ----------
    hub : str
        Repository on the hub, or URL of the file.
    revision : str
        Commit on the hub; empty for a URL.
    sha256 : str
    """

    hub: str
    revision: str
    sha256: str


def present(model: Model, settings: Settings) -> Path | None:
    """Path of the model's weights, None if they would have to be downloaded; sends no request."""
    if model.path is not None:
        return model.path if model.path.is_file() else None
    return _file_in_folder(model, settings) or downloaded(model, settings)


def downloaded(model: Model, settings: Settings) -> Path | None:
    """Path of the download of the model's weights, None if there is none; sends no request."""
    if model.url:
        return release.stored(model, settings)
    entry = _entry(model, settings)
    return hub.cached(model, entry.revision if entry else model.revision, settings)


def fetch(model: Model, settings: Settings, progress: Progress) -> WeightsFile:
    """Return the model's weights from its path, RMBG_WEIGHTS, the hub's cache or the data folder; download them if necessary.

    The first download from the hub resolves `Model.revision` to a commit, which later calls use.

    Parameters
    ----------
    model : Model
    settings : Settings
    progress : callable (fraction or None, text)
        May raise to cancel the download.

    Raises
    ------
    NotReadyError
        If the weights cannot be downloaded; the message has the remedy.
    ModelError
        If the file is damaged.
    """
    if model.path is not None:
        return WeightsFile(model.path, _own_sha256(model.path, settings))
    own = _file_in_folder(model, settings)
    if own is not None:
        return WeightsFile(own, weights_sha256(own, settings))
    entry = _entry(model, settings)
    try:
        if model.url:
            path = release.download(model, settings, progress)
        else:
            path = hub.download(model, entry.revision if entry else model.revision, settings, progress)
        progress(None, Message("Checking the weights of {model}", model=model.id))
        digest = weights_sha256(path, settings)
        genuine = _is_genuine(model, path, digest, settings)
    except hub.RevisionGoneError:
        _update_manifest(settings, model.id, None)
        raise
    if genuine is False:
        hub.delete(path)
        raise ModelError(
            f"The weights of {model.id} from {model.page} are damaged: their checksum differs from the published or recorded "
            "one. They were deleted. Try again to download them."
        )
    if entry is None:
        revision = "" if model.url else path.parent.name
        _update_manifest(settings, model.id, Download(model.url or model.hub, revision, digest))
    return WeightsFile(path, digest)


def remove(model: Model, settings: Settings) -> int:
    """Delete the download of the model's weights and its entry of the manifest, and return its size in bytes.

    A file in ``RMBG_WEIGHTS`` is never deleted.

    Raises
    ------
    NotReadyError
        If there is no download.
    ModelError
        If it cannot be deleted.
    """
    path = downloaded(model, settings)
    if path is None:
        own = _file_in_folder(model, settings)
        if own is not None:
            raise NotReadyError(f"The weights of {model.id} are your own file {own}. Delete it yourself.")
        raise NotReadyError(f"The weights of {model.id} are not on this machine.")
    try:
        size = path.stat().st_size
        hub.delete(path)
    except OSError as error:
        raise ModelError(f"{path} cannot be deleted ({error.strerror}). Check its permissions.") from None
    _update_manifest(settings, model.id, None)
    return size


def check(model: Model, settings: Settings) -> str:
    """Read the model's weights, and return a sentence on their checksum and the recorded or published one.

    Raises
    ------
    NotReadyError
        If the weights are not on this machine.
    ModelError
        If the checksum differs, or the file cannot be read.
    """
    path = present(model, settings)
    if path is None:
        raise NotReadyError(f"The weights of {model.id} are not on this machine. Get them with rmbg models get {model.id}.")
    try:
        digest = _content_sha256(path, path.stat().st_size)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}). Check its permissions.") from None
    if model.path is not None or path == _file_in_folder(model, settings):
        return f"The weights of {model.id} are your own file {path} without a published checksum; its sha256 is {digest}."
    genuine = _is_genuine(model, path, digest, settings)
    if genuine is None:
        return f"The checksum of {model.id} is not published or cannot be requested; that of {path} is sha256 {digest}."
    if not genuine:
        raise ModelError(
            f"The weights of {model.id} are damaged: their checksum differs from the published or recorded one. Delete them "
            f"with rmbg models remove {model.id}, and get them again."
        )
    return f"The weights of {model.id} have the published checksum, sha256 {digest}."


def read(weights: WeightsFile) -> dict[str, Any]:
    """Read all tensors of a file, by name.

    Raises
    ------
    ModelError
        If it is not a complete safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(weights.path)
    except (SafetensorError, OSError, ValueError) as error:
        text = (
            f"{weights.path} cannot be read as weights ({error}). It is incomplete or not a safetensors file. Delete it and "
            "download it again."
        )
        raise ModelError(OwnerMessage(text, NOT_SET_UP)) from None


def weights_sha256(path: Path, settings: Settings) -> str:
    """SHA-256 checksum of a file, see `digests.sha256`.

    Raises
    ------
    ModelError
        If the file cannot be read.
    """
    try:
        return sha256(path, settings.data)
    except OSError as error:
        text = f"{path} cannot be read ({error.strerror or type(error).__name__}). Check its permissions."
        raise ModelError(OwnerMessage(text, NOT_SET_UP)) from None


def _own_sha256(path: Path, settings: Settings) -> str:
    """Checksum of an own model; that of an ONNX file includes its external data."""
    digest = weights_sha256(path, settings)
    external = own_files(path)[1:]
    if not external:
        return digest
    digests = [digest, *(weights_sha256(file, settings) for file in external)]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def own_files(path: Path) -> tuple[Path, ...]:
    """Return the file of an own model, and the external data of an ONNX file; raises ModelError as `external_files`."""
    if path.suffix.lower() != ".onnx":
        return (path,)
    from rmbg.inference.onnx_file import external_files  # deferred, as most programs have no ONNX files

    return (path, *external_files(path))


def _file_in_folder(model: Model, settings: Settings) -> Path | None:
    """The model's file in RMBG_WEIGHTS; None if the variable is not set or the folder does not have it."""
    folder = settings.weights
    if folder is None:
        return None
    shown = printable(str(folder), 120)
    try:
        if not folder.is_dir():
            text = f"RMBG_WEIGHTS is {shown!r}, which is not a folder. Set it to the folder with your weights."
            raise NotReadyError(OwnerMessage(text, NOT_SET_UP))
        path = folder / model.file_name
        return path if path.is_file() else None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        text = f"RMBG_WEIGHTS is {shown!r}, which cannot be read ({reason}). Check its permissions."
        raise NotReadyError(OwnerMessage(text, NOT_SET_UP)) from None


def _is_genuine(model: Model, path: Path, digest: str, settings: Settings) -> bool | None:
    """True if the checksum of a download is the recorded or published one; None if none is known."""
    entry = _entry(model, settings)
    if entry is not None:
        return digest == entry.sha256
    if model.url:
        return release.is_genuine(model, path, digest)
    published = hub.published_sha256(model, path, settings)
    return None if published is None else digest == published


def _entry(model: Model, settings: Settings) -> Download | None:
    """Entry of the manifest for a download of the model from its present address."""
    entry = _read_manifest(settings).get(model.id)
    return entry if entry is not None and entry.hub == (model.url or model.hub) else None


def _read_manifest(settings: Settings) -> dict[str, Download]:
    """Entries of the manifest by model id; empty if it is missing or damaged, as it can be rebuilt."""
    try:
        entries = json.loads((settings.data / MANIFEST).read_text())
        return {name: Download(**entry) for name, entry in entries.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _update_manifest(settings: Settings, name: str, entry: Download | None) -> None:
    """Replace one entry of the manifest, or remove it.

    Errors are ignored: without the manifest the next call resolves the current commit again.
    """
    with _manifest_lock, contextlib.suppress(OSError):
        entries = {key: asdict(value) for key, value in _read_manifest(settings).items() if key != name}
        if entry is not None:
            entries[name] = asdict(entry)
        settings.data.mkdir(parents=True, exist_ok=True)
        files.write(settings.data / MANIFEST, json.dumps(entries, indent=1).encode())
