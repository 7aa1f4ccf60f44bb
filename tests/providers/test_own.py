"""Own models as providers: opened from a file or the hub, listed from a folder, and closed to visitors."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client, handle_file
from PIL import Image

import rmbg.providers
from rmbg import list_providers, open_model, remove_background
from rmbg.errors import ModelError, NotReadyError, OptionError
from rmbg.inference import own_models
from rmbg.inference.inventory import networks
from rmbg.providers import OPENED, PROVIDERS, find
from rmbg.settings import Settings
from rmbg.ui.components.providers import cards, choices
from tests.benchmark.fakes import Fake
from tests.conftest import launched
from tests.onnx_files import color_network
from tests.pictures import iou, scene
from tests.sentences import sentence
from tests.servers.hub import Hub

#: Mask of the subject of `scene`, which is red: red minus green, for values from 0 to 1.
RED = color_network(64, weight=(20, -20, 0), bias=-2)


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """The registry is restored after a test, and a model is scored on one picture of the tests."""
    providers = dict(PROVIDERS)
    photo, alpha, *_ = scene(120, 160)
    monkeypatch.setattr(own_models, "examples", lambda settings: [(photo, alpha)])
    monkeypatch.setenv("RMBG_PRECISION", "fp32")
    yield
    PROVIDERS.clear()
    PROVIDERS.update(providers)
    OPENED.clear()
    rmbg.providers._add_folder.cache_clear()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Folder of RMBG_MODELS with a good network and a bad one."""
    path = tmp_path / "models"
    path.mkdir()
    (path / "Red one.onnx").write_bytes(RED)
    (path / "blank.onnx").write_bytes(color_network(64, weight=(0, 0, 0), bias=5))
    monkeypatch.setenv("RMBG_MODELS", str(path))
    return path


@pytest.fixture
def photo(tmp_path):
    Image.fromarray(scene()[0]).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_opened_model_removes_a_background(tmp_path, photo):
    path = tmp_path / "red.onnx"
    path.write_bytes(RED)
    info = open_model(path)
    assert info.id == "model:red" and "scores" in info.model and info.input_size == "64 x 64"
    cutout = remove_background(photo, info.id)
    assert iou(cutout.matte, scene()[1]) > 0.9
    assert (cutout.provider, cutout.engine, cutout.precision) == ("model:red", "openvino", "fp32")
    assert info.id not in {one.id for one in list_providers()}, "it is not listed"


def test_models_of_the_folder_are_listed_and_run(folder, photo):
    own = {info.id: info for info in list_providers() if info.id.startswith("model:")}
    assert set(own) == {"model:Red-one", "model:blank"}
    assert "hub" not in own["model:blank"].pixels.lower()
    assert iou(remove_background(photo, "model:Red-one").matte, scene()[1]) > 0.9
    with pytest.raises(ModelError, match=r"model:blank scores .*--force") as caught:
        remove_background(photo, "model:blank")
    sentence(caught.value)
    (folder / "blank.toml").write_text("force = true")
    assert remove_background(photo, "model:blank").matte.min() > 0.9
    assert find("cascade:model:Red-one,builtin").info.id.startswith("cascade")


def test_own_models_and_plugins_are_the_last_group(folder, monkeypatch):
    """Ready ones first, whether they run on this machine or are services."""
    for fake in (Fake("other", "remote", "0.01"), Fake("plain")):
        monkeypatch.setitem(PROVIDERS, fake.info.id, fake)
    list_providers()
    (folder / "blank.onnx").unlink()
    settings = Settings.from_environ()
    listed = choices(settings)
    ids = [name for _, name in listed]
    assert ids[-4:] == ["other", "plain", "model:Red-one", "model:blank"]
    assert PROVIDERS[ids[-5]].info.kind == "remote" and listed[-2][0] == "Red-one · own model"
    headings = re.findall(r"<h3>(.*?)</h3>|<code>(model:.*?|fal-rmbg-2.0|plain)</code>", cards(settings))
    found = [heading or name for heading, name in headings]
    assert found == ["On this computer", "Services", "fal-rmbg-2.0", "Own models and plug-ins", "plain", *ids[-2:]]


def test_seconds_of_a_run_are_stored(folder, photo):
    settings = Settings.from_environ()
    cutout = remove_background(photo, "model:Red-one")
    (seconds,) = (network.seconds for network in networks(settings) if network.model.id == "model:Red-one")
    assert seconds == pytest.approx(cutout.warm_seconds, abs=0.001)


def test_a_changed_file_is_another_model(folder):
    """For the batch and the benchmark, which keep the results of the same model, also of a step of a cascade."""
    cascade, settings = find("cascade:model:Red-one,builtin"), Settings.from_environ()

    def identities():
        (execution,) = find("model:Red-one").executions(settings)
        return (execution.revision, *cascade.checksums(cascade.info.parse_options({}), settings))

    before = identities()
    assert before == identities() == (before[0],) * 2
    (folder / "Red one.onnx").write_bytes(color_network(64, weight=(0, 0, 0), bias=5))
    changed = identities()
    (folder / "Red one.toml").write_text("size = 64\nforce = true")
    assert len({before, changed, identities()}) == 3
    (folder / "Red one.onnx").unlink()
    assert identities() == ("",)


