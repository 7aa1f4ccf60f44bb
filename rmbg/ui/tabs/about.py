"""The About tab: providers with license and price, privacy, this machine, versions."""

from __future__ import annotations

import platform

import gradio as gr

from rmbg.settings import Settings
from rmbg.ui.components import provider_text
from rmbg.ui.storage import CLOSED_SECONDS
from rmbg.ui.templates import render
from rmbg.version import __version__


def build(settings: Settings) -> None:
    """Create the components of the tab."""
    gr.Markdown(
        "## Providers\nOne provider computes the cutout. All further steps, from background color to file format, run on "
        f"{provider_text.place(settings)} and use the same cutout at no further cost."
    )
    gr.HTML(provider_text.cards(settings), elem_classes="bare", elem_id="providers")
    gr.Markdown(
        render(
            "about.md",
            hourly_usd=settings.hourly_usd,
            place=provider_text.place(settings),
            minutes=CLOSED_SECONDS // 60,
            machine=machine(),
            version=__version__,
            python=platform.python_version(),
            gradio=gr.__version__,
        )
    )


def machine() -> str:
    """Return device and engine of this machine in one line."""
    import torch

    if torch.cuda.is_available():
        device = torch.cuda.get_device_name(0)
    elif torch.backends.mps.is_available():
        device = "Apple GPU (MPS)"
    else:
        device = f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"
    return f"Device: {device}. Engine: PyTorch {torch.__version__}."
