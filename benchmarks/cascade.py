"""Quality of a cascade over its cost: ``python -m benchmarks.cascade FOLDER [--out FOLDER] [--quality .93]``.

FOLDER is a data set as for ``python -m rmbg benchmark``. The first provider is the built-in one. The second is simulated: the
truth with a displaced outline, as far as needed for a mean IoU of QUALITY. Its errors are independent of the photo, or, in a
second simulation, larger on the photos on which the built-in provider is worse.

For thresholds from 0 to 1, photos with a lower confidence are sent to the second provider; the same number of photos chosen at
random is the baseline. The command writes ``cascade.csv`` and ``cascade.png``, and prints the smallest bill with 99 % of the
second provider's IoU. It also fits the weights of ``rmbg.matting.doubt``.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from scipy.optimize import nnls

from rmbg.benchmark.dataset import open_dataset
from rmbg.billing.cost import dollars
from rmbg.billing.quote import MONTHLY_IMAGES, PRICES
from rmbg.errors import NoSubjectError
from rmbg.matting.doubt import Evidence, evidence
from rmbg.matting.matte import resize
from rmbg.metrics.quality import iou
from rmbg.providers.builtin import Builtin
from rmbg.providers.cascade import THRESHOLD
from rmbg.settings import Settings

THRESHOLDS = np.arange(101) / 100

#: Provider whose price the second provider has.
PRICED_AS = "fal-rmbg-2.0"

#: Share of the second provider's IoU that the cascade has to reach.
SHARE_OF_QUALITY = 0.99

#: Longest side in pixels at which mattes are compared.
SIDE = 512

#: Largest error of one simulated result, 1 - IoU.
MAX_ERROR = 0.6

#: Longest sides to which photos are reduced for answers of a weaker network; their mattes calibrate `doubt`.
WEAK_SIDES = (48, 80, 128)

COLORS = {"cascade": (20, 110, 80), "cascade, difficult photos": (200, 120, 20), "random": (130, 130, 130)}


@dataclass(frozen=True)
class Answer:
    """Results of both providers for one photo: confidence and true IoU of the first, true IoU of the simulated ones.

    Attributes
    ----------
    confidence, first, second, difficult : float
        In [0, 1].
    pairs : tuple of (Evidence, float)
        Evidence and true IoU of answers that predict no IoU, with the first provider's matte as the previous one.
    simulated : Evidence
        Evidence of the second provider's matte.
    """

    confidence: float
    first: float
    second: float
    difficult: float
    pairs: tuple[tuple[Evidence, float], ...]
    simulated: Evidence


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--quality", type=float, default=0.93, help="mean IoU of the simulated provider")
    arguments = parser.parse_args()
    answers = collect(arguments.folder, arguments.quality)
    curves = {
        "cascade": curve(answers, [answer.second for answer in answers]),
        "cascade, difficult photos": curve(answers, [answer.difficult for answer in answers]),
        "random": baseline(answers),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_table(arguments.out / "cascade.csv", curves)
    draw(curves).save(arguments.out / "cascade.png", optimize=True)
    report(answers, curves)
    calibrate(answers)


# --- answers -----------------------------------------------------------------------------------------------------------------


def collect(folder: Path, quality: float) -> list[Answer]:
    """Run the built-in provider on a data set and simulate the second one."""
    settings, provider, random = Settings.from_environ(), Builtin(), np.random.default_rng(1)
    photos = []
    for sample in open_dataset(folder, settings=settings).samples:
        rgb, truth = sample.photo(settings).flattened(), sample.truth(settings)
        matte, confidence = _answer(provider, rgb)
        weak = [_answer(provider, _reduced_photo(rgb, side))[0] for side in WEAK_SIDES]
        photos.append((confidence, *(_small(each) for each in (truth, matte, *weak))))
    first = np.array([iou(matte, truth) / 100 for _, truth, matte, *_ in photos])
    independent = _scaled(random.exponential(1.0, len(photos)), 1 - quality)
    difficult = _scaled(random.exponential(1.0, len(photos)) * (0.25 + 1 - first), 1 - quality)
    answers = []
    for place, (confidence, truth, matte, *weak) in enumerate(photos):
        second = displaced(truth, independent[place], random)
        other = displaced(truth, difficult[place], random)
        found = [each for each in (*weak, second, other) if each.max() > 0.5]
        pairs = tuple((evidence(each, matte, confidence), iou(each, truth) / 100) for each in found)
        qualities = (iou(second, truth) / 100, iou(other, truth) / 100)
        answers.append(Answer(confidence, float(first[place]), *qualities, pairs, evidence(second, matte, confidence)))
    return answers


def _answer(provider: Builtin, rgb: np.ndarray) -> tuple[np.ndarray, float]:
    """Matte and confidence; an empty matte and 0 if there is no clear subject."""
    try:
        return provider.matte(rgb)
    except NoSubjectError:
        return np.zeros(rgb.shape[:2], np.float32), 0.0


def _reduced_photo(rgb: np.ndarray, side: int) -> np.ndarray:
    """Photo without details: reduced to `side` pixels, and enlarged to its size."""
    image = Image.fromarray(rgb)
    small = image.copy()
    small.thumbnail((side, side))
    return np.asarray(small.resize(image.size, Image.Resampling.BILINEAR))


def _small(matte: np.ndarray) -> np.ndarray:
    scale = min(1.0, SIDE / max(matte.shape))
    return resize(matte, *(max(1, round(side * scale)) for side in matte.shape))


def _scaled(errors: np.ndarray, mean: float) -> np.ndarray:
    """Scale errors so that their mean is `mean` after those above `MAX_ERROR` are clipped."""
    low, high = 0.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.minimum(errors * middle, MAX_ERROR).mean() < mean else (low, middle)
    return np.minimum(errors * low, MAX_ERROR)


def displaced(truth: np.ndarray, error: float, random: np.random.Generator) -> np.ndarray:
    """Displace the outline of a true matte by a smooth random field, until its IoU with the truth is 1 - `error`."""
    inside = truth > 0.5
    distance = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    distance -= np.sign(distance) * 0.5
    noise = ndimage.gaussian_filter(random.standard_normal(truth.shape), 0.04 * np.hypot(*truth.shape))
    noise /= np.abs(noise).max()
    low, high = 0.0, float(max(truth.shape))
    for _ in range(24):
        middle = (low + high) / 2
        found = 1 - iou((distance + middle * noise > 0).astype(np.float32), truth) / 100
        low, high = (middle, high) if found < error else (low, middle)
    return np.clip(distance + low * noise + 0.5, 0, 1).astype(np.float32)


# --- curves ------------------------------------------------------------------------------------------------------------------

#: Points (threshold, share of the photos sent, mean IoU).
Curve = list[tuple[float, float, float]]


def curve(answers: Sequence[Answer], second: Sequence[float]) -> Curve:
    """Share sent and mean IoU for each threshold."""
    confidence, first = np.array([a.confidence for a in answers]), np.array([a.first for a in answers])
    points = []
    for threshold in THRESHOLDS:
        sent = confidence < threshold
        points.append((float(threshold), float(sent.mean()), float(np.where(sent, second, first).mean())))
    return points


def baseline(answers: Sequence[Answer]) -> Curve:
    """Expected mean IoU if as many photos are sent, chosen at random."""
    first, second = (float(np.mean([getattr(a, name) for a in answers])) for name in ("first", "second"))
    shares = [(threshold, share) for threshold, share, _ in curve(answers, [a.second for a in answers])]
    return [(threshold, share, (1 - share) * first + share * second) for threshold, share in shares]


def cheapest(points: Curve, target: float) -> tuple[float, float, float]:
    """Point with the smallest threshold whose mean IoU is at least `target`; the last one if there is none."""
    return next((point for point in points if point[2] >= target), points[-1])


# --- output ------------------------------------------------------------------------------------------------------------------


def price(share: float) -> str:
    """Cost of 100,000 photos of which `share` are sent."""
    usd = PRICES[PRICED_AS].usd
    assert usd is not None
    return dollars(usd * MONTHLY_IMAGES * Decimal(str(round(share, 6))))


def report(answers: Sequence[Answer], curves: dict[str, Curve]) -> None:
    """Print the mean IoU, a table, and the smallest bills."""
    means = {name: np.mean([getattr(a, name) for a in answers]) for name in ("first", "second", "difficult")}
    print(f"{len(answers)} photos; mean IoU: " + ", ".join(f"{name} {mean:.3f}" for name, mean in means.items()))
    print("\n| threshold | sent | 100,000 photos | IoU | difficult photos | random |\n|---|---|---|---|---|---|")
    for place in (0, 50, 60, 70, 75, 78, 80, 85, 90, 92, 94, 96, 100):
        rows = [curves[name][place] for name in curves]
        print(
            f"| {rows[0][0]:.2f} | {rows[0][1]:.0%} | {price(rows[0][1])} | " + " | ".join(f"{r[2]:.3f}" for r in rows) + " |"
        )
    for name, quality in (("cascade", "second"), ("cascade, difficult photos", "difficult"), ("random", "second")):
        threshold, share, mean = cheapest(curves[name], SHARE_OF_QUALITY * means[quality])
        print(
            f"\n{name}: {SHARE_OF_QUALITY:.0%} of {means[quality]:.3f} with threshold {threshold:.2f}: IoU {mean:.3f}, ", end=""
        )
        print(f"{share:.0%} sent, {1 - share:.0%} of the bill saved", end="")
    print("\n")
    for name, chosen, others in (("even", answers[::2], answers[1::2]), ("odd", answers[1::2], answers[::2])):
        target = SHARE_OF_QUALITY * float(np.mean([a.second for a in chosen]))
        threshold = cheapest(curve(chosen, [a.second for a in chosen]), target)[0]
        other = next(p for p in curve(others, [a.second for a in others]) if p[0] == threshold)
        reached = other[2] / float(np.mean([a.second for a in others]))
        print(f"Threshold of the {name} positions: {threshold:.2f}. The others: {other[1]:.0%} sent, {reached:.1%} of the IoU.")


def calibrate(answers: Sequence[Answer]) -> None:
    """Fit the weights of ``rmbg.matting.doubt`` on the even positions, and print their error on the odd ones."""
    for name, columns in (("WITH_PREVIOUS", (1, 1, 1)), ("ALONE", (0, 1, 1))):
        weights = fit([pair for a in answers[::2] for pair in a.pairs], columns)
        pairs = [pair for a in answers[1::2] for pair in a.pairs]
        estimated, true = estimates(pairs, weights), np.array([quality for _, quality in pairs])
        print(f"\n{name} of the even positions: {_text(weights)}. Odd positions, {len(true)} mattes: ", end="")
        print(f"Pearson correlation {np.corrcoef(estimated, true)[0, 1]:.2f}, mean error {np.abs(estimated - true).mean():.3f}")
        weights = fit([pair for a in answers for pair in a.pairs], columns)
        print(f"{name} of all: {_text(weights)}")
        for low, high in ((0, 0.6), (0.6, 0.8), (0.8, 0.9), (0.9, 1.01)):
            inside = (estimated >= low) & (estimated < high)
            if inside.any():
                print(f"  estimate {low:.2f} to {min(high, 1):.2f}: {inside.sum()} mattes, true IoU {true[inside].mean():.2f}")
        for threshold in (0.8, 0.85, 0.9):
            sent = [a.simulated for a in answers if a.confidence < threshold]
            share = np.mean(estimates([(found, 0.0) for found in sent], weights) < threshold)
            print(f"  answers of the second provider below {threshold:.2f}: {share:.0%} of {len(sent)}")


def fit(pairs: Sequence[tuple[Evidence, float]], columns: tuple[int, int, int]) -> np.ndarray:
    """Non-negative weights of constant, disagreement, softness and fragmentation; 0 for the columns left out."""
    return nnls(_features(pairs) * [1, *columns], np.array([quality for _, quality in pairs]))[0]


def estimates(pairs: Sequence[tuple[Evidence, float]], weights: np.ndarray) -> np.ndarray:
    """Estimated IoU of each pair."""
    return np.clip(_features(pairs) @ weights, 0, 1)


def _features(pairs: Sequence[tuple[Evidence, float]]) -> np.ndarray:
    return np.array([[1.0, -e.disagreement, -e.softness, -e.fragmentation] for e, _ in pairs])


def _text(weights: np.ndarray) -> str:
    return "(" + ", ".join(f"{weight:.2f}" for weight in weights) + ")"


def write_table(path: Path, curves: dict[str, Curve]) -> None:
    """Write all points as CSV."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["threshold", "sent", *curves])
        for rows in zip(*curves.values(), strict=True):
            writer.writerow([f"{rows[0][0]:.2f}", f"{rows[0][1]:.4f}", *(f"{row[2]:.4f}" for row in rows)])


