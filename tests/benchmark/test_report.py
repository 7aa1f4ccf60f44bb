"""Benchmark reports: summary, HTML, CSV, JSON."""

import csv
import json
import re
import sys
from decimal import Decimal
from html.parser import HTMLParser

import pytest

from rmbg.benchmark.dataset import open_dataset
from rmbg.benchmark.journal import Journal
from rmbg.benchmark.report import render_report, to_csv, write_report
from rmbg.benchmark.run import run
from rmbg.benchmark.summary import bootstrap, mean_cost, summarize
from rmbg.billing.cost import Cost, dollars
from rmbg.providers import PROVIDERS
from rmbg.settings import Settings
from tests.benchmark.fakes import Fake, make_dataset

SETTINGS = Settings.from_environ({})


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Summary and report of three providers: a good one, one that misses a subject, one without a price that fails once."""
    root = tmp_path_factory.mktemp("report")
    fakes = [Fake("near", price="0.00001"), Fake("far", "remote", "0.02", nothing={"01"}), Fake("free", "remote", fail={"02"})]
    kept = dict(PROVIDERS)
    PROVIDERS.update({fake.info.id: fake for fake in fakes})
    try:
        dataset = open_dataset(make_dataset(root / "set"), settings=SETTINGS)
        journal = Journal(root / "out")
        run(dataset, [fake.info.id for fake in fakes], journal, settings=SETTINGS)
        summary = summarize(dataset, [fake.info.id for fake in fakes], journal)
        yield summary, write_report(summary, journal, settings=SETTINGS)
    finally:
        PROVIDERS.clear()
        PROVIDERS.update(kept)


def test_rows_are_sorted_and_count_their_pictures(report):
    summary, _ = report
    assert [row.provider for row in summary.rows] == ["free", "near", "far"]
    free, near, far = summary.rows
    assert (free.measured, free.failed, free.pictures) == (4, 2, 6)
    assert (free.usd, free.basis, free.monthly_usd) == (None, "unknown", None)
    assert (near.usd, near.basis, near.monthly_usd) == (Decimal("0.00001"), "estimated", 1)
    assert (far.usd, far.basis) == (Decimal("0.02"), "charged")
    assert far.means["composite"] == pytest.approx(100 * 2 / 3, abs=1)
    assert [row.pictures for row in summary.categories["shop"]] == [3, 3, 3]


def test_pictures_are_sorted_from_worst_to_best(report):
    summary, _ = report
    composites = [picture.composite for picture in summary.pictures]
    assert composites == sorted(composites)
    assert summary.pictures[0].sample.stem == "01"


def test_the_report_is_self_contained_and_well_formed(report):
    text = report[1].read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)""", text)
    assert "<script" not in text and "url(" not in text
    assert text.count("<img") == 2 * 6 + 6 + 4 + 4
    open_tags = []

    class Check(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "img", "br"):
                open_tags.append(tag)

        def handle_startendtag(self, tag, attrs):
            pass

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

    Check().feed(text)
    assert not open_tags


def test_published_results_are_kept_apart(report):
    text = report[1].read_text(encoding="utf-8")
    tables = re.findall(r"<table.*?</table>", text, re.DOTALL)
    with_published = [table for table in tables if "Remove.bg API" in table]
    assert len(with_published) == 1
    assert not any(name in with_published[0] for name in ("Near", "Far", "Free"))
    data = json.loads((report[1].parent / "results.json").read_text(encoding="utf-8"))
    assert [figure["composite"] for figure in data["published"]["figures"]] == [95, 93]
    assert {row["provider"] for row in data["leaderboard"]} == {"near", "far", "free"}


def test_csv_and_json_hold_every_result(report):
    lines = list(csv.DictReader((report[1].parent / "results.csv").read_text(encoding="utf-8-sig").splitlines()))
    assert len(lines) == 18
    assert {line["state"] for line in lines} == {"got", "nothing", "failed"}
    assert all((line["composite"] == "") == (line["state"] == "failed") for line in lines)
    free = [(line["state"], line["usd"]) for line in lines if line["provider"] == "free"]
    assert set(free) == {("got", ""), ("failed", "0")}, "an unknown price is empty; a failure that was not charged is zero"
    data = json.loads((report[1].parent / "results.json").read_text(encoding="utf-8"))
    assert len(data["results"]) == 18


@pytest.mark.skipif(sys.platform == "win32", reason="no such names there")
def test_names_from_a_data_set_cannot_inject_markup_or_formulas(report, tmp_path):
    root = make_dataset(tmp_path / "set", categories=("a<b>",), count=1)
    for kind in ("im", "gt"):
        (root / "a<b>" / kind / "00.png").rename(root / "a<b>" / kind / "=1+1<img src=x>.png")
    dataset = open_dataset(root, settings=SETTINGS)
    journal = Journal(tmp_path / "out")
    journal.add("near", dataset.samples[0], "failed", message="<script>")
    summary = summarize(dataset, ["near"], journal)
    text = render_report(summary, {"x": "<i>"}, "now", lambda picture: {"photo": None, "truth": None}, 10)
    assert not re.search(r"<(script|img|i|b)>|<img", text.partition("</head>")[2].replace("<b>–</b>", ""))
    assert "'=1+1" in to_csv(summary)


def test_unknown_prices_are_counted_and_never_zero():
    cents, unknown = Cost(Decimal("0.02"), "charged"), Cost(None, "unknown")
    assert mean_cost([cents, unknown, cents]) == (Decimal("0.02"), "charged, unknown for 1 of 3")
    assert mean_cost([unknown]) == (None, "unknown")
    assert mean_cost([cents, Cost(Decimal("0.04"), "listed")]) == (Decimal("0.03"), "charged and listed")
    assert (dollars(None), dollars(Decimal("0.0004")), dollars(Decimal(5000))) == ("–", "$0.0004", "$5,000")


def test_the_interval_covers_the_mean_and_narrows():
    few, many = bootstrap([80, 90] * 5), bootstrap([80, 90] * 500)
    assert few[0] < 85 < few[1] and many[0] < 85 < many[1]
    assert many[1] - many[0] < few[1] - few[0]
    assert bootstrap([80]) is None
