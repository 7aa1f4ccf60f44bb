"""rmbg.networks.builtin: golden outputs, determinism, checksum, batch norm folding."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rmbg.inference import builtin_runner
from rmbg.matting.color_prior import sigmoid
from rmbg.networks import builtin, builtin_spec, tta

GOLDEN = Path(__file__).with_name("builtin_golden.json")


def example() -> torch.Tensor:
    """A bright disc in front of a dark gradient: normalized float (1, 3, 128, 160)."""
    rows, columns = np.mgrid[:128, :160].astype(np.float32)
    gradient = np.stack([columns / 400, rows / 300, (rows + columns) / 600])
    disc = np.hypot(rows - 60, columns - 85) < 38
    pixels = np.where(disc, np.float32([0.9, 0.6, 0.2])[:, None, None], gradient)
    mean, std = (np.float32(values)[:, None, None] for values in (builtin_spec.MEAN, builtin_spec.STD))
    return torch.from_numpy((pixels - mean) / std)[None]


@pytest.fixture(scope="module")
def net() -> builtin.BuiltinNet:
    return builtin.load()


def on_openvino() -> tta.Forward:
    pytest.importorskip("rmbg.inference.openvino_import")
    return builtin_runner.openvino_networks().forward


ENGINES = {"torch": lambda: builtin.on_arrays(builtin.load()), "openvino": on_openvino}


def predict(forward: tta.Forward) -> tuple[np.ndarray, float]:
    """Matte of the example, averaged over cells of 16 x 16 pixels, and its confidence."""
    logits, confidence = forward(example().numpy())
    return sigmoid(logits).reshape(8, 16, 10, 16).mean((1, 3)), confidence


@pytest.mark.parametrize("engine", ENGINES)
def test_golden(engine: str) -> None:
    matte, confidence = predict(ENGINES[engine]())
    golden = json.loads(GOLDEN.read_text())
    np.testing.assert_allclose(matte, golden["matte"], atol=1e-3)
    assert confidence == pytest.approx(golden["confidence"], abs=1e-3)


def test_engines_agree() -> None:
    x = np.random.default_rng(0).normal(0, 1, (1, 3, 256, 320)).astype(np.float32)
    (logits, confidence), (other_logits, other_confidence) = (load()(x) for load in ENGINES.values())
    np.testing.assert_allclose(sigmoid(logits), sigmoid(other_logits), atol=1e-5)
    assert confidence == pytest.approx(other_confidence, abs=1e-5)


def test_concurrent_runs_return_the_bytes_of_a_single_one() -> None:
    pytest.importorskip("rmbg.inference.openvino_import")
    inputs = [np.random.default_rng(i).normal(0, 1, (1, 3, 64 + 32 * (i % 2), 96)).astype(np.float32) for i in range(8)]
    single = builtin_runner.openvino_networks().forward
    streams = builtin_runner.openvino_networks(replace(builtin_runner.OPENVINO, streams=4)).forward
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(streams, inputs))
    for x, (logits, confidence) in zip(inputs, found, strict=True):
        expected = single(x)
        assert np.array_equal(logits, expected[0]) and confidence == expected[1]


@pytest.mark.parametrize("engine", ENGINES)
def test_deterministic(engine: str) -> None:
    first, second = predict(ENGINES[engine]()), predict(ENGINES[engine]())
    assert np.array_equal(first[0], second[0])
    assert first[1] == second[1]


@pytest.mark.parametrize("size", [(96, 96), (64, 160), (320, 320)])
def test_any_multiple_of_32(net: builtin.BuiltinNet, size: tuple[int, int]) -> None:
    with torch.inference_mode():
        logits, confidence = net(torch.zeros(2, 3, *size))
    assert logits.shape == (2, 1, *size)
    assert confidence.shape == (2,)
    assert torch.isfinite(logits).all()
    assert ((confidence >= 0) & (confidence <= 1)).all()


def test_fused_network_gives_the_same_outputs() -> None:
    torch.manual_seed(0)
    net = builtin.BuiltinNet().eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2)
    with torch.inference_mode():
        before = net(example())
        after = net.fuse()(example())
    for expected, actual in zip(before, after, strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-3, rtol=1e-3)