def draw(curves: dict[str, Curve], width: int = 720, height: int = 460) -> Image.Image:
    """Draw mean IoU over the share of photos sent."""
    scale = 2
    image = Image.new("RGB", (width * scale, height * scale), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(13 * scale)
    left, right, top, bottom = 64 * scale, (width - 20) * scale, 20 * scale, (height - 60) * scale
    values = [point[2] for points in curves.values() for point in points]
    low, high = np.floor(min(values) * 50) / 50, np.ceil(max(values) * 50) / 50

    def at(share: float, quality: float) -> tuple[float, float]:
        return left + share * (right - left), bottom - (quality - low) / (high - low) * (bottom - top)

    for quality in np.arange(low, high + 0.001, 0.02):
        pen.line([at(0, quality), at(1, quality)], fill=(225, 225, 225), width=scale)
        pen.text((left - 8 * scale, at(0, quality)[1]), f"{quality:.2f}", fill="black", font=font, anchor="rm")
    for share in np.arange(0, 1.01, 0.2):
        x = at(share, low)[0]
        pen.line([at(share, low), at(share, high)], fill=(225, 225, 225), width=scale)
        pen.text((x, bottom + 6 * scale), f"{share:.0%}", fill="black", font=font, anchor="mt")
        pen.text((x, bottom + 22 * scale), price(share), fill=(110, 110, 110), font=font, anchor="mt")
    title = f"photos sent, and their price for {MONTHLY_IMAGES:,} photos at {PRICED_AS}"
    pen.text(((left + right) / 2, bottom + 40 * scale), title, fill="black", font=font, anchor="mt")
    for place, (name, points) in enumerate(curves.items()):
        pen.line([at(share, quality) for _, share, quality in points], fill=COLORS[name], width=3 * scale, joint="curve")
        pen.text((right - 8 * scale, bottom - (58 - 18 * place) * scale), name, fill=COLORS[name], font=font, anchor="rb")
        _, share, quality = points[round(THRESHOLD * 100)]
        x, y = at(share, quality)
        pen.ellipse((x - 5 * scale, y - 5 * scale, x + 5 * scale, y + 5 * scale), fill=COLORS[name])
    note = f"dots: threshold {THRESHOLD:.2f}"
    pen.text((right - 8 * scale, bottom - 76 * scale), note, fill="black", font=font, anchor="rb")
    return image.resize((width, height), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
