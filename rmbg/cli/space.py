"""Write the app as the folder of a Hugging Face Space, and upload it with --repo."""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from rmbg.cli import output
from rmbg.errors import NotReadyError, OptionError, OutputError, RmbgError, alternatives, printable, reason
from rmbg.inference import hub
from rmbg.inference.catalog import DOWNLOADS, Model
from rmbg.runtime.cancellation import CancellationToken
from rmbg.settings import Settings

#: The checkout that the folder is written from.
ROOT = Path(__file__).resolve().parents[2]

#: Files and folders of a Space. The README has the configuration in its front matter.
CONTENT = ("app.py", "requirements.txt", "README.md", "LICENSE", "rmbg", "examples", "docs")

#: Names of hardware, as in the documentation of Spaces: letters, digits and hyphens.
HARDWARE = re.compile(r"[a-z0-9][a-z0-9-]{1,40}")

#: Scopes of the tokens of visitors: inference, and files whose license they have accepted.
SCOPES = ("inference-api", "gated-repos")

#: Suffixes of binary files. The hub accepts them in a push with git only through git-lfs; `upload` does not depend on this.
BINARY = (".jpg", ".jpeg", ".png", ".webp", ".safetensors")

REPO = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="new or empty folder")
    parser.add_argument("--repo", metavar="OWNER/NAME", help="create or update this Space; requires HF_TOKEN with write access")
    parser.add_argument("--private", action="store_true", help="create the Space as a private one")
    parser.add_argument("--hardware", metavar="NAME", help="such as cpu-basic, zero-a10g or t4-small")
    parser.add_argument(
        "--sign-in",
        action="store_true",
        help="let visitors sign in, for Hugging Face's inference and for weights whose license they have accepted",
    )
    parser.add_argument(
        "--preload",
        action="append",
        default=[],
        metavar="ID",
        help=f"download the weights of a model when the Space is built: {', '.join(_preloadable())}; may be repeated",
    )
    parser.add_argument(
        "--secret",
        action="append",
        default=[],
        metavar="NAME",
        help="set a secret of the Space, such as FAL_KEY, to the value of this environment variable; may be repeated",
    )
    parser.add_argument(
        "--variable",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a public variable of the Space; may be repeated",
    )


def run(arguments: argparse.Namespace, token: CancellationToken) -> None:
    settings = Settings.from_environ()
    folder = Path(arguments.folder)
    secrets, variables = _secrets(arguments.secret, settings), _variables(arguments.variable)
    _check(arguments)
    if arguments.repo and not hub.token(settings):
        raise NotReadyError("Set HF_TOKEN to a token with write access, from https://huggingface.co/settings/tokens.")
    write(folder, arguments.hardware, arguments.preload, sign_in=arguments.sign_in)
    if not arguments.repo:
        output.write_text(
            f"{folder}\nPush it to a Space with git-lfs, or run the command with --repo OWNER/NAME and another folder.\n"
        )
        return
    url = upload(folder, arguments.repo, settings, secrets, variables, arguments.hardware, private=arguments.private)
    output.write_text(f"{url}\n")


def _check(arguments: argparse.Namespace) -> None:
    if arguments.repo and not REPO.fullmatch(arguments.repo):
        raise OptionError(f"--repo is {printable(arguments.repo, 80)!r}; it must be OWNER/NAME.")
    if arguments.hardware and not HARDWARE.fullmatch(arguments.hardware):
        raise OptionError(f"--hardware is {printable(arguments.hardware, 60)!r}; it must be a name such as cpu-basic.")
    if not arguments.repo and (arguments.secret or arguments.variable or arguments.private):
        raise OptionError("--secret, --variable and --private apply to an upload. Add --repo OWNER/NAME.")
    for name in arguments.preload:
        if name not in _preloadable():
            raise OptionError(f"--preload is {printable(name, 60)!r}; choose from {alternatives(name, _preloadable())}.")


def _preloadable() -> list[str]:
    """Models on the hub whose license does not have to be accepted before the download."""
    return [name for name, model in DOWNLOADS.items() if model.hub and not model.gated]


def _preloaded(model: Model) -> str:
    """Return the entry of a file in the front matter: repository, file, and the commit if the model has a certain one."""
    commit = f" {model.revision}" if re.fullmatch("[0-9a-f]{40}", model.revision) else ""
    return f"{model.hub} {model.file}{commit}"


