"""Files of a benchmark: report.html without external resources, results.csv and results.json."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from rmbg.benchmark.journal import Journal, Result, describe
from rmbg.benchmark.plot import ScatterPlot, scatter
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
    """Published result of one service, from other pictures and by other formulas: never in one table with measured results.

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


#: Longest side of a thumbnail in pixels.
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
    template = environment("rmbg.benchmark").get_template("report.html")
    return template.render(
        style=Markup(style),
        dataset=summary.dataset.name,
        subtitle=f"{count:,} pictures ({', '.join(summary.categories)}), {providers}, {created}",
        leaderboard=_leaderboard(summary),
        published=_published(),
        published_source=SOURCE,
        plots=[
            _plot(summary, "Quality against cost", "US dollars for 100,000 pictures", lambda row: row.monthly_usd, "$"),
            _plot(summary, "Quality against time", "seconds a picture", lambda row: row.seconds),
        ],
        categories=_categories(summary),
        standard_metrics=_standard_metrics(summary.rows),
        pictures=[(row, _figures(row, summary.providers, thumbnails(row))) for row in shown],
        more_pictures=len(summary.pictures) - len(shown),
        environment=[*machine.items(), *models],
    )


def _plot(
    summary: Summary, title: str, x_title: str, value: Callable[[Row], float | Decimal | None], unit: str = ""
) -> ScatterPlot:
    points = ((provider_title(row.provider), value(row), row.means["composite"]) for row in summary.rows)
    return scatter(points, title, x_title, "composite", unit)


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
        untimed = Cell(DASH, "timed on another machine" if row.measured else "")
        cells += [
            untimed if row.seconds is None else Cell(f"{row.seconds:.2f}", row.runs_on),
            Cell(dollars(row.usd), row.basis),
            Cell(dollars(row.monthly_usd)),
            Cell(f"{row.measured} of {row.pictures}", f"{row.failed} failed" if row.failed else ""),
        ]
        rows.append((f"{rank}. {provider_title(row.provider)}", cells))
    titles = [metric.title for metric in SCORES]
    return Table(["Provider", *titles, "Seconds", "Cost a picture", "100,000 a month", "Pictures"], rows)


def _published() -> Table:
    rows = []
    for item in PUBLISHED_RESULTS:
        texts = [*map(str, (item.composite, *item.categories.values())), dollars(item.usd), dollars(item.usd * 100_000)]
        rows.append((item.title, [Cell(text) for text in texts]))
    return Table(["Service", "Composite", *PUBLISHED_RESULTS[0].categories, "Cost a picture", "100,000 a month"], rows)


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


def _figures(row: PictureRow, providers: Sequence[str], uris: Thumbnails) -> list[Figure]:
    figures = [Figure(uris["photo"], "photo"), Figure(uris["truth"], "truth")]
    return figures + [_result_figure(name, row.results.get(name), uris.get(name)) for name in providers]


def _result_figure(name: str, result: Result | None, uri: str | None) -> Figure:
    title = provider_title(name)
    if result is None or not result.completed:
        sent = "sent, no response: charge unknown"
        missing = "not run" if result is None else sent if result.state == "sent" else result.message
        return Figure(None, title, missing=missing)
    scores = result.scores or {}
    score = format_metric(SCORES[0], scores.get("composite"))
    return Figure(uri, title, score, _parts(scores), missing="no subject found")


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


def newest_results(folder: Path) -> dict[str, Any] | None:
    """Return the contents of the newest results.json in the subfolders of `folder`; None if there is none."""
    try:
        path = max(folder.glob("*/results.json"), key=lambda path: path.stat().st_mtime, default=None)
        return None if path is None else json.loads(path.read_bytes())
    except (OSError, ValueError):  # removed or replaced meanwhile
        return None


def to_csv(summary: Summary) -> str:
    """One line for each picture and provider, worst picture first."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    ids = [metric.id for metric in METRICS]
    writer.writerow(
        ["category", "picture", "provider", "state", "seconds", "usd", "basis", "engine", "device", *ids, "message"]
    )
    for result in (result for picture in summary.pictures for result in picture.results.values()):
        usd, scores = result.cost.usd, result.scores or {}
        how = [None if usd is None else f"{usd:f}", result.cost.basis, result.engine, result.device]
        row = [_cell(result.category), _cell(result.stem), result.provider, result.state, result.seconds, *how]
        writer.writerow([*row, *(scores.get(i) for i in ids), _cell(result.message)])
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
