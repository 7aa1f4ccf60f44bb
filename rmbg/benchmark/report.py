"""What a run leaves for people and for programs: report.html, results.csv and results.json beside the journal."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from rmbg import encode
from rmbg.benchmark import machine
from rmbg.benchmark.journal import Journal, Result
from rmbg.benchmark.metrics import METRICS
from rmbg.benchmark.page import Thumbnails, page
from rmbg.benchmark.published import PUBLISHED, SOURCE
from rmbg.benchmark.summary import PictureRow, Row, Summary
from rmbg.benchmark.thumbnails import thumbnail
from rmbg.matte import to_bytes
from rmbg.settings import Settings

#: Pictures with thumbnails in the page; with a handful of providers some ten megabytes.
PICTURES = 200


def write_report(summary: Summary, journal: Journal, *, settings: Settings | None = None) -> Path:
    """Write all three files into the folder of the run; returns the path of the page.

    Raises
    ------
    OutputError
        If one cannot be written.
    """
    settings = settings or Settings.from_environ()
    made = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    about = machine.describe()

    def thumbnails(picture: PictureRow) -> Thumbnails:
        rgb = picture.sample.photo(settings).flattened()
        found: Thumbnails = {"photo": thumbnail(rgb), "truth": thumbnail(rgb, to_bytes(picture.sample.truth(settings)))}
        for name, result in picture.results.items():
            if result.state == "got":
                found[name] = thumbnail(rgb, journal.matte(name, picture.sample))
        return found

    html = page(summary, about, made, thumbnails, PICTURES)
    encode.write(journal.folder / "results.csv", to_csv(summary).encode("utf-8-sig"))  # so that Excel reads it as UTF-8
    encode.write(journal.folder / "results.json", json.dumps(to_json(summary, about, made), indent=1).encode())
    encode.write(journal.folder / "report.html", html.encode())
    return journal.folder / "report.html"


def to_csv(summary: Summary) -> str:
    """One line for each provider and picture, worst picture first."""
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
    """A text that no spreadsheet takes for a formula."""
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def to_json(summary: Summary, about: dict[str, str], made: str) -> dict[str, Any]:
    """Everything that the page shows, for programs. Published figures stand apart."""
    return {
        "data_set": summary.dataset.name,
        "pictures": len(summary.dataset.samples),
        "made": made,
        "machine": about,
        "leaderboard": [_row(row) for row in summary.rows],
        "categories": {category: [_row(row) for row in rows] for category, rows in summary.categories.items()},
        "results": [_result(result) for picture in summary.pictures for result in picture.results.values()],
        "published": {
            "source": SOURCE,
            "figures": [
                {"title": p.title, "composite": p.composite, "categories": p.categories, "usd": float(p.usd)} for p in PUBLISHED
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
