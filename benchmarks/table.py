"""All targets of speed and memory in one table: ``make bench``, or ``python -m benchmarks.table [--photos FOLDER] [PART ...]``.

Runs the parts one after the other, each in processes of its own, and writes the table to the temporary folder. Parts may be
run one by one: their figures are stored with the machine and a checksum of the code, and a table has only figures of the
present ones. Programs that are not installed are left out with a message. A figure is a ratio to the other program in the
same run where there is another program.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from benchmarks.photos import EXAMPLES, FOLDER
from rmbg.benchmark import journal

ROOT = Path(__file__).parents[1]
STORE = FOLDER / "figures.json"


@dataclass(frozen=True)
class Row:
    """One row: its title, the units and upper limits of its figures, and the words of the command that measures it."""

    title: str
    units: Sequence[str]
    wanted: Sequence[float]
    command: str


def network_limit() -> float:
    """Wanted ratio of RMBG-2.0 to torch, which depends on the matrix unit of the processor (AMX)."""
    flags = Path("/proc/cpuinfo")
    return 0.22 if flags.exists() and "amx_bf16" in flags.read_text() else 0.30


#: Rows by the part that measures them.
ROWS = {
    "command": Row(
        "`python -m rmbg remove`, built-in, cold process, 1.7 MP, beside `rembg i` with an IS-Net",
        ("ratio", "MB"),
        (0.25, 400),
        "benchmarks.speed command",
    ),
    "provider": Row("built-in provider, warm, 1.7 / 12 MP", ("s", "s"), (0.45, 0.9), "benchmarks.speed provider"),
    "builtin": Row(
        "built-in, warm, JPEG to PNG beside rembg with an IS-Net, 1.5 / 6.3 / 24 MP",
        ("ratio",) * 3,
        (0.2,) * 3,
        "benchmarks.speed builtin",
    ),
    "display": Row(
        "page, click to result on the screen, 1.7 / 12 / 24 MP", ("s",) * 3, (0.7, 1.4, 2.2), "benchmarks.page display"
    ),
    "server": Row(
        "start of the page to its first answer; memory idle; after 50 removals of 24 MP",
        ("s", "MB", "MB"),
        (3, 350, 1000),
        "benchmarks.load",
    ),
    "whole": Row(
        "RMBG-1.4, JPEG to PNG with decontamination, beside rembg with an IS-Net, which has none, 1.5 / 6.3 / 24 MP",
        ("ratio",) * 3,
        (0.35, 0.25, 0.2),
        "benchmarks.speed whole",
    ),
    "forward": Row("RMBG-2.0 network beside torch eager", ("ratio",), (network_limit(),), "benchmarks.speed forward"),
    "start": Row("RMBG-2.0, first picture: ever; after a restart", ("s", "s"), (20, 6), "benchmarks.speed start"),
}


def conditions() -> str:
    """Hash of the machine and of the code that is measured."""
    digest = hashlib.sha256(json.dumps(journal.describe(), sort_keys=True).encode())
    for folder in ("rmbg", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".js", ".css", ".html"):
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def record(part: str, figures: Sequence[float | None], details: Sequence[str] = ()) -> None:
    """Store the figures of a row, None for one that could not be measured, and print the details."""
    print("\n".join(details), flush=True)
    entry = {"under": conditions(), "figures": list(figures), "details": list(details)}
    entry["date"] = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    FOLDER.mkdir(parents=True, exist_ok=True)
    STORE.write_text(json.dumps({**_stored(), part: entry}, indent=1))


def machine() -> str:
    """Processor, memory, and versions of torch, OpenVINO and Python."""
    found = journal.describe()
    versions = ", ".join(f"{name} {found[name]}" for name in ("torch", "openvino", "Python") if name in found)
    return f"{found['Processor']}, {found.get('Memory', '')}, {versions}"


def table() -> str:
    """Markdown table of the stored figures of this machine and code."""
    under, stored = conditions(), _stored()
    valid = {part: stored[part] for part in ROWS if stored.get(part, {}).get("under") == under}
    dates = " and ".join(sorted({entry["date"] for entry in valid.values()}))
    lines = [f"{machine()}, {dates}", ""]
    lines += ["| what | measured | wanted | held | command |", "|---|---|---|---|---|"]
    for part, row in ROWS.items():
        figures = valid.get(part, {}).get("figures", [None] * len(row.units))
        measured = [_figure(value, unit) for value, unit in zip(figures, row.units, strict=True)]
        wanted = [_figure(value, unit) for value, unit in zip(row.wanted, row.units, strict=True)]
        held = [
            "-" if value is None else "yes" if value <= limit else "no"
            for value, limit in zip(figures, row.wanted, strict=True)
        ]
        shown = held[:1] if len(set(held)) == 1 else held
        lines.append(f"| {row.title} | {' / '.join(measured)} | {' / '.join(wanted)} | {' / '.join(shown)} | `{row.command}` |")
    lines += ["", *(f"* {detail}" for entry in valid.values() for detail in entry["details"])]
    return "\n".join(lines) + "\n"


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return "not measured"
    return f"{value:.2f}" if unit == "ratio" else f"{value:.2f} s" if unit == "s" else f"{value:.0f} {unit}"


def _stored() -> dict[str, dict]:
    try:
        return dict(json.loads(STORE.read_text()))
    except (OSError, ValueError):
        return {}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure all targets of speed and memory, and print them as a table.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(ROWS)}; all by default")
    parser.add_argument("--photos", type=Path, default=EXAMPLES, help="folder of photos; by default the examples")
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(ROWS)
    if unknown:
        parser.error(f"unknown part {', '.join(sorted(unknown))}; choose from {', '.join(ROWS)}")
    for part in arguments.parts or ROWS:
        started = time.perf_counter()
        words = [sys.executable, "-m", *ROWS[part].command.split(), "--photos", str(arguments.photos.resolve())]
        failed = subprocess.run(words, cwd=ROOT, check=False).returncode
        print(f"{part}: {'failed' if failed else 'done'} in {time.perf_counter() - started:.0f} s\n", flush=True)
    (FOLDER / "table.md").write_text(table())
    print(f"{table()}\nThe table is in {FOLDER / 'table.md'}.")


if __name__ == "__main__":
    main()
