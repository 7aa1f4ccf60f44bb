"""Open the page in a browser: start the app on this machine."""

from __future__ import annotations

import argparse

from rmbg.errors import OptionError, RmbgError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default=None, help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=None, help="port (default: the first free one from 7860)")
    parser.add_argument("--share", action="store_true", help="make a public link through Gradio")


def run(arguments: argparse.Namespace) -> None:
    if arguments.port is not None and not 1 <= arguments.port <= 65535:
        raise OptionError(f"--port is {arguments.port}; it must be between 1 and 65535.")
    from rmbg import ui  # gradio takes seconds to import, and no other command needs it

    try:
        ui.launch(host=arguments.host, port=arguments.port, share=arguments.share)
    except OSError as error:  # of all its reasons Gradio knows only that no port was to be had
        reason = error.strerror or str(error).partition(". ")[0].rstrip(".")
        raise RmbgError(f"The page cannot be opened at {arguments.host or 'this machine'}: {reason}.") from None
