"""Batches for the refiner: photos and procedural subjects with coarse mattes, cropped around the subject."""

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset

from rmbg.matting.matte import bounding_box
from rmbg.networks.builtin import load
from train.augment import color_jitter, degrade
from train.coarse import MIN_IOU, blurred, iou, network_logits, network_matte, perturbed
from train.data import TRIMAPS, read_sources
from train.loss import known_pixels
from train.procedural import TRIALS, compose, draw_background, render
from train.refiner_config import Config

#: Sets with imprecise outlines, and their weight in the loss.
IMPRECISE, IMPRECISE_WEIGHT = ("furn_", "ccp_", "butterfl", "feral", "cats_", "caltech", "harm_"), 0.4

P_BLURRED, P_PERTURBED = 0.15, 0.15  # kinds of coarse mattes; the rest is of the network
MAX_REDUCTION = 1.25  # sides of pictures, in units of the input's, to which they are reduced
BAND = 0.012  # width of the band around the true edge, as a fraction of the diagonal
BAND_WEIGHT, FLAT_WEIGHT = 3.0, 1.0


@dataclass(frozen=True)
class Batch:
    """Inputs and target of a step, float32 in [0, 1]: (B, 3, S, S), (B, 1, S, S), (B, 1, S, S) and weights (B, 1, S, S)."""

    rgb: Tensor
    coarse: Tensor
    truth: Tensor
    weight: Tensor


class Source:
    """Undecoded pairs in memory, those with a side of at least `large_side` pixels apart."""

    def __init__(self, folders: tuple[Path, ...], large_side: int) -> None:
        self.large: list[tuple[str, bytes, bytes]] = []
        self.small: list[tuple[str, bytes, bytes]] = []
        self.largest = round(large_side * MAX_REDUCTION)
        for pair in read_sources(folders):
            (self.large if max(Image.open(io.BytesIO(pair[1])).size) >= large_side else self.small).append(pair)

    def draw(self, pairs: list[tuple[str, bytes, bytes]], rng: np.random.Generator) -> tuple[str, np.ndarray, np.ndarray]:
        """Name, photo, uint8 (H, W, 3), and mask, float32 (H, W), of a random pair."""
        name, picture, mask = pairs[int(rng.integers(len(pairs)))]
        image = Image.open(io.BytesIO(picture)).convert("RGB")
        image.thumbnail((self.largest, self.largest), Image.Resampling.BICUBIC)
        rgb = np.asarray(image)
        truth = np.asarray(Image.open(io.BytesIO(mask)).convert("L").resize(rgb.shape[1::-1]), np.float32) / 255
        return Path(name).name, rgb, truth


class Batches(IterableDataset):
    """Endless batches; reproducible from seed and step, whatever the number of workers."""

    def __init__(self, config: Config, source: Source, first: int = 0) -> None:
        self.config, self.source, self.first = config, source, first

    def __iter__(self) -> Iterator[Batch]:
        info = torch.utils.data.get_worker_info()
        step, stride = (self.first, 1) if info is None else (self.first + info.id, info.num_workers)
        if info is not None:
            torch.set_num_threads(1)
        net = load(self.config.encoder)
        while True:
            yield make_batch(self.config, self.source, net, np.random.default_rng((self.config.seed, step)))
            step += stride


