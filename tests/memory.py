"""Peak memory of a function, without the interpreter and libraries."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable


def peak(function: Callable[[], object]) -> int:
    """Call a function; returns the largest number of bytes that it had allocated at one time, NumPy arrays included."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
