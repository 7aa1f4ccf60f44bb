"""Weights: from the user's folder or the Hugging Face hub, whole, checked, and read without running anybody's code."""

from __future__ import annotations

import contextlib
import contextvars
import errno
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rmbg import encode
from rmbg.engines.models import Model
from rmbg.errors import ModelError, NotReadyError, RmbgError, printable
from rmbg.settings import Settings

Progress = Callable[[float | None, str], None]

#: In the data folder: which commit each model was downloaded at, and its checksum.
MANIFEST = "weights.json"


@dataclass(frozen=True)
class Weights:
    """A file that is there and has been checked."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Record:
    """What is remembered of a download."""

    hub: str
    revision: str
    sha256: str


def present(model: Model, settings: Settings) -> Path | None:
    """Where the model's weights are, if no download is needed; quick, without network."""
    own = _own_file(model, settings)
    if own is not None:
        return own
    from huggingface_hub import try_to_load_from_cache

    record = _records(settings).get(model.id)
    revision = record.revision if record is not None and record.hub == model.hub else model.revision
    cached = try_to_load_from_cache(model.hub, model.file, cache_dir=_cache(settings), revision=revision)
    return Path(cached) if isinstance(cached, str) else None


def fetch(model: Model, settings: Settings, progress: Progress) -> Weights:
    """The model's weights, downloaded if they are not there.

    `progress` is told the share of the download that is done; it may raise to stop it.

    Raises
    ------
    NotReadyError
        If the hub does not give them; the message says what to do about it.
    ModelError
        If they are there and damaged.
    """
    own = _own_file(model, settings)
    if own is not None:
        return Weights(own, sha256(own))
    record = _records(settings).get(model.id)
    if record is not None and record.hub != model.hub:
        record = None
    path = _download(model, record.revision if record else model.revision, settings, progress)
    progress(None, f"Checking the weights of {model.id}")
    digest = sha256(path)
    expected = record.sha256 if record else _published_sha256(model, path, settings)
    if expected not in (None, digest):
        _delete(path)
        raise ModelError(
            f"The weights of {model.id} from {model.page} are damaged: their checksum is not the one that they were published "
            "or first loaded with; they were deleted, so try again."
        )
    if record is None:
        _remember(settings, model.id, Record(model.hub, path.parent.name, digest))
    return Weights(path, digest)


def read(weights: Weights) -> dict[str, Any]:
    """All tensors of a file by their names.

    Raises
    ------
    ModelError
        If it is no whole safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(weights.path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(
            f"{weights.path} cannot be read as weights ({error}); it is cut off or no safetensors file, so delete it and get "
            "it again."
        ) from None


def sha256(path: Path) -> str:
    """The file's checksum; computed once as long as its size and time stay the same.

    Raises
    ------
    ModelError
        If it cannot be read.
    """
    try:
        state = path.stat()
        key = str(path), state.st_size, state.st_mtime_ns
        if key not in _checksums:
            with open(path, "rb") as file:
                digest = hashlib.sha256()
                while chunk := file.read(2**22):
                    digest.update(chunk)
            _checksums[key] = digest.hexdigest()
        return _checksums[key]
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror or type(error).__name__}); see who may read it.") from None


_checksums: dict[tuple[str, int, int], str] = {}


def offline(settings: Settings) -> bool:
    """Whether the user has said that the hub must not be asked."""
    return settings.environ.get("HF_HUB_OFFLINE", "").strip().upper() in ("1", "ON", "YES", "TRUE")


def token(settings: Settings) -> str | None:
    """The user's token for the hub: from the environment, or where ``hf auth login`` has put it."""
    given = settings.environ.get("HF_TOKEN", "").strip()
    if given:
        return given
    from huggingface_hub import get_token

    return get_token()


def _own_file(model: Model, settings: Settings) -> Path | None:
    folder = settings.weights
    if folder is None:
        return None
    try:
        if not folder.is_dir():
            raise NotReadyError(f"RMBG_WEIGHTS is {printable(str(folder), 120)!r}, and there is no such folder.")
        path = folder / f"{model.id}.safetensors"
        return path if path.is_file() else None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise NotReadyError(f"RMBG_WEIGHTS is {printable(str(folder), 120)!r}, which cannot be read ({reason}).") from None


def _cache(settings: Settings) -> str | None:
    """The hub's cache as the settings have it; None leaves it to the library, which knows the process's environment."""
    home = settings.environ.get("HF_HOME")
    folder = settings.environ.get("HF_HUB_CACHE") or (os.path.join(home, "hub") if home else None)  # noqa: PTH118 - as below
    # The library wants a string, and reads ~ and $NAME in what it takes from the environment itself.
    return os.path.expandvars(os.path.expanduser(folder)) if folder else None  # noqa: PTH111


def _endpoint(settings: Settings) -> str | None:
    return settings.environ.get("HF_ENDPOINT") or None


