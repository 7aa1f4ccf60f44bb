"""Argument parser of the command line and the exit statuses of its commands.

The exit status is 0 on success, 1 on failure with a message on standard error, 2 on wrong usage and 130 on interruption.
Results go to standard output, all other text to standard error. A command is a module with ``add_arguments(parser)`` and
``run(arguments, token)``; the first line of its docstring is its help text.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NoReturn

from rmbg.cancellation import CancellationToken
from rmbg.cli import batch, benchmark, compare, download, output, process, providers, remove, replace, serve, space, spent
from rmbg.errors import OptionError, RmbgError, check_text, printable, reason
from rmbg.version import __version__

COMMANDS: dict[str, ModuleType] = {
    "remove": remove,
    "replace": replace,
    "compare": compare,
    "batch": batch,
    "benchmark": benchmark,
    "providers": providers,
    "spent": spent,
    "download": download,
    "serve": serve,
    "space": space,
}


class Parser(argparse.ArgumentParser):
    """Argument parser that reports usage errors on one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {printable(message, 200)}. Try '{self.prog} --help'.\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        # argparse ignores write errors; standard output must report them.
        if message and file is not None and file is sys.stderr:
            output.write_error(message)
        elif message:
            output.write_text(message)


def parser() -> Parser:
    """Return the parser of all commands."""
    top = Parser(prog="rmbg", description="Remove the background of a picture.")
    top.add_argument("--version", action="version", version=f"rmbg {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        sub = commands.add_parser(name, help=summary, description=summary)
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    return top


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        arguments = parser().parse_args(argv)
    except OSError as error:  # the help text could not be written
        return _report_error(error)
    token = CancellationToken()
    if arguments.command == "serve":  # Gradio handles Ctrl-C in the main thread
        return _run(arguments, token)
    return process.run_in_thread(lambda: _run(arguments, token), token)


def _run(arguments: argparse.Namespace, token: CancellationToken) -> int:
    try:
        _check_lengths(arguments)
        arguments.run(arguments, token)
        return 0
    except (RmbgError, OSError, KeyboardInterrupt) as error:
        return _report_error(error)
    finally:
        token.end()


def _check_lengths(arguments: argparse.Namespace) -> None:
    """Raise OptionError if an argument is longer than the text limit, which also exceeds the length of any path."""
    for name, value in vars(arguments).items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                check_text(text, f"The argument {name.replace('_', '-')}")


def _report_error(error: BaseException) -> int:
    """Print the message of an error and return the exit status."""
    if isinstance(error, BrokenPipeError):  # the reader of the output has exited; silent as usual in a pipeline
        return 1
    if isinstance(error, KeyboardInterrupt):
        output.report("Stopped.")
        return 130
    output.report(str(error) if isinstance(error, RmbgError) else f"The command failed: {reason(error)}.")
    return 2 if isinstance(error, OptionError) else 1
