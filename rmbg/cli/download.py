"""Download the weights of a local model before its first use."""

from __future__ import annotations

import argparse

from rmbg.cli import output
from rmbg.cli.terminal import ProgressLine
from rmbg.errors import OptionError, alternatives
from rmbg.inference import weights
from rmbg.inference.catalog import DOWNLOADS, Model
from rmbg.runtime.cancellation import CancellationToken
from rmbg.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help=f"one of {', '.join(DOWNLOADS)}")


def run(arguments: argparse.Namespace, token: CancellationToken) -> None:
    if arguments.id not in DOWNLOADS:
        raise OptionError(f"{arguments.id!r} has no weights to download; choose from {alternatives(arguments.id, DOWNLOADS)}.")
    download(DOWNLOADS[arguments.id], Settings.from_environ())


def download(model: Model, settings: Settings) -> None:
    """Download the weights of a model unless they are on this machine, and print their path and checksum."""
    line = ProgressLine(log=True)
    file = weights.fetch(model, settings, line)
    line.clear()
    output.write_text(f"{file.path}\nsha256 {file.sha256}\n")
