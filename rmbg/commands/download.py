"""Fetch the weights of a local model now, so that the first photo need not wait."""

from __future__ import annotations

import argparse
import sys

from rmbg.engines import weights
from rmbg.engines.models import MODELS
from rmbg.errors import OptionError
from rmbg.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help=f"one of {', '.join(MODELS)}")


def run(arguments: argparse.Namespace) -> None:
    if arguments.id not in MODELS:
        raise OptionError(f"{arguments.id!r} has no weights to download; choose from {', '.join(MODELS)}.")
    file = weights.fetch(MODELS[arguments.id], Settings.from_environ(), Progress())
    sys.stderr.write("\r\033[K" if sys.stderr.isatty() else "")
    print(f"{file.path}\nsha256 {file.sha256}")


class Progress:
    """A line that is written over while somebody watches, one line for every tenth in a log."""

    def __init__(self) -> None:
        self.shown = ""

    def __call__(self, fraction: float | None, text: str) -> None:
        watched = sys.stderr.isatty()
        step = "" if fraction is None else f" {int(fraction * 100 if watched else fraction * 10) * (1 if watched else 10)}%"
        if text + step != self.shown:
            self.shown = text + step
            sys.stderr.write(f"\r\033[K{self.shown}" if watched else f"{self.shown}\n")
            sys.stderr.flush()
