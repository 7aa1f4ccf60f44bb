"""The help text of each command, and the fields of each JSON output, are those of the files in ``snapshots``.

``SNAPSHOTS=write python -m pytest tests/cli/test_snapshots.py`` writes them anew after an intended change.
"""

from __future__ import annotations

import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from rmbg.billing.client_keys import ClientKeys
from rmbg.cli.app import COMMANDS
from rmbg.settings import Settings
from tests.benchmark.fakes import make_dataset
from tests.command import save_scene
from tests.remote import environment
from tests.servers.fal import Fal

FOLDER = Path(__file__).with_name("snapshots")


def check(name: str, text: str) -> None:
    """Compare a text with its snapshot, or write it."""
    path = FOLDER / name
    if os.environ.get("SNAPSHOTS") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{name} has changed. If that is intended, run with SNAPSHOTS=write."


def fields(value: Any) -> Any:
    """Return the names and types of a JSON value; a list has those of its first element."""
    if isinstance(value, dict):
        return {name: fields(inner) for name, inner in sorted(value.items())}
    if isinstance(value, list):
        return [fields(inner) for inner in value[:1]]
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


@pytest.mark.parametrize("command", COMMANDS)
def test_help(rmbg, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "100")
    status, printed, _ = rmbg(command, "--help")
    assert status == 0
    # Versions of Python break lines at other places.
    check(f"{command}.txt", " ".join(printed.split()).replace(" --", "\n--") + "\n")


@pytest.mark.parametrize(
    "command", ["remove", "compare", "batch", "benchmark", "providers", "models", "prices", "spent", "replace", "keys"]
)
def test_json(rmbg, monkeypatch, tmp_path, command):
    (tmp_path / "in").mkdir()
    photo = save_scene(tmp_path / "in" / "photo.png")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))  # without weights
    arguments: dict[str, list[object]] = {
        "remove": [photo, tmp_path / "out.png", "--provider", "builtin"],
        "compare": [photo, "--providers", "builtin,builtin", "--out", tmp_path / "out"],
        "batch": [tmp_path / "in", tmp_path / "out", "--provider", "builtin"],
        "benchmark": [make_dataset(tmp_path / "set"), "--providers", "builtin", "--out", tmp_path / "out"],
        "providers": [],
        "models": [],
        "prices": [],
        "spent": [],
        "replace": [photo, tmp_path / "out.png", "--prompt", "on a table"],
        "keys": ["list"],
    }
    with Fal() as service:
        for name, value in environment(service, tmp_path / "data").items():
            monkeypatch.setenv(name, value)
        if command == "spent":
            assert rmbg("replace", *arguments["replace"])[0] == 0
        if command in ("spent", "keys"):
            keys = ClientKeys(Settings.from_environ())
            keys.create("acme", Decimal(10), 60, ("builtin",), Decimal(1))
            keys.reserve("acme")
        status, printed, error = rmbg(command, *arguments[command], "--json")
    assert status == 0, error
    check(f"{command}.json", json.dumps(fields(json.loads(printed)), indent=2) + "\n")
