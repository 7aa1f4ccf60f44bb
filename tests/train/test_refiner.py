"""Training of the refiner: batches, coarse mattes, loss, checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from rmbg.networks import builtin_spec, refiner_spec
from rmbg.networks import refiner as network
from rmbg.networks.builtin import load
from rmbg.networks.refiner import RefinerNet, normalize
from train.coarse import blurred, iou, perturbed
from train.refiner import Trainer, train
from train.refiner_batches import Source, make_batch, pixel_weights
from train.refiner_config import Config


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with two discs on noise and their masks."""
    folder = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(1)
    for part in ("im", "gt"):
        (folder / part).mkdir()
    for name in ("duts_1", "furn_1"):
        picture = Image.fromarray(rng.integers(0, 90, (90, 120, 3), np.uint8))
        mask = Image.new("L", picture.size)
        ImageDraw.Draw(picture).ellipse((20, 20, 80, 80), fill=(220, 120, 60))
        ImageDraw.Draw(mask).ellipse((20, 20, 80, 80), fill=255)
        picture.save(folder / "im" / f"{name}.jpg")
        mask.save(folder / "gt" / f"{name}.png")
    return folder


def small_config(source: Path, out: Path, **changes: object) -> Config:
    """Config of a small training."""
    small = {"side": 64, "small_side": 64, "pixels": 3 * 64**2, "log_every": 1, "ema_decay": 0.5}
    return Config(source=(source,), out=out, **(small | changes))


@pytest.mark.parametrize("procedural", [0.0, 1.0])
def test_a_batch_is_aligned_and_reproducible(pairs: Path, tmp_path: Path, procedural: float) -> None:
    config = small_config(pairs, tmp_path, procedural=procedural)
    source, net = Source(config.source, config.side), load()
    batch, again = (make_batch(config, source, net, np.random.default_rng(4)) for _ in range(2))
    assert batch.rgb.shape == (3, 3, 64, 64)
    assert batch.coarse.shape == batch.truth.shape == batch.weight.shape == (3, 1, 64, 64)
    for planes, same in zip(vars(batch).values(), vars(again).values(), strict=True):
        assert torch.equal(planes, same)
    # The coarse mattes have errors, but belong to the same subjects.
    assert 0 < (batch.coarse - batch.truth).abs().mean() < 0.3


def test_coarse_mattes_resemble_the_truth() -> None:
    rows, columns = np.mgrid[:96, :96]
    truth = (np.hypot(rows - 48, columns - 48) < 30).astype(np.float32)
    for number in range(6):
        rng = np.random.default_rng(number)
        assert 0.8 < iou(perturbed(truth, rng), truth) <= 1
        assert iou(blurred(truth, rng), truth) > 0.93


def test_weights_are_larger_near_the_edge() -> None:
    truth = torch.zeros(1, 1, 128, 128)
    truth[..., 64:] = 1
    weight = pixel_weights(truth)
    assert weight[0, 0, 5, 64] > 3 * weight[0, 0, 5, 5] > 0
    assert weight[0, 0, 5, 120] == weight[0, 0, 5, 5]


def test_training_resumes_and_exports_weights(pairs: Path, tmp_path: Path) -> None:
    config = small_config(pairs, tmp_path, steps=2, procedural=0.0)
    trained = train(config)
    assert trained.step == 2
    resumed = Trainer(small_config(pairs, tmp_path, steps=3))
    resumed.load()
    assert resumed.step == 2
    for name, tensor in trained.net.state_dict().items():
        assert torch.equal(tensor, resumed.net.state_dict()[name])
    path = tmp_path / "refiner.safetensors"
    assert path.stat().st_size < 3e6
    for name, tensor in network.load(path).state_dict().items():
        assert torch.allclose(tensor, trained.ema.state_dict()[name], atol=2e-3)


def test_training_starts_from_exported_weights(pairs: Path, tmp_path: Path) -> None:
    trainer = Trainer(small_config(pairs, tmp_path, weights=refiner_spec.WEIGHTS, encoder=builtin_spec.WEIGHTS))
    released = network.load()
    for name, tensor in trainer.net.state_dict().items():
        assert torch.equal(tensor, released.state_dict()[name])
        assert torch.equal(tensor, trainer.ema.state_dict()[name])


def test_an_untrained_refiner_is_the_coarse_matte_with_a_tenth_of_the_networks_logits() -> None:
    encoder = load()
    rgb, coarse = torch.rand(1, 3, 64, 96), torch.full((1, 1, 64, 96), 0.7)
    with torch.inference_mode():
        logits = RefinerNet().start_from(encoder)(encoder, rgb, coarse)
        own, _ = encoder(normalize(rgb))
    assert torch.allclose(logits, torch.logit(coarse) + own / 10, atol=1e-3)
