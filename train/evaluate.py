"""Measure weights: ``python -m train.evaluate FOLDER``.

The folder holds CATEGORY/im and CATEGORY/gt, or im and gt, or tar shards, of which only the held-out pictures are measured.
The matte is predicted as by the provider, without the color prior: test-time augmentation on a square, then the guided
filter. It is compared with the ground truth at full size by ``rmbg.metrics``. The table has the mean of each metric over
the pictures.
"""

import argparse
import io
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from rmbg.matting.color_prior import sigmoid
from rmbg.matting.guided_filter import upsample_guided
from rmbg.matting.matte import resize
from rmbg.metrics.quality import METRICS, measure
from rmbg.networks.builtin import BuiltinNet, load, on_arrays
from rmbg.networks.builtin_spec import INPUT_SIZE
from rmbg.networks.tta import predict
from train.data import read_folder, read_pairs, read_shards, split
from train.train import Config


@dataclass(frozen=True)
class Score:
    """Metrics of one picture, by their ids, and the predicted IoU."""

    name: str
    metrics: dict[str, float | None]
    confidence: float


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


def evaluate(net: BuiltinNet, folder: Path, side: int = INPUT_SIZE, guided: bool = True) -> dict[str, list[Score]]:
    """Measure the pictures of each set in a folder."""
    return {name: [_measure(net, *pair, side=side, guided=guided) for pair in pairs] for name, pairs in read_sets(folder)}


def _measure(net: BuiltinNet, name: str, picture: bytes, mask: bytes, *, side: int, guided: bool) -> Score:
    rgb = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
    truth = np.asarray(Image.open(io.BytesIO(mask)).convert("L"), dtype=np.float32) / 255
    matte, confidence = predict_matte(net, rgb, side, guided)
    return Score(name, measure(matte, truth), confidence)


def means(scores: list[Score]) -> dict[str, float]:
    """Mean of each metric over the pictures it applies to, by its id; NaN if there are none."""
    columns = {metric.id: [s.metrics[metric.id] for s in scores if s.metrics[metric.id] is not None] for metric in METRICS}
    return {name: float(np.mean(values)) if values else float("nan") for name, values in columns.items()}


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
    print("| set | pictures |", " | ".join(metric.title for metric in METRICS), "|")
    for name, scores in results.items():
        values = means(scores)
        print(f"| {name} | {len(scores)} |", " | ".join(f"{values[m.id]:.{m.decimals}f}" for m in METRICS), "|")
    print(f"prediction {prediction_ms(net, arguments.side):.0f} ms at {arguments.side}")
    if arguments.json:
        rows = {name: [{"name": s.name, **s.metrics, "confidence": s.confidence} for s in results[name]] for name in results}
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
