"""rmbg.runtime.threads: the pool."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from rmbg.runtime import threads
from tests.servers.web import until


def test_results_are_in_order_and_errors_are_raised():
    assert threads.run_parallel(lambda value: value * 2, range(20)) == list(range(0, 40, 2))
    with pytest.raises(ZeroDivisionError):
        threads.run_parallel(lambda value: 1 // value, [1, 0, 1])


def test_calls_for_a_small_photo_do_not_wait_for_all_of_a_large_one(monkeypatch):
    monkeypatch.setattr(threads, "cpu_count", lambda: 2)
    pool = ThreadPoolExecutor(2)
    monkeypatch.setattr(threads, "_pool", lambda: pool)
    begun, go, done = threading.Semaphore(0), threading.Semaphore(0), []

    def tile(number: int) -> None:
        begun.release()
        assert go.acquire(timeout=60)
        done.append(number)

    large = threading.Thread(target=threads.run_parallel, args=(tile, range(40)))
    small = threading.Thread(target=threads.run_parallel, args=(done.append, ["small"]))
    large.start()
    assert begun.acquire(timeout=60) and begun.acquire(timeout=60)  # both threads of the pool are busy
    assert until(lambda: pool._work_queue.qsize() > 0, 60)
    before = pool._work_queue.qsize()
    small.start()
    assert until(lambda: pool._work_queue.qsize() > before, 60)
    go.release(40)
    for thread in (large, small):
        thread.join(60)
    pool.shutdown()
    assert len(done) == 41 and done.index("small") < 20, done


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
