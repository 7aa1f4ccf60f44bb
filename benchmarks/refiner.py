"""Refiner, and a third pass of the built-in network: edge error and IoU for three kinds of coarse mattes.

    python -m benchmarks.refiner [--photos FOLDER] [--half 1|2] [--every N] [--side PIXELS] [--kinds KIND ...]
                                 [--weights FILE] [--closed-form] [--gallery FILE]

FOLDER has CATEGORY/im and CATEGORY/gt. Coarse mattes are those of the built-in network with two and with three passes, of a
network of medium quality (the truth at 256 pixels with displaced outline and closed gaps), and of a good provider (the truth at
1024 pixels, blurred by one pixel). Each is enlarged as in use; with ``--weights``, of ``train.refiner``, it is refined in
addition, and with ``--closed-form`` alpha matting is applied, to the refined matte of the built-in network. ``--half`` takes
the photos with an odd or even hash of their name, so that choices are made on one half and reported on the other. The gallery
has the 24 windows of the built-in network's mattes that the last method changes most (the third pass without another method):
the photo, before and after on white, black and magenta.
"""

from __future__ import annotations

import argparse
import math
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from benchmarks.edges import load as load_pair
from benchmarks.edges import pairs, reduced, scores
from rmbg.matting.closed_form import refine_alpha
from rmbg.matting.color_prior import apply_color_prior
from rmbg.matting.edges import AlphaMatting
from rmbg.matting.foreground import estimate_foreground
from rmbg.matting.guided_filter import upsample_guided
from rmbg.matting.matte import resample, sharpen_edges
from rmbg.matting.refiner import refine
from rmbg.networks import refiner as refiner_network
from rmbg.networks.builtin import BuiltinNet, load, on_arrays
from rmbg.networks.refiner import normalize
from rmbg.networks.tta import predict
from train.coarse import perturbed

#: Coarse mattes.
KINDS = ("two passes", "three passes", "medium", "good")

#: Longest sides of the mattes of the simulated providers.
MEDIUM_SIDE, GOOD_SIDE = 256, 1024

#: Area of the input of the third pass, in pixels.
DETAIL_AREA = 512**2

#: Radius of the guided filter after the refiner, in pixels of its matte.
RADIUS = 2.0

#: Rows of the gallery, side of a window in photo pixels, enlargement, and backgrounds.
ROWS, WINDOW, ENLARGEMENT = 24, 96, 2
BACKGROUNDS = ((255, 255, 255), (0, 0, 0), (255, 0, 255))


def main() -> None:
    parser = argparse.ArgumentParser(description="Edge error of the third pass, of the refiner and of alpha matting.")
    parser.add_argument("--photos", type=Path, default=Path(__file__).parents[1] / "examples")
    parser.add_argument("--half", type=int, choices=(1, 2), help="half of the photos, by the hash of their name")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="use every Nth photo of a category")
    parser.add_argument("--side", type=int, default=4096, help="reduce larger photos to this longest side")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="coarse mattes; all by default")
    parser.add_argument("--weights", type=Path, help="weights of the refiner")
    parser.add_argument("--closed-form", action="store_true", help="with alpha matting, which takes seconds a photo")
    parser.add_argument("--gallery", type=Path, help="PNG or WebP file for windows before and after")
    arguments = parser.parse_args()
    needed = {"two passes"} if arguments.weights or arguments.closed_form else {"two passes", "three passes"}
    if arguments.gallery and not needed <= set(arguments.kinds):
        parser.error(f"--gallery needs --kinds {' and '.join(sorted(needed))}")
    network = load()
    refiner = refiner_network.on_arrays(refiner_network.load(arguments.weights), network) if arguments.weights else None
    table: dict[tuple[str, str, str], list[tuple[float, float, float]]] = defaultdict(list)
    windows: list[tuple[float, np.ndarray]] = []
    for category, photo, path in pairs(arguments):
        if arguments.half and zlib.crc32(photo.stem.encode()) % 2 != arguments.half % 2:
            continue
        rgb, truth = load_pair(photo, path, arguments.side)
        enlarged = {}
        for kind in arguments.kinds:
            coarse = coarse_matte(kind, rgb, truth, photo.stem, network)
            enlarged[kind] = resample(coarse, *truth.shape) if kind == "good" else upsample_guided(coarse, rgb)
            mattes = {"as in use": enlarged[kind]}
            if refiner:
                mattes["refiner"] = upsample_guided(refine(refiner, coarse, rgb), rgb, radius=RADIUS)
            if arguments.closed_form:
                in_use = mattes["refiner" if refiner and kind == "two passes" else "as in use"]
                mattes["closed form"] = refine_alpha(rgb, in_use, AlphaMatting())
            for name, matte in mattes.items():
                table[kind, category, name].append(scores(matte, truth))
            if kind == "two passes":
                refined = mattes
        if arguments.gallery:
            *_, last = refined.values()
            after = enlarged["three passes"] if len(refined) == 1 else last
            windows.append(most_changed(rgb, enlarged["two passes"], after))
    print("| coarse matte | category | method | photos | edge error | edge quality | IoU |\n|---|---|---|---|---|---|---|")
    for (kind, category, name), rows in sorted(table.items()):
        error, edge, iou = np.mean(rows, axis=0)
        print(f"| {kind} | {category} | {name} | {len(rows)} | {error:.4f} | {edge:.1f} | {iou:.2f} |")
    if arguments.gallery:
        largest = sorted(windows, key=lambda item: -item[0])[:ROWS]
        Image.fromarray(np.concatenate([row for _, row in largest])).save(arguments.gallery, quality=90)


