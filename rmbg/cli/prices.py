"""List the prices of the services, cheapest first, each alone and after the built-in network."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Sequence
from datetime import date
from decimal import Decimal

from rmbg.billing.cost import dollars
from rmbg.billing.quote import Quote, monthly, projection, quote, read_in
from rmbg.cli import output
from rmbg.cli.terminal import print_table
from rmbg.providers import PROVIDERS, load_plugins
from rmbg.providers.cascade import THRESHOLD, doubtful_share
from rmbg.providers.prices import ServicePrice, service_prices
from rmbg.runtime.cancellation import CancellationToken
from rmbg.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--json", action="store_true", help="print the prices as one JSON object")
    formats.add_argument("--csv", action="store_true", help="print the prices of the services as CSV; unknown ones are empty")


def run(arguments: argparse.Namespace, token: CancellationToken) -> None:
    settings = Settings.from_environ()
    for failure in load_plugins():
        output.report(failure)
    prices, builtin = service_prices(settings), quote(PROVIDERS["builtin"].info, {}, settings)
    if arguments.json:
        output.write_text(f"{to_json(prices, builtin)}\n")
    elif arguments.csv:
        output.write_text(to_csv(prices))
    else:
        print_table(table(prices))
        output.write_text(
            "AFTER BUILTIN: the expected price of a picture if builtin comes first, and the service only gets the "
            f"{100 * doubtful_share(THRESHOLD):.0f}% with a doubtful result.\n"
            f"builtin: {builtin.details()}, {projection(builtin.cost)}.\n"
        )


def table(prices: Sequence[ServicePrice], today: date | None = None) -> list[tuple[str, ...]]:
    """Return heading and rows of the table; `today` is the current date by default."""
    heading = ("ID", "A PICTURE", "1,000", "100,000 A MONTH", "AFTER BUILTIN", "BASIS", "MONTH", "FREE", "SOURCE")
    rows: list[tuple[str, ...]] = [heading]
    for price in prices:
        cost, month = price.cost, read_in(price.seen, today)
        usd = (dollars(usd) for usd in (cost.usd, monthly(cost, 1000), monthly(cost), price.after_builtin.usd))
        rows.append((price.id, *usd, cost.basis, month, price.free, price.source))
    return rows


def to_json(prices: Sequence[ServicePrice], builtin: Quote) -> str:
    """Return the prices, and the estimated cost of the built-in network on this machine, as a JSON object."""
    result = {
        "services": [price.fields() for price in prices],
        "builtin": {"usd": builtin.cost.usd, "usd_100000": monthly(builtin.cost), "basis": builtin.cost.basis},
        "doubtful_share": doubtful_share(THRESHOLD),
    }
    return json.dumps(result, indent=2, default=float)


def to_csv(prices: Sequence[ServicePrice]) -> str:
    """Return the fields of the services in the JSON object as CSV; unknown values are empty."""
    out = io.StringIO()
    rows = [price.fields() for price in prices]
    writer = csv.DictWriter(out, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:f}" if isinstance(v, Decimal) else v for k, v in row.items()} for row in rows)
    return out.getvalue()
