"""List the spending by remote provider and by key of a client, and project it to a month."""

from __future__ import annotations

import argparse
import json
import time
from decimal import Decimal
from typing import Any

from rmbg.billing import ledger
from rmbg.billing.client_keys import ClientKey, ClientKeys
from rmbg.billing.cost import dollars
from rmbg.billing.ledger import DAY, Total
from rmbg.billing.quote import MONTHLY_IMAGES
from rmbg.cli import output
from rmbg.cli.terminal import print_table
from rmbg.errors import OptionError
from rmbg.runtime.cancellation import CancellationToken
from rmbg.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--days", type=float, default=30, metavar="N", help="length of the period in days (default: 30)")
    parser.add_argument("--json", action="store_true", help="print the list as one JSON object")


def run(arguments: argparse.Namespace, token: CancellationToken) -> None:
    settings = Settings.from_environ()
    if not 0 < arguments.days <= 36_500:
        raise OptionError(f"--days is {arguments.days:g}; it must be a number of days such as 30.")
    book = ledger.of(settings)
    since = time.time() - arguments.days * DAY
    totals, keys = book.totals(since), [key for key in ClientKeys(settings).list(since) if key.calls]
    today, limit = book.spent_today(), settings.daily_budget_usd
    if arguments.json:
        result = {
            "days": arguments.days,
            "providers": [as_json(total) for total in totals],
            "keys": [key_as_json(key) for key in keys],
            "today_usd": float(today),
            "daily_budget_usd": None if limit is None else float(limit),
        }
        output.write_text(f"{json.dumps(result)}\n")
        return
    if not totals and not keys:
        output.write_text(f"No calls in the last {arguments.days:g} days.\n")
        return
    rows = [("PROVIDER", "CALLS", "USD", "OPEN CALLS", "UP TO", f"{MONTHLY_IMAGES:,} CALLS")]
    for total in totals:
        month = monthly(total)
        rows.append(
            (
                total.provider,
                str(total.calls),
                dollars(total.usd),
                str(total.open_calls),
                dollars(total.open_usd),
                dollars(month),
            )
        )
    if totals:
        print_table(rows)
    if keys:
        cells = [(key.name, str(key.calls), str(key.pictures), dollars(key.usd), dollars(key.open_usd)) for key in keys]
        print_table([("KEY", "CALLS", "PICTURES", "USD", "UP TO"), *cells])
    of_limit = "" if limit is None else f" of {dollars(limit)}"
    output.write_text(f"Today (UTC), with the keys of this machine: {dollars(today)}{of_limit}.\n")


def monthly(total: Total) -> Decimal | None:
    """Cost of `MONTHLY_IMAGES` calls at the mean known price; None if no price is known."""
    known = total.calls - total.open_calls
    return total.usd / known * MONTHLY_IMAGES if known else None


def as_json(total: Total) -> dict[str, Any]:
    """Return the total of one provider as a JSON object."""
    month = monthly(total)
    return {
        "provider": total.provider,
        "calls": total.calls,
        "usd": float(total.usd),
        "open_calls": total.open_calls,
        "open_usd": float(total.open_usd),
        "month_usd": None if month is None else float(month),
    }


def key_as_json(key: ClientKey) -> dict[str, Any]:
    """Return the spending of one key of a client as a JSON object."""
    return {
        "name": key.name,
        "calls": key.calls,
        "pictures": key.pictures,
        "usd": float(key.usd),
        "open_usd": float(key.open_usd),
    }
