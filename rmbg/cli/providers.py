"""List the providers with status, price and model."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from rmbg.billing.quote import quote, read_in
from rmbg.cli import output
from rmbg.cli.terminal import print_table
from rmbg.providers import AUTO, PROVIDERS, add_own_models, find, load_plugins
from rmbg.providers.base import ProviderInfo, describe
from rmbg.runtime.cancellation import CancellationToken
from rmbg.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--json", action="store_true", help="print all details as a JSON list")
    formats.add_argument("--markdown", action="store_true", help="print the table of the README")


def run(arguments: argparse.Namespace, token: CancellationToken) -> None:
    if arguments.markdown:
        output.write_text(f"{markdown([provider.info for provider in PROVIDERS.values()])}\n")
        return
    settings = Settings.from_environ()
    add_own_models(settings)
    failures = load_plugins()
    found = [find(name, settings) for name in PROVIDERS]
    entries = [(provider.info, provider.status(settings)) for provider in found]
    if arguments.json:
        output.write_text(f"{json.dumps([describe(*pair, settings) for pair in entries], indent=2)}\n")
        for failure in failures:
            output.report(failure)
        return
    rows = [("ID", "STATUS", "PRICE", "MODEL")]
    rows += [
        (info.id, status.text, dated_price(info, settings), quote(info, {}, settings).steps or info.model)
        for info, status in entries
    ]
    print_table(rows)
    output.write_text("".join(f"{failure}\n" for failure in failures))


def markdown(infos: Sequence[ProviderInfo]) -> str:
    """Return the README's table of the services and the networks of ``auto`` in Markdown.

    It does not depend on the machine and its plug-ins.
    """
    infos = [info for info in infos if info.kind == "remote" or info.id in AUTO]
    # With keys for all services, and without weights, which a price may depend on.
    keys = {info.key_name: "key" for info in infos if info.key_name}
    settings = Settings(environ={**keys, "HF_HOME": os.devnull}, data=Path(os.devnull))  # without the prices of an owner
    rows = ["| id | model | best for | a picture costs | license | your photo |", "|---|---|---|---|---|---|"]
    for info in infos:
        seen = f", seen {info.price_seen}" if info.price_seen else ""
        free = f"; free: {info.price.free}" if info.price and info.price.free else ""
        license = f"{info.license} [License]({info.license_url})" if info.license_url else info.license
        cells = f"`{info.id}`", info.model, info.best_for, f"{price(info, settings)}{seen}{free}", license, info.pixels
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def price(info: ProviderInfo, settings: Settings) -> str:
    """Expected price of one image; local providers have none, because it depends on the machine."""
    return "own hardware" if info.kind == "local" else str(quote(info, {}, settings))


def dated_price(info: ProviderInfo, settings: Settings, today: date | None = None) -> str:
    """Return `price` with its month, see `read_in`; `today` is the current date by default."""
    month = "" if info.kind == "local" else read_in(quote(info, {}, settings).seen, today)
    return f"{price(info, settings)}, {month}" if month else price(info, settings)
