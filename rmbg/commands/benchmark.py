"""Measure providers on a data set with true mattes: quality, seconds, cost."""

from __future__ import annotations

import argparse
import sys

from rmbg.benchmark.dataset import open_dataset
from rmbg.benchmark.journal import Journal
from rmbg.benchmark.metrics import METRICS
from rmbg.benchmark.page import number, provider_title
from rmbg.benchmark.report import write_report
from rmbg.benchmark.run import expected_usd, ready
from rmbg.benchmark.run import run as run_benchmark
from rmbg.benchmark.summary import Summary, money, summarise
from rmbg.commands.compare import make_folder, split
from rmbg.commands.terminal import confirm, print_table, progress
from rmbg.errors import OptionError
from rmbg.providers.base import silent
from rmbg.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", metavar="DATASET", help="a folder or zip with CATEGORY/im/* and CATEGORY/gt/*")
    parser.add_argument("--providers", required=True, metavar="A,B", help="ids of the providers; see 'rmbg providers'")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for results; a run that was stopped goes on in it")
    parser.add_argument(
        "--retry", action="store_true", help="send again what failed and may have been charged, so that it may be charged twice"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask before paid providers are called")
    parser.add_argument("--json", action="store_true", help="print the results as one JSON object")


def run(arguments: argparse.Namespace) -> None:
    settings = Settings.from_environ()
    show = progress() or silent
    ids = [provider.info.id for provider in ready(split(arguments.providers), settings)]
    if not ids:
        raise OptionError("--providers names none.")
    dataset = open_dataset(arguments.dataset, settings=settings, progress=show)
    journal = Journal(make_folder(arguments.out))
    confirm(*expected_usd(dataset, ids, journal, retry=arguments.retry), yes=arguments.yes)
    run_benchmark(dataset, ids, journal, settings=settings, retry=arguments.retry, progress=show)
    summary = summarise(dataset, ids, journal)
    path = write_report(summary, journal, settings=settings)
    if arguments.json:
        print((path.parent / "results.json").read_text(encoding="utf-8"))
    else:
        _print_table(summary)
        print(f"rmbg: the report is {path}", file=sys.stderr)


def _print_table(summary: Summary) -> None:
    scores = METRICS[:4]
    rows = [["PROVIDER", *(metric.title.upper() for metric in scores), "SECONDS", "A PICTURE", "PICTURES"]]
    for row in summary.rows:
        figures = [number(metric, row.means[metric.id]) for metric in scores]
        seconds = "–" if row.seconds is None else f"{row.seconds:.2f}"
        rows.append([provider_title(row.provider), *figures, seconds, money(row.usd), f"{row.measured} of {row.pictures}"])
    print_table(rows)
