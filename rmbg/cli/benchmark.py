"""Measure quality, speed and cost of providers on a data set with ground-truth mattes."""

from __future__ import annotations

import argparse

from rmbg.benchmark.dataset import open_dataset
from rmbg.benchmark.journal import Journal
from rmbg.benchmark.report import format_metric, provider_title, write_report
from rmbg.benchmark.run import expected_charge
from rmbg.benchmark.run import run as run_benchmark
from rmbg.benchmark.summary import Summary, summarize, unknown_charges, without_figures
from rmbg.billing.cost import dollars
from rmbg.cli import output
from rmbg.cli.compare import add_provider_arguments, make_folder, select_ids
from rmbg.cli.terminal import ProgressLine, confirm, print_table
from rmbg.errors import OptionError, RmbgError
from rmbg.metrics.quality import METRICS
from rmbg.providers import find, ready_providers
from rmbg.runtime.cancellation import CancellationToken
from rmbg.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", metavar="DATASET", help="folder or zip with CATEGORY/im/* and CATEGORY/gt/*")
    add_provider_arguments(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results; an interrupted run resumes there")
    parser.add_argument(
        "--retry", action="store_true", help="repeat failed requests of unknown charge, which may then be charged twice"
    )
    parser.add_argument("--yes", action="store_true", help="call paid providers without a prompt")
    parser.add_argument("--json", action="store_true", help="print the results as one JSON object")


def run(arguments: argparse.Namespace, token: CancellationToken) -> None:
    settings = Settings.from_environ()
    progress = ProgressLine()
    ids = [provider.info.id for provider in ready_providers(select_ids(arguments, settings, token), settings)]
    if not ids:
        raise OptionError("--providers is empty. Pass at least one provider id, or --model.")
    dataset = open_dataset(arguments.dataset, settings=settings, progress=progress)
    journal = Journal(make_folder(arguments.out), settings)
    confirm(expected_charge(dataset, ids, journal, settings, retry=arguments.retry), yes=arguments.yes)
    token.begin(paid=any(find(name).info.kind == "remote" for name in ids))
    run_benchmark(dataset, ids, journal, settings=settings, retry=arguments.retry, progress=progress, cancelled=token.cancelled)
    summary = summarize(dataset, ids, journal)
    path = write_report(summary, journal, settings=settings)
    missing, uncertain = without_figures(summary), unknown_charges(summary)
    if uncertain:
        uncertain.append("Add --retry to send them again.")
    if len(missing) == len(summary.providers):
        raise RmbgError(" ".join((*missing.values(), *uncertain)))
    for sentence in (*missing.values(), *uncertain):
        output.report(sentence)
    if arguments.json:
        output.write_text((path.parent / "results.json").read_text(encoding="utf-8") + "\n")
    else:
        _print_table(summary)
        output.report(f"Report: {path}")


def _print_table(summary: Summary) -> None:
    scores = METRICS[:4]
    rows = [["PROVIDER", *(metric.title.upper() for metric in scores), "SECONDS", "A PICTURE", "PICTURES"]]
    for row in summary.rows:
        figures = [format_metric(metric, row.means[metric.id]) for metric in scores]
        seconds = "–" if row.seconds is None else f"{row.seconds:.2f}"
        rows.append([provider_title(row.provider), *figures, seconds, dollars(row.usd), f"{row.measured} of {row.pictures}"])
    print_table(rows)
