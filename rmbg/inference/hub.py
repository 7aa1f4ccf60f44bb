"""Downloads from the Hugging Face hub, with one sentence for each way in which they fail."""

from __future__ import annotations

import contextlib
import contextvars
import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmbg.errors import NotReadyError, RmbgError
from rmbg.inference.catalog import Model
from rmbg.runtime.messages import NOT_SET_UP, Message, OwnerMessage
from rmbg.settings import Settings

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

Progress = Callable[[float | None, str], None]

#: Variables of the environment that the hub's client takes a token from; the last is set in Google Colab.
TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE", "COLAB_RELEASE_TAG")


class RevisionGoneError(NotReadyError):
    """The hub no longer has the requested revision."""


def offline(settings: Settings) -> bool:
    """True if HF_HUB_OFFLINE forbids requests to the hub."""
    return settings.environ.get("HF_HUB_OFFLINE", "").strip().upper() in ("1", "ON", "YES", "TRUE")


def token(settings: Settings) -> str | None:
    """The user's token for the hub, from HF_TOKEN or from the file that ``hf auth login`` writes."""
    value = settings.environ.get("HF_TOKEN", "").strip()
    if value:
        return value
    from huggingface_hub import constants

    if not any(name in os.environ for name in TOKEN_VARIABLES) and not Path(constants.HF_TOKEN_PATH).exists():
        return None  # without the import of the hub's client, which takes a second
    from huggingface_hub import get_token

    return get_token()


def cached(model: Model, revision: str, settings: Settings) -> Path | None:
    """Path of the model's weights in the hub's cache, None if they are not there; sends no request."""
    from huggingface_hub import constants

    folder = Path(_cache_folder(settings) or constants.HF_HUB_CACHE, f"models--{model.hub.replace('/', '--')}")
    if not folder.is_dir():
        return None  # without the import of the hub's client, which takes a second
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(model.hub, model.file, cache_dir=_cache_folder(settings), revision=revision)
    return Path(path) if isinstance(path, str) else None


def download(model: Model, revision: str, settings: Settings, progress: Progress) -> Path:
    """Download the model's weights into the hub's cache, or resume a download that was interrupted.

    Parameters
    ----------
    model : Model
    revision : str
        Branch, tag or commit.
    settings : Settings
    progress : callable (fraction or None, text)
        May raise to cancel the download.

    Returns
    -------
    Path
        In the folder of the commit, whose name is the parent folder's.

    Raises
    ------
    RevisionGoneError
        If the repository does not have the revision.
    NotReadyError
        If the download fails for another reason; the message has the remedy.
    """
    text = Message("Downloading {model} ({size} MB)", model=model.id, size=model.megabytes)
    with _errors_as_sentences(model, revision, settings):
        return _cached_file(model, revision, settings, text, progress)


def size(model: Model, settings: Settings) -> int:
    """Bytes of a file on the hub that is not downloaded yet; raises NotReadyError as `download`."""
    return _metadata(model, model.revision, settings).size or 0


def download_if_present(model: Model, revision: str, settings: Settings) -> None:
    """Download a small file into the hub's cache, if the repository has it; raises NotReadyError as `download`.

    The cache also records that a commit does not have a file, which is then not requested again.
    """
    from huggingface_hub import errors, try_to_load_from_cache

    known = try_to_load_from_cache(model.hub, model.file, cache_dir=_cache_folder(settings), revision=revision)
    if known is not None or offline(settings):
        return
    with _errors_as_sentences(model, revision, settings), contextlib.suppress(errors.RemoteEntryNotFoundError):
        _cached_file(model, revision, settings, "", lambda fraction, text: None)


def _cached_file(model: Model, revision: str, settings: Settings, text: str, progress: Progress) -> Path:
    """Download a file into the hub's cache, or find it there; raises the errors of huggingface_hub."""
    from huggingface_hub import hf_hub_download

    return Path(
        hf_hub_download(
            model.hub,
            model.file,
            revision=revision,
            cache_dir=_cache_folder(settings),
            endpoint=endpoint(settings),
            token=token(settings) or False,
            local_files_only=offline(settings),
            tqdm_class=progress_bar(text, progress),
        )
    )


