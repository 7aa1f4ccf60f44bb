"""ONNX files: layouts, sizes and types on both engines, and one sentence for each file that cannot be used."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rmbg.errors import ModelError, NotReadyError
from rmbg.inference import device, preprocess, weights
from rmbg.inference.engines import Plan
from rmbg.inference.model_cache import ModelCache
from rmbg.inference.onnx_file import external_files, image_input, read_onnx
from rmbg.inference.own_models import find_candidates, locate
from rmbg.settings import Settings
from tests.onnx_files import color_network, model, node, tensor
from tests.sentences import sentence

SIZE = 32
IMAGES = np.random.default_rng(1).uniform(-0.5, 0.5, (2, 3, SIZE, SIZE)).astype(np.float32)
EXPECTED = 1 / (1 + np.exp(20 * (IMAGES[:, 1] - IMAGES[:, 0])))

NETWORKS = {
    "fixed": {"size": SIZE},
    "dynamic": {"size": "side"},
    "NHWC": {"size": SIZE, "layout": "NHWC"},
    "dynamic NHWC": {"size": "side", "layout": "NHWC"},
    "logits": {"size": SIZE, "logits": True},
    "float16": {"size": SIZE, "type": "float16"},
    "seven masks": {"size": SIZE, "masks": 7},
}


def no_progress(fraction, text):
    pass


@pytest.fixture
def settings(tmp_path):
    return Settings.from_environ({"RMBG_DATA": str(tmp_path / "data"), "RMBG_PRECISION": "fp32"})


def predict(path: Path, settings: Settings) -> tuple[np.ndarray, Plan]:
    return ModelCache().predict(replace(locate(str(path)), size=SIZE), IMAGES, settings, no_progress, lambda: None)


def test_mask_of_classes_is_all_but_the_background(tmp_path, settings):
    path = tmp_path / "net.onnx"
    weight = np.random.default_rng(2).normal(0, 5, (4, 3, 1, 1)).astype(np.float32)
    convolution = node("Conv", ["image", "weight"], ["logits"], kernel_shape=[1, 1])
    shapes = [("image", "float32", (1, 3, "h", "w"))], [("logits", "float32", (1, 4, "h", "w"))]
    path.write_bytes(model(*shapes, [convolution], [tensor("weight", weight)]))
    several = replace(locate(str(path)), size=SIZE, classes=4)
    masks, _ = ModelCache().predict(several, IMAGES, settings, no_progress, lambda: None)
    exponentials = np.exp(np.einsum("kc,nchw->nkhw", weight[:, :, 0, 0], IMAGES))
    assert np.abs(masks - (1 - exponentials[:, 0] / exponentials.sum(1))).max() < 1e-5
    with pytest.raises(ModelError, match="has no output of 3 channels"):
        ModelCache().predict(replace(several, classes=3), IMAGES, settings, no_progress, lambda: None)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_mask(tmp_path, settings, name, engine):
    pytest.importorskip(engine)
    path = tmp_path / "net.onnx"
    path.write_bytes(color_network(**NETWORKS[name]))
    masks, plan = predict(path, replace(settings, engine=engine))
    assert plan == Plan(engine, "cpu", "fp32")
    assert masks.dtype == np.float32 and np.abs(masks - EXPECTED).max() < (0.01 if name == "float16" else 1e-5)


def test_input_is_described(tmp_path):
    path = tmp_path / "net.onnx"
    found = {}
    for name, values in NETWORKS.items():
        path.write_bytes(color_network(**values))
        found[name] = (image_input(path).layout, image_input(path).size)
    assert found["fixed"] == ("NCHW", (SIZE, SIZE)) and found["dynamic"] == ("NCHW", None)
    assert found["NHWC"] == ("NHWC", (SIZE, SIZE)) and found["dynamic NHWC"] == ("NHWC", None)
    path.write_bytes(model([("image", "float32", (1, 3, "height", 64))], [MASK], IDENTITY))
    assert image_input(path).size == (64, 64)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_input_that_is_not_square(tmp_path, settings, engine):
    pytest.importorskip(engine)
    path = tmp_path / "net.onnx"
    weight = tensor("weight", np.ones((1, 3, 1, 1), np.float32))
    shapes = [("image", "float32", (1, 3, 32, 64))], [("mask", "float32", (1, 1, 32, 64))]
    path.write_bytes(model(*shapes, [node("Conv", ["image", "weight"], ["mask"])], [weight]))
    assert image_input(path).size == (32, 64)
    (own,) = dict.fromkeys(replace(one, path=path) for one in find_candidates(path, {"mean": (0.0,) * 3, "std": (1.0,) * 3}))
    photo = np.full((50, 80, 3), 51, np.uint8)
    images = preprocess.prepare(own, photo)
    masks, _ = ModelCache().predict(own, images, replace(settings, engine=engine), no_progress, lambda: None)
    assert masks.shape == (1, 32, 64) and np.allclose(masks, 0.6)


def test_compiled_networks_are_cached_until_the_file_changes(tmp_path, settings):
    path, messages = tmp_path / "net.onnx", []
    for bias in (0.0, 0.0, 3.0):
        path.write_bytes(color_network(SIZE, bias=bias))
        own = replace(locate(str(path)), size=SIZE)
        masks, _ = ModelCache().predict(own, IMAGES, settings, lambda fraction, text: messages.append(text), lambda: None)
        assert abs(masks.mean() - 0.5) < 0.1 if bias == 0 else masks.mean() > 0.55
    assert [text.partition(" ")[0] for text in messages if "Running" not in text] == ["Preparing", "Loading", "Preparing"]


def test_weights_in_the_inputs_are_not_images(tmp_path):
    """Files of IR version 3 list their weights among the inputs."""
    weight = np.ones((1, 3, 1, 1), np.float32)
    image = ("image", "float32", (1, 3, SIZE, SIZE))
    data = model(
        [image, ("weight", "float32", weight.shape)],
        [("mask", "float32", (1, 1, SIZE, SIZE))],
        [node("Conv", ["image", "weight"], ["mask"])],
        [tensor("weight", weight)],
    )
    (tmp_path / "net.onnx").write_bytes(data)
    assert image_input(tmp_path / "net.onnx").name == "image"


def test_external_data_beside_the_file_is_read_and_part_of_its_checksum(tmp_path, settings):
    path, data = tmp_path / "net.onnx", tmp_path / "net.data"
    path.write_bytes(color_network(SIZE, location="net.data"))
    data.write_bytes(np.array([20, -20, 0], np.float32).tobytes())
    assert external_files(path) == (data,)
    assert np.abs(predict(path, settings)[0] - EXPECTED).max() < 1e-5
    first = weights.fetch(locate(str(path)), settings, no_progress)
    data.write_bytes(np.array([-20, 20, 0], np.float32).tobytes())
    assert weights.fetch(locate(str(path)), settings, no_progress).sha256 != first.sha256
    assert np.abs(predict(path, settings)[0] - (1 - EXPECTED)).max() < 1e-5


IMAGE = ("image", "float32", (1, 3, SIZE, SIZE))
MASK = ("mask", "float32", (1, 1, SIZE, SIZE))
IDENTITY = [node("Identity", ["image"], ["mask"])]


def with_outputs(*shapes):
    """Network with an output of ones in each of the shapes."""
    tensors = [tensor(f"value{i}", np.ones(shape, np.float32)) for i, shape in enumerate(shapes)]
    nodes = [node("Identity", [f"value{i}"], [f"mask{i}"]) for i in range(len(shapes))]
    return model([IMAGE], [(f"mask{i}", "float32", shape) for i, shape in enumerate(shapes)], nodes, tensors)


BAD_FILES = {
    "empty": (b"", "is not an ONNX model"),
    "text": (b"This is no network, but a text.", "is not an ONNX model"),
    "pickle": (b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}\x94.", "is not an ONNX model"),
    "incomplete": (color_network()[:-40], "is incomplete"),
    "two inputs": (model([IMAGE, ("other", *IMAGE[1:])], [MASK], IDENTITY), r"has 2 inputs \(image, other\)"),
    "no input": (model([], [MASK], [node("Constant", [], ["mask"])]), "has 0 inputs"),
    "integers": (model([("image", "int64", IMAGE[2])], [MASK], IDENTITY), "not float32 or float16"),
    "rank": (model([("image", "float32", (1, 3, SIZE))], [MASK], IDENTITY), "has an input of 1 x 3 x 32"),
    "batch": (model([("image", "float32", (4, 3, SIZE, SIZE))], [MASK], IDENTITY), "has an input of 4 x 3"),
    "channels": (model([("image", "float32", (1, 4, SIZE, SIZE))], [MASK], IDENTITY), "has an input of 1 x 4"),
    "several channels": (model([IMAGE], [("mask", "float32", IMAGE[2])], IDENTITY), "no output that is a mask of one channel"),
    "class": (with_outputs((1, 1000)), "no output that is a mask"),
    "sizes": (with_outputs((1, 1, 8, 8), (1, 1, 16, 16)), "several masks of different sizes"),
    "operator": (model([IMAGE], [MASK], [node("Unknown", ["image"], ["mask"])]), "cannot be read by OpenVINO"),
    "NaN": (color_network(SIZE, weight=(1, np.nan, 0)), "holds NaN"),
    "outside": (color_network(SIZE, location="../secret"), "outside its folder, in ../secret"),
    "absolute": (color_network(SIZE, location="/etc/passwd"), "outside its folder, in /etc/passwd"),
    "missing": (color_network(SIZE, location="net.data"), "needs the file net.data beside it"),
    "folder": (color_network(SIZE, location=""), "needs the file"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file(tmp_path, settings, name):
    data, message = BAD_FILES[name]
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(12))
    (folder / "net.onnx").write_bytes(data)
    with pytest.raises(ModelError, match=message) as caught:
        image_input(folder / "net.onnx")
        predict(folder / "net.onnx", settings)
    sentence(caught.value)


def test_a_link_that_leaves_the_folder_is_refused(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(12))
    (folder / "net.data").symlink_to(tmp_path / "secret")
    (folder / "net.onnx").write_bytes(color_network(SIZE, location="net.data"))
    with pytest.raises(ModelError, match="outside its folder"):
        external_files(folder / "net.onnx")


def test_a_mask_with_nan_is_an_error(tmp_path, settings):
    path = tmp_path / "net.onnx"
    average = tensor("weight", np.ones((1, 3, 1, 1), np.float32))
    nodes = [node("Conv", ["image", "weight"], ["mean"]), node("Log", ["mean"], ["mask"])]
    path.write_bytes(model([IMAGE], [MASK], nodes, [average]))
    with pytest.raises(ModelError, match="computed NaN"):
        predict(path, settings)


def test_damaged_files_are_errors(tmp_path):
    """Each prefix and many files with changed bytes are read or refused, without another exception."""
    path, data, generator = tmp_path / "net.onnx", color_network(SIZE, location="net.data"), random.Random(1)
    damaged = [data[:end] for end in range(len(data))]
    for _ in range(500):
        changed = bytearray(data)
        for _ in range(3):
            changed[generator.randrange(len(data))] = generator.randrange(256)
        damaged.append(bytes(changed))
    refused = 0
    for one in damaged:
        path.write_bytes(one)
        try:
            read_onnx(path)
            image_input(path)
            external_files(path)
        except ModelError as error:
            sentence(error)
            refused += 1
    assert refused > len(data)


@pytest.mark.parametrize(
    ("engine", "message"), [("torch", "does not run ONNX files"), ("onnxruntime", "which is not installed")]
)
def test_engine_that_cannot_run_it(tmp_path, settings, monkeypatch, engine, message):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(NotReadyError, match=message) as caught:
        device.choose(replace(settings, engine=engine), ("openvino", "onnxruntime"))
    sentence(caught.value)


def test_torch_and_a_gpu_are_not_needed(settings, monkeypatch):
    monkeypatch.setattr(device, "torch_is_installed", lambda: False)
    assert device.choose(replace(settings, device="cuda"), ("openvino", "onnxruntime")) == Plan("openvino", "cpu", "fp32")


def test_other_networks_ignore_onnxruntime(settings):
    assert device.choose_engine_and_device(replace(settings, engine="onnxruntime", device="cpu")) == ("openvino", "cpu")
