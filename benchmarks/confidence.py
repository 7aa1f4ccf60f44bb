"""Calibration of the built-in provider's confidence: ``python -m benchmarks.confidence FOLDER [--without-subject PAIRS]``.

FOLDER is a data set as for ``python -m rmbg benchmark``. The confidence is the IoU that the network predicts, and the command
compares it with the true IoU. Thresholds are chosen on the photos with even positions, sorted by name, and reported on the
others, and the other way round. PAIRS are the training pairs of ``train.train``: the largest parts without subject of the
pictures that are held out should be refused as photos without a clear subject.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from rmbg.benchmark.dataset import open_dataset
from rmbg.errors import NoSubjectError
from rmbg.metrics.quality import iou
from rmbg.providers.builtin import Builtin
from rmbg.settings import Settings
from train.data import decode
from train.evaluate import read_sets
from train.procedural import background_of

#: Lower bounds of the bins of the table.
BINS = (0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)

#: True IoU below which a result has visible errors.
USABLE = 0.8

#: Share of results below `USABLE`: at least this below the threshold of low confidence, at most that from the one of high.
LOW_SHARE, HIGH_SHARE = 0.9, 0.05

#: Side of the parts without subject, in pixels. The training pictures are not longer than 288 pixels.
PART_SIDE = 288

#: Thresholds that are tried.
GRID = np.arange(6, 20) / 20


@dataclass(frozen=True)
class Pair:
    """Predicted and true IoU of one photo."""

    confidence: float
    iou: float


def predict(folder: Path) -> list[Pair]:
    """Measure the photos of a data set that the provider accepts."""
    settings, provider, pairs = Settings.from_environ(), Builtin(), []
    for sample in open_dataset(folder, settings=settings).samples:
        try:
            matte, confidence = provider.matte(sample.photo(settings).flattened())
        except NoSubjectError:
            print(f"{sample.id}: no clear subject")
            continue
        pairs.append(Pair(confidence, iou(matte, sample.truth(settings)) / 100))
    return pairs


def refusals(folder: Path) -> list[bool]:
    """Whether the provider refuses each of the parts without subject of the held-out pictures."""
    ((_, held_out),) = read_sets(folder)
    provider, refused = Builtin(), []
    for _, picture, mask in held_out:
        part = background_of(*decode(picture, mask), PART_SIDE)
        if part is None:
            continue
        try:
            provider.matte(np.asarray(part))
            refused.append(False)
        except NoSubjectError:
            refused.append(True)
    return refused


def thresholds(pairs: Sequence[Pair]) -> tuple[float, float]:
    """Return the confidences below which it is low, and from which it is high.

    The first is the highest one of `GRID` with at least `LOW_SHARE` of unusable results below it. The second is the lowest
    one with at most `HIGH_SHARE` of them from it.
    """
    confidence, unusable = np.array([p.confidence for p in pairs]), np.array([p.iou < USABLE for p in pairs])
    below = [t for t in GRID if (confidence < t).any() and unusable[confidence < t].mean() >= LOW_SHARE]
    above = [t for t in GRID if (confidence >= t).any() and unusable[confidence >= t].mean() <= HIGH_SHARE]
    low, high = float(max(below, default=0)), float(min(above, default=1))
    return low, max(low, high)


def row(name: str, pairs: Sequence[Pair]) -> str:
    """Return a row of a table: pictures, mean confidence, mean and 10th percentile of the true IoU, unusable results."""
    if not pairs:
        return f"| {name} | 0 | | | | |"
    true = np.array([pair.iou for pair in pairs])
    mean = np.mean([pair.confidence for pair in pairs])
    unusable = np.count_nonzero(true < USABLE)
    return f"| {name} | {len(pairs)} | {mean:.2f} | {true.mean():.2f} | {np.percentile(true, 10):.2f} | {unusable} |"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--without-subject", type=Path, metavar="PAIRS", help="folder with the tar shards of training pairs")
    arguments = parser.parse_args()
    pairs = predict(arguments.folder)
    confidence, true = np.array([p.confidence for p in pairs]), np.array([p.iou for p in pairs])
    print(f"{len(pairs)} photos, Pearson correlation {np.corrcoef(confidence, true)[0, 1]:.2f}, ", end="")
    print(f"Spearman {spearmanr(confidence, true).statistic:.2f}\n")
    heading = f"| pictures | confidence | true IoU | 10th percentile | IoU below {USABLE:g} |\n|---|---|---|---|---|---|"
    print(f"| confidence {heading}")
    for start, end in zip(BINS, [*BINS[1:], 1.01], strict=True):
        inside = [pair for pair in pairs if start <= pair.confidence < end]
        print(row(f"{start:.2f} to {min(end, 1):.2f}", inside))
    for name, chosen, others in (("even", pairs[::2], pairs[1::2]), ("odd", pairs[1::2], pairs[::2])):
        low, high = thresholds(chosen)
        print(f"\nThresholds of the {name} positions: low below {low:.2f}, high from {high:.2f}. The other positions:\n")
        print(f"| level {heading}")
        print(row("low", [p for p in others if p.confidence < low]))
        print(row("medium", [p for p in others if low <= p.confidence < high]))
        print(row("high", [p for p in others if p.confidence >= high]))
    if arguments.without_subject:
        refused = refusals(arguments.without_subject)
        print(f"\n{sum(refused)} of {len(refused)} parts without subject are refused.")


if __name__ == "__main__":
    main()
