"""rmbg.inference.openvino_*: graphs against the torch networks, cache of compiled models, choice of engine."""

import ast
import gc
import hashlib
import io
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from rmbg.errors import CancelledError, NotReadyError
from rmbg.inference import openvino_runner, weights
from rmbg.inference.catalog import MODELS, build
from rmbg.inference.device import choose
from rmbg.inference.engines import Plan
from rmbg.inference.torch_runner import TorchRunner
from rmbg.settings import Settings
from tests.inference.overwriting import overwrite
from tests.networks.rule import network_input, rule_weights

pytest.importorskip("rmbg.inference.engines")
from rmbg.inference.openvino_import import TELEMETRY, opset15, ov
from rmbg.inference.openvino_runner import (
    OpenVinoRunner,
    Requests,
    config,
    core,
    load_compiled,
    save_compiled,
    supported_precisions,
)

ROOT = Path(__file__).resolve().parents[2]

FP32 = Plan("openvino", "cpu", "fp32")


def no_progress(fraction, text):
    pass


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """Settings with synthetic weights of IS-Net and BiRefNet lite."""
    folder = tmp_path_factory.mktemp("weights")
    for name in ("rmbg-1.4", "birefnet-lite"):
        network, _ = build(MODELS[name])
        save_file(rule_weights(network.state_dict(), 1), folder / f"{name}.safetensors")
    return Settings.from_environ({"RMBG_WEIGHTS": str(folder), "RMBG_DATA": str(folder / "data")})


def difference(model, settings, precision):
    """Mean and maximum difference of the masks between OpenVINO at `precision` and torch in float32."""
    file = weights.fetch(model, settings, no_progress)
    shape = model.input_shape(0, 0)
    image = network_input(1, *shape).numpy()
    ours = OpenVinoRunner(model, file, replace(FP32, precision=precision), settings, no_progress).run(image)
    theirs = TorchRunner(model, file, Plan("torch", "cpu", "fp32"), no_progress).run(image)
    assert ours.shape == theirs.shape == (1, *shape) and ours.dtype == np.float32
    return np.abs(ours - theirs).mean(), np.abs(ours - theirs).max()


# A size of 192 gives incomplete windows at every level of the lite backbone, and an odd size at the last.
@pytest.mark.parametrize(
    "model",
    [
        replace(MODELS["rmbg-1.4"], size=128),
        replace(MODELS["birefnet-lite"], size=192),
        replace(MODELS["birefnet-lite"], size=96, width=224, patch_order="colors"),
    ],
    ids=["isnet", "birefnet", "wide, colors"],
)
def test_graph_matches_torch(settings, model):
    mean, largest = difference(model, settings, "fp32")
    assert largest < 1e-4, mean


@pytest.mark.skipif("bf16" not in supported_precisions(), reason="this processor does not support bf16")
def test_bf16_is_close(settings):
    assert difference(replace(MODELS["rmbg-1.4"], size=128), settings, "bf16")[0] < 1 / 255


def test_compiled_models_are_cached(settings, tmp_path):
    settings = replace(settings, data=tmp_path)
    model = replace(MODELS["rmbg-1.4"], size=64)
    file = weights.fetch(model, settings, no_progress)
    image = network_input(1, 64, 64).numpy()
    messages = []
    first = OpenVinoRunner(model, file, FP32, settings, lambda fraction, text: messages.append(text)).run(image)
    again = OpenVinoRunner(model, file, FP32, settings, lambda fraction, text: messages.append(text)).run(image)
    assert messages == ["Preparing rmbg-1.4 for this processor (once)", "Loading rmbg-1.4 on cpu"]
    assert np.abs(first - again).max() < 1e-5
    (blob,) = (tmp_path / "engines").iterdir()
    assert np.array_equal(OpenVinoRunner(model, file, FP32, settings, no_progress).run(image), first)
    other = replace(file, sha256="0" * 64)
    OpenVinoRunner(model, other, FP32, settings, no_progress)
    (newer,) = (tmp_path / "engines").iterdir()
    assert newer != blob


