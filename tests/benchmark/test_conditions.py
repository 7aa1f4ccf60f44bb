"""Conditions of results: each change has the pictures computed again, and no report has figures of other conditions."""

import json
from dataclasses import asdict, replace
from decimal import Decimal

import pytest
import torch
from safetensors.torch import save_file

from rmbg.benchmark import journal
from rmbg.benchmark import journal as conditions_module
from rmbg.benchmark import report as report_files
from rmbg.benchmark.dataset import open_dataset
from rmbg.benchmark.journal import Journal
from rmbg.benchmark.report import write_report
from rmbg.benchmark.run import expected_charge, run
from rmbg.benchmark.summary import summarize, unknown_charges
from rmbg.billing.quote import Estimate
from rmbg.errors import CancelledError
from rmbg.net.client import ServiceClient
from rmbg.providers import PROVIDERS, find
from rmbg.providers.base import Execution, Option, Status
from rmbg.settings import Settings
from rmbg.ui.languages import speaking, t
from tests.benchmark.fakes import Fake, make_dataset
from tests.remote import settings as service_settings
from tests.remote import short_delays  # noqa: F401 - a fixture
from tests.servers.fal import Fal

SETTINGS = Settings.from_environ({})
HERE = Execution("weights-1", "torch", "cpu", "fp32")


class Local(Fake):
    """Local provider with a known network."""

    execution = HERE

    def executions(self, settings):
        return (self.execution,)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return open_dataset(make_dataset(tmp_path_factory.mktemp("data") / "set", categories=("shop",), count=2), settings=SETTINGS)


@pytest.fixture
def near(monkeypatch):
    fake = Local("near", price="0.00001")
    monkeypatch.setitem(PROVIDERS, "near", fake)
    return fake


@pytest.fixture
def far(monkeypatch):
    fake = Fake("far", "remote", "0.02")
    monkeypatch.setitem(PROVIDERS, "far", fake)
    return fake


def measure(dataset, folder, name, settings=SETTINGS):
    """Run a benchmark in a new process' journal; returns its summary and report."""
    journal = Journal(folder, settings)
    run(dataset, [name], journal, settings=settings)
    summary = summarize(dataset, [name], journal)
    page = write_report(summary, journal, settings=settings)
    return summary, json.loads((page.parent / "results.json").read_text())


def new_options(monkeypatch, fake):
    monkeypatch.setattr(fake, "info", replace(fake.info, options=(Option("grid", "Grid", 16),)))


def new_execution(**changes):
    return lambda monkeypatch, fake: monkeypatch.setattr(fake, "execution", replace(HERE, **changes))


def new_machine(monkeypatch, fake):
    for module in (journal, report_files):
        monkeypatch.setattr(module, "describe", lambda: {"Processor": "another one"})