def _secrets(names: list[str], settings: Settings) -> dict[str, str]:
    values = {}
    for name in names:
        if not VARIABLE.fullmatch(name) or not settings.environ.get(name):
            raise OptionError(f"--secret {printable(name, 60)} is not set in the environment. Set the variable to the value.")
        values[name] = settings.environ[name]
    return values


def _variables(texts: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for name, separator, _ in pairs:
        if not separator or not VARIABLE.fullmatch(name):
            raise OptionError(f"--variable is {printable(name, 60)!r}; it must be NAME=VALUE.")
    return {name: value for name, _, value in pairs}


def write(folder: Path, hardware: str | None = None, preload: list[str] | None = None, *, sign_in: bool = False) -> None:
    """Write the folder of a Space.

    Parameters
    ----------
    folder : Path
        Must not exist, or be empty. It is complete, or unchanged if the function raises.
    hardware : str, optional
        Suggested hardware.
    preload : list of str, optional
        Ids of models in `DOWNLOADS` whose weights are downloaded when the Space is built.
    sign_in : bool
        Let visitors sign in with Hugging Face.

    Raises
    ------
    RmbgError
        If the package is not part of a checkout.
    OutputError
        If the folder contains files or cannot be written.
    """
    missing = [name for name in CONTENT if not (ROOT / name).exists()]
    if missing:
        raise RmbgError(f"A Space is written from a checkout of the repository, and {missing[0]} is missing. Clone it first.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{printable(str(folder), 120)} exists and is not an empty folder. Choose another folder.")
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        for name in CONTENT:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, temporary / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
            else:
                shutil.copy(ROOT / name, temporary / name)
        _configure(temporary / "README.md", hardware, preload or [], sign_in)
        lines = [f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in BINARY]
        (temporary / ".gitattributes").write_text("".join(lines), encoding="utf-8")
        temporary.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        temporary.replace(folder)
    except OSError as error:
        raise OutputError(f"{printable(str(folder), 120)} cannot be written: {reason(error)}. Choose another folder.") from None
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _configure(readme: Path, hardware: str | None, preload: list[str], sign_in: bool) -> None:
    """Set hardware, preloaded weights and sign-in in the front matter of the README."""
    from huggingface_hub import RepoCard  # deferred: the import takes a second

    card = RepoCard.load(readme, ignore_metadata_errors=False)
    if hardware:
        card.data.suggested_hardware = hardware
    if preload:
        card.data.preload_from_hub = [_preloaded(DOWNLOADS[name]) for name in preload]
    if sign_in:
        card.data.hf_oauth = True
        card.data.hf_oauth_scopes = list(SCOPES)
    card.save(readme)


def upload(
    folder: Path,
    repo: str,
    settings: Settings,
    secrets: dict[str, str],
    variables: dict[str, str],
    hardware: str | None,
    *,
    private: bool = False,
) -> str:
    """Create or update a Space and return its URL; files that are not in `folder` are deleted from it.

    Parameters
    ----------
    folder : Path
        As `write` has written it.
    repo : str
        OWNER/NAME.
    settings : Settings
    secrets, variables : dict of name to value
    hardware : str or None
    private : bool
        Visibility of a new Space.

    Raises
    ------
    RmbgError
        If the hub rejects a request or cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub.endpoint(settings), token=hub.token(settings))
    try:
        url = api.create_repo(repo, repo_type="space", space_sdk="gradio", private=private or None, exist_ok=True)
        for name, value in secrets.items():
            api.add_space_secret(repo, name, value)
        for name, value in variables.items():
            api.add_space_variable(repo, name, value)
        api.upload_folder(
            repo_id=repo, folder_path=folder, repo_type="space", delete_patterns="*", commit_message="Update the app"
        )
        if hardware:
            api.request_space_hardware(repo, hardware)  # type: ignore[arg-type]
    except Exception as error:  # depending on its version, the library raises the errors of one of two HTTP clients
        raise RmbgError(_failure(error, repo)) from None
    return str(url)


def _failure(error: Any, repo: str) -> str:
    """Message for a failed upload: the cause, then the remedy."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return "The hub rejected the token. Set HF_TOKEN to a valid token with write access."
    if status == 403:
        return f"The token may not write to {repo}. Set HF_TOKEN to a token with write access to this Space."
    if status == 402:
        return f"The hub requires a paid plan for this hardware of {repo}. Choose another --hardware."
    if status is not None:
        return f"The hub responded with HTTP {status} to the upload of {repo}. Try again later."
    return (
        f"The hub could not be reached for the upload of {repo} ({type(error).__name__}). Check the connection and try again."
    )
