"""Quality of a cascade over its cost: ``python -m benchmarks.cascade FOLDER [--held-out PAIRS] [--out FOLDER]``.

FOLDER is a data set as for ``python -m rmbg benchmark``; PAIRS are the training pairs of ``train.train``, of which those
that are held out are used as well. The first provider is the built-in one. Services of three qualities are simulated: the truth
with a displaced outline, as far as needed for the mean IoU. Their errors are independent of the photo, or, in a second
simulation, larger on the photos on which the built-in provider is worse, which is closer to real networks.

For thresholds from 0 to 1, photos with a lower confidence are sent to one service; the same number of photos chosen at random
is the baseline. The command writes ``cascade.csv`` and ``cascade.png``. It chooses the threshold with the smallest bill for 99
% of the service's IoU on the photos at even positions and reports it on the others, and the other way round. It also
measures cascades of one to three services, the shares of doubtful answers, and the weights of ``rmbg.matting.doubt``.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from scipy.optimize import nnls

from rmbg.benchmark.dataset import open_dataset
from rmbg.billing.cost import dollars
from rmbg.billing.quote import MONTHLY_IMAGES, PRICES
from rmbg.errors import NoSubjectError
from rmbg.matting.doubt import Evidence, estimate_iou, evidence
from rmbg.matting.matte import resize
from rmbg.metrics.quality import iou
from rmbg.providers.builtin import Builtin
from rmbg.providers.cascade import THRESHOLD
from rmbg.settings import Settings
from train.data import decode
from train.evaluate import read_sets

THRESHOLDS = np.arange(101) / 100

#: Mean IoU of the simulated services, and the providers whose prices they have.
SERVICES = {0.90: "runware-rembg-1.4", 0.93: "fal-rmbg-2.0", 0.96: "removebg"}
QUALITIES = tuple(SERVICES)

#: Names of the simulations.
INDEPENDENT, DIFFICULT = SIMULATIONS = ("independent", "difficult")

#: Share of a service's IoU that the cascade has to reach.
SHARE_OF_QUALITY = 0.99

#: Longest side in pixels at which mattes are compared.
SIDE = 512

#: Largest error of one simulated result, 1 - IoU.
MAX_ERROR = 0.6

#: Longest sides to which photos are reduced for answers of a weaker network; their mattes calibrate `doubt`.
WEAK_SIDES = (48, 80, 128)

#: Thresholds at which shares of doubtful answers are printed.
SHARES_AT = (0, 0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.94, 0.96, 1)

COLORS = dict(zip(QUALITIES, ((200, 120, 20), (20, 110, 80), (70, 80, 170)), strict=True))


@dataclass(frozen=True)
class Answer:
    """Results of all providers for one photo.

    Attributes
    ----------
    confidence, first : float
        Predicted and true IoU of the built-in provider, in [0, 1].
    services : dict of str to tuple of float
        True IoU of the service of each of `QUALITIES`, by simulation.
    estimates : dict of str to tuple of float
        IoU that a cascade estimates for each service, if each follows the previous ones.
    pairs : tuple of (Evidence, float)
        Evidence and true IoU of answers that predict no IoU, with the built-in matte as the previous one.
    """

    confidence: float
    first: float
    services: dict[str, tuple[float, ...]]
    estimates: dict[str, tuple[float, ...]]
    pairs: tuple[tuple[Evidence, float], ...]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--held-out", type=Path, metavar="PAIRS", help="folder with the tar shards of training pairs")
    parser.add_argument("--out", type=Path, default=Path())
    arguments = parser.parse_args()
    answers = collect(arguments.folder, arguments.held_out)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_table(arguments.out / "cascade.csv", answers)
    draw(answers).save(arguments.out / "cascade.png", optimize=True)
    report(answers)
    calibrate(answers)


# --- answers -----------------------------------------------------------------------------------------------------------------


def pictures(folder: Path, held_out: Path | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield photos, uint8 (H, W, 3), and their true mattes, float32 (H, W)."""
    settings = Settings.from_environ()
    for sample in open_dataset(folder, settings=settings).samples:
        yield sample.photo(settings).flattened(), sample.truth(settings)
    if held_out is not None:
        for _, pairs in read_sets(held_out):
            yield from (decode(picture, mask) for _, picture, mask in pairs)


