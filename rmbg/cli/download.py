"""Download the weights of a local model before its first use."""

from __future__ import annotations

import argparse

from rmbg.cancellation import CancellationToken
from rmbg.cli import output
from rmbg.cli.terminal import ProgressLine
from rmbg.errors import OptionError
from rmbg.inference import weights
from rmbg.inference.catalog import MODELS, VITMATTE
from rmbg.settings import Settings

KNOWN = {**MODELS, VITMATTE.id: VITMATTE}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help=f"one of {', '.join(KNOWN)}")


def run(arguments: argparse.Namespace, token: CancellationToken) -> None:
    if arguments.id not in KNOWN:
        raise OptionError(f"{arguments.id!r} has no weights to download; choose from {', '.join(KNOWN)}.")
    line = ProgressLine(log=True)
    file = weights.fetch(KNOWN[arguments.id], Settings.from_environ(), line)
    line.clear()
    output.write_text(f"{file.path}\nsha256 {file.sha256}\n")
