"""rmbg.networks.tta: the two passes and their mean."""

import numpy as np
import pytest
import torch

from rmbg.networks import builtin, builtin_spec, tta

SIDE = 96


class BrightnessNet(torch.nn.Module):
    """Network that predicts brightness as foreground and records its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        std = torch.tensor(builtin_spec.STD).view(1, 3, 1, 1)
        brightness = (x * std + torch.tensor(builtin_spec.MEAN).view(1, 3, 1, 1)).mean(1, keepdim=True)
        self.inputs.append(brightness)
        return 20 * (brightness - 0.5), torch.tensor([0.25 * len(self.inputs)])


def test_mean_of_the_photo_and_its_smaller_mirror_image() -> None:
    net = BrightnessNet()
    rgb = np.full((480, 640, 3), 20, np.uint8)
    rgb[280:380, 480:560] = 250
    logits, confidence = tta.predict(builtin.on_arrays(net), rgb, SIDE)
    whole, mirrored = (brightness[0, 0] for brightness in net.inputs)
    assert whole.shape == (SIDE, SIDE)
    assert mirrored.shape == (64, 64)
    assert float(whole[66, 78]) > 0.9  # the center of the subject
    assert float(mirrored[44, 63 - 52]) > 0.9
    assert confidence == pytest.approx((0.25 + 0.5) / 2)
    assert logits.shape == (SIDE, SIDE)
    assert logits.dtype == np.float32
    predicted = logits > 0
    expected = np.zeros((SIDE, SIDE), bool)
    expected[56:76, 72:84] = True
    assert (predicted & expected).sum() / (predicted | expected).sum() > 0.85
    mean = (20 * (whole.numpy() - 0.5) + 20 * (mirrored.numpy()[44, 63 - 52] - 0.5)) / 2
    assert logits[66, 78] == pytest.approx(mean[66, 78], abs=0.05)


def test_a_mirrored_photo_has_a_mirrored_matte() -> None:
    net = builtin.on_arrays(builtin.load())
    rows, columns = np.mgrid[:240, :320]
    rgb = np.stack([columns * 0.3, rows * 0.5, (rows + columns) * 0.2], -1).astype(np.uint8)
    rgb[np.hypot(rows - 120, columns - 170) < 70] = (230, 150, 50)
    straight = tta.predict(net, rgb)[0] > 0
    mirrored = tta.predict(net, np.ascontiguousarray(rgb[:, ::-1]))[0][:, ::-1] > 0
    assert straight.mean() > 0.05
    assert (straight & mirrored).sum() / (straight | mirrored).sum() > 0.95
