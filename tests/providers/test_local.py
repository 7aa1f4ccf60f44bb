"""The published networks as providers, with random weights of the correct shapes."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from rmbg.__main__ import main
from rmbg.errors import ModelError, OptionError
from rmbg.images.photo import Photo
from rmbg.inference import catalog, inventory
from rmbg.inference.catalog import MODELS, build
from rmbg.inference.engines import Plan
from rmbg.inference.model_cache import MODEL_CACHE
from rmbg.providers import PROVIDERS, find
from rmbg.providers.base import RequestContext
from rmbg.remove import remove_background
from rmbg.settings import Settings
from tests.networks.rule import rule_weights
from tests.servers.hub import Hub


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder for RMBG_WEIGHTS with an IS-Net of generated weights."""
    path = tmp_path_factory.mktemp("weights")
    network, _ = build(MODELS["rmbg-1.4"])
    save_file(rule_weights(network.state_dict(), 1), path / "rmbg-1.4.safetensors")
    return path


@pytest.fixture(autouse=True)
def small_inputs(monkeypatch):
    """Reduce the input size to 64 x 64: 1/256 of the time, without effect on these tests."""
    for name, model in MODELS.items():
        monkeypatch.setattr(PROVIDERS[name], "model", replace(model, size=64))


@pytest.fixture
def settings(folder, tmp_path):
    return Settings.from_environ(
        {"RMBG_WEIGHTS": str(folder), "RMBG_DATA": str(tmp_path), "RMBG_DEVICE": "cpu", "HF_HOME": str(tmp_path)}
    )


@pytest.fixture
def photo():
    rgb = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    alpha = np.full((60, 90), 255, np.uint8)
    alpha[:10] = 0
    return Photo(rgb, alpha)


def test_cutout_holds_provider_engine_and_device(settings, photo):
    messages = []
    cutout = remove_background(photo, "rmbg-1.4", settings=settings, progress=lambda fraction, text: messages.append(text))
    assert (cutout.provider, cutout.device, cutout.cost.basis) == ("rmbg-1.4", "cpu", "estimated")
    assert cutout.engine in ("torch", "openvino") and cutout.precision in ("fp32", "bf16")
    assert cutout.matte.max() > 0.9 and cutout.matte.min() == 0
    assert (cutout.matte[:10] == 0).all()  # the photo's own alpha is applied
    assert "Running rmbg-1.4 on cpu" in messages
    (network,) = (network for network in inventory.networks(settings) if network.seconds is not None)
    assert network.model.id == "rmbg-1.4" and network.seconds == round(cutout.warm_seconds, 3)


def test_box_network_processes_the_box_with_its_margin(settings, monkeypatch):
    rgb = np.zeros((100, 200, 3), np.uint8)
    rgb[48:, 45:155] = 255  # the box and its margin of 5 % on each side
    images, run = [], Plan("torch", "cpu", "fp32")

    def predict(model, image, *arguments):
        images.append(image)
        return np.ones((1, 64, 64), np.float32), run

    monkeypatch.setattr(MODEL_CACHE, "predict", predict)
    cutout = remove_background(Photo(rgb), "finegrain-box", {"box": "0.25,0.5,0.75,1"}, settings=settings)
    assert images[0][0, :, :-5].min() > 2, "white, and black below the photo"
    assert images[0][0, :, -1].max() < 0
    assert cutout.matte[48:, 45:155].min() == 1 and cutout.matte.sum() == 52 * 110
    whole = remove_background(Photo(rgb), "finegrain-box", settings=settings)
    assert whole.matte.min() == 1
    for box in ("0.5,0,0.5,1", "0,0,1", "0,0,1,2"):
        with pytest.raises(OptionError, match=r"^box is"):
            remove_background(Photo(rgb), "finegrain-box", {"box": box}, settings=settings)