def test_streams_load_the_same_file_and_return_the_same_bytes(settings, tmp_path):
    settings = replace(settings, data=tmp_path)
    model = replace(MODELS["rmbg-1.4"], size=64)
    file = weights.fetch(model, settings, no_progress)
    images = [network_input(seed, 64, 64).numpy() for seed in range(6)]
    runner = OpenVinoRunner(model, file, FP32, settings, no_progress)
    expected = [runner.run(image) for image in images]
    (blob,) = (tmp_path / "engines").iterdir()
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(OpenVinoRunner(model, file, replace(FP32, streams=2), settings, no_progress).run, images))
    assert np.array_equal(found, expected) and list((tmp_path / "engines").iterdir()) == [blob]


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_a_run_can_be_cancelled(settings, tmp_path, monkeypatch, engine):
    monkeypatch.setattr(openvino_runner, "POLL_MILLISECONDS", 1)
    model = replace(MODELS["rmbg-1.4"], size=256)
    file = weights.fetch(model, settings, no_progress)
    image = network_input(1, 256, 256).numpy()
    if engine == "torch":
        runner = TorchRunner(model, file, Plan("torch", "cpu", "fp32"), no_progress)
    else:
        runner = OpenVinoRunner(model, file, FP32, replace(settings, data=tmp_path), no_progress)
    calls = []

    def cancel():
        calls.append(len(calls))
        if len(calls) == 3:
            raise CancelledError("Stopped.")

    with pytest.raises(CancelledError):
        runner.run(image, cancel)
    assert len(calls) == 3
    expected = runner.run(image)
    calls = [0] * 10
    assert np.array_equal(runner.run(image, cancel), expected)


def test_a_cancelled_request_is_stopped():
    class Request:
        cancelled = False

        def start_async(self, inputs, share_inputs):
            pass

        def wait_for(self, milliseconds):
            return False

        def cancel(self):
            self.cancelled = True

    class Compiled:
        request = Request()

        def create_infer_request(self):
            return self.request

    def fail():
        raise CancelledError("Stopped.")

    with pytest.raises(CancelledError):
        Requests(Compiled())(np.zeros(1), check=fail)
    assert Compiled.request.cancelled


class Stored:
    """A small compiled model in a folder, loaded as by a new process."""

    def __init__(self, data):
        parameter = opset15.parameter([1, 3], np.float32)
        weight = opset15.constant(np.arange(3, dtype=np.float32))
        model = ov.Model([opset15.multiply(parameter, weight)], [parameter], "small")
        self.data, self.path = data, data / "engines" / "rmbg-1.4-0.blob"
        self.compiled = core().compile_model(model, "CPU", config(FP32))
        self.save()

    def save(self):
        save_compiled(self.compiled, self.path, self.data)

    def load(self):
        weights._memory.clear()
        return load_compiled(self.path, FP32, no_progress, MODELS["rmbg-1.4"], self.data)


@pytest.fixture
def stored(tmp_path):
    return Stored(tmp_path)


def check(compiled):
    gc.collect()  # memory that the model still reads would be released
    assert Requests(compiled)(np.ones((1, 3), np.float32))[0].tolist() == [[0, 1, 2]]


def test_a_prepared_model_is_not_read_for_its_checksum(stored, monkeypatch):
    def fail(*args):
        raise AssertionError("read")

    monkeypatch.setattr(weights, "open", fail, raising=False)
    check(stored.load())


def test_a_copied_prepared_model_is_verified_by_the_checksum_in_the_file(stored, monkeypatch):
    (stored.data / weights.STORE).unlink()
    monkeypatch.setattr(weights, "SETTLED_NS", -(10**12))
    check(stored.load())
    assert str(stored.path) in (stored.data / weights.STORE).read_text()


@pytest.mark.parametrize("change", ["content", "truncated", "longer", "empty", "trailer"])
def test_a_changed_prepared_model_is_noticed(stored, change):
    """OpenVINO would crash or compute other results. All changes keep the modification time, some the size."""
    data = stored.path.read_bytes()
    middle = len(data) // 2
    changed = {
        "content": data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :],
        "truncated": data[:-1],
        "longer": data + b"0",
        "empty": b"",
        "trailer": data[:-1] + bytes([data[-1] ^ 255]),
    }
    overwrite(stored.path, changed[change])
    assert stored.load() is None
    stored.save()
    check(stored.load())


def test_prepared_models_are_mapped_into_memory(stored):
    """The file may be deleted meanwhile by a process that has prepared a newer one."""
    loaded = stored.load()
    if Path("/proc/self/maps").exists():
        assert str(stored.path) in Path("/proc/self/maps").read_text()
    stored.path.unlink()
    check(loaded)


