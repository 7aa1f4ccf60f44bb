"""List the providers: what they are, whether they are ready, what they cost."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from rmbg.commands.terminal import print_table
from rmbg.cutout import dollars
from rmbg.providers import PROVIDERS
from rmbg.providers.base import ProviderInfo, Status
from rmbg.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print a JSON list with everything known about each")
    how.add_argument("--markdown", action="store_true", help="print the table of the README")


def run(arguments: argparse.Namespace) -> None:
    settings = Settings.from_environ()
    found = [(provider.info, provider.status(settings)) for provider in PROVIDERS.values()]
    if arguments.json:
        print(json.dumps([describe(*pair) for pair in found], indent=2))
        return
    if arguments.markdown:
        print(markdown([provider.info for provider in PROVIDERS.values()]))
        return
    rows = [("ID", "STATUS", "PRICE", "MODEL")]
    rows += [(info.id, status.text, price(info), info.model) for info, status in found]
    print_table(rows)


def markdown(infos: Sequence[ProviderInfo]) -> str:
    """The table of providers in the README: what does not depend on the machine it is made on."""
    rows = ["| id | model | a picture costs | licence | your photo |", "|---|---|---|---|---|"]
    for info in infos:
        seen = f", seen {info.price_seen}" if info.price_seen else ""
        licence = f"{info.licence} [Licence]({info.licence_url})" if info.licence_url else info.licence
        rows.append(f"| `{info.id}` | {info.model} | {price(info)}{seen} | {licence} | {info.pixels} |")
    return "\n".join(rows)


def price(info: ProviderInfo) -> str:
    """The expected price of one image in a word or two."""
    if info.price_usd is None:
        return "own hardware" if info.kind == "local" else "unknown"
    return f"{dollars(info.price_usd)} {info.price_basis}"


def describe(info: ProviderInfo, status: Status) -> dict[str, Any]:
    """A provider as JSON."""
    return {
        "id": info.id,
        "title": info.title,
        "kind": info.kind,
        "model": info.model,
        "status": {"state": status.state, "text": status.text},
        "price": {
            "usd": None if info.price_usd is None else float(info.price_usd),
            "basis": info.price_basis,
            "seen": info.price_seen or None,
        },
        "licence": info.licence,
        "licence_url": info.licence_url,
        "pixels": info.pixels,
        "input_size": info.input_size,
        "supports": list(info.supports),
        "options": [
            {
                "name": option.name,
                "kind": option.kind,
                "default": option.default,
                "help": option.help,
                "minimum": option.minimum,
                "maximum": option.maximum,
                "choices": list(option.choices),
            }
            for option in info.options
        ],
    }
