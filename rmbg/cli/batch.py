"""Remove the backgrounds of many pictures in a folder, zip or list; an interrupted batch resumes."""

from __future__ import annotations

import argparse
import json
import time

from tqdm import tqdm

from rmbg.batch.job import Progress, open_job
from rmbg.batch.manifest import Outcome
from rmbg.batch.plan import Plan, Recipe
from rmbg.billing.cost import dollars
from rmbg.cli import output
from rmbg.cli.options import parse_alpha_matting, parse_amount, parse_background_or_preset, parse_edges, parse_finishing
from rmbg.cli.remove import add_result_arguments, open_provider, parse_options
from rmbg.cli.terminal import confirm
from rmbg.errors import OptionError, RmbgError, printable
from rmbg.images import encode
from rmbg.remove import check_alpha_matting
from rmbg.runtime.cancellation import CancellationToken
from rmbg.settings import Settings

#: Number of failures printed on occurrence; the summary lists all of them.
PRINTED_FAILURES = 10

#: Seconds between two progress lines if standard error is not a terminal.
LINE_INTERVAL = 30.0

MAX_JOBS = 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", metavar="IN", help="folder, quoted glob, zip, text file of paths or URLs, or fsspec URL")
    parser.add_argument("output", metavar="OUT", help="folder, zip or fsspec URL; an interrupted batch resumes there")
    add_result_arguments(parser)
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="number of concurrent photos (default: number of CPU cores; 4 for a service)"
    )
    parser.add_argument("--max-cost", metavar="USD", help="limit of the cost of all calls for this OUT, including earlier runs")
    parser.add_argument("--yes", action="store_true", help="call paid providers without a prompt")
    parser.add_argument(
        "--retry", action="store_true", help="repeat failed requests of unknown charge, which may then be charged twice"
    )
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="HOST", help="host on this machine from which URLs may be loaded"
    )
    parser.add_argument("--ray", metavar="ADDRESS", help="process the photos on a Ray cluster: auto, or HOST:PORT of its head")
    parser.add_argument("--json", action="store_true", help="print the summary as one JSON object")


def run(arguments: argparse.Namespace, token: CancellationToken) -> None:
    settings = Settings.from_environ()
    encode.check_quality(arguments.quality)
    output_format = encode.format_named(arguments.format or "png")
    options = parse_options(arguments.option)
    background, finishing = parse_background_or_preset(arguments, settings), parse_finishing(arguments)
    edges, alpha_matting = parse_edges(arguments), parse_alpha_matting(arguments)
    max_cost = parse_amount(arguments.max_cost, "--max-cost")
    if arguments.jobs is not None and not 1 <= arguments.jobs <= MAX_JOBS:
        raise OptionError(f"--jobs is {arguments.jobs}; it must be between 1 and {MAX_JOBS}.")
    check_alpha_matting(alpha_matting, settings)
    with open_job(arguments.input, arguments.output, settings, hosts=tuple(arguments.allow_host)) as job:
        provider = job.provider(open_provider(arguments, settings, token), options)
        recipe = Recipe(
            provider,
            provider.info.parse_options(options),
            output_format,
            background,
            "mask" if arguments.mask_only else "cutout",
            arguments.crop,
            arguments.quality,
            edges,
            alpha_matting,
            finishing,
        )
        plan = job.plan(recipe, retry=arguments.retry)
        for note in plan.notes:
            output.report(note)
        confirm(job.expected_cost(plan, recipe, max_cost), yes=arguments.yes)
        token.begin(paid=recipe.paid)
        with _Display(plan) as display:
            progress = job.run(
                plan,
                recipe,
                jobs=arguments.jobs,
                retry=arguments.retry,
                max_cost=max_cost,
                report=display.update,
                cancelled=token.cancelled,
                ray=arguments.ray,
            )
        figures, _, table = job.summarize(plan, progress, recipe)
    if arguments.json:
        output.write_text(f"{json.dumps(figures)}\n")
    if progress.failed or progress.left:
        raise RmbgError(_failure_message(progress, str(table)))
    if not arguments.json:
        output.report(
            f"{progress.done:,} results written, {progress.kept:,} kept from earlier runs. See {printable(str(table), 200)}."
        )


class _Display:
    """Progress on standard error: a bar on a terminal, otherwise a line every `LINE_INTERVAL` seconds."""

    def __init__(self, plan: Plan) -> None:
        self._printed = 0
        self._next_line = time.monotonic() + LINE_INTERVAL
        done = plan.kept + plan.settled
        self._bar = tqdm(total=len(plan.names), initial=done, unit=" photos", disable=not output.stderr_is_terminal())

    def __enter__(self) -> _Display:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, progress: Progress, outcome: Outcome | None) -> None:
        if outcome is not None:
            self._bar.set_postfix_str(f"{dollars(progress.usd)}, {progress.failed:,} failed", refresh=False)
            self._bar.update(1)
            if outcome.state != "done":
                self._print_failure(outcome)
        if self._bar.disable and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_INTERVAL
            output.report(_progress_line(progress))

    def _print_failure(self, outcome: Outcome) -> None:
        self._printed += 1
        if self._printed <= PRINTED_FAILURES:
            output.report(f"{printable(outcome.name, 80)}: {outcome.message}")
        elif self._printed == PRINTED_FAILURES + 1:
            output.report("Further failures are in the summary.")


def _progress_line(progress: Progress) -> str:
    done = progress.total - progress.left
    remaining = f", about {progress.left / progress.rate / 60:.0f} min left" if progress.rate else ""
    cost = f", {dollars(progress.usd)}" if progress.usd else ""
    failed = f", {progress.failed:,} failed" if progress.failed else ""
    return f"{done:,} of {progress.total:,}, {progress.rate:.2f} a second{remaining}{cost}{failed}"


def _failure_message(progress: Progress, table: str) -> str:
    parts = [progress.halted] if progress.halted else []
    if progress.failed:
        parts.append(f"{progress.failed:,} of {progress.total:,} photos have no result. See {printable(table, 200)}.")
    if progress.left:
        parts.append(f"{progress.left:,} photos are left. Run the same command again to continue.")
    return " ".join(parts)
