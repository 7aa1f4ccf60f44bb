"""Limits of the pipeline: photos and pixels in memory."""

from __future__ import annotations

import threading
import time

from rmbg.batch.pipeline import PixelBudget


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

    threads = [threading.Thread(target=work, args=(pixels,)) for pixels in [30, 60, 90, 10, 500, 40, 300, 70] * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
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
