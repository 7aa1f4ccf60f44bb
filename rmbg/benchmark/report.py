"""Files of a benchmark: report.html, results.csv and results.json, written beside the journal."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from rmbg import files
from rmbg.benchmark import machine
from rmbg.benchmark.html_report import Thumbnails, render_report
from rmbg.benchmark.journal import Journal, Result
from rmbg.benchmark.published_results import PUBLISHED_RESULTS, SOURCE
from rmbg.benchmark.summary import PictureRow, Row, Summary
from rmbg.benchmark.thumbnails import thumbnail
from rmbg.matting.matte import to_bytes
from rmbg.metrics.quality import METRICS
from rmbg.settings import Settings

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
    hardware = machine.describe()

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
