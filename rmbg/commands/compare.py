"""Ask several providers for a cut-out of the same picture, and say how far they agree."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rmbg import compose, encode
from rmbg.commands.remove import summary
from rmbg.commands.terminal import confirm, print_table, progress, read_photo
from rmbg.compare import Agreement, Outcome, agreement, chosen, compare, difference, expected_usd
from rmbg.compare_files import contact_sheet, table_csv
from rmbg.errors import OptionError, OutputError, RmbgError
from rmbg.providers.base import silent
from rmbg.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", metavar="IN", help="a picture, or - for standard input")
    parser.add_argument("--providers", required=True, metavar="A,B,C", help="ids of the providers; see 'rmbg providers'")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the cut-outs, the contact sheet and the table")
    parser.add_argument("--reference", metavar="ID", help="whom the others are measured against (default: the first)")
    parser.add_argument("--background", default="transparent", metavar="WHAT", help="as in 'rmbg remove', the same for all")
    parser.add_argument("--yes", action="store_true", help="do not ask before paid providers are called")
    parser.add_argument("--json", action="store_true", help="print one JSON object about the results")


def run(arguments: argparse.Namespace) -> None:
    settings = Settings.from_environ()
    providers = chosen(split(arguments.providers), settings)
    ids = [provider.info.id for provider in providers]
    reference = arguments.reference or ids[0]
    if reference not in ids:
        raise OptionError(f"--reference is {reference!r}; it must be one of {', '.join(ids)}.")
    background = compose.parse_background(arguments.background, settings=settings)
    photo = read_photo(arguments.input, settings)
    folder = make_folder(arguments.out)
    ready = [provider for provider in providers if provider.status(settings).usable]
    confirm(*expected_usd(ready), yes=arguments.yes)

    outcomes = []
    for outcome in compare(photo, ids, settings=settings, progress=progress() or silent):
        outcomes.append(outcome)
        if outcome.cutout is None:
            print(f"rmbg: {outcome.title}: {outcome.error}", file=sys.stderr)
        else:
            _write(folder, f"{photo.name}-{outcome.provider}", compose.render(outcome.cutout, background))
    outcomes.sort(key=lambda outcome: ids.index(outcome.provider))
    if all(outcome.cutout is None for outcome in outcomes):
        raise RmbgError("None of the providers made a cut-out.")
    lines = agreement(outcomes, reference)
    _write_differences(folder, outcomes, reference)
    encode.write(folder / f"{photo.name}-contact-sheet.png", contact_sheet(outcomes, background))
    encode.write(folder / f"{photo.name}-table.csv", table_csv(lines, reference).encode())
    if arguments.json:
        print(json.dumps({"photo": photo.name, "reference": reference, "results": [describe(line) for line in lines]}))
    else:
        _print_table(lines, reference)


def split(ids: str) -> list[str]:
    """``A,B,C`` as a list, without empty names."""
    return [name.strip() for name in ids.split(",") if name.strip()]


def make_folder(name: str) -> Path:
    """The folder for results, made if it is not there.

    Raises
    ------
    OutputError
        If it cannot be made, or nothing can be written into it: found before anybody is asked for anything.
    """
    folder = Path(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be made: {error.strerror or error}.") from None
    encode.check_writable(folder / "results")
    return folder


def describe(line: Agreement) -> dict[str, Any]:
    """A line of the table as JSON."""
    outcome = line.outcome
    if outcome.cutout is None:
        return {"provider": outcome.provider, "error": outcome.error}
    return {
        **summary(outcome.cutout),
        "usd_100000": None if line.usd_100000 is None else float(line.usd_100000),
        "iou": line.iou,
        "edge_difference": line.edge_difference,
        "soft": line.soft,
    }


def _write(folder: Path, name: str, pixels: Any) -> None:
    encode.write(folder / f"{name}.png", encode.encode(pixels, encode.FORMATS["png"]))


def _write_differences(folder: Path, outcomes: list[Outcome], reference: str) -> None:
    """A map for each cut-out that is not the reference."""
    base = next((outcome.cutout for outcome in outcomes if outcome.provider == reference), None)
    for outcome in outcomes:
        if base is not None and outcome.cutout is not None and outcome.provider != reference:
            pixels = difference(base.matte, outcome.cutout.matte, base.photo.flattened())
            _write(folder, f"{base.photo.name}-difference-{reference}-{outcome.provider}", pixels)


def _print_table(lines: list[Agreement], reference: str) -> None:
    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.1f}"

    rows = [("PROVIDER", "SECONDS", "COST", f"IOU WITH {reference.upper()}", "EDGE DIFFERENCE", "SOFT %")]
    for line in lines:
        cutout = line.outcome.cutout
        if cutout is not None:
            figures = (shown(line.iou), shown(line.edge_difference), shown(line.soft))
            rows.append((line.outcome.provider, f"{cutout.seconds:.2f}", str(cutout.cost), *figures))
    print_table(rows)