def test_compiled_models_of_other_networks_are_kept(tmp_path):
    class Compiled:
        def export_model(self):
            return io.BytesIO(b"prepared")

    for name in ("birefnet-lite-1", "birefnet-1", "birefnet-1536x1024-1", "birefnet-2"):
        save_compiled(Compiled(), tmp_path / f"{name}.blob", tmp_path / "data")
    kept = ["birefnet-1536x1024-1.blob", "birefnet-2.blob", "birefnet-lite-1.blob"]
    assert sorted(path.name for path in tmp_path.glob("*.*")) == kept


def test_compiled_models_are_saved_concurrently(tmp_path):
    """A command and a server may compile the same network; none of them finds the file missing or incomplete."""
    path, data = tmp_path / "birefnet-1.blob", bytes(1_000_000)

    class Compiled:
        def export_model(self):
            return io.BytesIO(data)

    def save(_):
        save_compiled(Compiled(), path, tmp_path / "data")
        return path.read_bytes()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(save, range(40))) == {data + hashlib.sha256(data).digest()}
    assert list(tmp_path.glob("*.*")) == [path]


def test_unfinished_files_of_killed_processes_are_removed(tmp_path):
    class Compiled:
        def export_model(self):
            return io.BytesIO(b"prepared")

    old, recent = tmp_path / "birefnet-1.0.part", tmp_path / "birefnet-1.1.part"
    old.touch()
    recent.touch()
    os.utime(old, (0, 0))
    save_compiled(Compiled(), tmp_path / "birefnet-1.blob", tmp_path / "data")
    assert sorted(path.name for path in tmp_path.glob("*.*")) == [recent.name, "birefnet-1.blob"]


def test_an_unwritable_cache_folder_is_ignored(settings, tmp_path):
    (tmp_path / "engines").write_text("a file where a folder should be")
    settings = replace(settings, data=tmp_path)
    model = replace(MODELS["rmbg-1.4"], size=64)
    runner = OpenVinoRunner(model, weights.fetch(model, settings, no_progress), FP32, settings, no_progress)
    assert runner.run(network_input(1, 64, 64).numpy()).shape == (1, 64, 64)


def test_deformable_convolution_interpolates_with_zeros_at_the_border():
    """By default OpenVINO drops samples that lie partly outside; torch pads them with zeros."""
    from torch import nn

    from rmbg.inference.openvino_graph import deformable, opset15, ov, reset_constants
    from rmbg.networks.birefnet import DeformableConv

    torch.manual_seed(0)
    module = DeformableConv(3, 4, 3)
    module.regular_conv.bias = nn.Parameter(torch.zeros(4))
    image = torch.randn(1, 3, 6, 5)
    reset_constants()
    parameter = opset15.parameter([1, 3, 6, 5], np.float32)
    model = ov.Model([deformable(module, parameter)], [parameter], "test")
    ours = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([image.numpy()])[0]
    assert np.abs(ours - module(image).relu().detach().numpy()).max() < 1e-5


def test_openvino_is_the_default_on_a_cpu_and_an_error_elsewhere():
    assert choose(Settings(device="cpu")).engine == "openvino"
    assert choose(Settings(device="cpu", engine="torch")) == Plan("torch", "cpu", "fp32")
    assert choose(Settings(engine="openvino", precision="fp32")) == FP32
    with pytest.raises(NotReadyError, match="mps"):
        choose(Settings(engine="openvino", device="mps"))


def test_an_unsupported_precision_is_an_error(monkeypatch):
    monkeypatch.setattr("rmbg.inference.openvino_runner.supported_precisions", lambda: ["fp32"])
    assert choose(Settings(device="cpu")) == FP32
    with pytest.raises(NotReadyError, match="RMBG_PRECISION is 'fp16', and this CPU supports fp32"):
        choose(Settings(device="cpu", precision="fp16"))


def test_openvino_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert choose(Settings(device="cpu")).engine == "torch"
    with pytest.raises(NotReadyError, match="pip install openvino"):
        choose(Settings(engine="openvino", device="cpu"))


def test_import_sends_no_telemetry(tmp_path):
    """The package of the telemetry writes an id of the user into the home folder when OpenVINO is imported."""
    code = f"from rmbg.inference import openvino_ops; import sys; assert {TELEMETRY!r} not in sys.modules"
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    subprocess.run([sys.executable, "-c", code], env={**environment, "HOME": str(tmp_path)}, cwd=ROOT, check=True)
    assert not list(tmp_path.iterdir())


def test_openvino_is_imported_in_one_module():
    found = set()
    for path in (ROOT / "rmbg").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.partition(".")[0] == "openvino" for name in names):
                found.add(path.name)
    assert found == {"openvino_import.py"}
