"""Which engine, device and precision a network runs with: the user's wish, or the best that is there."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from dataclasses import dataclass

from rmbg.errors import NotReadyError
from rmbg.settings import Settings

# A Mac's GPU lacks an operation now and then; torch then uses the processor for it. Read when torch is imported.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")


@dataclass(frozen=True)
class Plan:
    """What a network runs with; the words that results show.

    Attributes
    ----------
    engine : str
        ``torch`` or ``openvino``.
    device : str
        ``cpu``, ``cuda:0``, ``mps``.
    precision : str
        ``fp32``, ``bf16`` or ``fp16``.
    """

    engine: str
    device: str
    precision: str


def choose(settings: Settings, engines: tuple[str, ...] = ("openvino", "torch")) -> Plan:
    """The plan for these settings, for a model that these engines can run.

    Raises
    ------
    NotReadyError
        If what the user asks for by name is not there: nothing slower is used in its place without a word.
    """
    # OpenVINO is for processors: asking for it is asking for one.
    device = choose_device("cpu" if settings.engine == "openvino" and settings.device == "auto" else settings.device)
    engine = choose_engine(settings.engine, device) if "openvino" in engines else "torch"
    if engine == "openvino":
        return Plan(engine, device, openvino_precision(settings.precision))
    return Plan(engine, device, settings.precision if settings.precision != "auto" else torch_precision(device))


def choose_engine(wanted: str, device: str) -> str:
    installed = importlib.util.find_spec("openvino") is not None
    if wanted == "openvino":
        if not installed:
            raise NotReadyError(
                "RMBG_ENGINE is 'openvino', which is not installed; run pip install openvino or set it to auto."
            )
        if device != "cpu":
            raise NotReadyError(f"RMBG_ENGINE is 'openvino', which does not run on {device}; set RMBG_DEVICE to cpu or auto.")
    return "openvino" if wanted != "torch" and installed and device == "cpu" else "torch"


def choose_device(wanted: str) -> str:
    if wanted == "cpu" or (wanted == "auto" and importlib.metadata.version("torch").endswith("+cpu")):
        return "cpu"  # known without importing torch, which takes seconds
    import torch

    if wanted == "auto":
        if torch.cuda.is_available():
            return "cuda:0"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    if wanted == "mps":
        if not torch.backends.mps.is_available():
            raise NotReadyError("RMBG_DEVICE is 'mps', and there is no Apple GPU that torch can use; set it to cpu or auto.")
        return "mps"
    kind, colon, number = wanted.partition(":")
    if kind == "cuda" and (number.isdecimal() or not colon):
        count, index = torch.cuda.device_count(), int(number or 0)
        if index >= count:
            has = f"torch sees {count} CUDA device{'s' * (count != 1)}"
            raise NotReadyError(f"RMBG_DEVICE is {wanted!r}, and {has} here; set it to cpu or auto, or install CUDA's torch.")
        return f"cuda:{index}"
    raise NotReadyError(f"RMBG_DEVICE is {wanted!r}; it must be auto, cpu, cuda, cuda:1 or mps.")


def openvino_precision(wanted: str) -> str:
    """bf16 where the processor computes with it, which halves the time; elsewhere it would double it."""
    from rmbg.engines.openvino_engine import precisions

    able = precisions()
    if wanted == "auto":
        return "bf16" if "bf16" in able else "fp32"
    if wanted not in able:
        raise NotReadyError(
            f"RMBG_PRECISION is {wanted!r}, and this processor computes with {', '.join(able)}; set it to auto."
        )
    return wanted


def torch_precision(device: str) -> str:
    """The fastest precision whose mattes are the same to the eye."""
    if device.startswith("cuda"):
        import torch

        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "fp32"