def test_remove_command_runs_a_local_network(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RMBG_WEIGHTS", str(folder))
    monkeypatch.setenv("RMBG_DATA", str(tmp_path))
    monkeypatch.setenv("RMBG_DEVICE", "cpu")
    Image.new("RGB", (50, 40), "red").save(tmp_path / "photo.jpg")
    out = tmp_path / "out.png"
    assert main(["remove", str(tmp_path / "photo.jpg"), str(out), "--provider", "rmbg-1.4", "--json"]) == 0
    assert '"provider": "rmbg-1.4"' in capsys.readouterr().out
    assert Image.open(io.BytesIO(out.read_bytes())).size == (50, 40)


def test_download_command(folder, tmp_path, monkeypatch, capsys):
    with Hub() as hub:
        data = (folder / "rmbg-1.4.safetensors").read_bytes()
        hub.files["briaai/RMBG-1.4"] = {"model.safetensors": data}
        for name, value in {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "RMBG_DATA": str(tmp_path)}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("RMBG_WEIGHTS", raising=False)
        assert find("rmbg-1.4").status(Settings.from_environ()).text == "downloads 176 MB on first use"
        assert main(["download", "rmbg-1.4"]) == 0
        assert "model.safetensors\nsha256 " in capsys.readouterr().out
        assert find("rmbg-1.4").status(Settings.from_environ()).state == "ready"
        assert main(["download", "builtin"]) == 2


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_input_of_a_dynamic_network_depends_on_photo_and_engine(settings, tmp_path, photo, monkeypatch, engine):
    model = replace(MODELS["birefnet-dynamic"], backbone="swin_t", dynamic=(32, 96))
    monkeypatch.setattr(PROVIDERS[model.id], "model", model)
    monkeypatch.setattr(catalog, "GRAPH_SHAPES", ((32, 32), (32, 64)))
    network, _ = build(model)
    save_file(rule_weights(network.state_dict(), 1), tmp_path / f"{model.id}.safetensors")
    shapes = []
    predict = MODEL_CACHE.predict
    monkeypatch.setattr(
        MODEL_CACHE, "predict", lambda model, images, *rest: (shapes.append(images.shape), predict(model, images, *rest))[1]
    )
    settings = Settings.from_environ({**settings.environ, "RMBG_WEIGHTS": str(tmp_path), "RMBG_ENGINE": engine})
    PROVIDERS[model.id].warm_up(RequestContext(settings))
    wide = Photo(np.repeat(photo.rgb, 2, 1), None)
    for sized in (photo, wide):
        cutout = remove_background(sized, model.id, settings=settings)
        assert cutout.engine == engine and cutout.matte.shape == sized.rgb.shape[:2]
    expected = {"torch": [(1, 3, 32, 64), (1, 3, 32, 96)], "openvino": [(1, 3, 32, 64), (1, 3, 32, 64)]}
    assert shapes == expected[engine]


def test_wrong_weights_are_rejected_and_do_not_affect_the_next_run(settings, folder, tmp_path, photo):
    network, _ = build(MODELS["birefnet-lite"])
    save_file({name: torch.zeros(1) for name in network.state_dict()}, tmp_path / "rmbg-1.4.safetensors")
    wrong = Settings.from_environ({**settings.environ, "RMBG_WEIGHTS": str(tmp_path)})
    with pytest.raises(ModelError, match=r"rmbg-1\.4\.safetensors does not fit rmbg-1\.4\. These are the weights of another"):
        remove_background(photo, "rmbg-1.4", settings=wrong)
    assert remove_background(photo, "rmbg-1.4", settings=settings)


def test_status_names_the_missing_requirement(settings):
    def status(name, **more):
        return PROVIDERS[name].status(Settings.from_environ({**settings.environ, **more}))

    assert status("rmbg-1.4").state == "ready"
    assert status("rmbg-2.0").state == "licence" and "https://huggingface.co/briaai/RMBG-2.0" in status("rmbg-2.0").text
    assert status("rmbg-2.0", HF_TOKEN="hf_x").text.startswith("downloads 885 MB on first use, after the license")
    assert status("birefnet", HF_HUB_OFFLINE="1").state == "unavailable"
    assert status("birefnet", RMBG_WEIGHTS="/nowhere").state == "unavailable"
    for name in ("rmbg-1.4", "sam2"):
        unavailable = status(name, RMBG_DEVICE="cuda:7")
        assert unavailable.state == "unavailable" and unavailable.text.startswith("RMBG_DEVICE is 'cuda:7', and torch finds")


def test_auto_selects_the_best_ready_provider(settings):
    assert find("auto", settings).info.id == "rmbg-1.4"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("birefnet-hd", r"choose from birefnet-hr, .* and \d+ more\. rmbg providers lists all\."),
        ("magic", r"choose from auto, builtin, rmbg-1\.4, .* and \d+ more\."),
    ],
)
def test_unknown_provider_is_answered_with_similar_ones(name, words):
    with pytest.raises(OptionError, match=words):
        find(name)
