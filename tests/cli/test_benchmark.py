"""``rmbg benchmark``: report, table, consent, resumption, errors."""

from __future__ import annotations

import json

import pytest

from rmbg.__main__ import main
from rmbg.providers import PROVIDERS
from tests.benchmark.fakes import Fake, make_dataset


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    made = [Fake("near"), Fake("far", "remote", "0.02")]
    for fake in made:
        monkeypatch.setitem(PROVIDERS, fake.info.id, fake)
    return {fake.info.id: fake for fake in made}


def test_report_and_table_and_resumption_without_a_second_charge(tmp_path, capsys, fakes):
    out = tmp_path / "out"
    arguments = ["benchmark", str(make_dataset(tmp_path / "set", count=2)), "--providers", "near,far", "--out", str(out)]
    assert main(arguments) == 2
    assert "expected to cost about $0.08; add --yes" in capsys.readouterr().err
    assert main([*arguments, "--yes"]) == 0
    printed = capsys.readouterr()
    assert [line.split()[0] for line in printed.out.splitlines()] == ["PROVIDER", "Far", "Near"]
    assert f"Report: {out / 'report.html'}" in printed.err
    assert {"report.html", "results.csv", "results.json", "journal.jsonl"} <= {path.name for path in out.iterdir()}
    assert main([*arguments, "--json"]) == 0  # complete: no charge and no confirmation
    assert json.loads(capsys.readouterr().out)["pictures"] == 4
    assert len(fakes["far"].calls) == 4


@pytest.mark.parametrize(
    ("dataset", "providers", "status", "message"),
    [
        ("missing", "near", 1, "There is no data set"),
        ("set", "missing", 2, "no provider 'missing'"),
        ("set", ",", 2, "--providers is empty"),
    ],
)
def test_error_message_and_exit_status(tmp_path, capsys, dataset, providers, status, message):
    make_dataset(tmp_path / "set", count=1)
    assert main(["benchmark", str(tmp_path / dataset), "--providers", providers, "--out", str(tmp_path / "out")]) == status
    assert message in capsys.readouterr().err