def _metadata(model: Model, revision: str, settings: Settings) -> HfFileMetadata:
    """Size and checksum of a file, requested from the hub; raises NotReadyError as `download`."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    with _errors_as_sentences(model, revision, settings):
        url = hf_hub_url(model.hub, model.file, revision=revision, endpoint=endpoint(settings))
        return get_hf_file_metadata(url, token=token(settings) or False, endpoint=endpoint(settings))


def published_sha256(model: Model, path: Path, settings: Settings) -> str | None:
    """Checksum that the hub publishes for a downloaded file, None if it is not available."""
    if path.is_symlink():
        # The cache stores the file under its checksum. Only the first link is followed, as the stored file may itself be a
        # link into a store that several repositories share, which uses other names.
        name = path.readlink().name
    elif offline(settings):
        return None
    else:  # a system without symbolic links
        name = _metadata(model, path.parent.name, settings).etag or ""
    return name if re.fullmatch("[0-9a-f]{64}", name) else None


def delete(path: Path) -> None:
    """Remove a file of the hub's cache with all links that lead to it, so that the next download starts from the beginning."""
    with contextlib.suppress(FileNotFoundError):  # another process has found the same damage
        while path.is_symlink():
            target = path.parent / path.readlink()
            path.unlink()
            path = target
        path.unlink()


def _cache_folder(settings: Settings) -> str | None:
    """The hub's cache according to the settings; None selects the default of huggingface_hub."""
    home = settings.environ.get("HF_HOME")
    folder = settings.environ.get("HF_HUB_CACHE") or (os.path.join(home, "hub") if home else None)  # noqa: PTH118 - as below
    # huggingface_hub expands ~ and $NAME in its own environment variables, but not in arguments, which must be strings.
    return os.path.expandvars(os.path.expanduser(folder)) if folder else None  # noqa: PTH111


def endpoint(settings: Settings) -> str | None:
    """URL of the hub from HF_ENDPOINT; None for the public one."""
    return settings.environ.get("HF_ENDPOINT") or None


