"""The last tab: every provider with licence, price and link, what this machine has, the version."""

from __future__ import annotations

import platform

import gradio as gr

from rmbg import __version__
from rmbg.settings import Settings
from rmbg.ui import describe


def build(settings: Settings) -> None:
    gr.Markdown(
        "## Providers\nOne picture goes to one provider; everything after that, from background colour to file format, is made "
        "on this server from the same cut-out and costs nothing more."
    )
    gr.HTML(describe.table(settings), elem_classes="bare")
    gr.Markdown(
        "## Prices\n"
        "*charged*: the service said what it took. *listed*: from its price list, with the month in which it was read. "
        f"*estimated*: this machine's time at ${settings.hourly_usd} an hour (`RMBG_HOURLY_USD`). *unknown* is never shown as "
        "zero.\n\n"
        "## Your pictures\n"
        "Local providers never send a picture anywhere; a service gets it when you choose that service, and only then. What "
        "you upload lies in a temporary folder of this server, is seen by nobody else, and is removed within a day or when the "
        "server stops.\n\n"
        "## Your keys\n"
        "A key that you type goes with that one request to the service that it is for. It is kept nowhere: not on this server, "
        "not in its logs, not in your browser's storage. Every call that may cost something is written into a ledger before it "
        "leaves, without key and picture; one whose end is not known counts at list price.\n\n"
        f"## This server\n{machine()}\n\n"
        f"RMBG Studio {__version__}, Python {platform.python_version()}, Gradio {gr.__version__}."
    )


def machine() -> str:
    """Device and engines found, in a line."""
    import torch

    if torch.cuda.is_available():
        device = torch.cuda.get_device_name(0)
    elif torch.backends.mps.is_available():
        device = "Apple GPU (MPS)"
    else:
        device = f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"
    return f"Device: {device}. Engine: PyTorch {torch.__version__}."
