"""Limits of the pipeline: photos and pixels in memory."""

from __future__ import annotations

import threading
import time

import pytest

from rmbg.batch.pipeline import PixelBudget
from rmbg.images.encode import FORMATS, encode
from rmbg.remove import remove_background
from rmbg.runtime import threads
from tests.disc import save_photo
from tests.pictures import examples


def test_pixel_budget_admits_a_large_photo_alone():
    budget = PixelBudget(100)
    held, most, alone = [0], [0], []
    lock = threading.Lock()

    def work(pixels: int) -> None:
        with budget.hold(pixels):
            with lock:
                held[0] += pixels
                most[0] = max(most[0], held[0] if pixels <= 100 else 0)
                if pixels > 100:
                    alone.append(held[0] == pixels)
            time.sleep(0.01)
            with lock:
                held[0] -= pixels

    workers = [threading.Thread(target=work, args=(pixels,)) for pixels in [30, 60, 90, 10, 500, 40, 300, 70] * 3]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join(300)
    assert most[0] <= 100 and alone == [True] * 6


def test_read_ahead_is_bounded(batch, tmp_path, disc, monkeypatch):
    """At most one input per queue slot, reader and worker is read before the provider is called."""
    from rmbg.batch.sources import FolderSource
    from tests.disc import save_photos

    reads: list[str] = []

    class Counting(FolderSource):
        def read(self, entry, cancelled=lambda: False):
            reads.append(entry.name)
            return super().read(entry, cancelled)

    monkeypatch.setattr("rmbg.batch.sources.FolderSource", Counting)
    monkeypatch.setattr("rmbg.batch.job.FolderSource", Counting)
    save_photos(tmp_path / "in", 40)
    ahead = []
    cut = disc.cut

    def counting_cut(photo, options, context):
        ahead.append(len(reads) - len(disc.calls))
        return cut(photo, options, context)

    disc.cut, disc.seconds = counting_cut, 0.02
    assert batch(tmp_path / "in", tmp_path / "out", "--jobs", "2")[0] == 0
    assert len(reads) == 40 and max(ahead) <= 2 + 2 + 2 + 1  # queue, readers, workers, current photo


@pytest.mark.parametrize(("jobs", "small"), [(2, True), (1, False)])
def test_photos_stay_on_one_core_if_there_is_a_worker_for_each(batch, tmp_path, disc, monkeypatch, jobs, small):
    monkeypatch.setattr("rmbg.batch.pipeline.cpu_count", lambda: 2)
    monkeypatch.setattr("rmbg.batch.pipeline.MEGAPIXELS_PER_WORKER", 0.005)
    save_photo(tmp_path / "in/small.png", 0)
    save_photo(tmp_path / "in/large.png", 1, (100, 80))
    found, cut = {}, disc.cut

    def recorded(photo, options, context):
        found[photo.name] = threads.one_core()
        return cut(photo, options, context)

    disc.cut = recorded
    assert batch(tmp_path / "in", tmp_path / "out", "--jobs", str(jobs))[0] == 0
    assert found == {"small": small, "large": False}


def test_result_on_one_core_is_that_of_remove(rmbg, tmp_path):
    folder = examples()[0].parent
    status, _, err = rmbg("batch", folder, tmp_path / "out", "--provider", "builtin", "--jobs", "64")
    assert status == 0, err
    for photo in folder.iterdir():
        expected = encode(remove_background(photo, "builtin").render(), FORMATS["png"])
        assert (tmp_path / "out" / f"{photo.stem}.png").read_bytes() == expected
