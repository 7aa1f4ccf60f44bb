"""Memory of processes, from /proc."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def process_memory(field: str, process: int | None = None, *, children: bool = False) -> int:
    """Return a field of the status of a process, by default of this one, in bytes.

    Unlike getrusage, the peak does not include that of the parent.

    Parameters
    ----------
    field : str
        ``VmRSS`` for the resident memory, ``VmHWM`` for its peak.
    process : int, optional
    children : bool
        Add that of the processes which it has started.
    """
    process = process or os.getpid()
    total = _status(process)[field]
    if children:
        for path in Path(f"/proc/{process}/task").glob("*/children"):
            for child in path.read_text().split():
                with contextlib.suppress(OSError, KeyError):  # it has ended
                    total += _status(int(child))[field]
    return total


def _status(process: int) -> dict[str, int]:
    """Numbers in the status of a process; sizes in bytes."""
    found = {}
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if words and words[0].isdecimal():
            found[name] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    return found
