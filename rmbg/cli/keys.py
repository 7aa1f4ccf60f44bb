"""Create, list and revoke API keys for clients of this server."""

from __future__ import annotations

import argparse
import json
from datetime import datetime, timezone
from typing import Any

from rmbg.billing.client_keys import ClientKey, ClientKeys
from rmbg.billing.cost import dollars
from rmbg.cli import output
from rmbg.cli.options import parse_amount
from rmbg.cli.spent import key_as_json
from rmbg.cli.terminal import print_table
from rmbg.errors import OptionError
from rmbg.providers import find
from rmbg.runtime.cancellation import CancellationToken
from rmbg.settings import Settings

ACTIONS = ("create", "list", "revoke")

#: Options of ``create``.
LIMITS = ("credits", "rate", "provider", "budget")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        choices=ACTIONS,
        metavar="ACTION",
        help="create: print the secret of the new key NAME, which is shown once; list: all keys; revoke: make NAME invalid",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="name of the key: letters, digits, dots, dashes, underscores")
    parser.add_argument("--credits", metavar="N", help="pictures at full size that the key may request (default: no limit)")
    parser.add_argument("--rate", type=int, metavar="N", help="calls per minute (default: no limit)")
    parser.add_argument(
        "--provider",
        action="append",
        metavar="ID",
        help="provider that the key may use, repeatable; a service is paid with the keys of this machine "
        "(default: all providers that run on this machine)",
    )
    parser.add_argument("--budget", metavar="USD", help="daily limit (UTC) of what the key spends at services (default: none)")
    parser.add_argument("--json", action="store_true", help="print the list as one JSON object")


def run(arguments: argparse.Namespace, token: CancellationToken) -> None:
    settings = Settings.from_environ()
    keys, action, name = ClientKeys(settings), arguments.action, arguments.name
    for option in LIMITS:
        if getattr(arguments, option) is not None and action != "create":
            raise OptionError(f"--{option} is for keys create. Omit it.")
    if arguments.json and action != "list":
        raise OptionError("--json is for keys list. Omit it.")
    if (name is None) != (action == "list"):
        raise OptionError("keys list has no NAME. Omit it." if name else f"keys {action} needs the NAME of a key.")
    if action == "list":
        _list(keys.list(), as_json=arguments.json)
    elif action == "revoke":
        keys.revoke(name)
        output.report(f"The key {name} is revoked.")
    else:
        secret = keys.create(
            name,
            parse_amount(arguments.credits, "--credits", "a number such as 100"),
            arguments.rate,
            tuple(dict.fromkeys(find(id, settings).info.id for id in arguments.provider or ())),
            parse_amount(arguments.budget, "--budget"),
        )
        output.write_text(f"{secret}\n")
        output.report(f"This is the secret of the key {name}. It is not stored and cannot be shown again.")


def _list(keys: tuple[ClientKey, ...], *, as_json: bool) -> None:
    if as_json:
        output.write_text(f"{json.dumps({'keys': [_as_json(key) for key in keys]}, indent=2)}\n")
        return
    if not keys:
        output.write_text("There are no keys.\n")
        return
    rows = [("NAME", "CREDITS", "A MINUTE", "PROVIDERS", "A DAY", "CREATED", "LAST USED", "CALLS", "PICTURES", "USD")]
    for key in keys:
        rows.append(
            (
                key.name,
                "revoked" if key.revoked else "no limit" if key.credits is None else f"{key.credits.normalize():f}",
                "no limit" if key.rate is None else str(key.rate),
                ", ".join(key.providers) or "local",
                "no limit" if key.budget is None else dollars(key.budget),
                _time(key.created)[:10],
                "never" if key.used is None else _time(key.used)[:10],
                str(key.calls),
                str(key.pictures),
                dollars(key.usd),
            )
        )
    print_table(rows)


def _as_json(key: ClientKey) -> dict[str, Any]:
    return {
        **key_as_json(key),
        "credits": None if key.credits is None else float(key.credits),
        "rate": key.rate,
        "providers": list(key.providers),
        "budget_usd": None if key.budget is None else float(key.budget),
        "created": _time(key.created),
        "used": None if key.used is None else _time(key.used),
        "revoked": key.revoked,
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
