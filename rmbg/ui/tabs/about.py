"""The About tab: providers with license and price, published networks, privacy, this machine, versions."""

from __future__ import annotations

import importlib.metadata
import platform
from functools import partial

import gradio as gr

from rmbg.errors import NotReadyError, RmbgError
from rmbg.inference import inventory
from rmbg.inference.device import choose_engine, choose_engine_and_device
from rmbg.inference.engines import import_torch
from rmbg.runtime.messages import megabytes
from rmbg.runtime.threads import cpu_count
from rmbg.settings import Settings
from rmbg.ui.components import providers
from rmbg.ui.languages import t, visitor_text
from rmbg.ui.runs import INSTANT
from rmbg.ui.templates import render
from rmbg.version import __version__

#: Names of the engines.
ENGINES = {"openvino": "OpenVINO", "torch": "PyTorch"}


def build(tab: gr.Tab, settings: Settings) -> None:
    """Create the components of the tab."""
    gr.Markdown(
        f"## {t('Providers')}\n"
        + t(
            "One provider computes the cutout. All further steps, from background color to file format, run on {place} and use "
            "the same cutout at no further cost.",
            place=providers.place(settings),
        )
    )
    gr.HTML(providers.cards(settings), elem_classes="bare", elem_id="providers")
    gr.Markdown(f"## {t('Networks')}")
    table = gr.HTML(networks(settings), elem_classes="bare", elem_id="networks")
    tab.select(partial(networks, settings), None, table, **INSTANT)  # weights may have been downloaded
    gr.Markdown(
        render(
            "about.md",
            hourly_usd=settings.hourly_usd,
            place=providers.place(settings),
            minutes=f"{settings.visit_seconds / 60:g}",
            machine=machine(settings),
            version=__version__,
            python=platform.python_version(),
            gradio=gr.__version__,
        )
    )


def networks(settings: Settings) -> str:
    """Return the table of the published networks and own models: use, size, license, and seconds on this machine."""
    try:
        found = inventory.networks(settings)
    except RmbgError as error:
        return render("note.html", text=visitor_text(error))
    size = megabytes(sum(network.size for network in found))
    return render("networks.html", networks=found, size=size, place=providers.place(settings))


def machine(settings: Settings) -> str:
    """Return device and engine of local networks on this machine in one line; torch is imported for a GPU only.

    The built-in provider runs on the CPU in any case.
    """
    try:
        engine, name = choose_engine_and_device(settings)
        builtin = choose_engine(settings.engine, "cpu")
    except NotReadyError as error:
        return str(error)
    if name.startswith("cuda"):
        device = import_torch().cuda.get_device_name(name)
    else:
        cpu = t("CPU ({architecture}, {threads} threads)", architecture=platform.machine(), threads=cpu_count())
        device = "Apple GPU (MPS)" if name == "mps" else cpu
    line = t("Device: {device}. Engine: {engine} {version}.", device=device, **_named(engine))
    if name == "cpu":
        return line
    return line + " " + t("The built-in provider runs on the CPU with {engine} {version}.", **_named(builtin))


def _named(engine: str) -> dict[str, str]:
    return {"engine": ENGINES[engine], "version": importlib.metadata.version(engine)}
