"""Choice of engine, device and precision: those of the settings, or the fastest that are available."""

from __future__ import annotations

import functools
import importlib.util
from importlib.metadata import version
from pathlib import Path

from rmbg.errors import NotReadyError
from rmbg.inference.catalog import FULL_PRECISION
from rmbg.inference.engines import Plan, import_torch, torch_is_installed
from rmbg.runtime.messages import NOT_SET_UP, OwnerMessage
from rmbg.settings import Settings

CPU_INFO = Path("/proc/cpuinfo")


def choose(settings: Settings, engines: tuple[str, ...] = ("openvino", "torch"), architecture: str = "") -> Plan:
    """Choose engine, device and precision for a model.

    Parameters
    ----------
    settings : Settings
    engines : tuple of str
        Engines that can run the model.
    architecture : str
        That of the model; those of `FULL_PRECISION` run in fp32 unless the settings name another precision.

    Raises
    ------
    NotReadyError
        If the settings name an engine, device or precision that is not available. It is never replaced by a slower one. Also
        if torch is not installed, which reads the published networks for both engines.
    """
    if "torch" not in engines:
        return _choose_for_onnx(settings)
    if not torch_is_installed():
        raise _not_set_up("This model needs torch, which is not installed. Run pip install torch transformers.")
    engine, device = choose_engine_and_device(settings, engines)
    precision = "fp32" if settings.precision == "auto" and architecture in FULL_PRECISION else settings.precision
    if engine == "openvino":
        return Plan(engine, device, openvino_precision(precision))
    return Plan(engine, device, precision if precision != "auto" else torch_precision(device))


def _choose_for_onnx(settings: Settings) -> Plan:
    """Plan of an ONNX file, which runs on the CPU as the built-in networks do: on OpenVINO, or on onnxruntime if it is set."""
    if settings.engine == "torch":
        raise _not_set_up("RMBG_ENGINE is 'torch', which does not run ONNX files. Set it to auto, openvino or onnxruntime.")
    engine = "onnxruntime" if settings.engine == "onnxruntime" else "openvino"
    if importlib.util.find_spec(engine) is None:
        raise _not_set_up(f"This model needs {engine}, which is not installed. Run pip install {engine}.")
    return Plan(engine, "cpu", "fp32" if engine == "onnxruntime" else builtin_precision(engine, settings.precision))


def choose_engine_and_device(settings: Settings, engines: tuple[str, ...] = ("openvino", "torch")) -> tuple[str, str]:
    """Engine and device of a model, as in `choose`; probes no precision."""
    # OpenVINO runs on the CPU only, so RMBG_ENGINE=openvino selects the CPU as well.
    device = choose_device("cpu" if settings.engine == "openvino" and settings.device == "auto" else settings.device)
    return choose_engine(settings.engine, device) if "openvino" in engines else "torch", device


def choose_engine(requested: str, device: str) -> str:
    """``openvino`` on a CPU if it is installed, else ``torch``, unless `requested` names one of them.

    Raises
    ------
    NotReadyError
        If the engine is not installed, or does not run on `device`.
    """
    installed = importlib.util.find_spec("openvino") is not None
    if requested == "openvino":
        if not installed:
            raise _not_set_up(
                "RMBG_ENGINE is 'openvino', which is not installed. Run pip install openvino or set RMBG_ENGINE to auto."
            )
        if device != "cpu":
            raise _not_set_up(f"RMBG_ENGINE is 'openvino', which does not run on {device}. Set RMBG_DEVICE to cpu or auto.")
    if requested != "torch" and installed and device == "cpu":
        return "openvino"
    if not torch_is_installed():
        if requested == "torch":
            raise _not_set_up(
                "RMBG_ENGINE is 'torch', which is not installed. Run pip install torch transformers or set RMBG_ENGINE to auto."
            )
        raise _not_set_up("Neither OpenVINO nor torch is installed. Run pip install openvino.")
    return "torch"


def choose_device(requested: str) -> str:
    """``cpu``, ``cuda:N`` or ``mps``; for ``auto`` the fastest that is available."""
    installed = torch_is_installed()
    # A build of torch for CPUs has no GPU.
    if requested == "cpu" or (requested == "auto" and (not installed or version("torch").endswith("+cpu"))):
        return "cpu"  # without importing torch, which takes seconds
    kind, colon, number = requested.partition(":")
    if requested not in ("auto", "mps") and not (kind == "cuda" and (number.isdecimal() or not colon)):
        raise _not_set_up(f"RMBG_DEVICE is {requested!r}. Set it to auto, cpu, cuda, cuda:1 or mps.")
    if not installed:
        raise _not_set_up(
            f"RMBG_DEVICE is {requested!r}, which needs torch. Run pip install torch transformers or set RMBG_DEVICE to auto."
        )
    torch = import_torch()
    if requested == "auto":
        if torch.cuda.is_available():
            return "cuda:0"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    if requested == "mps":
        if not torch.backends.mps.is_available():
            raise _not_set_up("RMBG_DEVICE is 'mps', and torch finds no Apple GPU. Set RMBG_DEVICE to cpu or auto.")
        return "mps"
    count, index = torch.cuda.device_count(), int(number or 0)
    if index >= count:
        found = f"torch finds {count} CUDA device{'s' * (count != 1)}"
        raise _not_set_up(f"RMBG_DEVICE is {requested!r}, and {found}. Set it to cpu or auto, or install torch with CUDA.")
    return f"cuda:{index}"


def openvino_precision(requested: str) -> str:
    """``bf16`` if the CPU computes it faster, else ``fp32``, unless `requested` names one."""
    from rmbg.inference.openvino_runner import supported_precisions

    supported = supported_precisions()
    if requested == "auto":
        return "bf16" if "bf16" in supported and bf16_is_fast(CPU_INFO) else "fp32"
    if requested not in supported:
        raise _not_set_up(
            f"RMBG_PRECISION is {requested!r}, and this CPU supports {', '.join(supported)}. Set RMBG_PRECISION to auto."
        )
    return requested


def builtin_precision(engine: str, requested: str) -> str:
    """Precision of the built-in networks: ``fp32`` on torch, otherwise as `openvino_precision`.

    `requested` may name a precision of a GPU, which the built-in networks do not run on. It has no effect on them then.
    """
    if engine != "openvino" or requested == "fp32":
        return "fp32"
    from rmbg.inference.openvino_runner import supported_precisions

    return openvino_precision(requested if requested == "bf16" and "bf16" in supported_precisions() else "auto")


@functools.cache
def bf16_is_fast(cpu_info: Path) -> bool:
    """Return False for processors of Intel without AMX: they have instructions for bf16, but take longer with them.

    RMBG-1.4 takes 2.6 s in bf16 and 1.8 s in fp32 on a Xeon without AMX, as in some virtual machines. On processors of AMD, and
    with AMX, bf16 halves the time.

    Parameters
    ----------
    cpu_info : Path
        ``/proc/cpuinfo``; without it, on other systems than Linux, the result is True.
    """
    try:
        text = cpu_info.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    return "GenuineIntel" not in text or "amx_bf16" in text


def torch_precision(device: str) -> str:
    """The fastest precision whose mattes do not differ visibly from those of ``fp32``."""
    if device.startswith("cuda"):
        return "bf16" if import_torch().cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "fp32"


def _not_set_up(text: str) -> NotReadyError:
    """Return the error for a setting that this machine does not support."""
    return NotReadyError(OwnerMessage(text, NOT_SET_UP))
