"""Processes of a batch: results, errors, killed processes, and the end with the parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from rmbg.batch import pipeline, processes
from rmbg.batch.plan import Recipe
from rmbg.batch.processes import PhotoProcess, process_count, result_in_background
from rmbg.errors import CancelledError, ModelError, NoSubjectError, PhotoError, RmbgError
from rmbg.images.encode import FORMATS, encode
from rmbg.providers import PROVIDERS
from rmbg.remove import remove_background
from rmbg.settings import Settings
from tests.batch.test_resume import ROOT, rows
from tests.batch.two_processes import Ready
from tests.disc import Disc, results, save_photo, save_photos
from tests.pictures import examples
from tests.servers.web import until

WAIT = 120


class Unstable(Disc):
    """Provider that ends its process, or raises an unexpected exception, for photos of these names."""

    small_network = True

    def __reduce__(self):
        return Unstable, (self.seconds, self.log, self.broken)

    def cut(self, photo, options, context):
        if photo.name.startswith("fatal"):
            os._exit(3)
        if photo.name == "unexpected":
            raise ZeroDivisionError("one by zero")
        return super().cut(photo, options, context)


@pytest.fixture
def opened():
    """Start a process for a provider, wait until it is ready, and end it after the test."""
    running = []

    def open_process(provider, settings=None):
        settings = settings or Settings.from_environ()
        process = PhotoProcess(Recipe(provider, provider.info.parse_options({}), FORMATS["png"]), settings)
        running.append(process)
        assert until(lambda: process.ready, WAIT)
        return process

    yield open_process
    for process in running:
        process.close()


def test_result_is_that_of_remove(opened):
    process = opened(PROVIDERS["builtin"])
    for path in examples()[:3]:
        result, cutout = process.result(path.stem, path.read_bytes()), remove_background(path, "builtin")
        assert result.data == encode(cutout.render(), FORMATS["png"])
        assert (result.width, result.height) == (cutout.photo.width, cutout.photo.height)
        assert (result.outcome.name, result.outcome.confidence) == (path.stem, cutout.confidence)
        assert result.outcome.seconds > 0 and result.outcome.cost.usd > 0


def test_errors_are_those_of_the_parent(opened, tmp_path, caplog):
    process = opened(Unstable(broken=["broken"]), Settings(max_pixels=10_000))
    photo = save_photo(tmp_path / "photo.png").read_bytes()
    with pytest.raises(ModelError, match=r"^The network failed\.$"):
        process.result("broken", photo)
    with pytest.raises(PhotoError):
        process.result("damaged", photo[:50])
    with pytest.raises(PhotoError, match="megapixels"):
        process.result("large", save_photo(tmp_path / "large.png", 0, (200, 100)).read_bytes())
    with pytest.raises(RmbgError, match=r"^It failed with an unexpected ZeroDivisionError\. See the log for details\.$"):
        process.result("unexpected", photo)
    assert "one by zero" in caplog.text
    assert process.result("good", photo).width == 48


def test_no_subject(opened, tmp_path):
    path = tmp_path / "black.png"
    Image.new("RGB", (40, 30)).save(path)
    with pytest.raises(NoSubjectError, match="black"):
        opened(Unstable()).result("black", path.read_bytes())


def test_ended_process_fails_one_photo_and_is_replaced(opened, tmp_path):
    process = opened(Unstable())
    photo = save_photo(tmp_path / "photo.png").read_bytes()
    with pytest.raises(ModelError, match="status 3"):
        process.result("fatal", photo)
    assert until(lambda: process.ready, WAIT)
    assert process.result("good", photo).width == 48


def test_closing_cancels_the_current_photo(opened, tmp_path):
    process = opened(Unstable(seconds=60))
    photo, raised = save_photo(tmp_path / "photo.png").read_bytes(), []

    def run():
        try:
            process.result("slow", photo)
        except CancelledError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(0.2)
    process.close()
    thread.join(WAIT)
    assert raised


def in_background(provider, path, check=lambda: None):
    recipe = Recipe(provider, provider.info.parse_options({}), FORMATS["png"])
    return result_in_background(recipe, Settings.from_environ(), path.stem, path, check)


def test_result_of_the_background_is_that_of_remove():
    path = examples()[0]
    result, cutout = in_background(PROVIDERS["builtin"], path), remove_background(path, "builtin")
    assert result.data == encode(cutout.render(), FORMATS["png"])


def test_errors_of_the_background_are_those_of_the_parent(tmp_path, caplog):
    def saved(name):
        return save_photo(tmp_path / f"{name}.png")

    with pytest.raises(RmbgError, match=r"^It failed with an unexpected ZeroDivisionError\. See the log for details\.$"):
        in_background(Unstable(), saved("unexpected"))
    assert "one by zero" in caplog.text
    with pytest.raises(ModelError, match="ended with status 3"):
        in_background(Unstable(), saved("fatal"))


def test_reply_of_the_background_that_is_cut_is_an_error(tmp_path, monkeypatch):
    reply = "import pickle, sys; sys.stdout.buffer.write(pickle.dumps(True) + pickle.dumps('x' * 999)[:100])"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    monkeypatch.setattr(processes, "_start", lambda **options: subprocess.Popen([sys.executable, "-c", reply], **pipes))
    with pytest.raises(ModelError, match=r"^The process of photo ended with status "):
        in_background(Unstable(), save_photo(tmp_path / "photo.png"))


def test_cancellation_ends_a_process_of_the_background(tmp_path, monkeypatch):
    """It has the lowest priority before."""
    started, start = [], processes._start
    monkeypatch.setattr(processes, "_start", lambda **options: started.append(start(**options)) or started[-1])
    deadline, priorities = time.monotonic() + WAIT, set()

    def check():
        if hasattr(os, "getpriority"):
            priorities.add(os.getpriority(os.PRIO_PROCESS, started[0].pid))
        if 19 in priorities or time.monotonic() > deadline or not hasattr(os, "getpriority"):
            raise CancelledError("Stopped.")

    with pytest.raises(CancelledError):
        in_background(Unstable(seconds=60), save_photo(tmp_path / "slow.png"), check)
    assert started[0].returncode is not None
    assert 19 in priorities or os.name != "posix"


@pytest.fixture
def two_cores(monkeypatch):
    """Batches of any number of photos with two workers, one of them with a process that they wait for; yields the processes."""
    started = []

    class Counting(Ready):
        def __init__(self, recipe, settings):
            super().__init__(recipe, settings)
            self.photos = 0
            started.append(self)

        def result(self, name, data):
            self.photos += 1
            return super().result(name, data)

    for module in (pipeline, processes):
        monkeypatch.setattr(module, "cpu_count", lambda: 2)
    monkeypatch.setattr(pipeline, "MIN_PHOTOS", 2)
    monkeypatch.setattr(pipeline, "PhotoProcess", Counting)
    return started


@pytest.fixture
def unstable(monkeypatch):
    provider = Unstable(0.05)
    monkeypatch.setitem(PROVIDERS, "disc", provider)
    return provider


def test_batch_divides_the_photos_among_processes(batch, unstable, two_cores, tmp_path):
    status, _, err = batch(save_photos(tmp_path / "in", 30), tmp_path / "out", "--background", "#ff8800", "--crop", "0.1")
    assert status == 0, err
    (process,) = two_cores
    assert process.photos + len(unstable.calls) == 30 and min(process.photos, len(unstable.calls)) >= 5
    assert len(results(tmp_path / "out")) == 30 and all(
        state == "done" and times == 1 for _, state, times in rows(tmp_path / "out")
    )
    found = {path.read_bytes() for path in (tmp_path / "out").rglob("*.png")}
    assert batch(tmp_path / "in", tmp_path / "one", "--background", "#ff8800", "--crop", "0.1", "--jobs", "1")[0] == 0
    assert found == {path.read_bytes() for path in (tmp_path / "one").rglob("*.png")} and len(two_cores) == 1


def test_photo_that_ends_a_process_fails_alone(batch, two_cores, monkeypatch, tmp_path):
    class Survivor(Unstable):  # pickled as `Unstable`
        def cut(self, photo, options, context):
            return Disc.cut(self, photo, options, context)

    monkeypatch.setitem(PROVIDERS, "disc", Survivor(1.0))
    for number in range(4):
        save_photo(tmp_path / f"in/fatal-{number}.png", number)
    status, _, err = batch(tmp_path / "in", tmp_path / "out")
    failed = [name for name, state, _ in rows(tmp_path / "out") if state == "failed"]
    assert status == 1 and 1 <= len(failed) < 4 and len(results(tmp_path / "out")) == 4 - len(failed)
    assert all(f"{name}: Its process ended with status 3" in err for name in failed)
    monkeypatch.setattr(Survivor, "small_network", False)
    assert batch(tmp_path / "in", tmp_path / "out")[0] == 0 and len(results(tmp_path / "out")) == 4


@pytest.mark.parametrize(
    ("small_network", "photos", "arguments"),
    [
        (False, 4, ()),
        (True, 1, ()),
        (True, 4, ("--jobs", "1")),
        (True, 4, ("--alpha-matting",)),
    ],
)
def test_other_batches_run_in_one_process(batch, unstable, two_cores, monkeypatch, tmp_path, small_network, photos, arguments):
    monkeypatch.setattr(Unstable, "small_network", small_network)
    status, _, err = batch(save_photos(tmp_path / "in", photos), tmp_path / "out", *arguments)
    assert status == 0, err
    assert not two_cores and len(unstable.calls) == photos


@pytest.mark.skipif(os.name == "nt", reason="requires POSIX")
def test_memory_limits_the_number_of_processes(monkeypatch):
    monkeypatch.setattr(processes, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 4_000_000, "SC_PAGE_SIZE": 4096}.__getitem__)
    monkeypatch.setattr(processes, "memory_limit", lambda: None)
    assert [process_count(workers) for workers in (1, 8, 64)] == [0, 7, 16]
    monkeypatch.setattr(processes, "memory_limit", lambda: 1_900_000_000)
    assert process_count(8) == 1


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="requires Linux")
def test_processes_end_with_a_killed_batch(tmp_path):
    photos, out = tmp_path / "in", tmp_path / "out"
    photos.mkdir()
    for copy in range(80):
        (photos / f"{copy:02d}.jpg").write_bytes(examples()[0].read_bytes())
    code = """
import rmbg.batch.pipeline, rmbg.batch.processes, sys
rmbg.batch.pipeline.cpu_count = rmbg.batch.processes.cpu_count = lambda: 3
from rmbg.__main__ import main
sys.exit(main())"""
    command = [sys.executable, "-c", code, "batch", photos, out, "--provider", "builtin", "--jobs", "3"]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE)
    assert until(lambda: len(children(process.pid)) == 2 and len(list(out.rglob("*.png"))) >= 4, WAIT)
    started = children(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=WAIT)
    assert until(lambda: not any(alive(pid) for pid in started), WAIT)
    assert 4 <= len(list(out.rglob("*.png"))) < 80


def children(parent: int) -> list[int]:
    """Processes that a process has started."""
    found = []
    for folder in os.scandir("/proc"):
        if folder.name.isdecimal():
            try:
                with open(f"{folder.path}/stat") as file:
                    if int(file.read().rpartition(")")[2].split()[1]) == parent:
                        found.append(int(folder.name))
            except OSError:
                continue
    return found


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
