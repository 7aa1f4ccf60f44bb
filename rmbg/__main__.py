"""The command line: ``python -m rmbg COMMAND ...``.

Exit 0 done; 1 it failed, with one sentence on standard error; 2 wrong usage; 130 interrupted. Results that a program reads go
to standard output, all else to standard error.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from rmbg import __version__
from rmbg.commands import COMMANDS
from rmbg.errors import OptionError, RmbgError, printable


class Parser(argparse.ArgumentParser):
    """Usage errors in one sentence that names the way to more."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {printable(message, 200)}. Try '{self.prog} --help'.\n")


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; each command adds its own arguments."""
    top = Parser(prog="rmbg", description="Take the background off a picture.")
    top.add_argument("--version", action="version", version=f"rmbg {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        sub = commands.add_parser(name, help=summary, description=summary)
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A pipe on Windows has the alphabet of the country; a name that it lacks must not undo what has been done.
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = parser().parse_args(argv)
    try:
        arguments.run(arguments)
        if sys.stdout is not None:  # it is where the caller has closed it
            sys.stdout.flush()
        return 0
    except OptionError as error:
        print(f"rmbg: {error}", file=sys.stderr)
        return 2
    except RmbgError as error:
        print(f"rmbg: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("rmbg: Stopped.", file=sys.stderr)
        return 130
    except OSError as error:
        # The reader has gone, or the disk behind a redirection is full. Python would complain once more when it closes
        # standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            print(f"rmbg: The output cannot be written: {error.strerror or error}.", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
