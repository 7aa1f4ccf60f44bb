"""``rmbg benchmark``: from a data set to a report."""

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


def test_a_report_a_table_and_nothing_paid_twice(tmp_path, capsys, fakes):
    out = tmp_path / "out"
    arguments = ["benchmark", str(make_dataset(tmp_path / "set", count=2)), "--providers", "near,far", "--out", str(out)]
    assert main(arguments) == 2
    assert "expected to cost about $0.08; add --yes" in capsys.readouterr().err
    assert main([*arguments, "--yes"]) == 0
    printed = capsys.readouterr()
    assert [line.split()[0] for line in printed.out.splitlines()] == ["PROVIDER", "Far", "Near"]
    assert f"the report is {out / 'report.html'}" in printed.err
    assert {"report.html", "results.csv", "results.json", "journal.jsonl"} <= {path.name for path in out.iterdir()}
    assert main([*arguments, "--json"]) == 0  # nothing is left to pay for, so nothing is asked
    assert json.loads(capsys.readouterr().out)["pictures"] == 4
    assert len(fakes["far"].calls) == 4


@pytest.mark.parametrize(
    ("dataset", "providers", "status", "words"),
    [
        ("missing", "near", 1, "There is no data set"),
        ("set", "nobody", 2, "no provider 'nobody'"),
        ("set", ",", 2, "names none"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path, capsys, dataset, providers, status, words):
    make_dataset(tmp_path / "set", count=1)
    assert main(["benchmark", str(tmp_path / dataset), "--providers", providers, "--out", str(tmp_path / "out")]) == status
    assert words in capsys.readouterr().err
