"""train.evaluate: the metrics of rmbg.metrics, averaged over the pictures of each set."""

import shutil

import numpy as np
import pytest
from PIL import Image

from rmbg.metrics import quality
from rmbg.networks.builtin import load
from tests.pictures import examples, truth
from train.evaluate import evaluate, means, open_holes, predict_matte


def test_means_of_a_folder_are_those_of_the_metrics(tmp_path):
    photos = examples()[:2]
    for folder in ("im", "gt"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    for photo in photos:
        shutil.copy(photo, tmp_path / "set" / "im")
        shutil.copy(photo.parents[1] / "gt" / f"{photo.stem}.png", tmp_path / "set" / "gt")
    net = load()
    ((name, scores),) = evaluate(net, tmp_path, side=96).items()
    assert (name, [score.name for score in scores]) == ("set", [photo.stem for photo in photos])
    mattes = [predict_matte(net, np.asarray(Image.open(photo).convert("RGB")), 96, guided=True)[0] for photo in photos]
    expected = [quality.measure(matte, truth(photo)) for matte, photo in zip(mattes, photos, strict=True)]
    assert [score.metrics for score in scores] == expected
    assert means(scores)["mae"] == pytest.approx(np.mean([metrics["mae"] for metrics in expected]))
    assert 0 <= scores[0].confidence <= 1
    assert [score.holes for score in scores] == [open_holes(m, truth(photo)) for m, photo in zip(mattes, photos, strict=True)]


def test_metrics_that_do_not_apply_are_left_out_of_the_mean():
    net = load()
    matte, _ = predict_matte(net, np.zeros((64, 80, 3), np.uint8), 64, guided=False)
    assert matte.shape == (64, 80) and matte.dtype == np.float32
    assert np.isnan(means([])["transparency"])


def test_open_holes_are_the_background_enclosed_by_the_subject():
    truth = np.zeros((40, 60), np.float32)
    truth[5:35, 10:50] = 1
    assert open_holes(truth, truth) is None
    truth[10:20, 20:30] = 0
    truth[30:35, 35:40] = 0  # a notch, which is no hole
    filled = np.ones_like(truth)
    assert open_holes(truth, truth) == 100
    assert open_holes(filled, truth) == 0
    half = truth.copy()
    half[10:20, 20:25] = 0.5
    assert open_holes(half, truth) == 75
    assert np.isnan(means([])["holes"])
