"""ViTMatte: the implementation of transformers with random weights, tiles, download from a loopback hub, cancellation."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import save

from rmbg.errors import CancelledError, ModelError, NotReadyError
from rmbg.inference import torch_runner, vitmatte
from rmbg.inference.catalog import VITMATTE
from rmbg.inference.vitmatte import predict_alpha
from rmbg.matting.edges import AlphaMatting
from rmbg.remove import remove_background
from rmbg.settings import Settings
from tests.disc import save_photo
from tests.memory import peak
from tests.servers.hub import Hub


@pytest.fixture(scope="module")
def network():
    """ViTMatte of transformers with random weights and the published configuration, but a backbone of two small blocks."""
    from transformers import VitDetConfig, VitMatteConfig, VitMatteForImageMatting

    changes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "out_features": ["stage2"]}
    backbone = {**torch_runner.BACKBONE, **changes, "window_block_indices": [0], "residual_block_indices": [1]}
    config = VitMatteConfig(
        backbone_config=VitDetConfig(**backbone),
        hidden_size=24,
        convstream_hidden_sizes=[8, 8, 8],
        fusion_hidden_sizes=[16, 8, 8, 8],
    )
    torch.manual_seed(0)
    network = VitMatteForImageMatting(config).eval()
    with torch.no_grad():
        for value in network.parameters():
            value.normal_(0, 0.2)
    return network


@pytest.fixture
def settings(network, tmp_path, monkeypatch):
    """Settings with an empty cache and a hub that has the weights."""
    monkeypatch.setattr(torch_runner, "vitmatte_config", lambda: network.config)
    tensors = {name: value.contiguous() for name, value in network.state_dict().items()}
    with Hub() as hub:
        hub.files = {VITMATTE.hub: {VITMATTE.file: save(tensors)}}
        environ = {"RMBG_DATA": str(tmp_path), "HF_HOME": str(tmp_path), "HF_ENDPOINT": hub.url, "RMBG_DEVICE": "cpu"}
        found = Settings.from_environ(environ)
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        yield found


def case(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Random photo, and a trimap with a band of unknown pixels."""
    rgb = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    trimap = np.zeros((height, width), np.uint8)
    trimap[:, width // 4 :] = 128
    trimap[:, width // 2 :] = 255
    return rgb, trimap


@pytest.mark.parametrize("size", [(64, 96), (75, 110)])
def test_alpha_is_that_of_transformers(network, settings, size):
    from transformers.models.vitmatte.image_processing_pil_vitmatte import VitMatteImageProcessorPil

    rgb, trimap = case(*size)
    with torch.inference_mode():
        inputs = VitMatteImageProcessorPil()(images=rgb, trimaps=trimap, return_tensors="pt")
        expected = network(**inputs).alphas[0, 0, : size[0], : size[1]].numpy()
    np.testing.assert_allclose(vitmatte.prepare(rgb, trimap), inputs["pixel_values"].numpy(), atol=1e-6)
    alpha = predict_alpha(rgb, trimap, settings)
    unknown = trimap == 128
    assert np.ptp(expected[unknown]) > 0.01, "the weights tell pixels apart"
    np.testing.assert_allclose(alpha[unknown], expected[unknown], atol=1e-5)
    np.testing.assert_array_equal(alpha[~unknown], (trimap == 255)[~unknown])


def test_large_photos_are_computed_in_tiles(settings, monkeypatch):
    rgb, trimap = case(300, 420)
    monkeypatch.setattr(vitmatte, "VITMATTE", replace(VITMATTE, size=160))
    monkeypatch.setattr(vitmatte, "OVERLAP", 32)
    fractions = []
    alpha = predict_alpha(rgb, trimap, settings, progress=lambda fraction, text: fractions.append(fraction))
    numbers = [fraction for fraction in fractions if fraction is not None]
    assert alpha.shape == (300, 420) and numbers[-1] == 1 and len(numbers) > 4
    assert alpha[:, 150:200].std() > 0 and (alpha[:, 215:] == 1).all() and (alpha[:, :100] == 0).all()


def test_memory_does_not_grow_with_the_number_of_tiles(settings, monkeypatch):
    monkeypatch.setattr(vitmatte, "VITMATTE", replace(VITMATTE, size=160))
    monkeypatch.setattr(vitmatte, "OVERLAP", 32)
    inputs = []

    class Runner:
        def run(self, images: np.ndarray) -> np.ndarray:
            inputs.append(images.shape[2:])
            return images[:, 3]

    monkeypatch.setattr(vitmatte.MODEL_CACHE, "run", lambda model, run, *_: (run(Runner()), None))

    def used(width: int) -> int:
        rgb = np.zeros((160, width, 3), np.uint8)
        return peak(lambda: predict_alpha(rgb, np.full((160, width), 128, np.uint8), settings))

    assert used(2048) - used(256) < 24 * 160 * (2048 - 256), "24 bytes a pixel: 0.6 GB for 24 megapixels"
    assert set(inputs) == {(160, 160)}


def test_tiles_cover_the_photo():
    for length in (100, 768, 769, 1500, 6000):
        spans = vitmatte._spans(length, 768)
        assert spans[0].start == 0 and spans[-1].stop == length
        assert all(a.stop - b.start >= vitmatte.OVERLAP for a, b in pairwise(spans))


def test_cancellation_and_nothing_to_compute(settings):
    rgb, trimap = case(64, 96)
    with pytest.raises(CancelledError):
        predict_alpha(rgb, trimap, settings, cancelled=lambda: True)
    np.testing.assert_array_equal(predict_alpha(rgb, np.full_like(trimap, 255), settings), 1)


def test_status_and_weights_of_another_network(settings, monkeypatch, tmp_path, rmbg, disc):
    photo, out = save_photo(tmp_path / "photo.png"), tmp_path / "out.png"
    words = ("remove", photo, out, "--provider", "disc", "--alpha-matting", "--alpha-matting-method", "vitmatte")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    status, _, err = rmbg(*words)
    assert status == 1 and "ViTMatte is not ready: its weights (103 MB) are not downloaded" in err and not disc.calls
    monkeypatch.delenv("HF_HUB_OFFLINE")
    status, text, _ = rmbg(*words, "--json")
    assert status == 0 and '"method": "vitmatte"' in text and out.is_file()
    (tmp_path / "vitmatte.safetensors").write_bytes(save({"conv_in.weight": torch.zeros(1)}))
    other = Settings.from_environ({"RMBG_WEIGHTS": str(tmp_path), "RMBG_DATA": str(tmp_path), "RMBG_DEVICE": "cpu"})
    with pytest.raises(ModelError, match=r"does not fit vitmatte\. These are the weights of another network"):
        remove_background(photo, "disc", alpha_matting=AlphaMatting(method="vitmatte"), settings=other)
    empty = str(tmp_path / "none")
    offline = Settings.from_environ({"HF_HUB_OFFLINE": "1", "HF_HOME": empty, "RMBG_DATA": empty, "RMBG_DEVICE": "cpu"})
    with pytest.raises(NotReadyError):
        predict_alpha(*case(64, 96), offline)


def test_published_configuration_has_the_parameters_of_vitmatte_small():
    from transformers import VitMatteForImageMatting

    with torch.device("meta"):
        network = VitMatteForImageMatting(torch_runner.vitmatte_config())
    assert sum(value.numel() for value in network.parameters()) == pytest.approx(25.8e6, rel=0.01)
