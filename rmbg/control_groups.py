"""Limits of the control groups (containers) that this process runs in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

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
