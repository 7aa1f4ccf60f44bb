"""Threads: the cores that the machine and its control groups (containers) grant, and one pool that all steps share."""

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

#: Control groups of this process, and the folder of their limits.
GROUPS, MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")

#: Files of a limit in version 2 and, side by side, in version 1.
CPU, MEMORY = ("cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us"), ("memory.max", "memory.limit_in_bytes")


def cpu_limit(groups: Path = GROUPS, mount: Path = MOUNT) -> float | None:
    """CPU cores that the control groups grant; None without a limit.

    Parameters
    ----------
    groups : Path
        ``/proc/self/cgroup``.
    mount : Path
        Folder of the control groups.
    """
    limits = (_numbers(folder, *CPU) for folder in _folders("cpu", groups, mount))
    return min((limit[0] / limit[1] for limit in limits if len(limit) == 2 and min(limit) > 0), default=None)


def memory_limit(groups: Path = GROUPS, mount: Path = MOUNT) -> int | None:
    """Bytes of memory that the control groups grant; None without a limit. The parameters are those of `cpu_limit`."""
    limits = (_numbers(folder, *MEMORY) for folder in _folders("memory", groups, mount))
    return min((limit[0] for limit in limits if len(limit) == 1), default=None)


def _folders(controller: str, groups: Path, mount: Path) -> Iterator[Path]:
    """Folders of the groups with a controller, and of the groups around them, whose limits apply as well."""
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        controllers, _, name = line.partition(":")[2].partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        root = mount / controller if controllers else mount
        folder = root / name.lstrip("/")
        # Inside a container, the group itself is mounted at the root.
        for inner in [folder, *folder.parents]:
            yield inner
            if inner == root:
                break


def _numbers(folder: Path, file: str, *files: str) -> list[int]:
    """Numbers in the file of version 2, or in those of version 1; none without a limit, for which version 2 has ``max``."""
    try:
        texts = [folder / file] if (folder / file).is_file() else [folder / name for name in files]
        return [int(number) for path in texts for number in path.read_text().split()]
    except (OSError, ValueError):
        return []


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
    thread makes all calls. Few calls of one photo wait in the pool at a time, so that a small photo does not wait for all
    tiles of a large one.
    """
    if cpu_count() == 1 or one_core() or getattr(_current, "in_pool", False):
        return [function(value) for value in values]
    waiting = threading.Semaphore(cpu_count() + 1)

    def call(value: T) -> R:
        try:
            return function(value)
        finally:
            waiting.release()

    futures = []
    for value in values:
        waiting.acquire()
        futures.append(_pool().submit(call, value))
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
