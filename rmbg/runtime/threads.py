"""Limits of the control groups (containers) that this process runs in."""

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

#: Control groups of this process, and their limits: version 2, then version 1.
GROUPS, MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
CPU_MAX, CPU_QUOTA, CPU_PERIOD = "cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us"
MEMORY_MAX, MEMORY_LIMIT = "memory.max", "memory.limit_in_bytes"


def cpu_limit(groups: Path = GROUPS, mount: Path = MOUNT) -> float | None:
    """CPU cores that the control groups grant; None without a limit.

    Parameters
    ----------
    groups : Path
        ``/proc/self/cgroup``.
    mount : Path
        Folder of the control groups.
    """
    return min((limit for folder in _folders("cpu", groups, mount) for limit in _cpu_limit(folder)), default=None)


def memory_limit(groups: Path = GROUPS, mount: Path = MOUNT) -> int | None:
    """Bytes of memory that the control groups grant; None without a limit. The parameters are those of `cpu_limit`."""
    return min((limit for folder in _folders("memory", groups, mount) for limit in _memory_limit(folder)), default=None)


def _folders(controller: str, groups: Path, mount: Path) -> Iterator[Path]:
    """Folders of the groups with a controller, and of the groups around them, whose limits apply as well."""
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        root = mount / controller if controllers else mount
        folder = root / name.lstrip("/")
        # Inside a container, the group itself is mounted at the root.
        for inner in [folder, *folder.parents]:
            yield inner
            if inner == root:
                break


def _cpu_limit(folder: Path) -> list[float]:
    """Limit of one control group as a list of at most one number."""
    try:
        if (folder / CPU_MAX).is_file():
            quota, period = (folder / CPU_MAX).read_text().split()
        else:
            quota, period = (folder / CPU_QUOTA).read_text(), (folder / CPU_PERIOD).read_text()
        return [int(quota) / int(period)] if quota != "max" and int(quota) > 0 and int(period) > 0 else []
    except (OSError, ValueError):
        return []


def _memory_limit(folder: Path) -> list[int]:
    """Limit of one control group as a list of at most one number."""
    try:
        path = folder / MEMORY_MAX
        return [int((path if path.is_file() else folder / MEMORY_LIMIT).read_text())]
    except (OSError, ValueError):  # without a limit, the file of version 2 contains "max"
        return []


# Threads of the process: how many the machine grants, and one pool that all steps share.


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
