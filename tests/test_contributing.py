"""CONTRIBUTING.md names files and packages that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_named_files_exist():
    paths = set(re.findall(r"\b(?:rmbg|tests|train|benchmarks|examples)/[\w./]*\w", TEXT))
    assert len(paths) > 30
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("package", sorted(path.parent.name for path in (ROOT / "rmbg").glob("*/__init__.py")))
def test_every_package_is_in_the_layout(package):
    assert f"\n      {package}/ " in TEXT


@pytest.mark.parametrize("folder", ["benchmarks", "train", "rmbg/inference", "rmbg/providers", "rmbg/benchmark"])
def test_files_in_the_tables_of_other_pages_exist(folder):
    rows = re.findall(r"^\| (`[^|]*`) \|", (ROOT / folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    names = {name for row in rows for name in re.findall(r"`([\w/]+(?:\.py|/))`", row)}
    assert len(names) > 5
    assert [name for name in sorted(names) if not (ROOT / folder / name).exists()] == []