def make_batch(config: Config, source: Source, net, rng: np.random.Generator) -> Batch:
    """Draw pictures of one kind, degrade them, compute coarse mattes and crop all around the subject."""
    kind = rng.random()
    large = kind < config.procedural or (kind < config.procedural + 0.35 and bool(source.large)) or not source.small
    side = config.side if large else config.small_side
    count = max(2, config.pixels // side**2)
    if kind < config.procedural:
        drawn = [("procedural", *procedural_pair(source, side, rng)) for _ in range(count)]
    else:
        drawn = [source.draw(source.large if large else source.small, rng) for _ in range(count)]
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    pictures = [jittered(rgb, generator) for _, rgb, _ in drawn]
    network_side = int(rng.choice((160, 192, 224, 256, 320, 384) if large else (128, 160, 192)))
    logits = network_logits(net, pictures, network_side)
    samples = []
    for (name, _, truth), rgb, own in zip(drawn, pictures, logits, strict=True):
        choice = rng.random()
        if choice < P_BLURRED:
            coarse = blurred(truth, rng)
        else:
            coarse = network_matte(own, rgb, rng) if choice > P_BLURRED + P_PERTURBED else truth
            if choice <= P_BLURRED + P_PERTURBED or iou(coarse, truth) < MIN_IOU:
                coarse = perturbed(truth, rng)
        samples.append((name, crop(rgb, coarse, truth, side, rng)))
    stacked = torch.from_numpy(np.stack([planes for _, planes in samples]))
    rgb, coarse, truth = stacked[:, :3].contiguous(), stacked[:, 3:4].contiguous(), stacked[:, 4:].contiguous()
    trimaps, imprecise = (torch.tensor([name.startswith(sets) for name, _ in samples]) for sets in (TRIMAPS, IMPRECISE))
    weight = pixel_weights(truth) * known_pixels(truth, trimaps)
    weight[imprecise] *= IMPRECISE_WEIGHT
    return Batch(rgb, coarse, truth, weight)


def procedural_pair(source: Source, side: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Procedural subject on the part without subject of a training picture, in half of the cases out of focus.

    Returns
    -------
    rgb : uint8 array (side, side, 3)
    alpha : float32 array (side, side)
    """
    foreground, alpha = render(rng, side, side)
    pictures = (source.draw(source.small or source.large, rng)[1:] for _ in range(TRIALS))
    background = draw_background(pictures, side, rng)
    return compose(foreground, alpha, background), alpha


def jittered(rgb: np.ndarray, generator: torch.Generator) -> np.ndarray:
    """Change the colors of a picture and degrade it: uint8 (H, W, 3)."""
    picture = torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None].float().div_(255)
    picture = degrade(color_jitter(picture, generator), generator)
    return picture[0].permute(1, 2, 0).mul_(255).round_().byte().numpy()


def crop(rgb: np.ndarray, coarse: np.ndarray, truth: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Cut a window around the coarse matte and resize it to a square: float32 (5, side, side), in [0, 1].

    The channels are RGB, coarse and true matte. Half of the windows are mirrored.
    """
    height, width = truth.shape
    rows, columns = bounding_box(coarse, margin=0)
    margin = rng.uniform(0.05, 0.6) * max(rows.stop - rows.start, columns.stop - columns.start)
    top, left = max(0.0, rows.start - margin * rng.uniform(0.3, 1)), max(0.0, columns.start - margin * rng.uniform(0.3, 1))
    bottom = min(float(height), rows.stop + margin * rng.uniform(0.3, 1))
    right = min(float(width), columns.stop + margin * rng.uniform(0.3, 1))
    if rng.random() < 0.3:  # a part of it only
        part_height, part_width = (bottom - top) * rng.uniform(0.5, 1), (right - left) * rng.uniform(0.5, 1)
        top, left = top + (bottom - top - part_height) * rng.random(), left + (right - left - part_width) * rng.random()
        bottom, right = top + part_height, left + part_width
    box = (left, top, max(right, left + 8), max(bottom, top + 8))
    planes = [Image.fromarray(np.ascontiguousarray(rgb[..., channel])) for channel in range(3)]
    planes += [Image.fromarray(np.ascontiguousarray(plane * 255).astype(np.uint8)) for plane in (coarse, truth)]
    resized = np.stack([np.asarray(plane.resize((side, side), Image.Resampling.BILINEAR, box=box)) for plane in planes])
    return resized[..., :: int(rng.choice((1, -1)))].astype(np.float32) / 255


def pixel_weights(truth: Tensor) -> Tensor:
    """`FLAT_WEIGHT` far from the true edge and in addition `BAND_WEIGHT` near it: float (B, 1, S, S)."""
    kernel = 2 * max(1, round(BAND * math.sqrt(2) * truth.shape[-1])) + 1
    extremes = torch.cat([truth, -truth], 1)
    for size in ((kernel, 1), (1, kernel)):
        extremes = F.max_pool2d(extremes, size, 1, (size[0] // 2, size[1] // 2))
    return FLAT_WEIGHT + BAND_WEIGHT * extremes.sum(1, keepdim=True)
