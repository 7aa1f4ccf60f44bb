"""HTML report of a benchmark: one file without external resources."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

from markupsafe import Markup

from rmbg.benchmark.journal import Result
from rmbg.benchmark.plots import Point, ScatterPlot, scatter
from rmbg.benchmark.published_results import PUBLISHED_RESULTS, SOURCE
from rmbg.benchmark.summary import PictureRow, Row, Summary
from rmbg.billing.cost import dollars
from rmbg.metrics.quality import METRICS, Metric
from rmbg.providers import PROVIDERS
from rmbg.templates import environment

#: The project's own scores, and the metrics of the literature.
SCORES, STANDARD_METRICS = METRICS[:4], METRICS[4:]

#: Shown where there is no figure.
DASH = "–"

Thumbnails = dict[str, str | None]


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes
    ----------
    text : str
    note : str
        Small text below it.
    best : bool
        True if it is the best of its column.
    bar : int or None
        Length of the bar behind the text, in percent.
    """

    text: str
    note: str = ""
    best: bool = False
    bar: int | None = None


@dataclass(frozen=True)
class Table:
    """Column headings, and rows of a heading and cells."""

    headings: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]


@dataclass(frozen=True)
class Figure:
    """A thumbnail with its caption; `missing` takes the place of a thumbnail that does not exist."""

    uri: str | None
    title: str
    score: str = ""
    parts: str = ""
    missing: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture of the data set with the results of all providers."""

    stem: str
    category: str
    composite: str
    figures: Sequence[Figure]


def render_report(
    summary: Summary, machine: dict[str, str], created: str, thumbnails: Callable[[PictureRow], Thumbnails], limit: int
) -> str:
    """Render the report.

    Parameters
    ----------
    summary : Summary
    machine : dict of str to str
        Hardware and versions.
    created : str
        Date and time of the report.
    thumbnails : callable
        Returns data URIs for a picture: by provider, and ``photo`` and ``truth`` for the photo and its true matte.
    limit : int
        Number of pictures to show, from the worst on.
    """
    count = len(summary.dataset.samples)
    providers = f"{len(summary.rows)} provider{'s' if len(summary.rows) > 1 else ''}"
    models = [(provider_title(name), PROVIDERS[name].info.model) for name in summary.providers if name in PROVIDERS]
    style = (Path(__file__).parent / "assets" / "report.css").read_text(encoding="utf-8")
    shown = summary.pictures[:limit]
    return (
        environment("rmbg.benchmark")
        .get_template("report.html")
        .render(
            style=Markup(style),
            dataset=summary.dataset.name,
            subtitle=f"{count:,} pictures ({', '.join(summary.categories)}), {providers}, {created}",
            leaderboard=_leaderboard(summary),
            published=_published(),
            published_source=SOURCE,
            plots=_plots(summary.rows),
            categories=_categories(summary),
            standard_metrics=_standard_metrics(summary.rows),
            pictures=[_picture(row, summary.providers, thumbnails(row)) for row in shown],
            more_pictures=len(summary.pictures) - len(shown),
            environment=[*machine.items(), *models],
        )
    )


def provider_title(name: str) -> str:
    """Title of a provider, or its id if it no longer exists."""
    return PROVIDERS[name].info.title if name in PROVIDERS else name


def format_metric(metric: Metric, value: float | None) -> str:
    """The value with the decimals of its metric; a dash if there is none."""
    return DASH if value is None else f"{value:.{metric.decimals}f}"


def _metric_cells(rows: Sequence[Row], metrics: Sequence[Metric]) -> list[list[Cell]]:
    """Cells of several providers, with the best of each column marked."""
    best = {}
    for metric in metrics:
        values = [value for row in rows if (value := row.means[metric.id]) is not None]
        best[metric.id] = (max if metric.more_is_better else min)(values) if len(values) > 1 else None

    def cell(row: Row, metric: Metric) -> Cell:
        value, applies = row.means[metric.id], row.applies[metric.id]
        note = f"{applies} pictures" if value is not None and applies < row.measured else ""
        return Cell(format_metric(metric, value), note, best=value is not None and value == best[metric.id])

    return [[cell(row, metric) for metric in metrics] for row in rows]


def _leaderboard(summary: Summary) -> Table:
    rows = []
    for rank, (row, cells) in enumerate(zip(summary.rows, _metric_cells(summary.rows, SCORES), strict=True), 1):
        composite = row.means["composite"]
        if composite is not None and row.interval is not None:
            low, high = row.interval
            cells[0] = Cell(f"{composite:.1f}", f"{low:.1f} to {high:.1f}", bar=round(composite))
        cells += [
            Cell(DASH, "timed on another machine" if row.measured else "")
            if row.seconds is None
            else Cell(f"{row.seconds:.2f}", row.runs_on),
            Cell(dollars(row.usd), row.basis),
            Cell(dollars(row.monthly_usd)),
            Cell(f"{row.measured} of {row.pictures}", f"{row.failed} failed" if row.failed else ""),
        ]
        rows.append((f"{rank}. {provider_title(row.provider)}", cells))
    titles = [metric.title for metric in SCORES]
    return Table(["Provider", *titles, "Seconds", "Cost a picture", "100,000 a month", "Pictures"], rows)


def _published() -> Table:
    categories = list(PUBLISHED_RESULTS[0].categories)
    rows = [
        (
            item.title,
            [
                Cell(str(item.composite)),
                *(Cell(str(item.categories[category])) for category in categories),
                Cell(dollars(item.usd)),
                Cell(dollars(item.usd * 100_000)),
            ],
        )
        for item in PUBLISHED_RESULTS
    ]
    return Table(["Service", "Composite", *categories, "Cost a picture", "100,000 a month"], rows)


def _plots(rows: Sequence[Row]) -> list[tuple[ScatterPlot, list[Point], str]]:
    """Each plot with its points, and the providers without a point."""

    def plot(
        title: str, x_title: str, value: Callable[[Row], float | Decimal | None], tick: Callable[[float], str]
    ) -> tuple[ScatterPlot, list[Point], str]:
        points, missing = [], []
        for rank, row in enumerate(rows, 1):
            x, y = value(row), row.means["composite"]
            if x and y is not None:
                points.append(Point(str(rank), provider_title(row.provider), float(x), y))
            else:
                missing.append(provider_title(row.provider))
        return scatter(points, title=title, x_title=x_title, y_title="composite", tick=tick), points, ", ".join(missing)

    return [
        plot("Quality against cost", "US dollars for 100,000 pictures", lambda row: row.monthly_usd, lambda x: f"${x:,.10g}"),
        plot("Quality against time", "seconds a picture", lambda row: row.seconds, lambda x: f"{x:,.10g}"),
    ]


def _categories(summary: Summary) -> Table:
    def cells(name: str) -> list[Cell]:
        found = []
        for rows in summary.categories.values():
            row = next(row for row in rows if row.provider == name)
            text = format_metric(SCORES[0], row.means["composite"])
            found.append(Cell(text, _parts(row.means), best=len(rows) > 1 and row is rows[0]))
        return found

    headings = [f"{category} ({rows[0].pictures:,})" for category, rows in summary.categories.items()]
    return Table(["Composite", *headings], [(provider_title(name), cells(name)) for name in summary.providers])


def _parts(figures: dict[str, float | None]) -> str:
    """The parts of a composite that apply, such as ``IoU 96.9, edge 86.0``."""
    short = {"iou": "IoU", "edge": "edge", "transparency": "transparency"}
    return ", ".join(f"{short[m.id]} {format_metric(m, figures[m.id])}" for m in SCORES[1:] if figures.get(m.id) is not None)


def _standard_metrics(rows: Sequence[Row]) -> Table:
    headings = [f"{metric.title} {'↑' if metric.more_is_better else '↓'}" for metric in STANDARD_METRICS]
    cells = _metric_cells(rows, STANDARD_METRICS)
    return Table(["Provider", *headings], [(provider_title(row.provider), c) for row, c in zip(rows, cells, strict=True)])


def _picture(row: PictureRow, providers: Sequence[str], uris: Thumbnails) -> Picture:
    figures = [Figure(uris["photo"], "photo"), Figure(uris["truth"], "truth")]
    figures += [_result_figure(name, row.results.get(name), uris.get(name)) for name in providers]
    composite = DASH if row.composite is None else f"{row.composite:.1f}"
    return Picture(row.sample.stem, row.sample.category, composite, figures)


def _result_figure(name: str, result: Result | None, uri: str | None) -> Figure:
    figure = Figure(None, provider_title(name))
    if result is None:
        return replace(figure, missing="not run")
    if result.state == "sent":
        return replace(figure, missing="sent, no response: charge unknown")
    if result.state == "failed":
        return replace(figure, missing=result.message)
    scores = result.scores or {}
    score = format_metric(SCORES[0], scores.get("composite"))
    return replace(figure, uri=uri, score=score, parts=_parts(scores), missing="no subject found")
