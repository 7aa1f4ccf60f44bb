"""Start the web app on this machine."""

from __future__ import annotations

import argparse
import os
import re

from rmbg.cli import process
from rmbg.errors import OptionError, RmbgError, printable
from rmbg.runtime.cancellation import CancellationToken
from rmbg.settings import Settings
from rmbg.ui.guard.checks import parse_hosts
from rmbg.ui.storage import workspace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default=None, help="address to bind (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=None, help="port to bind (default: the first free port from 7860)")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="host name at which the page is served, such as studio.example.org; may be repeated",
    )
    parser.add_argument(
        "--root-path",
        metavar="PATH",
        help="path, or URL with the path, under which a reverse proxy serves the page, such as /studio",
    )
    parser.add_argument("--share", action="store_true", help="create a public Gradio link")


def run(arguments: argparse.Namespace, token: CancellationToken) -> None:
    if arguments.port is not None and not 1 <= arguments.port <= 65535:
        raise OptionError(f"--port is {arguments.port}; it must be between 1 and 65535.")
    parse_hosts(arguments.allow_host, "--allow-host")
    if arguments.allow_host:
        os.environ["RMBG_ALLOW_HOSTS"] = ",".join([*Settings.from_environ().allow_hosts, *arguments.allow_host])
    if arguments.root_path is not None:
        os.environ["GRADIO_ROOT_PATH"] = _root_path(arguments.root_path)
    workspace()  # Gradio reads the path of its temporary folder at import
    from rmbg.ui import app  # deferred: importing Gradio takes seconds, and other commands do not need it

    process.default_signals()
    try:
        app.launch(host=arguments.host, port=arguments.port, share=arguments.share)
    except OSError as error:  # Gradio reports any failure to bind as "Cannot find empty port"
        reason = error.strerror or str(error).partition(". ")[0].rstrip(".")
        raise RmbgError(f"The page cannot be opened at {arguments.host or 'this machine'}: {reason}.") from None


def _root_path(text: str) -> str:
    """Return a root path without a slash at its end."""
    path = re.fullmatch(r"(https?://[^/?#\s]+)?((?:/[\w.~-]+)*)/?", text, re.ASCII)
    if path is None:
        raise OptionError(f"--root-path is {printable(text, 60)!r}; it must be a path such as /studio, or a URL.")
    return text.rstrip("/")
