"""Show what remote providers took, by provider, and what it comes to in a month."""

from __future__ import annotations

import argparse
import json
import time
from decimal import Decimal
from typing import Any

from rmbg import ledger
from rmbg.commands.terminal import print_table
from rmbg.cutout import dollars
from rmbg.errors import OptionError
from rmbg.ledger import DAY, Total
from rmbg.prices import MONTHLY_IMAGES
from rmbg.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--days", type=float, default=30, metavar="N", help="of the last N days (default: 30)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> None:
    settings = Settings.from_environ()
    if not 0 < arguments.days <= 36_500:
        raise OptionError(f"--days is {arguments.days:g}; it must be a number of days such as 30.")
    book = ledger.of(settings)
    totals = book.totals(time.time() - arguments.days * DAY)
    today, limit = book.spent_today(), settings.daily_budget_usd
    if arguments.json:
        print(
            json.dumps(
                {
                    "days": arguments.days,
                    "providers": [as_json(total) for total in totals],
                    "today_usd": float(today),
                    "daily_budget_usd": None if limit is None else float(limit),
                }
            )
        )
        return
    if not totals:
        print(f"Nothing in the last {arguments.days:g} days.")
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
                "unknown" if month is None else dollars(month),
            )
        )
    print_table(rows)
    print(f"Today, on this machine's keys: {dollars(today)}" + ("" if limit is None else f" of {dollars(limit)}") + " (UTC).")


def monthly(total: Total) -> Decimal | None:
    """What as many calls as a month has come to at the mean price of those whose price is known; None if none is."""
    known = total.calls - total.open_calls
    return total.usd / known * MONTHLY_IMAGES if known else None


def as_json(total: Total) -> dict[str, Any]:
    month = monthly(total)
    return {
        "provider": total.provider,
        "calls": total.calls,
        "usd": float(total.usd),
        "open_calls": total.open_calls,
        "open_usd": float(total.open_usd),
        "month_usd": None if month is None else float(month),
    }
