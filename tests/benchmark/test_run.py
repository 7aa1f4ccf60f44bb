"""Benchmark runs: results, resuming, retries, failures, cancellation, progress."""

import json
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from rmbg.benchmark import journal as journal_module
from rmbg.benchmark.dataset import open_dataset
from rmbg.benchmark.journal import Journal
from rmbg.benchmark.run import ProgressTracker, expected_charge, format_duration, run
from rmbg.billing.cost import Cost
from rmbg.billing.quote import Estimate
from rmbg.errors import CancelledError, NotReadyError, ServiceError
from rmbg.providers import PROVIDERS
from rmbg.providers.base import Status
from rmbg.settings import Settings
from tests.benchmark.fakes import Fake, make_dataset
from tests.servers.web import until

SETTINGS = Settings.from_environ({})


@pytest.fixture
def dataset(tmp_path):
    return open_dataset(make_dataset(tmp_path / "set"), settings=SETTINGS)


@pytest.fixture
def add(monkeypatch):
    def adder(*fakes):
        for fake in fakes:
            monkeypatch.setitem(PROVIDERS, fake.info.id, fake)
        return fakes

    return adder


def test_every_picture_gets_a_result_with_scores(dataset, add, tmp_path):
    add(Fake("near"), Fake("far", "remote", "0.02"))
    journal = Journal(tmp_path / "out")
    run(dataset, ["near", "far"], journal, settings=SETTINGS)
    for name in ("near", "far"):
        results = Journal(tmp_path / "out").results(name, dataset.samples)
        assert [result.id for result in results] == [sample.id for sample in dataset.samples]
        assert all(result.state == "got" and result.scores["composite"] > 99 for result in results)
        assert results == journal.results(name, dataset.samples)
    assert results[0].cost.usd == Decimal("0.02") and results[0].cost.basis == "charged"


def test_a_second_run_calls_no_provider(dataset, add, tmp_path):
    near, far = add(Fake("near"), Fake("far", "remote", "0.02"))
    assert expected_charge(dataset, ["near", "far"], Journal(tmp_path / "out"), SETTINGS) == Estimate(Decimal("0.12"))
    run(dataset, ["near", "far"], Journal(tmp_path / "out"), settings=SETTINGS)
    assert len(near.calls) == 7 and len(far.calls) == 6  # a local network warms up on one picture
    run(dataset, ["near", "far"], Journal(tmp_path / "out"), settings=SETTINGS)
    assert len(near.calls) == 7 and len(far.calls) == 6
    assert expected_charge(dataset, ["near", "far"], Journal(tmp_path / "out"), SETTINGS) == Estimate()


def test_scores_of_older_formulas_are_computed_again_from_the_mattes(dataset, add, tmp_path, monkeypatch):
    (far,) = add(Fake("far", "remote", "0.02"))
    run(dataset, ["far"], Journal(tmp_path / "out"), settings=SETTINGS)
    monkeypatch.setattr(journal_module, "FORMULA_VERSION", 99)
    journal = Journal(tmp_path / "out")
    assert all(result.scores is None for result in journal.results("far", dataset.samples))
    run(dataset, ["far"], journal, settings=SETTINGS)
    assert len(far.calls) == 6
    assert all(result.scores for result in journal.results("far", dataset.samples))


def test_a_journal_on_disk_is_read(dataset, add, tmp_path):
    """The names of events and fields are a file format: folders of earlier versions must resume."""
    (far,) = add(Fake("far", "remote", "0.02"))
    first, second = (sample.digest for sample in dataset.samples[:2])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "journal.jsonl").write_text(
        f'{{"provider": "far", "digest": "{first}", "event": "sent", "category": "people", "stem": "00"}}\n'
        f'{{"provider": "far", "digest": "{first}", "event": "got", "category": "people", "stem": "00", "seconds": 0.25, '
        '"engine": "fake", "device": "cpu", "precision": "fp32", "usd": "0.02", "basis": "charged"}\n'
        f'{{"provider": "far", "digest": "{first}", "event": "scored", "formulas": 1, "scores": {{"composite": 88.5}}}}\n'
        f'{{"provider": "far", "digest": "{second}", "event": "nothing", "category": "people", "stem": "01", '
        '"message": "Nothing there.", "usd": "0", "basis": "charged"}\n'
    )
    got, nothing = Journal(tmp_path / "out").results("far", dataset.samples)
    assert (got.state, got.precision, got.scores) == ("got", "fp32", {"composite": 88.5})
    assert got.seconds is None, "the machine is unknown"
    assert got.cost == Cost(Decimal("0.02"), "charged")
    assert (nothing.state, nothing.completed, nothing.message) == ("nothing", True, "Nothing there.")
    run(dataset, ["far"], Journal(tmp_path / "out"), settings=SETTINGS)
    assert len(far.calls) == len(dataset.samples) - 2


