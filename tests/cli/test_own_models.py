"""``--model`` of remove and batch."""

from __future__ import annotations

import os
import subprocess

import numpy as np
import pytest
from PIL import Image

from rmbg.inference import own_models
from rmbg.providers import OPENED
from tests.command import command, save_scene
from tests.onnx_files import color_network
from tests.pictures import iou, scene
from tests.sentences import sentence


@pytest.fixture
def red(tmp_path, monkeypatch):
    """Path of a network for the subject of `scene`, which has a fixed size and needs values from 0 to 1."""
    photo, alpha, *_ = scene(120, 160)
    monkeypatch.setattr(own_models, "examples", lambda settings: [(photo, alpha)])
    path = tmp_path / "red.onnx"
    path.write_bytes(color_network("side", weight=(20, -20, 0), bias=-2))
    yield path
    OPENED.clear()


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


def test_models_of_the_folder_are_listed(red):
    """In a process of its own, as the registry is read once."""

    environment = {**os.environ, "RMBG_MODELS": str(red.parent)}
    printed = subprocess.run(command("providers"), env=environment, capture_output=True, text=True, check=True).stdout
    assert "model:red " in printed and "red.onnx: own model" in printed
