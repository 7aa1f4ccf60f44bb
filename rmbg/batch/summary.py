"""Summary of a batch as JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from rmbg import files
from rmbg.batch.manifest import Item, Manifest
from rmbg.batch.plan import Plan
from rmbg.batch.progress import Progress
from rmbg.batch.recipe import Recipe
from rmbg.billing.prices import own_hardware
from rmbg.settings import Settings

#: Maximum number of failures in the JSON object; the CSV file has all of them.
MAX_LISTED_FAILURES = 1000

COLUMNS = ("name", "output", "state", "seconds", "width", "height", "bytes", "message")


def summarize(plan: Plan, progress: Progress, recipe: Recipe, manifest: Manifest, settings: Settings) -> dict[str, Any]:
    """Return the figures of a batch as a JSON object.

    ``cost`` contains the calls of all runs for this output by basis; ``estimated`` is the cost of own hardware in this run.
    """
    items = manifest.items()
    failures = [_failure(items[name]) for name in plan.names if items[name].state not in ("done", "new")]
    cost = {basis: {"calls": count, "usd": float(usd)} for basis, (count, usd) in manifest.bill().items()}
    if not recipe.paid:
        usd = own_hardware(progress.seconds * progress.machines, settings.hourly_usd).usd
        cost["estimated"] = {"calls": progress.done, "usd": float(usd or Decimal(0))}
    return {
        "provider": recipe.provider.info.id,
        "format": recipe.form.id,
        **recipe.edge_facts,
        "photos": progress.total,
        "done": progress.done,
        "kept": progress.kept,
        "failed": progress.failed,
        "left": progress.left,
        "seconds": round(progress.seconds, 3),
        "photos_per_second": round(progress.rate, 3),
        "cost": cost,
        "usd": float(progress.usd),
        "stopped_because": progress.halted,
        "failures": failures[:MAX_LISTED_FAILURES],
    }


def write_summary(path: Path, figures: dict[str, Any], plan: Plan, manifest: Manifest) -> tuple[Path, Path]:
    """Write the summary and return the paths of the JSON and CSV files.

    Parameters
    ----------
    path : Path
        Path without suffix.
    figures : dict
        From `summarize`.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    as_json, as_csv = path.with_name(path.name + ".json"), path.with_name(path.name + ".csv")
    files.write(as_json, (json.dumps(figures, indent=2) + "\n").encode())
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    items = manifest.items()
    for name in plan.names:
        item = items[name]
        size = (item.width, item.height, item.size) if item.state == "done" else ("", "", "")
        writer.writerow([_cell(name), _cell(item.output), item.state, item.seconds, *size, _cell(item.message)])
    files.write(as_csv, out.getvalue().encode())
    return as_json, as_csv


def _failure(item: Item) -> dict[str, str]:
    return {"name": item.name, "state": item.state, "message": item.message}


def _cell(text: str) -> str:
    """Return text that spreadsheets do not interpret as a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
