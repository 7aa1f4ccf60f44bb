"""Own models: names, settings, architecture, choice by score, and one sentence for each file that cannot be used."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from rmbg.errors import CancelledError, ModelError, OptionError
from rmbg.inference import model_settings, own_models
from rmbg.inference.catalog import CONVERTED, IMAGENET_MEAN, IMAGENET_STD, MODELS, build
from rmbg.inference.model_settings import described, parse
from rmbg.inference.own_models import find_candidates, in_folder, locate, measure
from rmbg.settings import Settings
from tests.networks.rule import rule_weights
from tests.onnx_files import color_network
from tests.pictures import scene
from tests.sentences import sentence

#: Levels of the example.
SUBJECT, BACKGROUND = 230, 173


@pytest.fixture
def settings(tmp_path):
    return Settings.from_environ({"RMBG_DATA": str(tmp_path / "data"), "RMBG_DEVICE": "cpu", "RMBG_PRECISION": "fp32"})


@pytest.fixture
def scored(monkeypatch):
    """One example: a bright subject in front of gray."""
    alpha = scene(120, 160)[1]
    gray = np.rint(BACKGROUND + (SUBJECT - BACKGROUND) * alpha).astype(np.uint8)
    monkeypatch.setattr(own_models, "examples", lambda settings: [(np.dstack([gray] * 3), alpha)])


def run(source, settings, options=None, progress=lambda fraction, text: None, check=lambda: None):
    return measure(locate(str(source)), options or {}, settings, progress, check)


def save_empty(path: Path, tensors: dict[str, torch.Tensor], prefix: str = "", dtype: str = "F16") -> None:
    """Write a checkpoint of zeros, which takes no space on the disk."""
    header, end = {}, 0
    for name, value in tensors.items():
        start, end = end, end + value.numel() * 2
        header[prefix + name] = {"dtype": dtype, "shape": list(value.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


# Names and places.


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("net.onnx", "model:net"),
        ("My net v2.1.onnx", "model:My-net-v2.1"),
        ("<b>a&b,c:d'\".onnx", "model:b-a-b-c-d"),
        ("...onnx", "model:unnamed"),
        ("モデル.onnx", "model:unnamed"),
        ("-rf.onnx", "model:rf"),
        ("a" * 200 + ".onnx", "model:" + "a" * 60),
        ("folder/model.onnx", "model:folder"),
    ],
)
def test_name(tmp_path, name, expected):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(color_network())
    assert locate(str(path)).id == expected


def test_folder(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    with pytest.raises(ModelError, match="has no file of the kind") as caught:
        locate(str(folder))
    sentence(caught.value)
    (folder / "net.onnx").write_bytes(b"")
    assert locate(str(folder)).path == folder / "net.onnx" and locate(str(folder)).id == "model:mine"
    (folder / "other.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"has 2 models \(net.onnx, other.safetensors\)") as caught:
        locate(str(folder))
    sentence(caught.value)
    (folder / "model.safetensors").write_bytes(b"")
    assert locate(str(folder)).path == folder / "model.safetensors"


@pytest.mark.parametrize("name", ["net.pth", "net.pt", "pytorch_model.bin", "last.ckpt", "it's.pth"])
def test_pickles_are_refused_with_the_way_to_convert_them(tmp_path, monkeypatch, name):
    path = tmp_path / name
    torch.save({"a": torch.arange(3.0)}, path)
    for source in (path, tmp_path):
        with pytest.raises(ModelError, match="is a pickle") as caught:
            locate(str(source))
        sentence(caught.value)
    if "'" not in name:
        monkeypatch.chdir(tmp_path)
        exec(str(caught.value).split('python -c "')[1].rsplit('"', 1)[0], {})
        assert load_file(tmp_path / "model.safetensors")["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("source", ["net.onnx", "missing/net.safetensors", "/missing", "a/b/c", "../a/b", "a\0b", "x" * 3000])
def test_a_source_that_does_not_exist(source):
    with pytest.raises(OptionError, match=r"There is no model|has no file") as caught:
        locate(source)
    sentence(caught.value)


def test_a_repository():
    model = locate("someone/Net_v2.1")
    assert (model.id, model.hub, model.path) == ("model:someone-Net_v2.1", "someone/Net_v2.1", None)


def test_models_in_a_folder(tmp_path):
    for name in ("a b.onnx", "a-b.safetensors", "A.ONNX", ".hidden.onnx", "notes.txt", "old.pth"):
        (tmp_path / name).write_bytes(b"")
    for folder in ("empty", "mine"):
        (tmp_path / folder).mkdir()
    (tmp_path / "mine" / "model.safetensors").write_bytes(b"")
    found = {model.id: model.path.relative_to(tmp_path).as_posix() for model in in_folder(tmp_path)}
    assert found == {
        "model:A": "A.ONNX",
        "model:a-b": "a b.onnx",
        "model:a-b-2": "a-b.safetensors",
        "model:mine": "mine/model.safetensors",
    }
    with pytest.raises(OptionError, match=r"RMBG_MODELS is .*missing.*cannot be read") as caught:
        in_folder(tmp_path / "missing")
    sentence(caught.value)


# Settings.


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("size", "512", 512),
        ("size", 1024, 1024),
        ("mean", "0.5,0.4, 0.3", (0.5, 0.4, 0.3)),
        ("mean", 0.5, (0.5, 0.5, 0.5)),
        ("std", [1, 1, 1], (1.0, 1.0, 1.0)),
        ("resampling", "plain", "plain"),
        ("minmax_normalize", "true", True),
        ("minmax_normalize", False, False),
        ("patch_order", "columns", "columns"),
        ("force", True, True),
    ],
)
def test_setting(name, value, expected):
    assert parse(name, value) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("size", value) for value in ("", "0", "-64", "31", "512.5", "1e9", "nan", "inf", "a", True, [1, 2], None, {})),
        *(("mean", value) for value in ("", "1,2", "1,2,3,4", "nan", "a,b,c", None, {}, [[1], 2, 3])),
        *(("std", value) for value in ("0", "1,1,-1", "inf", "")),
        *(("resampling", value) for value in ("", "bicubic", None)),
        *(("minmax_normalize", value) for value in ("", "yes please", 2)),
        *(("patch_order", value) for value in ("rows", "")),
        ("sise", 512),
        ("x" * 500, 1),
    ],
)
def test_invalid_setting(name, value):
    with pytest.raises(OptionError) as caught:
        parse(name, value)
    sentence(caught.value)


def rounded(settings):
    return {
        name: tuple(round(one, 9) for one in value) if isinstance(value, tuple) else value for name, value in settings.items()
    }


def test_settings_beside_the_weights(tmp_path):
    path = tmp_path / "net.safetensors"
    assert described(path) == {}
    (tmp_path / "config.json").write_text('{"image_size": 256, "architectures": ["BiRefNet"]}')
    assert described(path) == {"size": 256}
    # The file of briaai/RMBG-1.4.
    processor = {"do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [1, 1, 1], "resample": 2}
    processor |= {"rescale_factor": 0.00392156862745098, "size": {"width": 1024, "height": 1024}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    expected = {"size": 1024, "mean": (0.5,) * 3, "std": (1.0,) * 3, "resampling": "antialiased"}
    assert rounded(described(path)) == expected
    (tmp_path / "model.toml").write_text('size = 512\nmean = [0, 0, 0]\nresampling = "plain"\n')
    assert rounded(described(path)) == {**expected, "size": 512, "mean": (0.0,) * 3, "resampling": "plain"}
    (tmp_path / "net.toml").write_text("minmax_normalize = true")
    assert rounded(described(path)) == {**expected, "minmax_normalize": True}


def test_processor_without_rescaling_or_normalization(tmp_path):
    path = tmp_path / "net.onnx"
    (tmp_path / "preprocessor_config.json").write_text('{"do_rescale": false, "image_mean": [127.5], "image_std": 255}')
    assert rounded(described(path)) == {"mean": (0.5,) * 3, "std": (1.0,) * 3}
    (tmp_path / "preprocessor_config.json").write_text('{"do_normalize": false, "image_mean": 0.5, "size": 320, "resample": 1}')
    assert rounded(described(path)) == {"mean": (0.0,) * 3, "std": (1.0,) * 3, "size": 320, "resampling": "lanczos"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("model.toml", "size = "),
        ("model.toml", "size = 'large'"),
        ("model.toml", "colour = 1"),
        ("model.toml", b"\xff\xfe"),
        ("config.json", "{"),
        ("config.json", "[" * 100_000),
        ("model.toml", "size = " + "[" * 100_000),
        ("config.json", '{"image_size": 5}'),
        ("preprocessor_config.json", '{"size": {"height": 512, "width": 256}}'),
        ("preprocessor_config.json", '{"size": {"depth": 3}}'),
        ("preprocessor_config.json", '{"image_mean": ["a"]}'),
        ("preprocessor_config.json", '{"do_normalize": true, "image_std": 0}'),
        ("preprocessor_config.json", '{"image_mean": 0.5, "rescale_factor": 0}'),
        ("preprocessor_config.json", '{"image_mean": NaN}'),
        ("preprocessor_config.json", '{"size": {"height": [1], "width": [2]}}'),
        ("preprocessor_config.json", '{"size": [], "resample": {}}'),
    ],
)
def test_invalid_settings_beside_the_weights(tmp_path, name, text):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ModelError, match=r"invalid|is not a") as caught:
        described(tmp_path / "net.onnx")
    sentence(caught.value)


# Architecture.


DEFINED = [model for model in (*MODELS.values(), *CONVERTED) if model.engines == ("openvino", "torch")]
NETWORKS = {(model.architecture, model.backbone): model for model in DEFINED}


@pytest.mark.parametrize(
    ("network", "prefix"), [*((network, "") for network in NETWORKS), (next(iter(NETWORKS)), "module._orig_mod.")], ids=str
)
def test_architecture_is_found_by_the_tensors(tmp_path, network, prefix):
    """The settings of each model of the catalog are among the candidates for its weights."""
    save_empty(tmp_path / "net.safetensors", build(NETWORKS[network])[0].state_dict(), prefix)
    found = find_candidates(tmp_path / "net.safetensors", {})
    assert {(one.architecture, one.backbone) for one in found} == {network}
    settings = [(one.patch_order, one.mean, one.std, one.resampling, one.minmax_normalize) for one in found]
    assert len(settings) == len(set(settings)), "each is measured once"
    for model in DEFINED:
        if (model.architecture, model.backbone) == network:
            assert (model.patch_order, model.mean, model.std, model.resampling, model.minmax_normalize) in settings


def test_both_patch_orders_are_candidates_unless_one_is_given(tmp_path):
    path = tmp_path / "net.safetensors"
    save_empty(path, build(MODELS["birefnet"])[0].state_dict())
    assert {model.patch_order for model in find_candidates(path, {})} == {"columns", "colors"}
    given = {"patch_order": "columns", "size": 512, "mean": (0.0,) * 3, "std": (1.0,) * 3, "resampling": "plain"}
    (model,) = find_candidates(path, given)
    assert {name: getattr(model, name) for name in given} == given
    with pytest.raises(ModelError, match="multiple of 32"):
        find_candidates(path, {"size": 500})


def test_normalizations_of_an_onnx_file(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(color_network("side"))
    found = find_candidates(path, {})
    assert [(model.mean, model.std) for model in found][:2] == [(IMAGENET_MEAN, IMAGENET_STD), ((0.5,) * 3, (1.0,) * 3)]
    assert {model.size for model in found} == {1024}
    assert {model.size for model in find_candidates(path, {"size": 320})} == {320}
    path.write_bytes(color_network(64))
    assert {model.size for model in find_candidates(path, {})} == {64}
    with pytest.raises(ModelError, match="fixed input of 64 x 64") as caught:
        find_candidates(path, {"size": 320})
    sentence(caught.value)


def test_a_checkpoint_of_another_network(tmp_path):
    path = tmp_path / "net.safetensors"
    save_file({"layer.weight": torch.zeros(3)}, path)
    with pytest.raises(ModelError, match=r"no known architecture \(.*IS-Net.*\)") as caught:
        find_candidates(path, {})
    sentence(caught.value)
    tensors = build(MODELS["rmbg-1.4"])[0].state_dict()
    tensors.pop("conv_in.weight")
    save_empty(path, tensors)
    with pytest.raises(ModelError, match=r"close to IS-Net.*missing.*conv_in\.weight") as caught:
        find_candidates(path, {})
    sentence(caught.value)


@pytest.mark.parametrize("data", [b"", b"text", b"\xff" * 100, struct.pack("<Q", 2) + b"{}" + b"rest"])
def test_a_file_that_is_no_checkpoint(tmp_path, data):
    path = tmp_path / "net.safetensors"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"is not a safetensors file|no known architecture") as caught:
        find_candidates(path, {})
    sentence(caught.value)


# Choice by score.


def test_the_examples_are_found():
    found = list(own_models.examples(Settings()))
    assert len(found) == 3
    for photo, truth in found:
        assert photo.dtype == np.uint8 and photo.shape == (*truth.shape, 3)
        assert truth.dtype == np.float32 and truth.min() == 0 and truth.max() == 1


@pytest.mark.parametrize(("mean", "std"), [(IMAGENET_MEAN, IMAGENET_STD), ((0.5,) * 3, (1.0,) * 3), ((0.0,) * 3, (1.0,) * 3)])
def test_the_better_normalization_is_chosen_and_stored(tmp_path, settings, scored, mean, std):
    """The network separates two levels of red, which all lie on one side of its threshold after another normalization."""
    path, messages = tmp_path / "net.onnx", []
    level = (SUBJECT + BACKGROUND) / 2 / 255
    path.write_bytes(color_network(64, weight=(100 * std[0], 0, 0), bias=100 * (mean[0] - level)))
    found = run(path, settings, progress=lambda fraction, text: messages.append(text))
    assert (found.model.mean, found.model.std, found.model.size) == (mean, std, 64)
    assert found.score > 75 and "scores" in sentence(found)
    assert "Measuring model:net on the examples" in messages
    again = run(path, settings, progress=lambda fraction, text: pytest.fail("it is stored"))
    assert again == found
    renamed = path.rename(tmp_path / "other.onnx")
    stored = run(renamed, settings, progress=lambda fraction, text: pytest.fail("it is stored"))
    assert stored == replace(found, model=replace(found.model, id="model:other", title="other", path=renamed))
    entries = json.loads((settings.data / own_models.STORE).read_bytes())
    assert [entry["scores"] for entry in entries.values()] == [list(found.scores)]


def test_the_better_patch_order_is_chosen(tmp_path, settings, monkeypatch):
    path = tmp_path / "net.safetensors"
    save_empty(path, build(MODELS["birefnet-lite"])[0].state_dict())
    for best in ("columns", "colors"):
        scores = {best: (90.0, 70.0), ({"columns", "colors"} - {best}).pop(): (80.0, 79.0)}
        monkeypatch.setattr(own_models, "score", lambda own, candidate, *_, scores=scores: scores[candidate.patch_order])
        found = run(path, replace(settings, data=tmp_path / best))
        assert (found.model.patch_order, found.score) == (best, 80.0)
        assert f"patch order {best}" in sentence(found)


def test_a_changed_file_or_option_is_measured_again(tmp_path, settings, scored):
    path = tmp_path / "net.onnx"
    path.write_bytes(color_network("side", weight=(100, 0, 0), bias=-79))
    first = run(path, settings, {"size": 64})
    assert run(path, settings, {"size": "96"}).model.size == 96
    path.write_bytes(color_network("side", weight=(50, 0, 0), bias=-39))
    second = run(path, settings, {"size": 64})
    assert second.scores != first.scores
    (settings.data / own_models.STORE).write_text('{"a": 1}')
    assert run(path, settings, {"size": 64}) == second


def test_options_have_precedence_over_files(tmp_path, settings, scored):
    path = tmp_path / "net.onnx"
    path.write_bytes(color_network("side", weight=(100, 0, 0), bias=-79))
    (tmp_path / "net.toml").write_text("size = 96")
    assert run(path, settings).model.size == 96
    assert run(path, settings, {"size": 64}).model.size == 64


def test_a_bad_model_is_refused_with_its_score_unless_it_is_forced(tmp_path, settings, scored):
    path = tmp_path / "net.onnx"
    path.write_bytes(color_network(64, weight=(0, 0, 0), bias=5))
    with pytest.raises(ModelError, match=r"model:net scores \d+\.\d of 100 .*--force") as caught:
        run(path, settings)
    score = float(str(caught.value).split("scores ")[1].split(" ")[0])
    assert score < 50 and sentence(caught.value)
    forced = run(path, settings, {"force": "true"})
    assert math.isclose(forced.score, score, abs_tol=0.06)
    (tmp_path / "net.toml").write_text("force = true")
    assert run(path, settings) == forced


def test_measuring_can_be_cancelled(tmp_path, settings, scored):
    path = tmp_path / "net.onnx"
    path.write_bytes(color_network(64))

    def check():
        raise CancelledError("Stopped.")

    with pytest.raises(CancelledError):
        run(path, settings, check=check)
    assert not (settings.data / own_models.STORE).exists()


def test_a_checkpoint_runs(tmp_path, settings, scored, monkeypatch):
    """The small U2-Net from weights of a rule, in half precision and with the names of DataParallel."""
    small = replace(MODELS["rmbg-1.4"], architecture="u2netp", network="U2-Net, small", size=320)
    monkeypatch.setitem(MODELS, "small", small)
    tensors = {f"module.{name}": value.half() for name, value in rule_weights(build(small)[0].state_dict(), 1).items()}
    path = tmp_path / "net.safetensors"
    save_file(tensors, path)
    found = run(path, settings, {"size": 64, "force": True, "mean": 0.5, "std": 1})
    assert (found.model.architecture, found.model.size, found.model.network) == ("u2netp", 64, "U2-Net, small")
    tensors["module.outconv.weight"][0] = torch.nan
    save_file(tensors, path)
    with pytest.raises(ModelError, match="NaN or infinite") as caught:
        run(path, settings, {"size": 64, "force": True})
    assert "download" not in sentence(caught.value)


def test_every_option_is_a_field_of_a_model():
    assert set(model_settings.OPTIONS) - {"force"} <= set(type(MODELS["rmbg-1.4"]).__dataclass_fields__)
