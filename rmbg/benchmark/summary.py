"""Statistics of a benchmark: by provider, by category, and by picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import median

import numpy as np

from rmbg.benchmark.dataset import Dataset, Sample
from rmbg.benchmark.journal import Journal, Result
from rmbg.billing.cost import Cost
from rmbg.billing.quote import monthly
from rmbg.metrics.quality import METRICS
from rmbg.providers import find

#: Bootstrap resamplings for the interval of the composite. With a fixed seed, equal results give equal intervals.
RESAMPLINGS, SEED = 2000, 1

#: Pictures that a message names.
MAX_NAMES = 5


@dataclass(frozen=True)
class Row:
    """Statistics of one provider over a group of pictures.

    Attributes
    ----------
    provider : str
    pictures, measured, failed : int
        Number of pictures in the group, of those with scores, and of those that failed or whose outcome is unknown.
    means : dict of metric id to float or None
        Means over the measured pictures to which a metric applies.
    applies : dict of metric id to int
        Number of measured pictures to which a metric applies.
    interval : (float, float) or None
        95% bootstrap interval of the mean composite.
    seconds : float or None
        Median of the seconds per picture.
    usd : Decimal or None
        Mean cost of the pictures whose cost is known, in US dollars.
    basis : str
        Basis of the costs, and the number of unknown ones.
    runs_on : str
        Most frequent engine, device and precision.
    """

    provider: str
    pictures: int
    measured: int
    failed: int
    means: dict[str, float | None]
    applies: dict[str, int]
    interval: tuple[float, float] | None
    seconds: float | None
    usd: Decimal | None
    basis: str
    runs_on: str

    @property
    def monthly_usd(self) -> Decimal | None:
        """Cost of 100,000 pictures in US dollars; None if unknown."""
        return None if self.usd is None else monthly(Cost(self.usd, "estimated"))


@dataclass(frozen=True)
class PictureRow:
    """Results of all providers on one picture; `composite` is the mean of their composites, None if there is none."""

    sample: Sample
    results: dict[str, Result]
    composite: float | None


@dataclass(frozen=True)
class Summary:
    """Contents of a report. Rows are sorted from best to worst, pictures from worst to best."""

    dataset: Dataset
    providers: tuple[str, ...]
    rows: tuple[Row, ...]
    categories: dict[str, tuple[Row, ...]]
    pictures: tuple[PictureRow, ...]


def summarize(dataset: Dataset, providers: Sequence[str], journal: Journal) -> Summary:
    """Summarize the results of `providers` on `dataset` in a journal."""

    def rows(samples: tuple[Sample, ...]) -> tuple[Row, ...]:
        found = (_row(name, samples, journal) for name in providers)
        return tuple(sorted(found, key=lambda row: (-_score(row), row.provider)))

    best_first = rows(dataset.samples)
    names = tuple(row.provider for row in best_first)
    categories = {name: rows(tuple(s for s in dataset.samples if s.category == name)) for name in dataset.categories}
    pictures = [_picture(sample, names, journal) for sample in dataset.samples]
    pictures.sort(key=lambda picture: (picture.composite is None, picture.composite or 0.0))
    return Summary(dataset, names, best_first, categories, tuple(pictures))


def without_figures(summary: Summary) -> dict[str, str]:
    """Error messages by provider, for the providers without a single score."""
    messages = {}
    for row in summary.rows:
        if row.measured:
            continue
        results = [picture.results[row.provider] for picture in summary.pictures if row.provider in picture.results]
        reasons = [result.message for result in results if result.message]
        sentences = [f"{find(row.provider).info.title}: None of the {row.pictures} pictures was measured.", *reasons[:1]]
        messages[row.provider] = " ".join(sentences)
    return messages


def unknown_charges(summary: Summary) -> list[str]:
    """A sentence for each service that may have charged for pictures without a result, with their names."""
    sentences = []
    for row in summary.rows:
        names = [p.sample.id for p in summary.pictures if (r := p.results.get(row.provider)) and r.possibly_charged]
        if names:
            sentences.append(f"{find(row.provider).info.title} may have charged for {listed(sorted(names))} without a result.")
    return sentences


def listed(names: Sequence[str]) -> str:
    """Names in a sentence; from the sixth on they are counted."""
    shown = list(names[:MAX_NAMES])
    if len(names) > MAX_NAMES:
        shown.append(f"{len(names) - MAX_NAMES} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _score(row: Row) -> float:
    """Mean composite; -1 if there is none."""
    composite = row.means["composite"]
    return -1.0 if composite is None else composite


def _row(provider: str, samples: tuple[Sample, ...], journal: Journal) -> Row:
    results = journal.results(provider, samples)
    scores = [result.scores for result in results if result.scores is not None]
    values = {metric.id: [v for s in scores if (v := s.get(metric.id)) is not None] for metric in METRICS}
    got = [result for result in results if result.state == "got"]
    seconds = [result.seconds for result in got if result.seconds is not None]
    usd, basis = mean_cost([result.cost for result in got])
    return Row(
        provider=provider,
        pictures=len(samples),
        measured=len(scores),
        failed=sum(not result.completed for result in results),
        means={name: float(np.mean(found)) if found else None for name, found in values.items()},
        applies={name: len(found) for name, found in values.items()},
        interval=bootstrap(values["composite"]),
        seconds=median(seconds) if seconds else None,
        usd=usd,
        basis=basis,
        runs_on=_most_frequent([" ".join(filter(None, (r.engine, r.device, r.precision))) for r in got]),
    )


def mean_cost(costs: list[Cost]) -> tuple[Decimal | None, str]:
    """Return the mean of the known costs and a text with their basis, which states the number of unknown costs."""
    known = [cost.usd for cost in costs if cost.usd is not None]
    bases = sorted({cost.basis for cost in costs if cost.usd is not None})
    unknown = len(costs) - len(known)
    if not known:
        return None, "unknown"
    basis = " and ".join(bases) + (f", unknown for {unknown} of {len(costs)}" if unknown else "")
    return sum(known, Decimal(0)) / len(known), basis


def bootstrap(values: Sequence[float]) -> tuple[float, float] | None:
    """95% bootstrap interval of the mean of `values`; None for fewer than two values."""
    if len(values) < 2:
        return None
    random = np.random.default_rng(SEED)
    indices = random.integers(0, len(values), (RESAMPLINGS, len(values)))
    low, high = np.quantile(np.asarray(values)[indices].mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


def _picture(sample: Sample, providers: Sequence[str], journal: Journal) -> PictureRow:
    results = {name: result for name in providers if (result := journal.result(name, sample))}
    composites = [c for result in results.values() if result.scores and (c := result.scores["composite"]) is not None]
    return PictureRow(sample, results, float(np.mean(composites)) if composites else None)


def _most_frequent(texts: list[str]) -> str:
    return max(set(texts), key=lambda text: (texts.count(text), text)) if texts else ""
