"""How the built-in network looks at a photo."""

import numpy as np
import pytest
import torch

from rmbg.networks import builtin, looks

SIDE = 96


class Bright(torch.nn.Module):
    """Takes what is bright for the subject, and remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        spread = torch.tensor(builtin.STD).view(1, 3, 1, 1)
        brightness = (x * spread + torch.tensor(builtin.MEAN).view(1, 3, 1, 1)).mean(1, keepdim=True)
        self.seen.append(brightness)
        return 20 * (brightness - 0.5), torch.tensor([0.25 * len(self.seen)])


def test_the_whole_and_its_smaller_mirror_image_count_alike() -> None:
    net = Bright()
    rgb = np.full((480, 640, 3), 20, np.uint8)
    rgb[280:380, 480:560] = 250
    logits, confidence = looks.predict(net, rgb, SIDE)
    whole, mirrored = (seen[0, 0] for seen in net.seen)
    assert whole.shape == (SIDE, SIDE)
    assert mirrored.shape == (64, 64)
    assert float(whole[66, 78]) > 0.9  # where the subject is, in shares of the photo
    assert float(mirrored[44, 63 - 52]) > 0.9
    assert confidence == pytest.approx((0.25 + 0.5) / 2)
    assert logits.shape == (SIDE, SIDE)
    assert logits.dtype == np.float32
    found = logits > 0
    wanted = np.zeros((SIDE, SIDE), bool)
    wanted[56:76, 72:84] = True
    assert (found & wanted).sum() / (found | wanted).sum() > 0.85
    mean = (20 * (whole.numpy() - 0.5) + 20 * (mirrored.numpy()[44, 63 - 52] - 0.5)) / 2
    assert logits[66, 78] == pytest.approx(mean[66, 78], abs=0.05)


def test_a_mirror_image_has_a_mirrored_matte() -> None:
    net = builtin.load()
    rows, columns = np.mgrid[:240, :320]
    rgb = np.stack([columns * 0.3, rows * 0.5, (rows + columns) * 0.2], -1).astype(np.uint8)
    rgb[np.hypot(rows - 120, columns - 170) < 70] = (230, 150, 50)
    found = looks.predict(net, rgb)[0] > 0
    mirrored = looks.predict(net, np.ascontiguousarray(rgb[:, ::-1]))[0][:, ::-1] > 0
    assert found.mean() > 0.05
    assert (found & mirrored).sum() / (found | mirrored).sum() > 0.95