def test_a_killed_run_resumes(dataset, tmp_path, monkeypatch):
    """The process is killed by SIGKILL while a paid provider runs."""
    monkeypatch.setitem(PROVIDERS, "far", Fake("far", "remote", "0.02"))
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys, time; sys.path.insert(0, {str(Path(__file__).resolve().parents[2])!r})\n"
        "from tests.benchmark.fakes import Fake\n"
        "from rmbg.providers import PROVIDERS\n"
        "from rmbg.benchmark import dataset, journal, run\n"
        "class Killed(Fake):\n"
        "    def cut(self, *arguments):\n"
        "        if sys.argv[1:] and len(self.calls) == 2:\n"
        "            time.sleep(600)\n"
        "        return super().cut(*arguments)\n"
        "fake = Killed('far', 'remote', '0.02')\n"
        "PROVIDERS['far'] = fake\n"
        "run.CONCURRENT_REQUESTS = 1\n"
        f"run.run(dataset.open_dataset({str(tmp_path / 'set')!r}), ['far'], journal.Journal({str(tmp_path / 'out')!r}))\n"
        "print(len(fake.calls))\n"
    )
    path = tmp_path / "out" / "journal.jsonl"
    first = subprocess.Popen([sys.executable, str(script), "to be killed"])
    assert until(lambda: path.exists() and path.read_bytes().count(b'"sent"') == 3, 180)
    first.kill()
    assert first.wait() == (-signal.SIGKILL if hasattr(signal, "SIGKILL") else 1)
    before = Journal(tmp_path / "out").results("far", dataset.samples)
    answered, sent = [r for r in before if r.completed], [r for r in before if r.state == "sent"]
    assert len(answered) == 2 and len(sent) == 1
    path.write_bytes(path.read_bytes() + b'{"provider": "far", "digest"')  # an incomplete line, as left by a full disk
    second = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert int(second.stdout) == len(dataset.samples) - len(before)
    after = Journal(tmp_path / "out").results("far", dataset.samples)
    assert [r.state for r in after].count("got") == len(dataset.samples) - len(sent)
    assert all(r.scores for r in after if r.completed)
    assert all(json.loads(line) for line in path.read_bytes().splitlines() if not line.endswith(b'"digest"'))


def test_failures_are_retried_only_if_that_is_free(dataset, add, tmp_path):
    charged = ServiceError("The answer got lost.")
    charged.cost = Cost(None, "unknown")
    fakes = add(
        Fake("near", fail={"01"}),
        Fake("far", "remote", "0.02", fail={"01"}, error=charged),
        Fake("refusing", "remote", "0.02", fail={"01"}),
    )
    ids = [fake.info.id for fake in fakes]
    run(dataset, ids, Journal(tmp_path / "out"), settings=SETTINGS)
    assert [result.state for result in Journal(tmp_path / "out").results("far", dataset.samples)] == [
        "got",
        "failed",
        "got",
    ] * 2
    for fake in fakes:
        fake.fail = ()
        fake.calls.clear()
    run(dataset, ids, Journal(tmp_path / "out"), settings=SETTINGS)
    _, far, refusing = fakes
    assert (far.calls, refusing.calls) == ([], ["01", "01"])
    assert all(result.state == "got" for result in Journal(tmp_path / "out").results("near", dataset.samples))
    run(dataset, ["far"], Journal(tmp_path / "out"), settings=SETTINGS, retry=True)
    assert far.calls == ["01", "01"]


