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