CHANGES = {
    "options": new_options,
    "revision": new_execution(revision="weights-2"),
    "engine": new_execution(engine="openvino"),
    "device": new_execution(device="cuda:0"),
    "precision": new_execution(precision="bf16"),
    "version": lambda monkeypatch, fake: monkeypatch.setattr(conditions_module, "__version__", "99"),
    "code": lambda monkeypatch, fake: monkeypatch.setattr(conditions_module, "source_checksum", lambda: "other"),
    "machine": new_machine,
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_has_local_pictures_computed_again(dataset, near, tmp_path, monkeypatch, change):
    measure(dataset, tmp_path / "out", "near")
    measure(dataset, tmp_path / "out", "near")
    assert len(near.calls) == 3  # one for the warm-up
    with monkeypatch.context() as patch:
        CHANGES[change](patch, near)
        near.seconds = 0.75
        summary, report = measure(dataset, tmp_path / "out", "near")
        assert len(near.calls) == 6
        assert summary.rows[0].seconds == 0.75 and {result["seconds"] for result in report["results"]} == {0.75}
        assert report["machine"] == journal.describe()
    summary, _ = measure(dataset, tmp_path / "out", "near")
    assert len(near.calls) == 6, "the earlier conditions are back, and so are their results"
    assert summary.rows[0].seconds == 0.25


def test_another_price_of_an_hour_is_another_machine(dataset, near, tmp_path):
    measure(dataset, tmp_path / "out", "near")
    measure(dataset, tmp_path / "out", "near", replace(SETTINGS, hourly_usd=Decimal(3)))
    assert len(near.calls) == 6


def test_mattes_of_other_conditions_are_kept_apart(dataset, near, tmp_path, monkeypatch):
    measure(dataset, tmp_path / "out", "near")
    (sample, *_), first = dataset.samples, Journal(tmp_path / "out", SETTINGS)
    before = first.matte("near", sample)
    monkeypatch.setattr(near, "execution", replace(HERE, revision="weights-2"))
    journal = Journal(tmp_path / "out", SETTINGS)
    journal.save_matte("near", sample, 255 - before)
    journal.add("near", sample, "got", seconds=1.0)
    assert (journal.matte("near", sample) == 255 - before).all()
    assert (first.matte("near", sample) == before).all()


@pytest.mark.parametrize("change", ["options", "version"])
def test_answers_of_services_are_paid_for_again_after_consent_only(dataset, far, tmp_path, monkeypatch, change):
    measure(dataset, tmp_path / "out", "far")
    assert not expected_charge(dataset, ["far"], Journal(tmp_path / "out", SETTINGS), SETTINGS)
    CHANGES[change](monkeypatch, far)
    assert expected_charge(dataset, ["far"], Journal(tmp_path / "out", SETTINGS), SETTINGS) == Estimate(Decimal("0.04"))
    measure(dataset, tmp_path / "out", "far")
    assert len(far.calls) == 4


@pytest.mark.parametrize("change", ["machine", "code"])
def test_answers_of_services_are_kept_on_another_machine_without_their_seconds(dataset, far, tmp_path, monkeypatch, change):
    measure(dataset, tmp_path / "out", "far")
    CHANGES[change](monkeypatch, far)
    summary, report = measure(dataset, tmp_path / "out", "far")
    assert len(far.calls) == 2 and summary.rows[0].measured == 2
    same = change == "code"
    assert summary.rows[0].seconds == (0.25 if same else None)
    assert {result["seconds"] for result in report["results"]} == {0.25 if same else None}
    assert ("timed on another machine" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")) is not same


def test_the_journal_names_the_conditions_once(dataset, near, tmp_path):
    measure(dataset, tmp_path / "out", "near")
    measure(dataset, tmp_path / "out", "near")
    lines = [json.loads(line) for line in (tmp_path / "out" / "journal.jsonl").read_text().splitlines()]
    (named,) = [line for line in lines if line["event"] == "conditions"]
    assert named["models"] == [asdict(HERE)] and named["machine"]["rmbg"] == journal.__version__
    assert {line["under"] for line in lines} == {named["under"]}


def test_results_of_this_machine_without_conditions_are_computed_again(dataset, near, tmp_path):
    (tmp_path / "out").mkdir()
    events = [
        {"provider": "near", "digest": sample.digest, "event": "got", "category": sample.category, "stem": sample.stem}
        for sample in dataset.samples
    ]
    (tmp_path / "out" / "journal.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    measure(dataset, tmp_path / "out", "near")
    assert len(near.calls) == 3


def test_weights_that_the_first_picture_downloads_are_part_of_the_conditions(dataset, near, tmp_path, monkeypatch):
    near.execution = replace(HERE, revision="")
    original = near.cut

    def download(*arguments):
        near.execution = HERE
        return original(*arguments)

    monkeypatch.setattr(near, "cut", download)
    measure(dataset, tmp_path / "out", "near")
    near.execution = HERE
    measure(dataset, tmp_path / "out", "near")
    assert len(near.calls) == 3


def test_executions_of_a_network_follow_weights_and_settings(tmp_path):
    network = PROVIDERS["rmbg-1.4"]

    def execution(**variables):
        settings = Settings.from_environ({"RMBG_WEIGHTS": str(tmp_path), "RMBG_DATA": str(tmp_path / "data"), **variables})
        (found,) = network.executions(settings)
        return found

    save_file({"a": torch.ones(3)}, tmp_path / "rmbg-1.4.safetensors")
    first = execution(RMBG_DEVICE="cpu", RMBG_PRECISION="fp32", RMBG_ENGINE="torch")
    assert (first.engine, first.device, first.precision) == ("torch", "cpu", "fp32") and len(first.revision) == 64
    save_file({"a": torch.zeros(3)}, tmp_path / "rmbg-1.4.safetensors")
    assert execution(RMBG_DEVICE="cpu", RMBG_PRECISION="fp32", RMBG_ENGINE="torch").revision != first.revision


def test_executions_of_a_cascade_are_those_of_its_ready_steps(near, far):
    cascade = find("cascade:near+far")
    assert cascade.executions(SETTINGS) == (HERE, Execution("none"))
    far._status = Status("key", "needs a key")
    assert cascade.executions(SETTINGS) == (HERE,)


def stopped(dataset, folder, settings, when):
    """The message of a run that is cancelled once `when` returns True."""
    with pytest.raises(CancelledError) as raised:
        run(dataset, ["fal-rmbg-2.0"], Journal(folder, settings), settings=settings, cancelled=when)
    return str(raised.value)


def test_pictures_that_a_stopped_run_was_not_charged_for_are_sent_again(dataset, tmp_path, monkeypatch):
    waiting, pause = [], ServiceClient.pause

    def counted(client, seconds):
        waiting.append(seconds)
        pause(client, seconds)

    monkeypatch.setattr(ServiceClient, "pause", counted)
    with Fal() as fal:
        settings = service_settings(fal, tmp_path / "data", RMBG_REMOTE_SECONDS="100")
        fal.faults["submit"] = lambda service, exchange: service.refuse(exchange, 429, "Too many requests", Retry_After="30")
        message = stopped(dataset, tmp_path / "out", settings, lambda: len(waiting) == 2)
        assert message == "Stopped. The results so far are kept, and the next run resumes from there."
        fal.faults.clear()
        fal.polls = 1
        journal = Journal(tmp_path / "out", settings)
        run(dataset, ["fal-rmbg-2.0"], journal, settings=settings)
        assert len(fal.jobs) == 2
        assert [result.state for result in journal.results("fal-rmbg-2.0", dataset.samples)] == ["got", "got"]


@pytest.mark.usefixtures("short_delays")
def test_pictures_that_may_have_been_charged_are_named_and_sent_again_on_request_only(dataset, tmp_path):
    with Fal() as fal:
        settings = service_settings(fal, tmp_path / "data", RMBG_REMOTE_SECONDS="100")
        fal.polls = 1_000_000
        message = stopped(dataset, tmp_path / "out", settings, lambda: len(fal.jobs) == 2)
        assert "You may have been charged $0.036." in message
        assert message.endswith(": shop/00 and shop/01.")
        with speaking("de"):
            assert t(message).startswith("Abgebrochen. Möglicherweise wurden Ihnen $0.036 berechnet. Die bisherigen Ergebnisse")
        fal.polls = 1
        journal = Journal(tmp_path / "out", settings)
        run(dataset, ["fal-rmbg-2.0"], journal, settings=settings)
        (sentence,) = unknown_charges(summarize(dataset, ["fal-rmbg-2.0"], journal))
        assert sentence.endswith("may have charged for shop/00 and shop/01 without a result.") and len(fal.jobs) == 2
        run(dataset, ["fal-rmbg-2.0"], journal, settings=settings, retry=True)
        assert len(fal.jobs) == 4
        assert unknown_charges(summarize(dataset, ["fal-rmbg-2.0"], journal)) == []