def test_a_failing_provider_is_abandoned_and_the_others_continue(add, tmp_path):
    dataset = open_dataset(make_dataset(tmp_path / "set", count=8), settings=SETTINGS)
    near, far = add(Fake("near"), Fake("far", "remote", "0.02", fail={f"0{i}" for i in range(8)}))
    run(dataset, ["near", "far"], Journal(tmp_path / "out"), settings=SETTINGS)
    assert len(near.calls) == 17
    assert 5 <= len(far.calls) <= 8


def test_an_exception_in_one_provider_does_not_end_the_run(dataset, add, tmp_path):
    add(
        Fake("near"),
        Fake("odd", fail={"01"}, error=ZeroDivisionError("secret")),
        Fake("far", "remote", "0.02", fail={"01"}, error=ZeroDivisionError("secret")),
    )
    journal = Journal(tmp_path / "out")
    run(dataset, ["near", "odd", "far"], journal, settings=SETTINGS)
    assert all(result.state == "got" for result in journal.results("near", dataset.samples))
    for name, usd in (("odd", 0), ("far", None)):
        results = journal.results(name, dataset.samples)
        assert [result.state for result in results] == ["got", "failed", "got"] * 2
        assert results[1].cost.usd == usd  # the service may have charged it
        assert results[1].message == f"{name.title()} failed because of an internal error; see the log."


def test_no_subject_is_scored_as_an_empty_matte(dataset, add, tmp_path):
    add(Fake("near", nothing={"01"}))
    journal = Journal(tmp_path / "out")
    run(dataset, ["near"], journal, settings=SETTINGS)
    composites = [result.scores["composite"] for result in journal.results("near", dataset.samples)]
    assert composites == [100, 0, 100] * 2 or composites == pytest.approx([100, 0, 100] * 2, abs=1)


def test_remote_providers_run_in_parallel_and_local_ones_do_not(dataset, add, tmp_path):
    near, far = add(Fake("near", wait=0.03), Fake("far", "remote", "0.02", wait=0.1))
    run(dataset, ["near", "far"], Journal(tmp_path / "out"), settings=SETTINGS)
    assert near.most_at_once == 1
    assert 1 < far.most_at_once <= 4


def test_nothing_is_sent_if_one_provider_is_not_ready(dataset, add, tmp_path):
    near, _ = add(Fake("near"), Fake("far", "remote", "0.02", status=Status("key", "it needs a key, FAR_KEY")))
    with pytest.raises(NotReadyError, match="Far is not ready: it needs a key"):
        run(dataset, ["near", "far"], Journal(tmp_path / "out"), settings=SETTINGS)
    assert near.calls == []


def test_cancelling_keeps_the_results_so_far(dataset, add, tmp_path):
    add(Fake("near", wait=0.05))
    journal = Journal(tmp_path / "out")
    with pytest.raises(CancelledError, match=r"^Stopped\. The results so far are kept, and the next run resumes"):
        run(dataset, ["near"], journal, settings=SETTINGS, cancelled=lambda: len(journal.results("near", dataset.samples)) >= 2)
    assert 2 <= len(Journal(tmp_path / "out").results("near", dataset.samples)) < 6


def test_the_remaining_time_adds_local_jobs_and_takes_the_slowest_remote_one():
    reports = []
    tracker = ProgressTracker(lambda fraction, text: reports.append((fraction, text)))
    tracker.add("A", 10, 2.0, 1, "local")
    tracker.add("B", 10, 3.0, 1, "local")
    tracker.add("C", 10, 20.0, 4, "remote")
    tracker.add("Measuring", 30, 1.0, 2, "scoring")
    tracker.report()
    assert reports[-1] == (0.0, "A 0 of 10, B 0 of 10, C 0 of 10, about 65 s left")
    for _ in range(10):
        tracker.advance("A", 1.0)
    tracker.abandon("C")
    tracker.report()
    assert reports[-1] == (0.2, "B 0 of 10, about 45 s left")
    assert [format_duration(s) for s in (0.2, 89, 600, 9000)] == ["about 1 s", "about 89 s", "about 10 min", "about 2 h"]
