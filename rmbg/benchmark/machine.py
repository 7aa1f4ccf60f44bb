"""Hardware and package versions of a run, for the end of a report."""

from __future__ import annotations

import functools
import os
import platform
from importlib import metadata
from pathlib import Path

from rmbg.inference.torch_import import import_torch, torch_is_installed
from rmbg.threads import cpu_count
from rmbg.version import __version__

#: Packages whose version can affect scores or seconds.
PACKAGES = ("numpy", "scipy", "pillow", "torch", "openvino", "transformers")


@functools.cache
def describe() -> dict[str, str]:
    """Names and values, in display order; unknown values are left out."""
    found = {
        "Processor": f"{_processor()}, {cpu_count()} cores",
        "Memory": _memory(),
        "Accelerator": _accelerator(),
        "System": f"{platform.system()} {platform.release()}",
        "rmbg": __version__,
        "Python": platform.python_version(),
    }
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {name: value for name, value in found.items() if value}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.lower().startswith(("model name", "hardware"))]
    return names[0] if names else platform.processor() or platform.machine()


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (AttributeError, OSError, ValueError):  # not on Windows
        return ""


def _accelerator() -> str:
    """Name of torch's GPU, or empty. A torch for CPUs is not imported for this, as that takes seconds."""
    if not torch_is_installed() or metadata.version("torch").endswith("+cpu"):
        return ""
    torch = import_torch()
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return "Apple MPS" if torch.backends.mps.is_available() else ""
