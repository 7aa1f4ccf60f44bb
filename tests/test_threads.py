"""rmbg.threads: the limits of control groups, and the pool."""

import threading

import pytest

from rmbg import threads


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
    assert threads.group_limit(tmp_path / "self", tmp_path) == expected


def test_limit_of_control_groups_1(tmp_path):
    folder = tmp_path / "cpu" / "a"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text("300000\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "self").write_text("5:memory:/other\n4:cpu,cpuacct:/a\n")
    assert threads.group_limit(tmp_path / "self", tmp_path) == 3.0
    assert threads.group_limit(tmp_path / "missing", tmp_path) is None


def test_results_are_in_order_and_errors_are_raised():
    assert threads.run_parallel(lambda value: value * 2, range(20)) == list(range(0, 40, 2))
    with pytest.raises(ZeroDivisionError):
        threads.run_parallel(lambda value: 1 // value, [1, 0, 1])


def test_calls_within_a_thread_of_the_pool_do_not_wait_for_it(monkeypatch):
    monkeypatch.setattr(threads, "cpu_count", lambda: 2)

    def nested(_: int) -> set[int]:
        return {threading.get_ident(), *threads.run_parallel(lambda _: threading.get_ident(), range(4))}

    assert all(len(idents) == 1 for idents in threads.run_parallel(nested, range(8)))


@pytest.mark.parametrize(("height", "sizes"), [(0, []), (5, [5]), (64, [64]), (130, [64, 64, 2])])
def test_strips_cover_each_row_once(height, sizes):
    strips = threads.row_strips(height, 64)
    assert [len(range(height)[rows]) for rows in strips] == sizes
    assert [row for rows in strips for row in range(height)[rows]] == list(range(height))


def test_one_core_is_the_calling_thread(monkeypatch):
    monkeypatch.setattr(threads, "cpu_count", lambda: 4)

    def thread(_: int) -> int:
        return threading.get_ident()

    with threads.on_one_core():
        assert threads.one_core() and set(threads.run_parallel(thread, range(8))) == {threading.get_ident()}
    assert not threads.one_core() and threading.get_ident() not in threads.run_parallel(thread, range(8))
