"""A benchmark without results has exit status 1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.benchmark.fakes import make_dataset
from tests.command import PATIENCE, message, start
from tests.remote import environment
from tests.servers.fal import Fal
from tests.servers.web import until


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "set", categories=("shop",))


def ended(process: Any) -> tuple[int, bytes, bytes]:
    out, error = process.communicate(timeout=PATIENCE)
    return process.returncode, out, error


def test_run_killed_before_its_first_result(dataset, tmp_path):
    """Requests in flight may have been charged, so the next run does not repeat them and has no results."""
    out = tmp_path / "out"
    words = ("benchmark", dataset, "--providers", "fal-rmbg-2.0", "--out", out, "--yes")
    with Fal() as fal:
        fal.polls = 1_000_000
        more = environment(fal, tmp_path / "data", RMBG_REMOTE_SECONDS="100")
        with start(*words, environment=more) as process:
            assert until(lambda: len(fal.jobs) == 3, PATIENCE)
            process.kill()
        lines = [json.loads(line)["event"] for line in (out / "journal.jsonl").read_text().splitlines()]
        assert [line for line in lines if line != "conditions"] == ["sent"] * 3
        fal.polls = 1
        status, printed, error = ended(start(*words, environment=more))
        assert (status, printed) == (1, b"") and "--retry" in message(error)
        assert len(fal.jobs) == 3
        status, printed, error = ended(start(*words, "--retry", environment=more))
        assert status == 0 and b"3 of 3" in printed and len(fal.jobs) == 6


def test_service_that_rejects_all_requests(dataset, tmp_path):
    with Fal() as fal:
        fal.key = "another"
        more = environment(fal, tmp_path / "data")
        words = ("benchmark", dataset, "--providers", "fal-rmbg-2.0", "--out", tmp_path / "out", "--yes", "--json")
        status, printed, error = ended(start(*words, environment=more))
    assert (status, printed) == (1, b"")
    assert "None of the 3 pictures was measured" in message(error) and "fal" in message(error)
