"""Threads of the process: how many the machine grants, and one pool that all steps share."""

from __future__ import annotations

import functools
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from rmbg.control_groups import cpu_limit

T = TypeVar("T")
R = TypeVar("R")


#: True in a process that `use_one_core` restricts.
_single_core = False


@functools.cache
def cpu_count() -> int:
    """Number of CPU cores that this process may use: `use_one_core`, CPU affinity and limits of control groups apply."""
    if _single_core:
        return 1
    limit = cpu_limit()
    return _affinity() if limit is None else max(1, min(_affinity(), math.ceil(limit)))


def limited_cpu_count() -> int | None:
    """`cpu_count` if it is smaller than the affinity, which libraries consider themselves; else None."""
    return cpu_count() if cpu_count() < _affinity() else None


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def use_one_core() -> None:
    """Restrict this process to one core, as one of several processes that share the machine; before its first use of a pool."""
    global _single_core
    _single_core = True
    cpu_count.cache_clear()


@contextmanager
def on_one_core() -> Iterator[None]:
    """Restrict the current thread to one core: `run_parallel` starts no other threads, and networks run on one core.

    Photos that are processed at the same time, each on one core, take less time than on all cores in turn, as no thread waits
    for the others.
    """
    before, _current.one_core = one_core(), True
    try:
        yield
    finally:
        _current.one_core = before


def one_core() -> bool:
    """True in a thread within `on_one_core`."""
    return getattr(_current, "one_core", False)


_current = threading.local()


def run_parallel(function: Callable[[T], R], values: Iterable[T]) -> list[R]:
    """Call `function` for each value in the pool of the process, and return the results in order.

    The first exception is raised after all calls have ended. Within `on_one_core`, and in a thread of the pool, the calling
    thread makes all calls.
    """
    if cpu_count() == 1 or one_core() or getattr(_current, "in_pool", False):
        return [function(value) for value in values]
    futures = [_pool().submit(function, value) for value in values]
    for future in futures:
        future.exception()
    return [future.result() for future in futures]


def row_strips(height: int, rows: int) -> list[slice]:
    """Divide a picture into strips of `rows` rows, the last one possibly lower."""
    return [slice(top, min(top + rows, height)) for top in range(0, height, rows)]


@functools.cache
def _pool() -> ThreadPoolExecutor:
    # A thread of the pool that waited for others of the pool could wait forever.
    mark = functools.partial(setattr, _current, "in_pool", True)
    return ThreadPoolExecutor(cpu_count(), thread_name_prefix="rmbg", initializer=mark)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork
