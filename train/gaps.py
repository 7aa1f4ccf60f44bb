"""Find the gaps that masks of furniture and fashion cover: ``python -m train.gaps OUT --source PAIRS...``.

Masks drawn as outlines cover the gaps of chairs and the space between arm and body. A network that is trained on them fills
gaps. Here the built-in network and the colors of the picture, two sources that err differently, decide on the inside of each
mask. Where both see background, framed by subject, it becomes background; where they differ, it becomes unknown, and the loss
ignores it. Unknown is the gray of trimaps. The pictures are written to ``OUT/im`` and the masks to ``OUT/gt``, with the names
of the originals: given as the last source of a training they replace these.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from rmbg.matting.color_prior import log_likelihood_ratio, sigmoid, small_lab
from rmbg.networks.builtin import load, on_arrays
from rmbg.networks.builtin_spec import WEIGHTS
from rmbg.networks.tta import predict
from train.data import TRIMAPS, UNKNOWN, decode, read_sources

RIM = 0.012  # width of the outline that stays as drawn, as a fraction of the longer side
MIN_AREA = 1.2e-4  # of a gap, as a fraction of the picture
MAX_MATTE = 0.65  # mean of the network's matte in a gap
MIN_FRAME = 0.75  # fraction of the surroundings of a gap that are subject; less around a part that the network missed
MAX_LOGIT, MAX_RATIO, ITERATIONS = 3.0, 4.0, 3  # limits of the network's logits and of the colors' log-likelihood ratio


def find_gaps(rgb: np.ndarray, mask: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Classify the inside of a mask that may cover gaps.

    Parameters
    ----------
    rgb : uint8 array (H, W, 3)
    mask : float array (H, W), [0, 1]
    logits : float32 array (h, w)
        Of the built-in network, for the whole picture resized to any shape.

    Returns
    -------
    uint8 array (H, W)
        The mask with 0 in gaps and `UNKNOWN` where it is uncertain.
    """
    lab = small_lab(rgb)
    height, width = lab.shape[:2]
    logits = _resize(logits, height, width)
    matte = sigmoid(logits)
    inside = _resize(mask, height, width) > 0.5
    rim = max(2, round(RIM * max(height, width)))
    deep = ndimage.binary_erosion(inside, iterations=rim)
    posterior = matte
    for _ in range(ITERATIONS):
        ratio = log_likelihood_ratio(lab, np.where(inside, posterior, 0).astype(np.float32))
        posterior = sigmoid(np.clip(logits, -MAX_LOGIT, MAX_LOGIT) + np.clip(ratio, -MAX_RATIO, MAX_RATIO))
    gaps = np.zeros_like(inside)
    regions = ndimage.label((posterior < 0.5) & deep)[0]
    for index, window in enumerate(ndimage.find_objects(regions), 1):
        window = tuple(slice(max(0, part.start - 2 * rim), part.stop + 2 * rim) for part in window)
        region = regions[window] == index
        if region.sum() < MIN_AREA * height * width or matte[window][region].mean() > MAX_MATTE:
            continue
        frame = ndimage.binary_dilation(region, iterations=2 * rim) & ~ndimage.binary_dilation(region, iterations=rim // 2)
        frame &= inside[window]
        subject = (posterior[window] > 0.5) & (matte[window] > 0.5)
        if frame.any() and subject[frame].mean() >= MIN_FRAME:
            gaps[window] |= region
    uncertain = ndimage.binary_opening(deep & ((matte < 0.5) | (ratio < 0)))
    uncertain |= ndimage.binary_dilation(gaps, iterations=2) & deep
    result = np.rint(mask * 255).astype(np.uint8)
    result[_resize(uncertain, *mask.shape) > 0.5] = UNKNOWN
    result[_resize(gaps, *mask.shape) > 0.5] = 0
    return result


def _resize(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(plane.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--source", type=Path, nargs="+", required=True, help="later pairs replace those of equal name")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="weights of the built-in network")
    arguments = parser.parse_args()
    forward = on_arrays(load(arguments.weights))
    for part in ("im", "gt"):
        (arguments.out / part).mkdir(parents=True, exist_ok=True)
    count = 0
    for name, picture, mask in read_sources(arguments.source):
        if name.startswith(TRIMAPS):
            rgb, truth = decode(picture, mask)
            trimap = find_gaps(rgb, truth, predict(forward, rgb)[0])
            (arguments.out / "im" / f"{name}.jpg").write_bytes(picture)
            Image.fromarray(trimap).save(arguments.out / "gt" / f"{name}.png")
            count += 1
    print(f"{count} pictures")


if __name__ == "__main__":
    main()
