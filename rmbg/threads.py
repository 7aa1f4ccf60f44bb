"""Threads of the process: how many the machine grants, and one pool that all steps share."""

from __future__ import annotations

import functools
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

#: Control groups of this process, and their CPU limits: version 2, then version 1.
GROUPS = Path("/proc/self/cgroup")
CPU_MAX, CPU_QUOTA, CPU_PERIOD = "cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us"
MOUNT = Path("/sys/fs/cgroup")


@functools.cache
def cpu_count() -> int:
    """Number of CPU cores that this process may use: CPU affinity and limits of control groups (containers) apply."""
    limit = group_limit(GROUPS, MOUNT)
    return _affinity() if limit is None else max(1, min(_affinity(), math.ceil(limit)))


def limited_cpu_count() -> int | None:
    """`cpu_count` if a control group grants fewer cores than the affinity, which libraries consider themselves; else None."""
    return cpu_count() if cpu_count() < _affinity() else None


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def group_limit(groups: Path, mount: Path) -> float | None:
    """CPU cores that the control groups of this process grant; None without a limit.

    Parameters
    ----------
    groups : Path
        ``/proc/self/cgroup``.
    mount : Path
        Folder of the control groups.
    """
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return None
    limits = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = mount / "cpu" if controllers else mount
        folder = root / name.lstrip("/")
        # A limit of an outer group applies as well. Inside a container, the group itself is mounted at the root.
        for inner in [folder, *folder.parents]:
            limits += _limit(inner)
            if inner == root:
                break
    return min(limits, default=None)


def _limit(folder: Path) -> list[float]:
    """Limit of one control group as a list of at most one number."""
    try:
        if (folder / CPU_MAX).is_file():
            quota, period = (folder / CPU_MAX).read_text().split()
        else:
            quota, period = (folder / CPU_QUOTA).read_text(), (folder / CPU_PERIOD).read_text()
        return [int(quota) / int(period)] if quota != "max" and int(quota) > 0 and int(period) > 0 else []
    except (OSError, ValueError):
        return []


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
