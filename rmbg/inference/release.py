"""Downloads of weights that are not on the hub, such as the files of a release on GitHub.

They are stored in the folder ``weights`` in the data folder. A download that was interrupted is continued by the next one.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from rmbg.errors import InputError, NotReadyError, ServiceError
from rmbg.inference import hub
from rmbg.inference.catalog import Model
from rmbg.inference.hub import Progress
from rmbg.net.download import fetch_file
from rmbg.runtime.messages import NOT_SET_UP, Message, OwnerMessage
from rmbg.settings import Settings

#: Folder in the data folder.
FOLDER = "weights"

#: Time limit of a download in seconds; a connection that sends nothing for half a minute ends earlier.
DEADLINE = 6 * 3600.0

#: Largest size of a file, in proportion to that of the catalog.
MAX_RATIO = 1.5

#: Seconds between two checks for the end of a download by another process.
POLL_INTERVAL = 1.0


def stored(model: Model, settings: Settings) -> Path | None:
    """Path of the model's weights in the data folder, None if they are not there; sends no request."""
    path = settings.data / FOLDER / model.file_name
    return path if path.is_file() else None


def download(model: Model, settings: Settings, progress: Progress) -> Path:
    """Download the model's weights into the data folder, unless they are there; their checksum is not verified.

    Parameters
    ----------
    model : Model
    settings : Settings
    progress : callable (fraction or None, text)
        May raise to cancel the download.

    Raises
    ------
    NotReadyError
        If the download fails; the message has the remedy.
    """
    found = stored(model, settings)
    if found is not None:
        return found
    if hub.offline(settings):
        text = f"The weights of {model.id} are not on this machine and HF_HUB_OFFLINE is set. Unset it, or {_by_hand(model)}."
        raise NotReadyError(OwnerMessage(text, NOT_SET_UP))
    path = settings.data / FOLDER / model.file_name
    part = path.with_name(path.name + ".part")
    text = Message("Downloading {model} ({size} MB)", model=model.id, size=model.megabytes)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _lock(part.with_suffix(".lock"), lambda: progress(None, text)):
            if not path.is_file():  # another process may have completed it
                fetch_file(
                    model.url,
                    part,
                    max_bytes=int(model.megabytes * 10**6 * MAX_RATIO),
                    loopback_hosts=(urlsplit(model.url).netloc,),
                    deadline=DEADLINE,
                    progress=lambda fraction: progress(fraction, text),
                )
                part.replace(path)
    except (ServiceError, InputError) as error:
        raise NotReadyError(_failed(model, error)) from None
    except OSError as error:
        raise NotReadyError(_not_stored(model, error, settings)) from None
    return path


def is_genuine(model: Model, path: Path, sha256: str) -> bool:
    """True if a file has the checksum of the catalog.

    Parameters
    ----------
    model : Model
    path : Path
    sha256 : str
        SHA-256 checksum of the file.
    """
    kind, _, expected = model.checksum.partition(":")
    if kind == "sha256":
        return sha256 == expected
    digest = hashlib.new(kind, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(2**22):
            digest.update(chunk)
    return digest.hexdigest() == expected


@contextlib.contextmanager
def _lock(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Exclude other processes from a download; `waiting` is called repeatedly and may raise."""
    lock = FileLock(path)
    while True:
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=POLL_INTERVAL)
            break
        waiting()
    try:
        yield
    finally:
        lock.release()


def _failed(model: Model, error: Exception) -> OwnerMessage:
    """Message for a failure of the server or the connection."""
    visitor = "The weights of {model} could not be downloaded. Try again later, or choose another provider."
    return OwnerMessage(f"{error} Try again later, or {_by_hand(model)}.", Message(visitor, model=model.id))


def _not_stored(model: Model, error: OSError, settings: Settings) -> OwnerMessage:
    """Message for a failure to write the file."""
    if hub.disk_full(error):
        text = (
            f"The disk is full. The weights of {model.id} need {model.megabytes} MB. Free some space, or set RMBG_DATA to a "
            "folder on a larger disk, and try again."
        )
        visitor = "The disk is full. The weights of {model} need {size} MB. Free some space, or choose another provider."
        return OwnerMessage(text, Message(visitor, model=model.id, size=model.megabytes))
    reason = error.strerror or type(error).__name__
    text = f"The weights of {model.id} could not be stored in {settings.data} ({reason}). Set RMBG_DATA to another folder."
    return OwnerMessage(text, NOT_SET_UP)


def _by_hand(model: Model) -> str:
    """Advice at the end of messages for the owner of the machine."""
    return f"download {model.url}, name it {model.file_name} and set RMBG_WEIGHTS to its folder"