def test_only_names_of_models_are_accepted(folder, tmp_path):
    (tmp_path / "other.onnx").write_bytes(RED)
    names = [f"model:{tmp_path}/other.onnx", "model:../other", "model:other", "model:", str(folder / "blank.onnx"), "a/b"]
    for name in names:
        with pytest.raises(OptionError, match="There is no provider") as caught:
            find(name)
        assert str(caught.value).endswith(".")
    (folder / "later.onnx").write_bytes(RED)
    with pytest.raises(OptionError, match="There is no provider"):
        find("model:later")  # the page is built from the registry, which does not change while it runs


def test_a_folder_that_does_not_exist(tmp_path, monkeypatch):
    monkeypatch.setenv("RMBG_MODELS", str(tmp_path / "missing"))
    with pytest.raises(OptionError, match="RMBG_MODELS") as caught:
        list_providers()
    sentence(caught.value)


def test_an_onnx_file_needs_no_torch(folder, monkeypatch):
    (folder / "net.safetensors").write_bytes(b"")
    assert find("model:net").status(Settings()).state == "ready"
    monkeypatch.setattr("rmbg.providers.local.torch_is_installed", lambda: False)
    assert find("model:blank").status(Settings()).state == "ready"
    assert find("model:net").status(Settings()).state == "unavailable"


def test_a_deleted_file(folder, photo):
    assert find("model:blank").status(Settings()).state == "ready"
    (folder / "blank.onnx").unlink()
    assert find("model:blank").status(Settings()).state == "unavailable"
    with pytest.raises(ModelError, match="cannot be read") as caught:
        remove_background(photo, "model:blank")
    sentence(caught.value)


@pytest.mark.slow
def test_page_and_api_of_a_shared_server(folder, photo, monkeypatch, tmp_path):
    monkeypatch.setenv("RMBG_SHARED", "1")
    (tmp_path / "other.onnx").write_bytes(RED)
    with launched() as url:
        client = Client(url, verbose=False, download_files=str(tmp_path))
        assert "model:Red-one" in {one["id"] for one in client.predict(api_name="/list_providers")}
        options = [part["props"] for part in client.config["components"] if part["props"].get("elem_id") == "provider"]
        assert "model:Red-one" in [value for _, value in options[0]["choices"]]
        result = client.predict(handle_file(photo), provider="model:Red-one", api_name="/remove_background")
        assert iou(np.asarray(Image.open(result))[..., 3] / 255, scene()[1]) > 0.9
        for name in (f"model:{tmp_path}/other.onnx", "model:other", "someone/other"):
            with pytest.raises(Exception, match="There is no provider"):
                client.predict(handle_file(photo), provider=name, api_name="/remove_background")
        with pytest.raises(Exception, match="not set up here"):
            client.predict(handle_file(photo), provider="model:blank", api_name="/remove_background")


# Repositories on the hub.


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with Hub() as server:
        for name, value in {"HF_HOME": tmp_path / "hf", "HF_ENDPOINT": server.url, "RMBG_DATA": tmp_path / "data"}.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
        monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
        yield server


def test_repository(hub, monkeypatch):
    """The configuration is read from the commit of the weights, and nothing is requested again."""
    hub.files["someone/net"] = {"model.safetensors": b"1" * 2_000_000, "preprocessor_config.json": b'{"size": 96}'}
    given, messages = [], []

    def find_candidates(path: Path, settings):
        given.append((path.read_bytes()[:1], settings))
        return [own_models.UNKNOWN]

    monkeypatch.setattr(own_models, "find_candidates", find_candidates)
    monkeypatch.setattr(own_models, "score", lambda *arguments: (90.0,))
    info = open_model("someone/net", progress=lambda fraction, text: messages.append(text))
    assert info.id == "model:someone-net" and given == [(b"1", {"size": 96})]
    assert messages[0] == "Downloading model:someone-net (2 MB)"
    requests = len(hub.requests)
    assert open_model("someone/net") == info and len(hub.requests) == requests
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert open_model("someone/net") == info and len(given) == 1
    manifest = json.loads(Path(Settings.from_environ().data / "weights.json").read_text())
    assert manifest["model:someone-net"]["revision"] == hub.commit


def test_repositories_that_cannot_be_used(hub):
    with pytest.raises(NotReadyError, match="someone/net does not exist") as missing:
        open_model("someone/net")
    hub.files["someone/net"] = {"pytorch_model.bin": b"1"}
    with pytest.raises(NotReadyError, match=r"has no file model\.safetensors\. .*convert") as other:
        open_model("someone/net")
    hub.gated = True
    with pytest.raises(NotReadyError, match="needs a Hugging Face token") as gated:
        open_model("someone/net")
    for caught in (missing, other, gated):
        assert "RMBG_WEIGHTS" not in sentence(caught.value)


def test_a_repository_of_the_catalog_is_its_provider():
    assert open_model("briaai/RMBG-1.4") is PROVIDERS["rmbg-1.4"].info
