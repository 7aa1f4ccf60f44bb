"""rmbg.inference.device: choice of engine, device and precision, and the environment of torch."""

import os
import subprocess
import sys

import pytest

from rmbg.errors import NotReadyError
from rmbg.inference import builtin_runner, device, model_cache
from rmbg.inference.catalog import CONVERTED, MODELS
from rmbg.inference.device import choose, choose_engine_and_device
from rmbg.providers import PROVIDERS, find
from rmbg.providers.local import LocalNetwork
from rmbg.settings import Settings
from tests.sentences import sentence


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cuda:7", "RMBG_DEVICE is 'cuda:7', and torch finds [0-9]+ CUDA device"),
        ("tpu", "RMBG_DEVICE is 'tpu'. Set it to auto, cpu"),
        ("cpu:1", "RMBG_DEVICE is 'cpu:1'. Set it to auto, cpu"),
    ],
)
def test_an_unavailable_device_is_an_error(device, message):
    with pytest.raises(NotReadyError, match=message) as raised:
        choose(Settings(device=device))
    sentence(raised.value)


@pytest.mark.parametrize(
    ("text", "precision"),
    [
        ("vendor_id : GenuineIntel\nflags : fpu avx512_bf16 amx_bf16 amx_tile\n", "bf16"),
        ("vendor_id : GenuineIntel\nflags : fpu avx512_bf16\n", "fp32"),
        ("vendor_id : AuthenticAMD\nflags : fpu avx512_bf16\n", "bf16"),
        (None, "bf16"),
    ],
)
def test_bf16_only_where_it_is_faster(monkeypatch, tmp_path, text, precision):
    runner = pytest.importorskip("rmbg.inference.openvino_runner")
    path = tmp_path / "cpuinfo"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(device, "CPU_INFO", path)
    monkeypatch.setattr(runner, "supported_precisions", lambda: ["fp32", "bf16"])
    assert choose(Settings(engine="openvino")).precision == precision
    assert choose(Settings(engine="openvino", precision="bf16")).precision == "bf16"
    assert builtin_runner.choose_plan(Settings()).precision == precision
    assert builtin_runner.choose_plan(Settings(precision="bf16")).precision == "bf16"
    assert builtin_runner.choose_plan(Settings(precision="fp32")).precision == "fp32"
    assert builtin_runner.choose_plan(Settings(engine="torch")).precision == "fp32"


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_networks_whose_masks_need_fp32(monkeypatch, engine):
    runner = pytest.importorskip("rmbg.inference.openvino_runner")
    monkeypatch.setattr(runner, "supported_precisions", lambda: ["fp32", "bf16"])
    monkeypatch.setattr(device, "bf16_is_fast", lambda cpu_info: True)
    monkeypatch.setattr(device, "torch_precision", lambda device: "bf16")
    settings, chosen = Settings(engine=engine, device="cpu"), Settings(engine=engine, device="cpu", precision="bf16")
    inspyrenet = next(model for model in CONVERTED if model.architecture == "inspyrenet")
    for model, precision in ((inspyrenet, "fp32"), (MODELS["finegrain-box"], "fp32"), (MODELS["ben2"], "bf16")):
        assert LocalNetwork(model).executions(settings)[0].precision == precision
        assert model_cache._plan(model, settings).precision == precision
        assert model_cache._plan(model, chosen).precision == "bf16"


def test_a_precision_of_gpus_does_not_concern_the_built_in_networks(monkeypatch):
    runner = pytest.importorskip("rmbg.inference.openvino_runner")
    monkeypatch.setattr(runner, "supported_precisions", lambda: ["fp32"])
    for precision in ("fp16", "bf16"):
        assert builtin_runner.choose_plan(Settings(precision=precision)).precision == "fp32"


def test_without_torch_the_built_in_network_runs_on_openvino(monkeypatch, tmp_path):
    pytest.importorskip("rmbg.inference.engines")
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "birefnet.safetensors").touch()
    settings = Settings(weights=tmp_path)
    assert find("auto", settings).info.id == "builtin", "not a network whose weights are there"
    plan = builtin_runner.choose_plan(settings)
    assert (plan.engine, plan.device) == ("openvino", "cpu")
    assert choose_engine_and_device(settings) == ("openvino", "cpu")
    status = PROVIDERS["birefnet"].status(settings)
    assert not status.usable and status.text == "not set up here; run pip install torch transformers"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(), "This model needs torch, which is not installed. Run pip install torch"),
        (Settings(engine="torch"), "RMBG_ENGINE is 'torch', which is not installed. Run pip install torch"),
        (Settings(device="cuda"), "RMBG_DEVICE is 'cuda', which needs torch. Run pip install torch"),
        (Settings(device="tpu"), "RMBG_DEVICE is 'tpu'. Set it to auto, cpu"),
    ],
)
def test_what_needs_torch_without_it_is_an_error(monkeypatch, settings, message):
    monkeypatch.setitem(sys.modules, "torch", None)
    ask = choose if settings == Settings() else choose_engine_and_device
    with pytest.raises(NotReadyError, match=message) as raised:
        ask(settings)
    sentence(raised.value)


def test_without_any_engine(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(NotReadyError, match=r"Neither OpenVINO nor torch is installed\. Run pip install openvino"):
        builtin_runner.choose_plan(Settings())


CODE = """
import os, sys
before = dict(os.environ)
import rmbg.inference.model_cache, rmbg.inference.engines
assert dict(os.environ) == before and "torch" not in sys.modules
torch = rmbg.inference.engines.import_torch()
assert torch.__name__ == "torch"
print(os.environ["PYTORCH_ENABLE_MPS_FALLBACK"])
"""


@pytest.mark.parametrize(("own", "expected"), [(None, "1"), ("0", "0")])
def test_the_fallback_of_mps_is_enabled_with_torch_and_not_before(own, expected):
    """Importing the package changes nothing, and a value that the user has set is kept."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTORCH_ENABLE_MPS_FALLBACK"}
    if own is not None:
        environment["PYTORCH_ENABLE_MPS_FALLBACK"] = own
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout.strip()) == (0, expected), done.stderr
