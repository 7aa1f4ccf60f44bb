"""rmbg.runtime.threads: limits of containers."""

import pytest

from rmbg.runtime import threads


@pytest.mark.parametrize(
    "files, expected",
    [
        ({"a/b/cpu.max": "150000 100000"}, 1.5),
        ({"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000"}, 2.0),
        ({"cpu.max": "50000 100000"}, 0.5),  # in a container, whose group is mounted at the root
        ({"a/b/cpu.max": "max 100000"}, None),
        ({"a/b/cpu.max": "damaged"}, None),
        ({}, None),
    ],
)
def test_limit_of_control_groups_2(tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "self").write_text("0::/a/b\n")
    assert threads.cpu_limit(tmp_path / "self", tmp_path) == expected


def test_limit_of_control_groups_1(tmp_path):
    folder = tmp_path / "cpu" / "a"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text("300000\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "self").write_text("5:memory:/other\n4:cpu,cpuacct:/a\n")
    assert threads.cpu_limit(tmp_path / "self", tmp_path) == 3.0
    assert threads.cpu_limit(tmp_path / "missing", tmp_path) is None


@pytest.mark.parametrize(
    "files, line, expected",
    [
        ({"a/b/memory.max": "max\n", "a/memory.max": "2000000\n"}, "0::/a/b", 2_000_000),
        ({"a/b/memory.max": "max\n"}, "0::/a/b", None),
        ({"memory/a/memory.limit_in_bytes": "3000000\n"}, "4:memory:/a", 3_000_000),
        ({"a/memory.max": "damaged"}, "0::/a", None),
    ],
)
def test_limit_of_memory(tmp_path, files, line, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "self").write_text(f"{line}\n")
    assert threads.memory_limit(tmp_path / "self", tmp_path) == expected
