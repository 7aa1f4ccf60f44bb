"""Remove the background of one picture with several providers and measure their agreement."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rmbg.billing.quote import estimate
from rmbg.cli import output
from rmbg.cli.remove import add_model_arguments, open_models
from rmbg.cli.terminal import ProgressLine, confirm, print_table, read_photo
from rmbg.compare.agreement import Agreement, agreement, difference
from rmbg.compare.comparison import Outcome, compare, parse_ids, select_providers
from rmbg.compare.export import contact_sheet, table_csv
from rmbg.errors import CancelledError, OptionError, OutputError, RmbgError
from rmbg.images import encode
from rmbg.providers import file_name, find
from rmbg.remove import keep_if_paid
from rmbg.render import backgrounds
from rmbg.runtime import files
from rmbg.runtime.cancellation import CancellationToken
from rmbg.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", metavar="IN", help="input picture, or - for standard input")
    add_provider_arguments(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the cutouts, the contact sheet and the table")
    parser.add_argument("--reference", metavar="ID", help="provider that the others are compared with (default: the first)")
    parser.add_argument(
        "--background", default="transparent", metavar="WHAT", help="background of all cutouts, as in 'rmbg remove'"
    )
    parser.add_argument("--yes", action="store_true", help="call paid providers without a prompt")
    parser.add_argument("--json", action="store_true", help="print the results as one JSON object")


def add_provider_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that select several providers, see `select_ids`."""
    parser.add_argument("--providers", default="", metavar="A,B,C", help="ids of the providers; see 'rmbg providers'")
    add_model_arguments(parser, several=True)


def select_ids(arguments: argparse.Namespace, settings: Settings, token: CancellationToken) -> list[str]:
    """Return the ids of ``--providers``, and of the models of ``--model``, which are opened.

    Raises
    ------
    OptionError
        If an id is unknown, or a model has the id of another provider.
    """
    ids = list(dict.fromkeys(find(name, settings).info.id for name in parse_ids(arguments.providers)))
    for name in open_models(arguments.model, arguments, settings, token):
        if name in ids:
            raise OptionError(f"{name} is given twice. Omit one of them, or rename the model with the same name.")
        ids.append(name)
    return ids


def run(arguments: argparse.Namespace, token: CancellationToken) -> None:
    settings = Settings.from_environ()
    providers = select_providers(select_ids(arguments, settings, token), settings)
    ids = [provider.info.id for provider in providers]
    reference = arguments.reference or ids[0]
    if reference not in ids:
        raise OptionError(f"--reference is {reference!r}; it must be one of {', '.join(ids)}.")
    background = backgrounds.parse_background(arguments.background, settings=settings)
    photo = read_photo(arguments.input, settings)
    folder = make_folder(arguments.out)
    ready = [provider for provider in providers if provider.status(settings).usable]
    confirm(estimate([(provider.info, 1) for provider in ready], settings), yes=arguments.yes)

    token.begin(paid=any(provider.info.kind == "remote" for provider in ready))
    outcomes = []
    write_failed = False
    for outcome in compare(photo, ids, settings=settings, progress=ProgressLine(), cancelled=token.cancelled):
        outcomes.append(outcome)
        if outcome.cutout is None:
            if not token.cancelled():
                output.report(f"{outcome.title}: {outcome.error}")
            continue
        try:  # a write error must not discard the other results, which may be paid for
            with keep_if_paid([outcome.cutout], settings):
                _write(folder, f"{photo.name}-{file_name(outcome.provider)}", outcome.cutout.render(background))
        except OutputError as error:
            write_failed = True
            output.report(f"{outcome.title}: {error}")
    outcomes.sort(key=lambda outcome: ids.index(outcome.provider))
    if token.cancelled():
        raise CancelledError(_cancellation_message(outcomes))
    if write_failed:
        raise OutputError(f"Some results could not be written to {folder}. See the messages above.")
    if all(outcome.cutout is None for outcome in outcomes):
        raise RmbgError("None of the providers returned a cutout. See the messages above.")
    lines = agreement(outcomes, reference)
    _write_differences(folder, outcomes, reference)
    files.write(folder / f"{photo.name}-contact-sheet.png", contact_sheet(outcomes, background))
    files.write(folder / f"{photo.name}-table.csv", table_csv(lines, reference).encode())
    if arguments.json:
        result = {"photo": photo.name, "reference": reference, "results": [line.summary() for line in lines]}
        output.write_text(f"{json.dumps(result)}\n")
    else:
        _print_table(lines, reference)
        output.report("Seconds: inference and post-processing, after one run of each local network that is not timed.")


def _cancellation_message(outcomes: list[Outcome]) -> str:
    """Message of a cancelled comparison, with the possible charge of each service."""
    charged = [f"{outcome.title}: {outcome.error}" for outcome in outcomes if outcome.spent is not None]
    return " ".join(charged) or "Stopped."


def make_folder(name: str) -> Path:
    """Create the folder for results if it is missing, and return its path.

    Raises
    ------
    OutputError
        If the folder cannot be created or is not writable. Checked before any provider is called.
    """
    folder = Path(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be created: {error.strerror or error}. Choose another one.") from None
    files.check_writable(folder / "results")
    return folder


def _write(folder: Path, name: str, pixels: Any) -> None:
    files.write(folder / f"{name}.png", encode.encode(pixels, encode.FORMATS["png"]))


def _write_differences(folder: Path, outcomes: list[Outcome], reference: str) -> None:
    """Write the difference map of each cutout to the reference."""
    base_cutout = next((outcome.cutout for outcome in outcomes if outcome.provider == reference), None)
    for outcome in outcomes:
        if base_cutout is not None and outcome.cutout is not None and outcome.provider != reference:
            pixels = difference(base_cutout.matte, outcome.cutout.matte, base_cutout.photo.flattened())
            names = f"{file_name(reference)}-{file_name(outcome.provider)}"
            _write(folder, f"{base_cutout.photo.name}-difference-{names}", pixels)


def _print_table(lines: list[Agreement], reference: str) -> None:
    def format_score(value: float | None) -> str:
        return "-" if value is None else f"{value:.1f}"

    rows = [("PROVIDER", "SECONDS", "COST", f"IOU WITH {reference.upper()}", "EDGE DIFFERENCE", "SOFT %")]
    for line in lines:
        cutout = line.outcome.cutout
        if cutout is not None:
            figures = (format_score(line.iou), format_score(line.edge_difference), format_score(line.soft))
            rows.append((line.outcome.provider, f"{cutout.warm_seconds:.2f}", str(cutout.cost), *figures))
    print_table(rows)
