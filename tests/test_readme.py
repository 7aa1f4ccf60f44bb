"""The README matches the package: provider table, Space front matter, commands and file names."""

from __future__ import annotations

import re
from pathlib import Path

import gradio
import yaml

from rmbg.cli.app import COMMANDS
from rmbg.cli.providers import markdown
from rmbg.providers import list_providers

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_provider_table_matches_the_registry():
    table = re.search(r"<!-- providers:.*?-->\n(.*?)\n<!-- end of providers -->", README, re.DOTALL)
    assert table and table[1] == markdown(list_providers()), "run: python -m rmbg providers --markdown"


def test_front_matter_is_valid_for_a_space():
    front = yaml.safe_load(README.split("---")[1])
    assert front["sdk"] == "gradio" and front["license"] == "mit"
    assert (ROOT / front["app_file"]).is_file()
    assert front["sdk_version"].split(".")[0] == gradio.__version__.split(".")[0]
    assert len(front["short_description"]) <= 60
    assert set(front["models"]) >= {"briaai/RMBG-1.4", "briaai/RMBG-2.0"}


def test_mentioned_commands_exist():
    mentioned = set(re.findall(r"python -m rmbg (\w+)", README))
    assert mentioned and mentioned <= set(COMMANDS)


def test_linked_files_exist():
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


def test_make_run_and_make_test_are_documented():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"run", "test"} <= set(targets)
    assert "make run" in README and "make test" in README
