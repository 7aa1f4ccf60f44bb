"""``--model`` of remove, batch, compare and benchmark."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from rmbg.inference import own_models, weights
from rmbg.providers import OPENED, PACKAGED, PROVIDERS
from tests.benchmark.fakes import make_dataset
from tests.command import command, save_scene
from tests.onnx_files import color_network
from tests.pictures import iou, scene
from tests.sentences import sentence


def columns(printed, name):
    """Cells of the row of a table that begins with a name."""
    return re.split("  +", next(line for line in printed.splitlines() if line.startswith(f"{name} ")))


@pytest.fixture
def red(tmp_path, monkeypatch):
    """Path of a network for the subject of `scene`, which has a fixed size and needs values from 0 to 1."""
    photo, alpha, *_ = scene(120, 160)
    monkeypatch.setattr(own_models, "examples", lambda settings: [(photo, alpha)])
    path = tmp_path / "red.onnx"
    path.write_bytes(color_network("side", weight=(20, -20, 0), bias=-2))
    yield path
    OPENED.clear()
    for name in set(PROVIDERS) - PACKAGED:  # from RMBG_MODELS
        del PROVIDERS[name]


def test_remove_prints_the_score(rmbg, red, tmp_path):
    out = tmp_path / "out.png"
    status, printed, errors = rmbg("remove", save_scene(tmp_path / "in.png"), out, "--model", red, "--model-option", "size=64")
    assert (status, printed) == (0, "")
    last = errors.splitlines()[-1]
    assert last.startswith("rmbg: model:red: ONNX, 64 x 64, mean 0 0 0, std 1 1 1; scores ") and sentence(last)
    with Image.open(out) as cutout:
        assert iou(np.asarray(cutout)[..., 3] / 255, scene(300, 400)[1]) > 0.9


def test_batch(rmbg, red, tmp_path):
    (tmp_path / "in").mkdir()
    for name in "ab":
        save_scene(tmp_path / "in" / f"{name}.png")
    arguments = [word for setting in ("size=64", "mean=0", "std=1") for word in ("--model-option", setting)]
    status, _, errors = rmbg("batch", tmp_path / "in", tmp_path / "out", "--mask-only", "--model", red, *arguments)
    assert status == 0 and "scores" in errors
    for name in "ab":
        with Image.open(tmp_path / "out" / f"{name}.png") as mask:
            assert iou(np.asarray(mask.convert("L")) / 255, scene(300, 400)[1]) > 0.9


def test_compare_with_providers(rmbg, red, tmp_path):
    other = tmp_path / "other.onnx"
    other.write_bytes(color_network(64, weight=(20, -20, 0), bias=-4))
    photo, out = save_scene(tmp_path / "in.png"), tmp_path / "out"
    arguments = ["compare", photo, "--out", out, "--json", "--model", red, "--model", other, "--model-option", "size=96"]
    status, printed, errors = rmbg(*arguments, "--providers", "builtin,builtin", "--reference", "model:red")
    assert status == 1 and "has a fixed input of 64 x 64. Omit the size." in errors, "the setting is used for both"
    status, printed, errors = rmbg(*arguments[:-2], "--providers", "builtin,builtin", "--reference", "model:red")
    assert status == 0 and errors.count(" scores ") == 2
    results = {line["provider"]: line for line in json.loads(printed)["results"]}
    assert list(results) == ["builtin", "model:red", "model:other"] and results["model:other"]["iou"] > 90
    assert (out / "in-model-red.png").exists() and (out / "in-difference-model-red-model-other.png").exists()
    assert rmbg(*arguments[:-4])[0] == 0, "without providers"


def test_benchmark(rmbg, red, tmp_path):
    data, out = make_dataset(tmp_path / "set", count=1, categories=("shop",)), tmp_path / "out"

    def run(*settings):
        arguments = [word for setting in ("mean=0", "std=1", *settings) for word in ("--model-option", setting)]
        status, printed, errors = rmbg("benchmark", data, "--model", red, "--out", out, "--json", "--force", *arguments)
        assert status == 0, errors
        assert [row["provider"] for row in json.loads(printed)["results"]] == ["model:red"]
        return (out / "journal.jsonl").read_text().count('"event": "got"')

    assert (run(), run(), run("size=96")) == (1, 1, 2), "the result of the same settings is kept"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "PHOTO", "--model", "RED", "--model", "FOLDER"], "model:red is given twice"),
        (["benchmark", "FOLDER", "--model", "RED", "--model", "RED"], "model:red is given twice"),
        (["compare", "PHOTO", "--providers", "builtin", "--force"], "need --model"),
        (["compare", "PHOTO"], "Choose at least one provider"),
        (["benchmark", "FOLDER"], "--providers is empty"),
    ],
)
def test_wrong_usage_of_several(rmbg, red, tmp_path, arguments, message):
    folder = tmp_path / "red"
    folder.mkdir()
    shutil.copy(red, folder / "model.onnx")
    words = [{"PHOTO": save_scene(tmp_path / "in.png"), "RED": red, "FOLDER": folder}.get(word, word) for word in arguments]
    status, printed, errors = rmbg(*words, "--out", tmp_path / "out")
    assert (status, printed) == (2, "") and message in sentence(errors.splitlines()[-1])
    assert not (tmp_path / "out").exists()


def test_batch_with_another_model_of_the_same_name(rmbg, red, tmp_path):
    """The results of both are not mixed, and those of the same model are kept."""
    (tmp_path / "in").mkdir()
    save_scene(tmp_path / "in" / "a.png")
    arguments = ["--mask-only", "--force", "--model", red, "--model-option", "mean=0", "--model-option", "std=1"]

    def run():
        status, _, errors = rmbg("batch", tmp_path / "in", tmp_path / "out", *arguments)
        with Image.open(tmp_path / "out/a.png") as mask:
            return status, "The settings have changed. 1 of 1 photos" in errors, np.asarray(mask.convert("L")).mean() > 250

    assert run() == (0, False, False)
    red.write_bytes(color_network("side", weight=(0, 0, 0), bias=9))  # all is foreground
    assert run() == (0, True, True)
    assert run() == (0, False, True)
    red.with_suffix(".toml").write_text("resampling = 'plain'")
    assert run() == (0, True, True)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--model", "RED", "--provider", "builtin"], 2, "Omit one of them"),
        (["--model", "RED", "--mask", "RED"], 2, "omit --provider, --model"),
        (["--force"], 2, "need --model"),
        (["--model-option", "size=64"], 2, "need --model"),
        (["--model", "RED", "--model-option", "size"], 2, "--model-option 'size' must have the form"),
        (["--model", "RED", "--model-option", "sise=64"], 2, "has no setting 'sise'"),
        (["--model", "RED", "--model-option", "size=64", "--option", "a=b"], 2, "has no option"),
        (["--model", "missing.onnx"], 2, "There is no model 'missing.onnx'"),
        (["--model", "BLANK"], 1, "--force"),
    ],
)
def test_wrong_usage(rmbg, red, tmp_path, arguments, status, message):
    (tmp_path / "blank.onnx").write_bytes(color_network(64, weight=(0, 0, 0)))
    words = [{"RED": red, "BLANK": tmp_path / "blank.onnx"}.get(word, word) for word in arguments]
    found, printed, errors = rmbg("remove", save_scene(tmp_path / "in.png"), tmp_path / "out.png", *words)
    assert (found, printed) == (status, "") and message in sentence(errors.splitlines()[-1])
    assert not (tmp_path / "out.png").exists()


def test_force(rmbg, red, tmp_path):
    path = tmp_path / "blank.onnx"
    path.write_bytes(color_network(64, weight=(0, 0, 0), bias=3))
    assert rmbg("remove", save_scene(tmp_path / "in.png"), tmp_path / "out.png", "--model", path, "--force")[0] == 0


def test_models_of_the_folder_are_known_to_models(rmbg, red, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "SETTLED_NS", -(10**12))  # checksums of new files are stored
    monkeypatch.setenv("RMBG_MODELS", str(red.parent))
    monkeypatch.setenv("RMBG_DATA", str(tmp_path / "data"))
    (red.parent / "broken.onnx").write_bytes(b"no network")
    (red.parent / "red.toml").write_text("mean = 0\nstd = 1")
    *_, license, present = columns(rmbg("models")[1], "model:broken")
    assert (license, present) == ("Not stated", "yes")
    assert columns(rmbg("models")[1], "model:red")[1] == "own model" and not (tmp_path / "data").exists(), "no file is read"

    assert rmbg("remove", save_scene(tmp_path / "in.png"), tmp_path / "out.png", "--model", red)[0] == 0
    _, use, size, _, _, seconds = columns(rmbg("models")[1], "model:red")
    assert re.fullmatch(r"ONNX, [89]\d\.\d of 100 on the examples", use) and size == "1 MB" and float(seconds) >= 0
    entry = json.loads(rmbg("models", "--json")[1])["models"][-1]
    assert (entry["id"], entry["network"], entry["path"]) == ("model:red", "ONNX", str(red))
    assert entry["bytes"] == red.stat().st_size and 80 < entry["score"] <= 100

    status, printed, errors = rmbg("models", "check", "model:red")
    digest = hashlib.sha256(red.read_bytes()).hexdigest()
    assert (status, errors) == (0, "") and printed.endswith(f"its sha256 is {digest}. Its architecture is ONNX.\n")
    for action, name, text in (
        ("check", "broken", "is not an ONNX model"),
        ("get", "red", f"model:red is your own file {red}. "),
        ("remove", "red", f"model:red is your own file {red}. "),
    ):
        status, printed, errors = rmbg("models", action, f"model:{name}")
        assert (status, printed) == (1, "") and text in sentence(errors.strip())
    assert red.exists() and "choose from model:red" in rmbg("models", "get", "model:rad")[2]
    (red.parent / "red.toml").write_text("size = 'x'")
    assert columns(rmbg("models")[1], "model:red")[1] == "own model", "invalid settings have no score"


def test_models_of_the_folder_are_listed(red):
    """In a process of its own, as the registry is read once."""

    environment = {**os.environ, "RMBG_MODELS": str(red.parent)}
    printed = subprocess.run(command("providers"), env=environment, capture_output=True, text=True, check=True).stdout
    assert "model:red " in printed and "red.onnx: own model" in printed
