"""rmbg.runtime.threads: the pool."""

import threading

import pytest

from rmbg.runtime import threads


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
