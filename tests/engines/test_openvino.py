"""The OpenVINO graphs compute what our torch networks compute, and what is prepared is kept."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from rmbg.engines import weights
from rmbg.engines.models import MODELS, build
from rmbg.engines.plan import Plan, choose
from rmbg.engines.torch_engine import TorchRunner
from rmbg.errors import NotReadyError
from rmbg.settings import Settings
from tests.networks.rule import network_input, rule_weights

pytest.importorskip("openvino")
from rmbg.engines.openvino_engine import OpenVinoRunner, core, keep, precisions

FP32 = Plan("openvino", "cpu", "fp32")


def quiet(fraction, text):
    pass


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """A folder with IS-Net and BiRefNet lite, made by the rule."""
    folder = tmp_path_factory.mktemp("weights")
    for name in ("rmbg-1.4", "birefnet-lite"):
        network, _ = build(MODELS[name])
        save_file(rule_weights(network.state_dict(), 1), folder / f"{name}.safetensors")
    return Settings.from_environ({"RMBG_WEIGHTS": str(folder), "RMBG_DATA": str(folder / "data")})


def difference(model, settings, precision):
    """Mean and largest difference of the masks between OpenVINO at `precision` and torch in single precision."""
    file = weights.fetch(model, settings, quiet)
    image = network_input(1, model.size, model.size).numpy()
    ours = OpenVinoRunner(model, file, replace(FP32, precision=precision), settings, quiet).run(image)
    theirs = TorchRunner(model, file, Plan("torch", "cpu", "fp32"), quiet).run(image)
    assert ours.shape == theirs.shape == (1, model.size, model.size) and ours.dtype == np.float32
    return np.abs(ours - theirs).mean(), np.abs(ours - theirs).max()


# 192 leaves half windows at every level of the lite backbone, and an odd size at its last; both orders of patches are drawn.
@pytest.mark.parametrize(
    "model",
    [
        replace(MODELS["rmbg-1.4"], size=128),
        replace(MODELS["birefnet-lite"], size=192),
        replace(MODELS["birefnet-lite"], size=64, patch_order="columns"),
    ],
    ids=["isnet", "birefnet", "columns"],
)
def test_graph_agrees_with_torch(settings, model):
    mean, largest = difference(model, settings, "fp32")
    assert largest < 1e-4, mean


@pytest.mark.skipif("bf16" not in precisions(), reason="this processor does not compute with bf16")
def test_bf16_is_close(settings):
    assert difference(replace(MODELS["rmbg-1.4"], size=128), settings, "bf16")[0] < 1 / 255


def test_what_is_prepared_is_kept_and_used(settings, tmp_path):
    settings = replace(settings, data=tmp_path)
    model = replace(MODELS["rmbg-1.4"], size=64)
    file = weights.fetch(model, settings, quiet)
    image = network_input(1, 64, 64).numpy()
    told = []
    first = OpenVinoRunner(model, file, FP32, settings, lambda fraction, text: told.append(text)).run(image)
    again = OpenVinoRunner(model, file, FP32, settings, lambda fraction, text: told.append(text)).run(image)
    assert told == ["Preparing rmbg-1.4 for this processor (once)", "Loading rmbg-1.4 on cpu"]
    assert np.abs(first - again).max() < 1e-5
    (blob,) = (tmp_path / "engines").iterdir()
    blob.write_bytes(blob.read_bytes()[:-1])
    assert np.array_equal(OpenVinoRunner(model, file, FP32, settings, quiet).run(image), first)
    other = replace(file, sha256="0" * 64)
    OpenVinoRunner(model, other, FP32, settings, quiet)
    (newer,) = (tmp_path / "engines").iterdir()
    assert newer != blob


def test_what_is_kept_of_another_model_stays(tmp_path):
    class Compiled:
        def export_model(self):
            return io.BytesIO(b"prepared")

    for name in ("birefnet-lite-1", "birefnet-1", "birefnet-2"):
        keep(Compiled(), tmp_path / f"{name}.blob", MODELS[name[:-2]])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["birefnet-2.blob", "birefnet-lite-1.blob"]


def test_a_folder_that_cannot_be_written_is_no_reason_to_fail(settings, tmp_path):
    (tmp_path / "engines").write_text("a file where a folder should be")
    settings = replace(settings, data=tmp_path)
    model = replace(MODELS["rmbg-1.4"], size=64)
    runner = OpenVinoRunner(model, weights.fetch(model, settings, quiet), FP32, settings, quiet)
    assert runner.run(network_input(1, 64, 64).numpy()).shape == (1, 64, 64)


def test_deformable_convolution_counts_what_is_half_outside():
    """At the border OpenVINO must mix with zeros, as torch does, and not leave the whole sample out."""
    from torch import nn

    from rmbg.engines.openvino_graph import _tensors, deformable, opset15, ov
    from rmbg.networks.deform import DeformableConv

    torch.manual_seed(0)
    module = DeformableConv(3, 4, 3)
    module.regular_conv.bias = nn.Parameter(torch.zeros(4))
    image = torch.randn(1, 3, 6, 5)
    _tensors.set({})
    parameter = opset15.parameter([1, 3, 6, 5], np.float32)
    model = ov.Model([deformable(module, parameter)], [parameter], "test")
    ours = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([image.numpy()])[0]
    assert np.abs(ours - module(image).relu().detach().numpy()).max() < 1e-5


def test_it_is_the_default_on_a_processor_and_never_runs_elsewhere():
    assert choose(Settings(device="cpu")).engine == "openvino"
    assert choose(Settings(device="cpu", engine="torch")) == Plan("torch", "cpu", "fp32")
    assert choose(Settings(engine="openvino", precision="fp32")) == FP32
    with pytest.raises(NotReadyError, match="mps"):
        choose(Settings(engine="openvino", device="mps"))


def test_a_precision_that_the_processor_lacks_is_an_error(monkeypatch):
    monkeypatch.setattr("rmbg.engines.openvino_engine.precisions", lambda: ["fp32"])
    assert choose(Settings(device="cpu")) == FP32
    with pytest.raises(NotReadyError, match="RMBG_PRECISION is 'fp16', and this processor computes with fp32"):
        choose(Settings(device="cpu", precision="fp16"))


def test_not_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert choose(Settings(device="cpu")).engine == "torch"
    with pytest.raises(NotReadyError, match="pip install openvino"):
        choose(Settings(engine="openvino", device="cpu"))
