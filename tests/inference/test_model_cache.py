"""rmbg.inference.model_cache: loading, memory budget, out-of-memory errors, cancellation, concurrency."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rmbg.errors import CancelledError, ModelError
from rmbg.inference import weights
from rmbg.inference.catalog import MODELS
from rmbg.inference.engines import Plan
from rmbg.inference.model_cache import ModelCache
from rmbg.runtime.threads import on_one_core
from rmbg.settings import Settings
from tests.servers.hub import Hub

IMAGES = np.zeros((1, 3, 4, 4), np.float32)
SMALL, LARGE = MODELS["rmbg-1.4"], MODELS["birefnet"]


class FakeRunner:
    """Runner of `memory` bytes that raises its `errors`, last one first, and then returns a channel of its input."""

    def __init__(self, plan, memory=10):
        self.plan = plan
        self.memory = memory
        self.errors = []
        self.sides = []

    def run(self, images, check):
        self.sides.append(images.shape[-1])
        if self.errors:
            raise self.errors.pop()
        return images[:, 0]


@pytest.fixture
def settings(tmp_path):
    for model in MODELS.values():
        (tmp_path / f"{model.id}.safetensors").write_bytes(b"12345")
    return Settings.from_environ({"RMBG_WEIGHTS": str(tmp_path), "RMBG_DATA": str(tmp_path), "RMBG_DEVICE": "cpu"})


@pytest.fixture
def opened():
    return []


@pytest.fixture
def cache(opened):
    def open_runner(model, file, plan, settings, progress):
        opened.append((model.id, FakeRunner(plan)))
        return opened[-1][1]

    return ModelCache(budget=lambda device: 20, open_runner=open_runner)


def run(cache, model, settings, check=lambda: None):
    return cache.predict(model, IMAGES, settings, lambda fraction, text: None, check)


def test_concurrent_calls_load_a_network_once(cache, opened, settings):
    threads = [threading.Thread(target=run, args=(cache, SMALL, settings)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [name for name, _ in opened] == ["rmbg-1.4"]


def test_the_least_recently_used_network_is_unloaded_beyond_the_budget(cache, settings):
    run(cache, SMALL, settings)
    run(cache, LARGE, settings)
    run(cache, SMALL, settings)
    run(cache, MODELS["rmbg-2.0"], settings)
    assert cache.loaded() == ["rmbg-1.4", "rmbg-2.0"]


def test_streams_run_at_the_same_time_and_are_not_unloaded(cache, settings, monkeypatch):
    pytest.importorskip("rmbg.inference.engines")
    monkeypatch.setattr("rmbg.inference.engines.cpu_count", lambda: 2)
    started, release = threading.Barrier(3, timeout=60), threading.Event()

    def hold(runner):
        started.wait()
        assert release.wait(60)
        return runner

    def run_on_one_core(_):
        with on_one_core():
            return cache.run(SMALL, hold, settings, lambda fraction, text: None, lambda: None)

    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(run_on_one_core, number) for number in range(2)]
        started.wait()
        run(cache, LARGE, settings)
        run(cache, MODELS["rmbg-2.0"], settings)
        assert cache.loaded() == ["rmbg-1.4", "rmbg-2.0"], "the one that runs is kept, although it is older"
        release.set()
        (first, plan), (second, _) = (each.result() for each in runs)
    assert first is second and plan.streams == 2
    run(cache, LARGE, settings)
    assert cache.loaded() == ["birefnet", "rmbg-2.0"]


def test_a_network_is_warmed_up_once_after_each_load(cache, opened, settings):
    def warm_up(model):
        cache.warm_up(model, settings, lambda fraction, text: None, lambda: None)

    warm_up(SMALL)
    assert opened[0][1].sides == [SMALL.size], "at the size of its input"
    warm_up(SMALL)
    assert len(opened[0][1].sides) == 1
    run(cache, LARGE, settings)
    run(cache, MODELS["rmbg-2.0"], settings)  # unloads the first one
    warm_up(SMALL)
    warm_up(MODELS["rmbg-2.0"])
    assert [name for name, _ in opened] == ["rmbg-1.4", "birefnet", "rmbg-2.0", "rmbg-1.4"]
    assert opened[3][1].sides == [SMALL.size] and len(opened[2][1].sides) == 1


def test_changed_weights_are_reloaded(cache, opened, settings):
    run(cache, SMALL, settings)
    (settings.weights / "rmbg-1.4.safetensors").write_bytes(b"123456")
    run(cache, SMALL, settings)
    assert len(opened) == 2


def test_out_of_memory_unloads_other_networks_and_retries(cache, opened, settings):
    run(cache, SMALL, settings)
    run(cache, LARGE, settings)
    opened[1][1].errors = [RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.")]
    masks, plan = run(cache, LARGE, settings)
    assert masks.shape == (1, 4, 4) and plan == Plan(plan.engine, "cpu", plan.precision)
    assert cache.loaded() == ["birefnet"]


def test_persistent_out_of_memory_is_an_error_and_the_next_call_works(cache, opened, settings):
    run(cache, SMALL, settings)
    opened[0][1].errors = [MemoryError()]
    with pytest.raises(ModelError, match=r"cpu has not enough free memory for rmbg-1\.4"):
        run(cache, SMALL, settings)
    assert run(cache, SMALL, settings)[0].shape == (1, 4, 4)


def test_other_failures_report_the_first_line(cache, opened, settings):
    run(cache, SMALL, settings)
    opened[0][1].errors = [RuntimeError("no kernel\nTraceback")]
    with pytest.raises(
        ModelError, match=r"rmbg-1\.4 failed on cpu \(\w+\): no kernel\. Try again, or choose another provider\.$"
    ):
        run(cache, SMALL, settings)
    run(cache, SMALL, settings)


def test_cancellation_between_loading_and_running(cache, opened, settings):
    def check():
        if opened:
            raise CancelledError("Stopped.")

    with pytest.raises(CancelledError):
        run(cache, SMALL, settings, check)
    assert cache.loaded() == ["rmbg-1.4"]


def test_cancellation_during_a_download(cache, opened, tmp_path, monkeypatch):
    """The progress callback cancels it before the last chunk."""
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 2)
    messages = []

    def check():
        if messages:
            raise CancelledError("Stopped.")

    with Hub() as hub:
        hub.files[SMALL.hub] = {SMALL.file: b"12345"}
        fresh = Settings.from_environ(
            {"RMBG_DATA": str(tmp_path / "new"), "HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": hub.url, "RMBG_DEVICE": "cpu"}
        )
        with pytest.raises(CancelledError):
            cache.predict(SMALL, IMAGES, fresh, lambda fraction, text: messages.append(text), check)
        assert weights.present(SMALL, fresh) is None and not opened
        assert run(cache, SMALL, fresh)[0].shape == (1, 4, 4)


def test_memory_is_counted_while_another_thread_unloads_a_network(cache, opened, settings):
    run(cache, SMALL, settings)
    (entry,) = cache._entries.values()

    class Unloaded(FakeRunner):
        """Runner that is unloaded as soon as its presence has been checked."""

        def __bool__(self):
            entry.runner = None
            return True

    entry.runner = Unloaded(opened[0][1].plan)
    run(cache, LARGE, settings)
    assert cache.loaded() == ["birefnet"]


def test_two_networks_run_concurrently(cache, opened, settings):
    run(cache, SMALL, settings)
    run(cache, LARGE, settings)
    barrier = threading.Barrier(2, timeout=120)
    for _, runner in opened:
        runner.run = lambda images, check: (barrier.wait(), images[:, 0])[1]
    threads = [threading.Thread(target=run, args=(cache, model, settings)) for model in (SMALL, LARGE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not barrier.broken


def test_a_running_network_is_not_unloaded(cache, opened, settings):
    run(cache, SMALL, settings)
    running, done = threading.Event(), threading.Event()
    opened[0][1].run = lambda images, check: (running.set(), done.wait(120), images[:, 0])[2]
    thread = threading.Thread(target=run, args=(cache, SMALL, settings))
    thread.start()
    assert running.wait(120)
    run(cache, LARGE, settings)
    run(cache, MODELS["rmbg-2.0"], settings)
    assert "rmbg-1.4" in cache.loaded()
    done.set()
    thread.join()
