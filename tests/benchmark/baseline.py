"""The quality that providers had on the project's examples; ``python -m tests.benchmark.baseline`` measures and stores it anew.

Store it when a provider got better, and say so in the commit; the gate in test_quality.py holds it from then on.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from rmbg.benchmark.dataset import open_dataset
from rmbg.benchmark.journal import Journal
from rmbg.benchmark.run import run
from rmbg.benchmark.summary import Row, summarise
from rmbg.providers import PROVIDERS
from rmbg.settings import Settings
from tests.pictures import EXAMPLES

STORED = Path(__file__).parent / "baseline.json"

#: Points of the composite that a provider may lose.
TOLERATED = 1.0


def ready(settings: Settings) -> list[str]:
    """Providers that run here without download, key or cost."""
    return [name for name, p in PROVIDERS.items() if p.info.kind == "local" and p.status(settings).state == "ready"]


def measure(names: list[str], folder: Path, settings: Settings) -> dict[str, dict[str, float]]:
    """The composite of each provider, over all examples and by category."""
    dataset = open_dataset(EXAMPLES, settings=settings)
    journal = Journal(folder)
    run(dataset, names, journal, settings=settings)
    summary = summarise(dataset, names, journal)
    parts = {"all": summary.rows, **summary.categories}
    return {name: {part: _composite(name, rows) for part, rows in parts.items()} for name in names}


def _composite(name: str, rows: tuple[Row, ...]) -> float:
    row = next(row for row in rows if row.provider == name)
    return round(row.means["composite"] or 0.0, 2) if row.measured == row.pictures else 0.0


def main() -> None:
    settings = Settings.from_environ()
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(ready(settings), Path(folder), settings)
    kept = json.loads(STORED.read_text()) if STORED.exists() else {}
    STORED.write_text(json.dumps({**kept, **measured}, indent=2, sort_keys=True) + "\n")
    json.dump(measured, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