def _records(settings: Settings) -> dict[str, Record]:
    """The manifest; empty if there is none, or none that can be read: it can be made anew."""
    try:
        entries = json.loads((settings.data / MANIFEST).read_text())
        return {name: Record(**entry) for name, entry in entries.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _remember(settings: Settings, name: str, record: Record | None) -> None:
    """Write one entry of the manifest, or take it out.

    If that is not possible, because the disk is full or read-only, the hub is asked again next time.
    """
    with _remembering, contextlib.suppress(OSError):
        entries = {key: asdict(value) for key, value in _records(settings).items() if key != name}
        if record is not None:
            entries[name] = asdict(record)
        settings.data.mkdir(parents=True, exist_ok=True)
        encode.write(settings.data / MANIFEST, json.dumps(entries, indent=1).encode())


#: Held from reading the manifest to having written it: several models may be downloaded at once.
_remembering = threading.Lock()


def _published_sha256(model: Model, path: Path, settings: Settings) -> str | None:
    """The checksum that the hub gives for a large file; None if nobody can say."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    if path.is_symlink():
        # The cache has the file under its checksum, and links to it. What is there may be a link itself, into a store that
        # several repositories share and that has names of its own.
        name = path.readlink().name
    elif offline(settings):
        return None
    else:  # a system without links
        revision = path.parent.name
        with _sentences(model, revision, settings):
            url = hf_hub_url(model.hub, model.file, revision=revision, endpoint=_endpoint(settings))
            name = get_hf_file_metadata(url, token=token(settings) or False, endpoint=_endpoint(settings)).etag or ""
    return name if re.fullmatch("[0-9a-f]{64}", name) else None


def _delete(path: Path) -> None:
    """Remove a file of the hub's cache, and on the way to it every link: the next download begins anew."""
    while path.is_symlink():
        target = path.parent / path.readlink()
        path.unlink()
        path = target
    path.unlink(missing_ok=True)


def _download(model: Model, revision: str, settings: Settings, progress: Progress) -> Path:
    from huggingface_hub import hf_hub_download

    with _sentences(model, revision, settings):
        return Path(
            hf_hub_download(
                model.hub,
                model.file,
                revision=revision,
                cache_dir=_cache(settings),
                endpoint=_endpoint(settings),
                token=token(settings) or False,
                local_files_only=offline(settings),
                tqdm_class=_bar(f"Downloading {model.id} ({model.megabytes} MB)", progress),
            )
        )


@contextlib.contextmanager
def _sentences(model: Model, revision: str, settings: Settings) -> Iterator[None]:
    """Whatever the hub's library raises becomes one sentence."""
    try:
        yield
    except RmbgError:
        raise
    except Exception as error:  # the library lets the errors of two HTTP clients through, depending on its version
        sentence = _why(error, model, revision, settings)
        if type(error).__name__ == "RevisionNotFoundError":
            _remember(settings, model.id, None)
        raise NotReadyError(sentence) from error


def _bar(text: str, progress: Progress) -> Any:
    """A progress bar class as the library wants one, that draws nothing and tells `progress`.

    Downloads from Xet storage move it in a thread of their own, where the page would not know whose progress it is; so
    `progress` is called in the context of now.
    """
    from tqdm import tqdm

    context = contextvars.copy_context()

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            context.copy().run(progress, min(1.0, self.n / self.total) if self.total else None, text)

    return Bar


def _is_full(error: BaseException) -> bool:
    """Whether there is no space left, told by the system or, in words only, by the library for Xet storage."""
    numbers = (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "errno", None) in numbers or any(f"(os error {number})" in str(error) for number in numbers)


def _why(error: Exception, model: Model, revision: str, settings: Settings) -> str:
    """One sentence about a download that failed, with the way out."""
    from huggingface_hub import errors

    cause = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ else error
    status = getattr(getattr(cause, "response", None), "status_code", None)
    by_hand = f"download {model.file} from {model.page}, name it {model.id}.safetensors and set RMBG_WEIGHTS to its folder"
    if isinstance(cause, errors.GatedRepoError):
        if status == 401 or not token(settings):
            return (
                f"{model.id} needs a Hugging Face token: accept its licence at {model.page}, make a token at "
                "https://huggingface.co/settings/tokens and set HF_TOKEN to it."
            )
        return (
            f"The licence of {model.id} has not been accepted by the account of your Hugging Face token: accept it at "
            f"{model.page} and try again."
        )
    if isinstance(cause, errors.RevisionNotFoundError):
        return f"{model.page} no longer has the version {revision[:12]} of {model.id}; try again to get the current one."
    if isinstance(cause, errors.RepositoryNotFoundError):
        return f"There is no {model.page}, or your HF_TOKEN may not see it; check HF_TOKEN and HF_ENDPOINT, or {by_hand}."
    if isinstance(cause, errors.EntryNotFoundError) and not isinstance(cause, errors.LocalEntryNotFoundError):
        return f"{model.page} has no file {model.file} any more; set RMBG_WEIGHTS to a folder with {model.id}.safetensors."
    if offline(settings) or isinstance(cause, errors.OfflineModeIsEnabled):
        return f"The weights of {model.id} are not on this machine and HF_HUB_OFFLINE is set; unset it, or {by_hand}."
    if _is_full(cause):
        return (
            f"The disk is full: the weights of {model.id} from {model.page} need {model.megabytes} MB; free some space, or set "
            "HF_HOME to a folder on a larger disk, and try again."
        )
    if isinstance(cause, errors.FileMetadataError):
        return (
            f"{_endpoint(settings) or 'What is at huggingface.co'} does not answer as a hub does; check HF_ENDPOINT, or "
            f"whether your network wants a login, or {by_hand}."
        )
    if status in (401, 403):
        return f"{model.page} refused the download ({status}); check HF_TOKEN and HF_ENDPOINT, or {by_hand}."
    if status is not None:
        return f"The hub answered {status} when asked for {model.id}; try again later, or {by_hand}."
    if "Consistency check failed" in str(cause):
        return f"The download of {model.id} broke off before its end; nothing of it was kept, so try again, or {by_hand}."
    if isinstance(cause, OSError) and cause.errno is not None:
        return (
            f"The weights of {model.id} from {model.page} could not be stored ({cause.strerror}); set HF_HOME to another "
            "folder and try again."
        )
    return (
        f"The hub could not be reached for the weights of {model.id} ({type(cause).__name__}); check the connection and try "
        f"again, or {by_hand}."
    )
