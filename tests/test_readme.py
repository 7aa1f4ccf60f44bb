"""The README says what is true: its table is the registry's, its front matter is what a Space needs, its names exist."""

from __future__ import annotations

import re
from pathlib import Path

import gradio
import yaml

from rmbg.commands import COMMANDS
from rmbg.commands.providers import markdown
from rmbg.providers import providers

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_of_providers_is_made_from_the_registry():
    table = re.search(r"<!-- providers:.*?-->\n(.*?)\n<!-- end of providers -->", README, re.DOTALL)
    assert table and table[1] == markdown(providers()), "run: python -m rmbg providers --markdown"


def test_front_matter_for_a_space():
    front = yaml.safe_load(README.split("---")[1])
    assert front["sdk"] == "gradio" and front["license"] == "mit"
    assert (ROOT / front["app_file"]).is_file()
    assert front["sdk_version"].split(".")[0] == gradio.__version__.split(".")[0]
    assert len(front["short_description"]) <= 60
    assert set(front["models"]) >= {"briaai/RMBG-1.4", "briaai/RMBG-2.0"}


def test_commands_that_are_named_exist():
    named = set(re.findall(r"python -m rmbg (\w+)", README))
    assert named and named <= set(COMMANDS)


def test_files_that_are_named_exist():
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


def test_two_commands_do_all_the_set_up():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"run", "test"} <= set(targets)
    assert "make run" in README and "make test" in README
