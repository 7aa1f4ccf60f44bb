"""Published results of other benchmarks, for orientation.

They come from other pictures and other formulas, so they are never shown in one table with measured results.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from rmbg.benchmark.journal import Journal, Result, describe
from rmbg.benchmark.summary import PictureRow, Row, Summary
from rmbg.billing.cost import dollars
from rmbg.images.pixels import blend
from rmbg.matting.matte import to_bytes
from rmbg.metrics.quality import METRICS, Metric
from rmbg.providers import PROVIDERS
from rmbg.render.picture import checkerboard
from rmbg.runtime import files
from rmbg.runtime.templates import environment
from rmbg.settings import Settings


@dataclass(frozen=True)
class PublishedResult:
    """Published result of one service.

    Attributes
    ----------
    title : str
    composite : int
        0 to 100.
    categories : dict of category to int
        Composite of each category.
    usd : Decimal
        Price of one picture, from the published price of 100,000.
    """

    title: str
    composite: int
    categories: dict[str, int]
    usd: Decimal


SOURCE = (
    "Runflow, “Background Removal Showdown: RMBG-2.0 vs SAM 2 vs Proprietary APIs”: 5,000 pictures (2,000 e-commerce, "
    "1,500 headshots, 1,500 creative), composite = 0.5 IoU + 0.3 edge quality + 0.2 transparency. The pictures and the "
    "formulas behind edge quality and transparency are not given."
)

PUBLISHED_RESULTS = (
    PublishedResult("Remove.bg API", 95, {"ecommerce": 96, "headshots": 95, "creative": 93}, Decimal("0.05")),
    PublishedResult("RMBG-2.0 on an A100", 93, {"ecommerce": 96, "headshots": 92, "creative": 89}, Decimal("0.0004")),
)


# Layout of scatter plots with a logarithmic x axis; the template ``scatter.svg`` draws them.


#: Size of a plot and its margins, in the units of the SVG.
WIDTH, HEIGHT = 560, 340
MARGIN_LEFT, MARGIN_RIGHT, MARGIN_TOP, MARGIN_BOTTOM = 52, 24, 18, 46


@dataclass(frozen=True)
class Point:
    """A provider in a plot; `mark` is the short text in its circle."""

    mark: str
    label: str
    x: float
    y: float


@dataclass(frozen=True)
class Tick:
    """A labeled grid line."""

    position: float
    label: str


@dataclass(frozen=True)
class ScatterPlot:
    """Positions of all parts of a plot, in the units of the SVG.

    Attributes
    ----------
    title : str
        Also the text alternative of the plot.
    x_title, y_title : str
    x_ticks, y_ticks : tuple of Tick
    points : tuple of (float, float, Point)
        Center of each circle.
    left, right, top, bottom : int
        Edges of the plot area.
    """

    title: str
    x_title: str
    y_title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    points: tuple[tuple[float, float, Point], ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = MARGIN_LEFT
    right: int = WIDTH - MARGIN_RIGHT
    top: int = MARGIN_TOP
    bottom: int = HEIGHT - MARGIN_BOTTOM


def scatter(points: list[Point], *, title: str, x_title: str, y_title: str, tick: Callable[[float], str]) -> ScatterPlot:
    """Lay out a scatter plot.

    Parameters
    ----------
    points : list of Point
        `x` above zero, `y` from 0 to 100. An empty list gives a plot without grid lines.
    tick : callable
        Formats a value of the x axis.
    """
    if not points:
        return ScatterPlot(title, x_title, y_title, (), (), ())
    low, high = _decades([point.x for point in points])
    levels = _levels([point.y for point in points])

    def to_x(value: float) -> float:
        return MARGIN_LEFT + (math.log10(value) - low) / (high - low) * (WIDTH - MARGIN_LEFT - MARGIN_RIGHT)

    def to_y(value: float) -> float:
        share = (value - levels[0]) / (levels[-1] - levels[0])
        return HEIGHT - MARGIN_BOTTOM - share * (HEIGHT - MARGIN_TOP - MARGIN_BOTTOM)

    return ScatterPlot(
        title,
        x_title,
        y_title,
        x_ticks=tuple(Tick(to_x(10.0**power), tick(10.0**power)) for power in range(low, high + 1)),
        y_ticks=tuple(Tick(to_y(level), str(level)) for level in levels),
        points=tuple((to_x(point.x), to_y(point.y), point) for point in points),
    )


def _decades(values: list[float]) -> tuple[int, int]:
    """Exponents of the powers of ten below the smallest and above the largest value."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _levels(values: list[float]) -> range:
    """Round levels of a score that enclose `values`: at most six steps, both ends included."""
    low, high = max(0.0, min(values) - 1), min(100.0, max(values) + 1)
    for step in (1, 2, 5, 10, 20):
        bottom, top = math.floor(low / step) * step, math.ceil(high / step) * step
        if top - bottom <= 6 * step:
            break
    return range(bottom, top + 1, step)


