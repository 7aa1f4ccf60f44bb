"""Write the pages of the reference that are made from the code; ``python -m docs.generate`` after a change of options.

``tests/test_docs.py`` compares the pages with the code.
"""

from __future__ import annotations

import argparse
import inspect
import re
from pathlib import Path
from typing import Any

from rmbg.billing.quote import PRICES
from rmbg.cli.app import COMMANDS, parser
from rmbg.providers import PROVIDERS
from rmbg.providers.base import Option
from rmbg.rest.openapi import FACTS, HEADERS
from rmbg.rest.parameters import PARAMETERS
from rmbg.rest.removebg import CODES

FOLDER = Path(__file__).resolve().parent / "reference"


def command_line() -> str:
    """Return the page of the command line: the arguments of each command."""
    parts = ["# Command line", "`rmbg COMMAND`, or `python -m rmbg COMMAND`. Exit status: 0 done, 1 failed, 2 wrong usage."]
    for name, summary in COMMANDS.items():
        top = parser([name])
        (commands,) = (action for action in top._actions if isinstance(action, argparse._SubParsersAction))
        rows = ["| argument | meaning |", "|---|---|"]
        for action in commands.choices[name]._actions:
            if action.dest == "help" or action.help == argparse.SUPPRESS:
                continue
            value = action.metavar or (
                "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper()
            )
            words = ", ".join(action.option_strings) or str(value)
            given = f" {value}" if action.option_strings and action.nargs != 0 else ""
            text = (action.help or "") % {**vars(action), "prog": "rmbg"}
            rows.append(f"| `{words}{given}` | {_cell(text)} |")
        parts += [f"## {name}", _sentence(summary), "\n".join(rows) if len(rows) > 2 else "No arguments."]
    return _page(parts)


def providers() -> str:
    """Return the page of the providers: their facts, and their options with ranges and defaults."""
    parts = ["# Providers", "`--option NAME=VALUE` sets an option on the command line, and `options` a JSON object in the API."]
    for provider in PROVIDERS.values():
        info = provider.info
        facts = [f"Id `{info.id}`, {'on this machine' if info.kind == 'local' else 'a remote service'}. Model: {info.model}."]
        facts += [f"Best for: {info.best_for}."] if info.best_for else []
        facts += [f"Input: {info.input_size}."] if info.input_size else []
        facts += [f"Key: `{info.key_name}`."] if info.key_name else []
        facts += [f"Price read in {info.price_seen}."] if info.price_seen else []
        facts += [info.license, info.pixels]
        parts += [f"## {info.title}", " ".join(facts)]
        if info.options:
            rows = ["| option | values | default | meaning |", "|---|---|---|---|"]
            rows += [
                f"| `{o.name}` | {_values(o)} | {_cell(f'`{o.default}`' if o.default not in ('', None) else 'none')} "
                f"| {_cell(o.title if not o.help else f'{o.title}: {o.help}')} |"
                for o in info.options
            ]
            parts.append("\n".join(rows))
    rows = ["| price | dollars | read in |", "|---|---|---|"]
    rows += [f"| `{name}` | {price.usd or 'not listed'} | {price.seen} |" for name, price in PRICES.items()]
    return _page([*parts, "## Price list", "\n".join(rows)])


def api() -> str:
    """Return the page of the API: endpoints, MCP tools and their parameters."""
    from rmbg.ui.app import build

    app = build()
    documents = {f"/{fn.api_name}": inspect.getdoc(fn.fn) or "" for fn in app.fns.values() if fn.api_name}
    build_info: dict[str, Any] = app.get_api_info()["named_endpoints"]
    parts = ["# HTTP API", "The endpoints of the Gradio API. The MCP tools have the same parameters."]
    for name, endpoint in sorted(build_info.items()):
        help_of = dict(re.findall(r"^    (\w+): (.+)$", documents[name], re.MULTILINE))
        rows = ["| parameter | type | default | meaning |", "|---|---|---|---|"]
        for parameter in endpoint["parameters"]:
            default = f"`{parameter['parameter_default']!r}`" if parameter["parameter_has_default"] else "required"
            label = parameter["parameter_name"]
            cells = (f"`{label}`", parameter["python_type"]["type"], default, help_of.get(label, ""))
            rows.append("| " + " | ".join(map(_cell, cells)) + " |")
        text = inspect.cleandoc(endpoint.get("description") or "")
        parts += [f"## {name}", text.partition("\n\n")[0], "\n".join(rows) if len(rows) > 2 else "No parameters."]
    return _page(parts)


def rest() -> str:
    """Return the page of remove.bg's API: its parameters, headers and errors."""
    parts = [
        "# remove.bg's API",
        "`POST /v1.0/removebg` takes JSON, urlencoded and multipart bodies. `GET /v1.0/account` returns the credits of the "
        "key, `POST /v1.0/improve` stores nothing, and `GET /v1.0/openapi.json` describes all of it. "
        "[How to use it](../how-to/removebg-api.md).",
    ]
    groups = (
        ("Parameters of remove.bg", [p for p in PARAMETERS if p.used and not p.name.startswith("rmbg_")]),
        ("Parameters without effect", [p for p in PARAMETERS if not p.used]),
        ("Parameters of this server", [p for p in PARAMETERS if p.name.startswith("rmbg_")]),
    )
    for title, parameters in groups:
        rows = ["| parameter | values | default | meaning |", "|---|---|---|---|"]
        for p in parameters:
            default = _cell(f"`{p.default}`") if p.default != "" else "none"
            rows.append(f"| `{p.name}` | {'file' if p.file else _values(p)} | {default} | {_cell(p.help)} |")
        parts += [f"## {title}", "\n".join(rows)]
    parts.append("All other parameters are ignored.")
    rows = ["| status | code | title |", "|---|---|---|"]
    rows += [f"| {status} | `{code}` | {title} |" for code, (status, title) in CODES.items()]
    rows.append("| 400 | `invalid_` and the name | The value of a parameter is invalid |")
    parts += [
        "## Response",
        "The picture, or with `Accept: application/json` an object `data` with the fields `result_b64`, "
        + ", ".join(f"`{name}`" for name in FACTS)
        + ". They and the headers `X-Foreground-*` are the bounding box of the subject in the picture at the size of the "
        "result, before a crop or a new place. The headers:",
        ", ".join(f"`{name}`" for name in HEADERS) + ".",
        "## Errors",
        'The body is `{"errors": [{"title", "code", "detail"}]}`, and `Retry-After` is sent with 429 and 503.',
        "\n".join(rows),
    ]
    return _page(parts)


PAGES = {"command-line.md": command_line, "providers.md": providers, "api.md": api, "rest.md": rest}


def _values(option: Option) -> str:
    if option.choices:
        return _cell(", ".join(f"`{choice}`" for choice in option.choices))
    if option.minimum is not None or option.maximum is not None:
        return f"{option.kind}, {option.minimum} to {option.maximum}"
    return "true or false" if option.kind == "bool" else option.kind


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _page(parts: list[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def main() -> None:
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
