"""Measure weights: ``python -m train.evaluate FOLDER``.

The folder holds CATEGORY/im and CATEGORY/gt, or im and gt, or tar shards, of which only the held-out pictures are measured.
The matte is predicted as by the provider, without the color prior: test-time augmentation on a square, then the guided
filter. It is compared with the ground truth at full size by ``rmbg.metrics``. The table has the mean of each metric over
the pictures. Its last column, the background found in holes of the subject, is read beside the IoU: networks that learn from
masks without holes fill them, and truth with filled holes rewards that.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from rmbg.matting.color_prior import sigmoid
from rmbg.matting.guided_filter import upsample_guided
from rmbg.matting.matte import resize
from rmbg.metrics.quality import METRICS, measure
from rmbg.networks.builtin import BuiltinNet, load, on_arrays
from rmbg.networks.builtin_spec import INPUT_SIZE
from rmbg.networks.tta import predict
from train.data import decode, read_folder, read_pairs, read_shards, split
from train.train import Config

MIN_HOLES = 0.001  # smallest area of the holes of a subject, as a fraction of the picture, at which they are measured


@dataclass(frozen=True)
class Score:
    """Metrics of one picture, by their ids, the predicted IoU, and the background found in holes, see `open_holes`."""

    name: str
    metrics: dict[str, float | None]
    confidence: float
    holes: float | None


def predict_matte(net: BuiltinNet, rgb: np.ndarray, side: int, guided: bool) -> tuple[np.ndarray, float]:
    """Predict the matte of a picture, uint8 (H, W, 3), and its confidence.

    Parameters
    ----------
    net : BuiltinNet
    rgb : uint8 array (H, W, 3)
    side : int
        Side of the network's input, a multiple of 32.
    guided : bool
        Upsample by the guided filter, not bilinearly.

    Returns
    -------
    matte : float32 array (H, W)
    confidence : float
    """
    logits, confidence = predict(on_arrays(net), rgb, side)
    matte = sigmoid(logits)
    return (upsample_guided(matte, rgb) if guided else resize(matte, *rgb.shape[:2])), confidence


def read_sets(folder: Path) -> Iterator[tuple[str, list[tuple[str, bytes, bytes]]]]:
    """Yield the name and the pairs of each set in a folder."""
    if any(folder.glob("*.tar")):
        pairs = list(read_shards(folder))
        _, held_out = split([name for name, _, _ in pairs], *Config.held_out)
        yield "held out", [pairs[index] for index in held_out]
    elif (folder / "im").is_dir():
        yield folder.name, list(read_pairs(folder))
    else:
        for category in sorted(path for path in folder.iterdir() if (path / "im").is_dir()):
            yield category.name, list(read_folder(category))


def open_holes(matte: np.ndarray, truth: np.ndarray) -> float | None:
    """Percentage of the background in holes of the subject that a matte shows.

    Parameters
    ----------
    matte, truth : float array (H, W), [0, 1]

    Returns
    -------
    float or None
        Mean of 1 - matte over the background that the subject encloses, times 100; None where it is smaller than `MIN_HOLES`.
    """
    subject = truth > 0.5
    holes = ndimage.binary_fill_holes(subject) & ~subject
    return float(1 - matte[holes].mean()) * 100 if holes.mean() >= MIN_HOLES else None


def evaluate(net: BuiltinNet, folder: Path, side: int = INPUT_SIZE, guided: bool = True) -> dict[str, list[Score]]:
    """Measure the pictures of each set in a folder."""
    return {name: [_measure(net, *pair, side=side, guided=guided) for pair in pairs] for name, pairs in read_sets(folder)}


def _measure(net: BuiltinNet, name: str, picture: bytes, mask: bytes, *, side: int, guided: bool) -> Score:
    rgb, truth = decode(picture, mask)
    matte, confidence = predict_matte(net, rgb, side, guided)
    return Score(name, measure(matte, truth), confidence, open_holes(matte, truth))


def means(scores: list[Score]) -> dict[str, float]:
    """Mean of each metric, by its id, and of the open holes over the pictures they apply to; NaN if there are none."""
    columns = {metric.id: [score.metrics[metric.id] for score in scores] for metric in METRICS}
    columns["holes"] = [score.holes for score in scores]
    present = {name: [value for value in values if value is not None] for name, values in columns.items()}
    return {name: float(np.mean(values)) if values else float("nan") for name, values in present.items()}


def prediction_ms(net: BuiltinNet, side: int, repeats: int = 20) -> float:
    """Median time of a prediction in milliseconds."""
    forward = on_arrays(net)
    picture = np.zeros((2 * side, 2 * side, 3), np.uint8)
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        predict(forward, picture, side)
        times.append(time.perf_counter() - started)
    return float(np.median(times)) * 1000


def main() -> None:
    """Run the command line: print a table, and write the metrics of each picture to a file if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path, help="other weights than those in the package")
    parser.add_argument("--side", type=int, default=INPUT_SIZE, help="side of the network's input, a multiple of 32")
    parser.add_argument("--bilinear", action="store_true", help="upsample the matte without the guided filter")
    parser.add_argument("--json", type=Path, help="file for the metrics of each picture")
    arguments = parser.parse_args()
    net = load(arguments.weights)
    results = evaluate(net, arguments.folder, arguments.side, not arguments.bilinear)
    print("| set | pictures |", " | ".join(metric.title for metric in METRICS), "| open holes (pictures) |")
    for name, scores in results.items():
        values = means(scores)
        with_holes = sum(score.holes is not None for score in scores)
        columns = [*(f"{values[m.id]:.{m.decimals}f}" for m in METRICS), f"{values['holes']:.1f} ({with_holes})"]
        print(f"| {name} | {len(scores)} |", " | ".join(columns), "|")
    print(f"prediction {prediction_ms(net, arguments.side):.0f} ms at {arguments.side}")
    if arguments.json:
        rows = {
            name: [{"name": s.name, **s.metrics, "holes": s.holes, "confidence": s.confidence} for s in scores]
            for name, scores in results.items()
        }
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