def coarse_matte(kind: str, rgb: np.ndarray, truth: np.ndarray, name: str, network: BuiltinNet) -> np.ndarray:
    """Coarse matte of one of `KINDS`: float32 (h, w)."""
    if kind == "medium":
        return perturbed(reduced(truth, MEDIUM_SIDE), np.random.default_rng(zlib.crc32(name.encode())))
    if kind == "good":
        return np.rint(ndimage.gaussian_filter(reduced(truth, GOOD_SIDE), 1) * 255) / np.float32(255)
    logits, _ = predict(on_arrays(network), rgb)
    if kind == "three passes":
        logits = with_third_pass(logits, rgb, network)
    return sharpen_edges(apply_color_prior(logits, rgb))


@torch.inference_mode()
def with_third_pass(logits: np.ndarray, rgb: np.ndarray, network: BuiltinNet) -> np.ndarray:
    """Mean of logits and those of a pass of `DETAIL_AREA` pixels in the photo's proportions: float32 (h, w)."""
    scale = math.sqrt(DETAIL_AREA / (rgb.shape[0] * rgb.shape[1]))
    height, width = (max(32, round(length * scale / 32) * 32) for length in rgb.shape[:2])
    picture = np.array(Image.fromarray(rgb).resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0))
    detail, _ = network(normalize(torch.from_numpy(picture).permute(2, 0, 1)[None].float().div_(255)))
    coarse = Image.fromarray(logits).resize((width, height), Image.Resampling.BILINEAR)
    return (np.asarray(coarse) + detail[0, 0].numpy()) / 2


def most_changed(rgb: np.ndarray, before: np.ndarray, after: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean difference in the window that changes most, and its composites before and after, side by side."""
    side = min(WINDOW, *before.shape)
    mean = ndimage.uniform_filter(np.abs(after - before), side)
    inner = mean[side // 2 : mean.shape[0] - side // 2 + 1, side // 2 : mean.shape[1] - side // 2 + 1]
    top, left = np.unravel_index(inner.argmax(), inner.shape)
    cut = slice(top, top + side), slice(left, left + side)
    parts = [rgb[cut]]
    for matte in (before, after):
        foreground = estimate_foreground(rgb, matte)[cut]
        alpha = matte[cut][..., None]
        parts += [np.rint(foreground * alpha + np.array(color) * (1 - alpha)).astype(np.uint8) for color in BACKGROUNDS]
    enlarged = [
        np.asarray(Image.fromarray(part).resize((WINDOW * ENLARGEMENT,) * 2, Image.Resampling.NEAREST)) for part in parts
    ]
    return float(inner.max()), np.concatenate(enlarged, axis=1)


if __name__ == "__main__":
    main()
