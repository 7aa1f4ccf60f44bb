"""Baseline of the providers' quality on the examples; ``python -m tests.benchmark.baseline`` measures and stores it.

Store a new baseline when a provider has improved, and name the reason in the commit. test_quality.py compares with it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from rmbg.benchmark.dataset import open_dataset
from rmbg.benchmark.journal import Journal
from rmbg.benchmark.run import run
from rmbg.benchmark.summary import Row, Summary, summarize
from rmbg.providers import PROVIDERS
from rmbg.settings import Settings
from tests.pictures import EXAMPLES

STORED = Path(__file__).parent / "baseline.json"

#: Tolerated loss in points of the composite.
TOLERANCE = 1.0


def ready(settings: Settings) -> list[str]:
    """Ids of the local providers that run without a download."""
    return [name for name, p in PROVIDERS.items() if p.info.kind == "local" and p.status(settings).state == "ready"]


def measured(names: list[str], folder: Path, settings: Settings) -> Summary:
    """Run providers on all examples."""
    dataset = open_dataset(EXAMPLES, settings=settings)
    journal = Journal(folder, settings)
    run(dataset, names, journal, settings=settings)
    return summarize(dataset, names, journal)


def composites(summary: Summary) -> dict[str, dict[str, float]]:
    """Composite of each provider, over all examples and by category."""
    parts = {"all": summary.rows, **summary.categories}
    return {name: {part: _composite(name, rows) for part, rows in parts.items()} for name in summary.providers}


def _composite(name: str, rows: tuple[Row, ...]) -> float:
    row = next(row for row in rows if row.provider == name)
    return round(row.means["composite"] or 0.0, 2) if row.measured == row.pictures else 0.0


def main() -> None:
    settings = Settings.from_environ()
    with tempfile.TemporaryDirectory() as folder:
        now = composites(measured(ready(settings), Path(folder), settings))
    stored = json.loads(STORED.read_text()) if STORED.exists() else {}
    STORED.write_text(json.dumps({**stored, **now}, indent=2, sort_keys=True) + "\n")
    json.dump(now, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
