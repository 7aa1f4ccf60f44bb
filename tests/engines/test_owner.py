"""Loaded networks: once, under a budget, and alive after memory ran out."""

import threading
import time

import numpy as np
import pytest

from rmbg.engines import weights
from rmbg.engines.models import MODELS
from rmbg.engines.owner import Owner
from rmbg.engines.plan import Plan, choose
from rmbg.errors import CancelledError, ModelError, NotReadyError
from rmbg.settings import Settings
from tests.servers.hub import Hub

IMAGES = np.zeros((1, 3, 4, 4), np.float32)
SMALL, LARGE = MODELS["rmbg-1.4"], MODELS["birefnet"]


class FakeRunner:
    """A network of `memory` bytes that fails as it is told."""

    def __init__(self, plan, memory=10):
        self.plan = plan
        self.memory = memory
        self.errors = []

    def run(self, images):
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
def owner(opened):
    def open_runner(model, file, plan, settings, progress):
        opened.append((model.id, FakeRunner(plan)))
        return opened[-1][1]

    return Owner(budget=lambda device: 20, open_runner=open_runner)


def run(owner, model, settings, check=lambda: None):
    return owner.masks(model, IMAGES, settings, lambda fraction, text: None, check)


def test_a_network_is_loaded_once_however_many_ask(owner, opened, settings):
    threads = [threading.Thread(target=run, args=(owner, SMALL, settings)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [name for name, _ in opened] == ["rmbg-1.4"]


def test_the_one_not_used_for_longest_goes_when_the_budget_is_reached(owner, settings):
    run(owner, SMALL, settings)
    run(owner, LARGE, settings)
    run(owner, SMALL, settings)
    run(owner, MODELS["rmbg-2.0"], settings)
    assert owner.loaded() == ["rmbg-1.4", "rmbg-2.0"]


def test_weights_that_changed_on_disk_are_loaded_anew(owner, opened, settings):
    run(owner, SMALL, settings)
    (settings.weights / "rmbg-1.4.safetensors").write_bytes(b"123456")
    run(owner, SMALL, settings)
    assert len(opened) == 2


def test_out_of_memory_once_unloads_others_and_works(owner, opened, settings):
    run(owner, SMALL, settings)
    run(owner, LARGE, settings)
    opened[1][1].errors = [RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.")]
    masks, plan = run(owner, LARGE, settings)
    assert masks.shape == (1, 4, 4) and plan == Plan(plan.engine, "cpu", plan.precision)
    assert owner.loaded() == ["birefnet"]


def test_out_of_memory_for_good_says_so_and_the_next_call_works(owner, opened, settings):
    run(owner, SMALL, settings)
    opened[0][1].errors = [MemoryError()]
    with pytest.raises(ModelError, match=r"cpu has not enough free memory for rmbg-1\.4"):
        run(owner, SMALL, settings)
    assert run(owner, SMALL, settings)[0].shape == (1, 4, 4)


def test_another_failure_is_one_sentence(owner, opened, settings):
    run(owner, SMALL, settings)
    opened[0][1].errors = [RuntimeError("no kernel\nTraceback")]
    with pytest.raises(ModelError, match=r"rmbg-1\.4 failed on cpu \(\w+\): no kernel\.$"):
        run(owner, SMALL, settings)
    run(owner, SMALL, settings)


def test_stopping_before_the_network_runs(owner, opened, settings):
    def stop():
        if opened:
            raise CancelledError("Stopped.")

    with pytest.raises(CancelledError):
        run(owner, SMALL, settings, stop)
    assert owner.loaded() == ["rmbg-1.4"]


def test_stopping_a_download(owner, opened, tmp_path, monkeypatch):
    """It is stopped in the middle, not when it has come to its end."""
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 2)
    told = []

    def stop():
        if told:
            raise CancelledError("Stopped.")

    with Hub() as hub:
        hub.files[SMALL.hub] = {SMALL.file: b"12345"}
        fresh = Settings.from_environ(
            {"RMBG_DATA": str(tmp_path / "new"), "HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": hub.url, "RMBG_DEVICE": "cpu"}
        )
        with pytest.raises(CancelledError):
            owner.masks(SMALL, IMAGES, fresh, lambda fraction, text: told.append(text), stop)
        assert weights.present(SMALL, fresh) is None and not opened
        assert run(owner, SMALL, fresh)[0].shape == (1, 4, 4)


def test_two_networks_run_beside_each_other(owner, opened, settings):
    run(owner, SMALL, settings)
    run(owner, LARGE, settings)
    meeting = threading.Barrier(2, timeout=10)
    for _, runner in opened:
        runner.run = lambda images: (meeting.wait(), images[:, 0])[1]
    threads = [threading.Thread(target=run, args=(owner, model, settings)) for model in (SMALL, LARGE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not meeting.broken


def test_a_network_that_runs_is_not_unloaded(owner, opened, settings):
    run(owner, SMALL, settings)
    running, done = threading.Event(), threading.Event()
    opened[0][1].run = lambda images: (running.set(), done.wait(10), images[:, 0])[2]
    thread = threading.Thread(target=run, args=(owner, SMALL, settings))
    thread.start()
    running.wait(10)
    time.sleep(0.01)
    run(owner, LARGE, settings)
    run(owner, MODELS["rmbg-2.0"], settings)
    assert "rmbg-1.4" in owner.loaded()
    done.set()
    thread.join()


@pytest.mark.parametrize(
    ("device", "sentence"),
    [
        ("cuda:7", "RMBG_DEVICE is 'cuda:7', and torch sees [0-9]+ CUDA device"),
        ("tpu", "must be auto, cpu"),
        ("cpu:1", "must be auto, cpu"),
    ],
)
def test_a_device_that_is_not_there_is_an_error(device, sentence):
    with pytest.raises(NotReadyError, match=sentence):
        choose(Settings(device=device))
