"""Messages and exit statuses of the vulnerability check."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.audit import reported

PROBLEM = {"id": "PYSEC-2026-1", "fix_versions": ["1.2"], "description": "bad"}
FINE = {"name": "fine", "version": "1.0", "vulns": []}


@pytest.mark.parametrize(
    ("packages", "status", "words"),
    [
        ([FINE], 0, "1 packages checked, 0 with known"),
        ([FINE, {"name": "worn", "version": "1.1", "vulns": [PROBLEM]}], 1, "worn 1.1: PYSEC-2026-1, fixed in 1.2"),
        ([FINE, {"name": "own", "skip_reason": "not on the index"}], 0, "Not in the database: own."),
        ([{"name": "own", "skip_reason": "not on the index"}], 0, "Skipped: the package index has no"),
    ],
)
def test_reports(capsys, packages, status, words):
    assert reported(packages) == status
    assert words in capsys.readouterr().out


@pytest.mark.slow
def test_without_an_index_it_is_skipped_with_a_sentence(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    python = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    nowhere = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    nowhere |= {"PYTHONPATH": sysconfig.get_path("purelib")}  # has pip
    nowhere |= {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull}
    script = Path(__file__).with_name("audit.py")
    done = subprocess.run([python, script], env=nowhere, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        done.stdout == "Skipped: pip-audit cannot be installed. Run make audit again with a connection to the package index.\n"
    )
