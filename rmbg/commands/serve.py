"""Open the page in a browser: start the app on this machine."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default=None, help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=None, help="port (default: the first free one from 7860)")
    parser.add_argument("--share", action="store_true", help="make a public link through Gradio")


def run(arguments: argparse.Namespace) -> None:
    from rmbg import ui  # gradio takes seconds to import, and no other command needs it

    ui.launch(host=arguments.host, port=arguments.port, share=arguments.share)
