"""List the published networks and own models with use, size and license; get, remove or check their weights."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rmbg.cli import output
from rmbg.cli.download import download
from rmbg.cli.terminal import print_table
from rmbg.errors import NotReadyError, OptionError, alternatives
from rmbg.inference import own_models, weights
from rmbg.inference.inventory import Network, networks
from rmbg.runtime.cancellation import CancellationToken
from rmbg.runtime.messages import megabytes
from rmbg.settings import Settings

ACTIONS = ("get", "remove", "check")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        nargs="?",
        choices=ACTIONS,
        metavar="ACTION",
        help="get: download the weights of NAME; remove: delete the download, but no file in RMBG_WEIGHTS; "
        "check: compare its checksum, or find the architecture of an own model; without ACTION, all networks are listed",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="id of a network")
    parser.add_argument("--json", action="store_true", help="print the list as one JSON object")


def run(arguments: argparse.Namespace, token: CancellationToken) -> None:
    settings = Settings.from_environ()
    found = networks(settings)
    if arguments.action is None:
        _list(found, as_json=arguments.json)
        return
    if arguments.json:
        raise OptionError("--json is for the list of the networks. Omit it.")
    models = {network.model.id: network.model for network in found}
    if arguments.name not in models:
        known = alternatives(arguments.name or "", models)
        raise OptionError(
            f"{arguments.action} needs the id of a network; choose from {known}."
            if arguments.name is None
            else f"{arguments.name!r} has no weights to download; choose from {known}."
        )
    model = models[arguments.name]
    if model.path is not None and arguments.action != "check":
        raise NotReadyError(f"{model.id} is your own file {model.path}. Replace or delete it yourself.")
    if arguments.action == "get":
        download(model, settings)
    elif arguments.action == "remove":
        size = weights.remove(model, settings)
        output.write_text(f"Deleted the weights of {model.id} ({megabytes(size)}).\n")
    else:
        checked = weights.check(model, settings)
        if model.path is not None:
            checked += f" Its architecture is {own_models.find_candidates(model.path, {})[0].network}."
        output.write_text(f"{checked}\n")


def _list(found: list[Network], *, as_json: bool) -> None:
    total = sum(network.size for network in found)
    if as_json:
        output.write_text(f"{json.dumps({'models': [_as_json(network) for network in found], 'bytes': total}, indent=2)}\n")
        return
    rows = [("ID", "BEST FOR", "SIZE", "LICENSE", "ON DISK", "SECONDS")]
    for network in found:
        model, seconds = network.model, "" if network.seconds is None else f"{network.seconds:.2f}"
        rows.append(
            (
                model.id,
                network.use,
                f"{model.megabytes} MB",
                model.short_license,
                "no" if network.path is None else "yes",
                seconds,
            )
        )
    print_table(rows)
    count = sum(network.path is not None for network in found)
    output.write_text(f"{count} of {len(found)} networks are on this machine and use {megabytes(total)}.\n")


def _as_json(network: Network) -> dict[str, Any]:
    model = network.model
    return {
        **{name: getattr(model, name) for name in ("id", "title", "best_for", "megabytes")},
        "network": model.network,
        "score": network.score,
        "licence": model.license,
        "licence_url": model.license_url,
        "path": None if network.path is None else str(network.path),
        "bytes": network.size,
        "seconds": network.seconds,
    }