# Thumbnails of photos and cutouts as data URIs.


#: Longest side in pixels.
MAX_SIDE = 168


def thumbnail(rgb: np.ndarray, matte: np.ndarray | None = None) -> str:
    """Data URI of a photo, or with a matte, of its subject on a checkerboard.

    Parameters
    ----------
    rgb : uint8 array (H, W, 3)
    matte : uint8 array (H, W), optional
    """
    height, width = rgb.shape[:2]
    scale = min(1.0, MAX_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BOX))
    if matte is not None:
        alpha = np.asarray(Image.fromarray(matte).resize(size, Image.Resampling.BOX), dtype=np.float32) / np.float32(255)
        small = blend(small, alpha, checkerboard(size[1], size[0]))
    out = io.BytesIO()
    Image.fromarray(small).save(out, "WEBP", quality=70, method=4)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()


# HTML report of a benchmark: one file without external resources.


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


# Files of a benchmark: report.html, results.csv and results.json, written beside the journal.


#: Pictures with thumbnails in the report: about ten megabytes with five providers.
MAX_PICTURES = 200


def write_report(summary: Summary, journal: Journal, *, settings: Settings | None = None) -> Path:
    """Write all three files into the folder of the journal; returns the path of report.html.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    settings = settings or Settings.from_environ()
    created = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    hardware = describe()

    def thumbnails(picture: PictureRow) -> Thumbnails:
        rgb = picture.sample.photo(settings).flattened()
        uris: Thumbnails = {"photo": thumbnail(rgb), "truth": thumbnail(rgb, to_bytes(picture.sample.truth(settings)))}
        for name, result in picture.results.items():
            if result.state == "got":
                uris[name] = thumbnail(rgb, journal.matte(name, picture.sample))
        return uris

    html = render_report(summary, hardware, created, thumbnails, MAX_PICTURES)
    files.write(journal.folder / "results.csv", to_csv(summary).encode("utf-8-sig"))  # Excel needs the BOM
    files.write(journal.folder / "results.json", json.dumps(to_json(summary, hardware, created), indent=1).encode())
    files.write(journal.folder / "report.html", html.encode())
    return journal.folder / "report.html"


def to_csv(summary: Summary) -> str:
    """One line for each picture and provider, worst picture first."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    ids = [metric.id for metric in METRICS]
    writer.writerow(
        ["category", "picture", "provider", "state", "seconds", "usd", "basis", "engine", "device", *ids, "message"]
    )
    for picture in summary.pictures:
        for name, result in picture.results.items():
            scores = result.scores or {}
            writer.writerow(
                [
                    _cell(result.category),
                    _cell(result.stem),
                    name,
                    result.state,
                    "" if result.seconds is None else result.seconds,
                    "" if result.cost.usd is None else f"{result.cost.usd:f}",
                    result.cost.basis,
                    result.engine,
                    result.device,
                    *("" if scores.get(i) is None else scores[i] for i in ids),
                    _cell(result.message),
                ]
            )
    return out.getvalue()


def _cell(text: str) -> str:
    """The text, with a leading apostrophe if a spreadsheet would evaluate it as a formula."""
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def to_json(summary: Summary, hardware: dict[str, str], created: str) -> dict[str, Any]:
    """The contents of the report as a JSON object. Published results are kept apart from measured ones."""
    return {
        "data_set": summary.dataset.name,
        "pictures": len(summary.dataset.samples),
        "made": created,
        "machine": hardware,
        "leaderboard": [_row(row) for row in summary.rows],
        "categories": {category: [_row(row) for row in rows] for category, rows in summary.categories.items()},
        "results": [_result(result) for picture in summary.pictures for result in picture.results.values()],
        "published": {
            "source": SOURCE,
            "figures": [
                {"title": p.title, "composite": p.composite, "categories": p.categories, "usd": float(p.usd)}
                for p in PUBLISHED_RESULTS
            ],
        },
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "provider": row.provider,
        "pictures": row.pictures,
        "measured": row.measured,
        "failed": row.failed,
        **{name: None if value is None else round(value, 4) for name, value in row.means.items()},
        "applies": row.applies,
        "composite_interval": None if row.interval is None else np.round(row.interval, 4).tolist(),
        "seconds": row.seconds,
        "usd": None if row.usd is None else float(row.usd),
        "usd_100000": None if row.monthly_usd is None else float(row.monthly_usd),
        "basis": row.basis,
        "runs_on": row.runs_on,
    }


def _result(result: Result) -> dict[str, Any]:
    return {
        "picture": result.id,
        "provider": result.provider,
        "state": result.state,
        "seconds": result.seconds,
        "usd": None if result.cost.usd is None else float(result.cost.usd),
        "basis": result.cost.basis,
        "scores": result.scores,
        "message": result.message,
    }