def progress_bar(text: str, progress: Progress) -> Any:
    """A tqdm class for huggingface_hub that draws nothing and reports to `progress`.

    Downloads from Xet storage update it in a thread of their own. `progress` runs in a copy of the caller's context, in which
    Gradio finds the session that the progress belongs to.
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


@contextlib.contextmanager
def _errors_as_sentences(model: Model, revision: str, settings: Settings) -> Iterator[None]:
    """Convert every exception of huggingface_hub into a NotReadyError."""
    try:
        yield
    except RmbgError:
        raise
    except Exception as error:  # depending on its version, the library raises the errors of one of two HTTP clients
        gone = type(error).__name__ == "RevisionNotFoundError"
        raise (RevisionGoneError if gone else NotReadyError)(_message(error, model, revision, settings)) from error


def _message(error: Exception, model: Model, revision: str, settings: Settings) -> Message:
    """Message for a failed download: the cause, then the remedy."""
    from huggingface_hub import errors

    cause = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ else error
    status = getattr(getattr(cause, "response", None), "status_code", None)
    if isinstance(cause, errors.GatedRepoError):
        return _gated(model, status, settings)
    if isinstance(cause, errors.RevisionNotFoundError):
        text = "{page} no longer has the version {revision} of {model}. Try again to download the current one."
        return Message(text, page=model.page, revision=revision[:12], model=model.id)
    if disk_full(cause):
        text = (
            f"The disk is full. The weights of {model.id} from {model.page} need {model.megabytes} MB. Free some space, or set "
            "HF_HOME to a folder on a larger disk, and try again."
        )
        visitor = "The disk is full. The weights of {model} need {size} MB. Free some space, or choose another provider."
        return OwnerMessage(text, Message(visitor, model=model.id, size=model.megabytes))
    setup = _setup_problem(cause, model, status, settings)
    if setup is not None:
        return setup
    by_hand = _by_hand(model)
    if status is not None:
        text = f"The hub responded with HTTP {status} to the request for {model.id}. Try again later, or {by_hand}."
        visitor = "The Hugging Face Hub responded with HTTP {status}. Try again later, or choose another provider."
        return OwnerMessage(text, Message(visitor, status=status))
    if "Consistency check failed" in str(cause):
        text = f"The download of {model.id} ended early and was discarded. Try again, or {by_hand}."
        visitor = "The download of {model} ended early. Try again, or choose another provider."
        return OwnerMessage(text, Message(visitor, model=model.id))
    text = (
        f"The hub could not be reached for the weights of {model.id} ({type(cause).__name__}). Check the connection and try "
        f"again, or {by_hand}."
    )
    visitor = "The Hugging Face Hub could not be reached for {model}. Try again later, or choose another provider."
    return OwnerMessage(text, Message(visitor, model=model.id))


def _gated(model: Model, status: int | None, settings: Settings) -> Message:
    """Message for weights whose license has to be accepted."""
    if not token(settings):
        text = (
            f"{model.id} needs a Hugging Face token. Accept its license at {model.page}, create a token at "
            "https://huggingface.co/settings/tokens and set HF_TOKEN to it."
        )
        visitor = "{model} needs a Hugging Face account that has accepted its license. Sign in, or choose another provider."
        return OwnerMessage(text, Message(visitor, model=model.id))
    if status == 401:
        text = (
            f"The hub rejected the token for {model.id}. Set HF_TOKEN to a valid token from "
            "https://huggingface.co/settings/tokens, and accept the license at "
            f"{model.page}."
        )
        visitor = "The Hugging Face Hub rejected the token for {model}. Sign in again, or choose another provider."
        return OwnerMessage(text, Message(visitor, model=model.id))
    text = "The account of this Hugging Face token has not accepted the license of {model}. Accept it at {page} and try again."
    return Message(text, model=model.id, page=model.page)


def _by_hand(model: Model) -> str:
    """Advice at the end of messages for the owner of the machine."""
    if model.own:
        return f"download {model.file} from {model.page}, and pass it with --model"
    return f"download {model.file} from {model.page}, name it {model.file_name} and set RMBG_WEIGHTS to its folder"


def _setup_problem(cause: BaseException, model: Model, status: int | None, settings: Settings) -> OwnerMessage | None:
    """Message for a download that fails until the owner of the machine changes something; None for other failures."""
    from huggingface_hub import errors

    by_hand = _by_hand(model)
    if isinstance(cause, errors.RepositoryNotFoundError):
        text = f"{model.page} does not exist, or HF_TOKEN has no access to it. Check HF_TOKEN and HF_ENDPOINT, or {by_hand}."
    elif isinstance(cause, errors.EntryNotFoundError) and not isinstance(cause, errors.LocalEntryNotFoundError):
        text = f"{model.page} has no file {model.file} any more. Set RMBG_WEIGHTS to a folder with {model.file_name}."
        if model.own:
            text = f"{model.page} has no file {model.file}. Download its weights, convert them, and pass the file with --model."
    elif offline(settings) or isinstance(cause, errors.OfflineModeIsEnabled):
        text = f"The weights of {model.id} are not on this machine and HF_HUB_OFFLINE is set. Unset it, or {by_hand}."
    elif isinstance(cause, errors.FileMetadataError):
        text = (
            f"{endpoint(settings) or 'huggingface.co'} did not respond as a hub does. Check HF_ENDPOINT and the login of your "
            f"network, or {by_hand}."
        )
    elif status in (401, 403):
        text = f"{model.page} refused the download (HTTP {status}). Check HF_TOKEN and HF_ENDPOINT, or {by_hand}."
    elif isinstance(cause, OSError) and cause.errno is not None:
        text = (
            f"The weights of {model.id} from {model.page} could not be stored ({cause.strerror}). Set HF_HOME to another "
            "folder and try again."
        )
    else:
        return None
    return OwnerMessage(text, NOT_SET_UP)


def disk_full(error: BaseException) -> bool:
    """True if no space is left; the library for Xet storage reports it in its message only."""
    numbers = (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "errno", None) in numbers or any(f"(os error {number})" in str(error) for number in numbers)