def collect(folder: Path, held_out: Path | None) -> list[Answer]:
    """Run the built-in provider on the photos and simulate the services."""
    provider, random = Builtin(), np.random.default_rng(1)
    photos = []
    for rgb, truth in pictures(folder, held_out):
        matte, confidence = _answer(provider, rgb)
        weak = [_answer(provider, _reduced_photo(rgb, side))[0] for side in WEAK_SIDES]
        photos.append((confidence, *(_small(each) for each in (truth, matte, *weak))))
    first = np.array([iou(matte, truth) / 100 for _, truth, matte, *_ in photos])
    scales = {INDEPENDENT: np.ones(len(photos)), DIFFICULT: 1.25 - first}
    errors = {
        name: [_scaled(random.exponential(1.0, len(photos)) * scale, 1 - quality) for quality in QUALITIES]
        for name, scale in scales.items()
    }
    answers = []
    for place, (confidence, truth, matte, *weak) in enumerate(photos):
        mattes = {name: [displaced(truth, error[place], random) for error in errors[name]] for name in SIMULATIONS}
        found = [each for each in (*weak, *(m for each in mattes.values() for m in each)) if each.max() > 0.5]
        pairs = tuple((evidence(each, matte, confidence), iou(each, truth) / 100) for each in found)
        services = {name: tuple(iou(each, truth) / 100 for each in mattes[name]) for name in SIMULATIONS}
        estimated = {name: _estimates((matte, *mattes[name]), confidence) for name in SIMULATIONS}
        answers.append(Answer(confidence, float(first[place]), services, estimated, pairs))
    return answers


def _estimates(mattes: Sequence[np.ndarray], confidence: float) -> tuple[float, ...]:
    """Estimated IoU of each matte but the first, with the one before it as the previous one."""
    estimated = [confidence]
    for previous, matte in pairwise(mattes):
        estimated.append(estimate_iou(matte, previous, estimated[-1]))
    return tuple(estimated[1:])


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


def curve(answers: Sequence[Answer], quality: float, simulation: str) -> Curve:
    """Share sent and mean IoU for each threshold, for the service of one of `QUALITIES`."""
    confidence, first = np.array([a.confidence for a in answers]), np.array([a.first for a in answers])
    second = np.array([a.services[simulation][QUALITIES.index(quality)] for a in answers])
    points = []
    for threshold in THRESHOLDS:
        sent = confidence < threshold if threshold < 1 else np.ones_like(confidence, bool)
        points.append((float(threshold), float(sent.mean()), float(np.where(sent, second, first).mean())))
    return points


def baseline(points: Curve) -> Curve:
    """Expected mean IoU if as many photos are sent, chosen at random."""
    (_, _, first), (_, _, second) = points[0], points[-1]
    return [(threshold, share, (1 - share) * first + share * second) for threshold, share, _ in points]


def cheapest(points: Curve) -> tuple[float, float, float]:
    """Point with the smallest threshold that reaches `SHARE_OF_QUALITY` of the last one, which sends all photos."""
    return next(point for point in points if point[2] >= SHARE_OF_QUALITY * points[-1][2])


def chain(answers: Sequence[Answer], simulation: str, services: int) -> tuple[float, Decimal]:
    """Mean IoU of a cascade of the built-in provider and the first services at `THRESHOLD`, and its bill for a photo."""
    quality, usd = 0.0, Decimal(0)
    for answer in answers:
        estimated = (answer.confidence, *answer.estimates[simulation])
        true = (answer.first, *answer.services[simulation])
        called = next((n for n in range(services) if estimated[n] >= THRESHOLD), services)
        accepted = estimated[called] >= THRESHOLD
        quality += true[called if accepted else int(np.argmax(estimated[: called + 1]))]
        usd += sum((_usd(name) for name in list(SERVICES.values())[:called]), Decimal(0))
    return quality / len(answers), usd / len(answers)


# --- output ------------------------------------------------------------------------------------------------------------------


def _usd(provider: str) -> Decimal:
    usd = PRICES[provider].usd
    assert usd is not None
    return usd


def price(share: float, provider: str) -> str:
    """Cost of 100,000 photos of which `share` are sent to a provider."""
    return dollars(_usd(provider) * MONTHLY_IMAGES * Decimal(str(round(share, 6))))


