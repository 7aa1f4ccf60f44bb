"""Measure weights: ``python -m train.evaluate FOLDER``, a folder of CATEGORY/im and CATEGORY/gt, or of tar shards.

Of tar shards only the pictures held out from training are measured. Pictures go the way of the provider: squashed to a
square, through the network, back to full size by the guided filter, compared with the truth at full size.

IoU is taken at 0.5 and averaged over pictures; the other numbers are those of salient object detection, by
PySODMetrics: the largest F over all thresholds (beta squared 0.3; Achanta et al., CVPR 2009), weighted F (Margolin
et al., CVPR 2014), S (Fan et al., ICCV 2017), E (Fan et al., IJCAI 2018) and the mean absolute error.
"""

import argparse
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from py_sod_metrics import MAE, Emeasure, Fmeasure, Smeasure, WeightedFmeasure
from scipy import ndimage

from rmbg.evidence import sigmoid
from rmbg.matte import upsample_guided
from rmbg.networks.builtin import INPUT_SIZE, BuiltinNet, load
from rmbg.networks.looks import predict
from train.data import read_folder, read_pairs, read_shards, split
from train.train import Knobs

BAND = 0.01  # half width, as a share of the diagonal, of the band around the true edge that the edge error is taken in


def matte_of(net: BuiltinNet, picture: np.ndarray, side: int, guided: bool) -> tuple[np.ndarray, float]:
    """Matte (H, W), float32, and confidence of a picture (H, W, 3), uint8."""
    logits, confidence = predict(net, picture, side)
    matte = sigmoid(logits)
    if guided:
        return upsample_guided(matte, picture), confidence
    height, width = picture.shape[:2]
    return np.asarray(Image.fromarray(matte).resize((width, height), Image.Resampling.BILINEAR)), confidence


def edge_error(matte: np.ndarray, truth: np.ndarray) -> float:
    """Mean absolute difference, both in [0, 1], in a band around the edge of the truth."""
    wanted = truth > 0.5
    radius = max(1, round(BAND * float(np.hypot(*truth.shape))))
    distance = ndimage.distance_transform_edt(wanted) + ndimage.distance_transform_edt(~wanted)
    band = distance <= radius
    return float(np.abs(matte - truth)[band].mean()) if band.any() else 0.0


class Scores:
    """Numbers of one set of pictures."""

    def __init__(self) -> None:
        self.metrics = {"F": Fmeasure(), "wF": WeightedFmeasure(), "S": Smeasure(), "E": Emeasure(), "MAE": MAE()}
        self.rows: list[dict[str, float | str]] = []

    def add(self, name: str, matte: np.ndarray, truth: np.ndarray, confidence: float) -> None:
        """Take in a picture: matte and truth (H, W), uint8."""
        for metric in self.metrics.values():
            metric.step(matte, truth, normalize=True)
        found, wanted = matte > 127, truth > 127
        iou = (found & wanted).sum() / max(1, (found | wanted).sum())
        edge = edge_error(matte / np.float32(255), truth / np.float32(255))
        self.rows.append({"name": name, "iou": float(iou), "edge": edge, "confidence": confidence})

    def summary(self) -> dict[str, float]:
        """Means over the set."""
        found = {name: metric.get_results() for name, metric in self.metrics.items()}
        return {
            "pictures": len(self.rows),
            "IoU": float(np.mean([row["iou"] for row in self.rows])),
            "max F": float(found["F"]["fm"]["curve"].max()),
            "weighted F": float(found["wF"]["wfm"]),
            "S": float(found["S"]["sm"]),
            "mean E": float(found["E"]["em"]["curve"].mean()),
            "MAE": float(found["MAE"]["mae"]),
            "edge": float(np.mean([row["edge"] for row in self.rows])),
        }


def sets(folder: Path) -> Iterator[tuple[str, list[tuple[str, bytes, bytes]]]]:
    """Names of the sets in a folder and their pairs."""
    if any(folder.glob("*.tar")):
        pairs = list(read_shards(folder))
        _, held_out = split([name for name, _, _ in pairs], *Knobs.held_out)
        yield "held out", [pairs[index] for index in held_out]
    elif (folder / "im").is_dir():
        yield folder.name, list(read_pairs(folder))
    else:
        for category in sorted(path for path in folder.iterdir() if (path / "im").is_dir()):
            yield category.name, list(read_folder(category))


def evaluate(net: BuiltinNet, folder: Path, side: int, guided: bool) -> dict[str, Scores]:
    """Scores of each set in a folder."""
    scores: dict[str, Scores] = {}
    for name, pairs in sets(folder):
        scores[name] = Scores()
        for stem, picture, mask in pairs:
            rgb = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
            truth = np.asarray(Image.open(io.BytesIO(mask)).convert("L"))
            matte, confidence = matte_of(net, rgb, side, guided)
            scores[name].add(stem, (matte * 255).round().astype(np.uint8), truth, confidence)
    return scores


def predict_ms(net: BuiltinNet, side: int, repeats: int = 20) -> float:
    """Median milliseconds of a prediction for one picture."""
    picture = np.zeros((2 * side, 2 * side, 3), np.uint8)
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        predict(net, picture, side)
        times.append(time.perf_counter() - began)
    return float(np.median(times)) * 1000


def main() -> None:
    """Read the command line, print a table, write every picture's numbers where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path, help="other weights than those shipped")
    parser.add_argument("--side", type=int, default=INPUT_SIZE, help="side of the network's input, a multiple of 32")
    parser.add_argument("--bilinear", action="store_true", help="enlarge the matte plainly, without the guided filter")
    parser.add_argument("--json", type=Path, help="file for the numbers of every picture")
    arguments = parser.parse_args()
    net = load(arguments.weights)
    scores = evaluate(net, arguments.folder, arguments.side, not arguments.bilinear)
    for number, (name, score) in enumerate(scores.items()):
        summary = score.summary()
        if number == 0:
            print("| set |", " | ".join(summary), "|")
        values = (f"{value:.0f}" if value == int(value) else f"{value:.3f}" for value in summary.values())
        print(f"| {name} |", " | ".join(values), "|")
    print(f"prediction {predict_ms(net, arguments.side):.0f} ms at {arguments.side}")
    if arguments.json:
        arguments.json.write_text(json.dumps({name: score.rows for name, score in scores.items()}, indent=1))


if __name__ == "__main__":
    main()
