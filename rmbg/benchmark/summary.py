"""Results of single pictures put together: by provider, by category, and the pictures from worst to best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import median

import numpy as np

from rmbg.benchmark.dataset import Dataset, Sample
from rmbg.benchmark.journal import Journal, Result
from rmbg.benchmark.metrics import METRICS
from rmbg.cutout import Cost, dollars
from rmbg.prices import monthly

#: Resamplings for the interval of the composite, and their seed: the same results give the same interval.
RESAMPLINGS, SEED = 2000, 1


@dataclass(frozen=True)
class Row:
    """One provider over a group of pictures.

    Attributes
    ----------
    provider : str
    pictures, measured, failed : int
        How many there are; how many have figures; on how many the provider failed, or nobody knows.
    means : dict of metric id to float or None
        Over the measured pictures to which a metric applies.
    applies : dict of metric id to int
        How many these are.
    interval : (float, float) or None
        95% interval of the mean composite by bootstrap over the pictures.
    seconds : float or None
        Median of one picture.
    usd : Decimal or None
        Mean price of a picture, over those whose price is known.
    basis : str
        Where prices come from, and how many are unknown.
    runs_on : str
        Engine and device.
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
        """For 100,000 pictures."""
        return None if self.usd is None else monthly(Cost(self.usd, "estimated"))


@dataclass(frozen=True)
class PictureRow:
    """All providers on one picture; `composite` is the mean of theirs, None where nobody has a figure."""

    sample: Sample
    results: dict[str, Result]
    composite: float | None


@dataclass(frozen=True)
class Summary:
    """Everything a report shows. Rows are sorted from best to worst, pictures from worst to best."""

    dataset: Dataset
    providers: tuple[str, ...]
    rows: tuple[Row, ...]
    categories: dict[str, tuple[Row, ...]]
    pictures: tuple[PictureRow, ...]


def summarise(dataset: Dataset, providers: Sequence[str], journal: Journal) -> Summary:
    """What `journal` knows about `providers` on `dataset`."""

    def rows(samples: tuple[Sample, ...]) -> tuple[Row, ...]:
        return tuple(sorted((_row(name, samples, journal) for name in providers), key=_rank))

    best_first = rows(dataset.samples)
    categories = {
        category: rows(tuple(sample for sample in dataset.samples if sample.category == category))
        for category in dataset.categories
    }
    pictures = [_picture(sample, [row.provider for row in best_first], journal) for sample in dataset.samples]
    pictures.sort(key=lambda picture: (picture.composite is None, picture.composite or 0.0))
    return Summary(dataset, tuple(row.provider for row in best_first), best_first, categories, tuple(pictures))


def _rank(row: Row) -> tuple[float, str]:
    composite = row.means["composite"]
    return (1.0 if composite is None else -composite, row.provider)


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
        failed=sum(not result.answered for result in results),
        means={name: float(np.mean(found)) if found else None for name, found in values.items()},
        applies={name: len(found) for name, found in values.items()},
        interval=bootstrap(values["composite"]),
        seconds=median(seconds) if seconds else None,
        usd=usd,
        basis=basis,
        runs_on=_commonest([" ".join(filter(None, (r.engine, r.device, r.precision))) for r in got]),
    )


def mean_cost(costs: list[Cost]) -> tuple[Decimal | None, str]:
    """Mean of the known prices, and in words where they come from; what is unknown is counted, never taken as zero."""
    known = [cost.usd for cost in costs if cost.usd is not None]
    bases = sorted({cost.basis for cost in costs if cost.usd is not None})
    unknown = len(costs) - len(known)
    if not known:
        return None, "unknown"
    basis = " and ".join(bases) + (f", unknown for {unknown} of {len(costs)}" if unknown else "")
    return sum(known, Decimal(0)) / len(known), basis


def bootstrap(values: Sequence[float]) -> tuple[float, float] | None:
    """95% interval of the mean of `values`, drawn again with replacement; None for fewer than two."""
    if len(values) < 2:
        return None
    random = np.random.default_rng(SEED)
    drawn = random.integers(0, len(values), (RESAMPLINGS, len(values)))
    low, high = np.quantile(np.asarray(values)[drawn].mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


def _picture(sample: Sample, providers: list[str], journal: Journal) -> PictureRow:
    results = {name: result for name in providers if (result := journal.result(name, sample))}
    composites = [c for result in results.values() if result.scores and (c := result.scores["composite"]) is not None]
    return PictureRow(sample, results, float(np.mean(composites)) if composites else None)


def _commonest(texts: list[str]) -> str:
    return max(set(texts), key=lambda text: (texts.count(text), text)) if texts else ""


def money(usd: Decimal | None) -> str:
    """``$0.018``, ``$1,800``; a dash where nobody knows."""
    if usd is None:
        return "–"
    return f"${usd:,.0f}" if usd >= 100 else dollars(usd)