def report(answers: Sequence[Answer]) -> None:
    """Print thresholds, the choice of one on each half, cascades of several services, and the shares of doubtful answers."""
    print(f"{len(answers)} photos; mean IoU of the built-in provider {np.mean([a.first for a in answers]):.3f}\n")
    prices = " | ".join(f"at {dollars(_usd(name))}" for name in SERVICES.values())
    print(f"| threshold | sent | {prices} | {' | '.join(f'service of {q:.2f}' for q in QUALITIES)} | random, 0.93 |")
    curves = [*(curve(answers, quality, DIFFICULT) for quality in QUALITIES), baseline(curve(answers, 0.93, DIFFICULT))]
    for place in (0, 50, 70, 75, 80, 85, 90, 94, 96, 100):
        threshold, share, _ = curves[0][place]
        cells = [f"{share:.0%}", *(price(share, name) for name in SERVICES.values())]
        print(f"| {threshold:.2f} | {' | '.join([*cells, *(f'{points[place][2]:.3f}' for points in curves)])} |")
    halves = (answers[::2], answers[1::2])
    print(f"\n| service | errors | all | even | on odd | odd | on even | {THRESHOLD:.2f} on odd | on even |")
    for quality in QUALITIES:
        for name in SIMULATIONS:
            even, odd = (curve(half, quality, name) for half in halves)
            cells = [f"{cheapest(curve(answers, quality, name))[0]:.2f}"]
            for chosen, others in ((even, odd), (odd, even)):
                threshold = cheapest(chosen)[0]
                cells += [f"{threshold:.2f}", _reached(others, threshold)]
            print(
                f"| {quality:.2f} | {name} | {' | '.join(cells)} | {_reached(odd, THRESHOLD)} | {_reached(even, THRESHOLD)} |"
            )
    print(f"\n| services | {' | '.join(SIMULATIONS)} |")
    for services in range(len(SERVICES) + 1):
        found = [chain(answers, name, services) for name in SIMULATIONS]
        print(f"| {services} | " + " | ".join(f"{mean:.3f}, {dollars(usd * MONTHLY_IMAGES)}" for mean, usd in found) + " |")
    print(f"\nBelow, built-in: {_shares([a.confidence for a in answers])}")
    sent = [a for a in answers if a.confidence < THRESHOLD]
    print(f"Below, others: {_shares([each for a in sent for name in SIMULATIONS for each in a.estimates[name]])}")


def _reached(points: Curve, threshold: float) -> str:
    """Share sent and share of the service's IoU at a threshold."""
    _, share, mean = points[round(threshold * 100)]
    return f"{share:.0%}, {mean / points[-1][2]:.1%}"


def _shares(confidences: Sequence[float]) -> str:
    """Shares of the answers below each of `SHARES_AT`."""
    return ", ".join(f"({threshold:g}, {np.mean(np.array(confidences) < threshold):.2f})" for threshold in SHARES_AT)


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


def write_table(path: Path, answers: Sequence[Answer]) -> None:
    """Write all points as CSV."""
    curves = {f"{quality:.2f} {name}": curve(answers, quality, name) for quality in QUALITIES for name in SIMULATIONS}
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["threshold", "sent", *curves])
        for rows in zip(*curves.values(), strict=True):
            writer.writerow([f"{rows[0][0]:.2f}", f"{rows[0][1]:.4f}", *(f"{row[2]:.4f}" for row in rows)])


def draw(answers: Sequence[Answer], width: int = 720, height: int = 460) -> Image.Image:
    """Draw mean IoU over the share of photos sent, in the simulation of difficult photos."""
    curves = {quality: curve(answers, quality, DIFFICULT) for quality in QUALITIES}
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
        pen.text((x, bottom + 22 * scale), price(share, SERVICES[0.93]), fill=(110, 110, 110), font=font, anchor="mt")
    title = f"photos sent, and their price for {MONTHLY_IMAGES:,} photos at {SERVICES[0.93]}"
    pen.text(((left + right) / 2, bottom + 40 * scale), title, fill="black", font=font, anchor="mt")
    random = baseline(curves[0.93])
    pen.line([at(share, mean) for _, share, mean in random], fill=(130, 130, 130), width=2 * scale)
    for place, (quality, points) in enumerate(curves.items()):
        color, text = COLORS[quality], f"service with a mean IoU of {quality:.2f}"
        pen.line([at(share, mean) for _, share, mean in points], fill=color, width=3 * scale, joint="curve")
        pen.text((right - 8 * scale, bottom - (44 - 18 * place) * scale), text, fill=color, font=font, anchor="rb")
        _, share, mean = points[round(THRESHOLD * 100)]
        x, y = at(share, mean)
        pen.ellipse((x - 5 * scale, y - 5 * scale, x + 5 * scale, y + 5 * scale), fill=color)
    note = f"dots: threshold {THRESHOLD:.2f}; gray: random choice, 0.93"
    pen.text((right - 8 * scale, bottom - 62 * scale), note, fill="black", font=font, anchor="rb")
    return image.resize((width, height), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
