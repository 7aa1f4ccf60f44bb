"""Cascade: steps, budget, failures, cancellation, price, and paid steps of a batch, against loopback services."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from rmbg import remove_background
from rmbg.batch.paid import LimitReachedError, SpendingLimit
from rmbg.billing import ledger
from rmbg.billing.cost import Cost
from rmbg.billing.quote import Price, estimate, quote
from rmbg.cutout import Cutout
from rmbg.errors import CancelledError, NoSubjectError, OptionError, OutputError, ServiceError
from rmbg.providers import AUTO, PROVIDERS, find
from rmbg.providers.base import READY, Provider, ProviderInfo, Status
from rmbg.providers.cascade import Cascade, doubtful_share
from rmbg.providers.fal import Fal as FalProvider
from rmbg.settings import Settings
from rmbg.ui.consent import charges_of, describe, total
from tests.disc import results, save_photos
from tests.processes import python
from tests.remote import KEY, environment, picture, short_delays  # noqa: F401
from tests.sentences import sentence
from tests.servers.fal import Fal
from tests.servers.runware import Runware
from tests.servers.web import until

pytestmark = pytest.mark.usefixtures("short_delays")

ROOT = Path(__file__).resolve().parents[2]

RUNWARE, FAL = "runware-rembg-1.4", "fal-rmbg-2.0"
NAME = f"cascade:guess+{RUNWARE}+{FAL}"
PAID = f"cascade:{RUNWARE}+{FAL}"


class Guess(Provider):
    """Local provider whose matte is a rectangle, with a fixed confidence; None raises `NoSubjectError`."""

    info = ProviderInfo("guess", "Guess", "local", "a rectangle", "MIT.", "", "The photo stays on this machine.", seconds=0.01)

    def __init__(self) -> None:
        self.confidence: float | None = 0.4
        self.calls = 0

    def cut(self, photo, options, context) -> Cutout:
        self.calls += 1
        if self.confidence is None:
            raise NoSubjectError("Nothing there.")
        matte = np.zeros(photo.rgb.shape[:2], np.float32)
        matte[10:-10, 10:-10] = 1
        cost = Cost(Decimal("0.000001"), "estimated")
        return Cutout(photo, matte, photo.rgb.copy(), "guess", 0.01, cost, confidence=self.confidence)


@pytest.fixture
def guess(monkeypatch) -> Guess:
    provider = Guess()
    monkeypatch.setitem(PROVIDERS, "guess", provider)
    return provider


@pytest.fixture
def runware():
    with Runware() as service:
        yield service


@pytest.fixture
def fal():
    with Fal() as service:
        yield service


@pytest.fixture
def env(runware, fal, tmp_path) -> dict[str, str]:
    """Environment variables that point Runware and fal to their loopback services."""
    fals = {name: value for name, value in environment(fal, tmp_path / "data").items() if name.startswith("RMBG_FAL")}
    hosts = f"127.0.0.1:{runware.port},127.0.0.1:{fal.port}"
    return environment(runware, tmp_path / "data", **fals, RMBG_RESULT_HOSTS=hosts)


@pytest.fixture
def cut(env, guess):
    """Run a cascade; uppercase arguments are environment variables, others are options or callbacks."""

    def run(name: str = NAME, **more) -> Cutout:
        variables = {key: value for key, value in more.items() if key.isupper()}
        options = {key: value for key, value in more.items() if not key.isupper() and not callable(value)}
        callbacks = {key: value for key, value in more.items() if callable(value)}
        settings = Settings.from_environ({key: value for key, value in {**env, **variables}.items() if value})
        return remove_background(picture(), name, options, settings=settings, **callbacks)

    return run


def states(cutout: Cutout) -> list[str]:
    return [step.state for step in cutout.steps]


# Steps


def test_confident_answer_is_final(cut, guess, runware, fal):
    guess.confidence = 0.9
    cutout = cut()
    assert states(cutout) == ["accepted"] and cutout.provider == NAME and not runware.jobs and not fal.jobs
    assert cutout.cost == Cost(Decimal("0.000001"), "estimated") and cutout.confidence == 0.9
    assert cutout.notes == ("Answered by Guess. Guess: confidence 0.90 ($0.000001 estimated).",)


def test_doubtful_answer_is_followed_by_the_next_provider_only(cut, runware, fal):
    cutout = cut()
    assert states(cutout) == ["doubtful", "accepted"] and len(runware.jobs) == 1 and not fal.jobs
    assert cutout.cost == Cost(Decimal("0.001301"), "estimated")
    assert [step.cost for step in cutout.steps] == [Cost(Decimal("0.000001"), "estimated"), Cost(Decimal("0.0013"), "charged")]
    assert [step.chosen for step in cutout.steps] == [False, True] and not cutout.provisional
    (note,) = cutout.notes
    assert sentence(note).startswith("Answered by Runware: RemBG 1.4. Guess: confidence 0.40, below 0.8")
    facts = json.loads(json.dumps(cutout.summary()))
    assert facts["provider"] == NAME and facts["steps"][1]["cost"] == {"usd": 0.0013, "basis": "charged"}


def test_threshold_selects_the_answers_that_are_accepted(cut, guess, runware, fal):
    assert states(cut(threshold=0.4)) == ["accepted"] and not runware.jobs
    cutout = cut(threshold=1)
    assert states(cutout) == ["doubtful"] * 3 and len(runware.jobs) == len(fal.jobs) == 1
    assert cutout.cost == Cost(Decimal("0.019301"), "estimated")
    chosen = next(step for step in cutout.steps if step.chosen)
    assert chosen.confidence == max(step.confidence for step in cutout.steps) and chosen.provider != "guess"


def test_no_subject_leads_to_the_next_provider(cut, guess, runware):
    guess.confidence = None
    cutout = cut()
    assert states(cutout) == ["nothing", "accepted"] and cutout.cost == Cost(Decimal("0.0013"), "charged")


def test_unknown_cost_of_a_step_makes_the_sum_unknown(cut, runware):
    runware.faults["stored"] = lambda s, x: x.drop()
    runware.keeps_history = False
    runware.faults["details"] = lambda s, x: x.send(404)
    cutout = cut()
    assert states(cutout) == ["doubtful", "failed", "accepted"]
    assert cutout.steps[1].cost == cutout.cost == Cost(None, "unknown")


# Budget


def test_limit_of_a_photo(cut, runware, fal):
    cutout = cut(threshold=1, max_cost=0.0192)
    assert states(cutout) == ["doubtful", "doubtful", "skipped"] and len(runware.jobs) == 1 and not fal.jobs
    assert "because of the limit of $0.019 for one photo" in cutout.notes[-1] and not cutout.provisional
    assert states(cut(max_cost=0)) == ["doubtful", "skipped", "skipped"] and len(runware.jobs) == 1


def test_daily_budget(cut, runware, fal, env):
    cutout = cut(RMBG_DAILY_BUDGET_USD="0.001")
    assert states(cutout) == ["doubtful", "failed", "failed"] and not runware.jobs and not fal.jobs
    assert "The limit of $0.001 a day" in cutout.notes[-1] and cutout.cost.basis == "estimated" and cutout.provisional
    assert ledger.of(Settings.from_environ(env)).totals() == []


def test_steps_without_a_key_are_skipped(cut, runware, fal):
    cutout = cut(RUNWARE_API_KEY="")
    assert states(cutout) == ["doubtful", "skipped", "accepted"] and len(fal.jobs) == 1
    cutout = cut(RUNWARE_API_KEY="", FAL_KEY="")
    assert states(cutout) == ["doubtful", "skipped", "skipped"] and "needs a key" in cutout.notes[-1]
    with pytest.raises(OptionError, match="Omit the key"):
        remove_background(picture(), NAME, key="a:b")


def test_deadline_includes_all_services(cut, runware, fal):
    runware.faults["submit"] = lambda s, x: x.hang()
    cutout = cut(RMBG_REMOTE_SECONDS="1.2")
    assert states(cutout) == ["doubtful", "failed", "failed"] and not fal.jobs
    assert "the deadline of 1.2 seconds has passed" in cutout.notes[-1]


# Failures and cancellation


def refuse(service, exchange):
    service.refuse(exchange, 500, "Internal error")


def test_earlier_answer_is_returned_if_the_services_fail(cut, runware, fal):
    runware.faults["submit"] = refuse
    assert states(cut()) == ["doubtful", "failed", "accepted"]
    fal.faults["submit"] = refuse
    cutout = cut()
    assert states(cutout) == ["doubtful", "failed", "failed"] and cutout.steps[0].chosen and cutout.provisional
    assert cutout.notes[-1].startswith("Answered by Guess.") and "Runware" in cutout.notes[-1]


def test_error_of_a_run_without_an_answer_has_the_sum_of_the_charges(cut, guess, runware, fal):
    guess.confidence = None
    runware.picture = fal.picture = b"no picture"
    with pytest.raises(ServiceError) as caught:
        cut()
    assert caught.value.cost == Cost(Decimal("0.0193"), "charged") and "Guess: no subject found." in str(caught.value)


def test_charged_answer_survives_a_cancellation(cut, runware, fal):
    fal.polls = 1000
    cutout = cut(threshold=1, cancelled=lambda: any("/status" in seen.path for seen in fal.seen))
    assert states(cutout) == ["doubtful", "doubtful", "failed"] and len(fal.jobs) == 1 and len(fal.cancelled) == 1
    assert next(step for step in cutout.steps if step.chosen).provider in ("guess", RUNWARE)
    assert "Stopped" in cutout.notes[-1]


def test_cancellation_without_a_charged_answer(cut, runware, fal):
    with pytest.raises(CancelledError) as caught:
        cut(cancelled=lambda: True)
    assert caught.value.cost is None
    runware.faults["stored"] = lambda s, x: x.hang()
    with pytest.raises(CancelledError, match="may have been charged") as caught:
        cut(cancelled=lambda: bool(runware.jobs))
    assert caught.value.cost == Cost(None, "unknown") and not fal.jobs


def test_charged_answer_is_recovered_after_an_interrupt(cut, monkeypatch, tmp_path):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(FalProvider, "cut", interrupt)
    with pytest.raises(KeyboardInterrupt, match="was paid for"):
        cut(threshold=1)
    assert len(list((tmp_path / "data/recovered").glob("*.png"))) == 1


def test_failed_delivery_keeps_answers_of_services_only(cut, guess, env):
    from rmbg.remove import keep_if_paid

    settings = Settings.from_environ(env)
    paid = cut()
    guess.confidence = 0.9
    with pytest.raises(ZeroDivisionError), keep_if_paid([cut()], settings):
        raise ZeroDivisionError
    with pytest.raises(OutputError, match="was paid for"), keep_if_paid([paid], settings):
        raise ZeroDivisionError


# Name, status, price


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cascade:", "needs two or more providers"),
        ("cascade:builtin", "needs two or more providers"),
        ("cascade:builtin,nosuch", "unknown provider 'nosuch'; choose from builtin"),
        ("cascade:builtin,builtin", "contains builtin twice"),
        ("cascade:builtin,cascade", "cannot contain a cascade"),
        ("cascade:builtin,auto", "unknown provider 'auto'"),
    ],
)
def test_invalid_lists_of_providers(rmbg, tmp_path, name, words):
    (tmp_path / "photo.png").write_bytes(picture())
    status, _, err = rmbg("remove", tmp_path / "photo.png", tmp_path / "out.png", "--provider", name)
    assert status == 2 and words in sentence(err.strip().removeprefix("rmbg: ")) and not (tmp_path / "out.png").exists()


def test_names_of_cascades(env):
    default = find("cascade", Settings.from_environ(env))
    assert find("cascade:builtin, runware-rembg-1.4,fal-rmbg-2.0").info.id == f"cascade:builtin+{RUNWARE}+{FAL}"
    other = find("cascade:builtin,rmbg-1.4")
    assert other.info.id == "cascade:builtin+rmbg-1.4" and find(other.info.id).info.id == other.info.id
    assert other.info.kind == "local" and default.info.kind == PROVIDERS["cascade"].info.kind == "remote"
    assert find("cascade", options={"steps": "builtin,rmbg-1.4"}).info.id == other.info.id
    with pytest.raises(OptionError, match="given twice"):
        find("cascade:builtin,rmbg-1.4", options={"steps": "builtin,birefnet"})
    for service in ("runware.ai", "fal.ai"):
        assert service in default.info.pixels and service not in other.info.pixels


def test_status_depends_on_the_steps(env):
    cascade = find(f"cascade:builtin+{RUNWARE}+{FAL}")
    assert cascade.status(Settings.from_environ(env)).text == "ready"
    partly = cascade.status(Settings.from_environ({**env, "FAL_KEY": ""}))
    assert partly.state == "ready" and partly.text == "ready, without fal: RMBG 2.0"
    missing = cascade.status(Settings())
    assert missing.state == "key" and missing.text == "needs a key for Runware: RemBG 1.4, fal: RMBG 2.0"


def test_price_is_expected_and_at_most(env):
    info, settings = find(f"cascade:builtin+{RUNWARE}+{FAL}").info, Settings.from_environ(env)
    price = quote(info, {}, settings)
    assert price.most == price.reserve == Decimal("0.0193") and not price.local
    assert Decimal("0.0003") < price.cost.usd < Decimal("0.002") and str(price).endswith(" estimated, at most $0.02")
    always = quote(info, {"threshold": 1.0}, settings)
    assert price.cost.usd < always.cost.usd == always.most
    assert quote(info, {"max_cost": 0.01}, settings).most == Decimal("0.0013")
    assert quote(info, {}, Settings()).local and not estimate([(info, 1000)], Settings())
    assert ", at most $20.00" in str(estimate([(info, 1000)], settings))
    (charge,) = charges_of(info, {}, "", settings)
    steps = "Built-in (free), then Runware: RemBG 1.4 ($0.0013), then fal: RMBG 2.0 ($0.018)"
    assert f"This sends your photo to {info.title}: {steps}." in describe([charge]) and price.details().startswith(
        f"{steps}: $"
    )
    assert estimate([(info, 1), (PROVIDERS[FAL].info, 1)], settings).steps == (steps,)
    assert "at most $0.02" in describe([charge]) and charges_of(info, {}, "", Settings()) == ()
    assert charges_of(info, {"threshold": 1.0}, "", settings) != (charge,)
    (unlikely,) = charges_of(info, {"threshold": 0.0}, "", settings)  # still sent if no subject is found
    assert total([unlikely]) and str(total([unlikely])) == "about $0, at most $0.02"
    unknown = find("cascade:builtin,hf-rmbg-2.0").info
    assert quote(unknown, {}, Settings(environ={"HF_TOKEN": "hf_1"})).cost == Cost(None, "unknown")
    shares = [doubtful_share(threshold / 10) for threshold in range(11)]
    assert shares == sorted(shares) and (shares[0], shares[10]) == (0, 1)


# Steps of the cascade without a list


class Other(Guess):
    """`Guess` in the place of another provider."""

    def __init__(self, id: str, **fields: object) -> None:
        super().__init__()
        self.info = dataclasses.replace(self.info, id=id, title=id, **fields)

    def status(self, settings: Settings) -> Status:
        return READY if self.info.kind == "local" or settings.environ.get("KEY") else Status("key", "needs a key")


@pytest.fixture
def default(monkeypatch):
    """Return the steps of the cascade without a list, of services by (price, network), with keys and free networks by id."""

    def steps(services: dict[str, tuple[str | None, str]], *free: str, keys: tuple[str, ...] = ("KEY",)) -> tuple[str, ...]:
        registry: dict[str, Provider] = {name: PROVIDERS[name] for name in AUTO}
        for name, (usd, network) in services.items():
            price = Price(None if usd is None else Decimal(usd), "listed", "2026-11", "", Decimal(usd or 1))
            registry[name] = Other(name, kind="remote", network=network, price=price)
        cascade = Cascade(registry, ranking=AUTO)
        registry["plugin"] = Other(
            "plugin", kind="remote", network="own", price=Price(Decimal(0), "listed", "", "", Decimal(0))
        )
        for name in free:
            registry[name] = Other(name)
        return cascade.current_steps(Settings(environ={key: "k" for key in keys} | {"HF_HOME": os.devnull}))

    return steps


def only(*keys: str) -> dict[str, str]:
    """Return environment variables with these keys of services alone, and without downloaded weights."""
    names = {provider.info.key_name for provider in PROVIDERS.values()} - {""}
    return {"HF_HOME": os.devnull} | {name: KEY if name in keys else "" for name in names}


def test_default_steps_are_the_cheapest_services_with_a_better_network(default):
    services = {"dear": ("0.018", "rmbg-2.0"), "matting": ("0.0006", "birefnet"), "old": ("0.0013", "rmbg-1.4")}
    assert default(services) == ("builtin", "matting", "dear")
    assert default(services, "rmbg-1.4") == ("builtin", "rmbg-1.4", "matting", "dear")
    assert default(services, "birefnet", "rmbg-1.4") == ("builtin", "birefnet", "dear")
    assert default(services, "rmbg-2.0", "birefnet") == ("builtin", "rmbg-2.0")
    # A service's own network follows all others, and of two with the same network the cheaper one is called.
    assert default({**services, "own": ("0.02", "own")}, "birefnet") == ("builtin", "birefnet", "dear", "own")
    assert default({"b": ("0.01", "own"), "a": ("0.001", "own")}) == ("builtin", "a")


def test_default_steps_are_few_and_within_the_limit(default):
    services = {"a": ("0.001", "birefnet-lite"), "b": ("0.002", "rmbg-1.4"), "c": ("0.003", "birefnet"), "d": ("0.06", "own")}
    assert default(services) == ("builtin", "a", "b")
    assert default({"d": ("0.06", "own"), "c": ("0.049", "rmbg-2.0")}) == ("builtin", "c")
    assert default({"c": ("0.049", "rmbg-2.0"), "e": ("0.0491", "own")}) == ("builtin", "c")


def test_default_steps_without_a_ready_service(default):
    services = {"unpriced": (None, "rmbg-2.0"), "announced": ("0.0001", ""), "dear": ("0.018", "rmbg-2.0")}
    assert default(services) == ("builtin", "dear")
    assert default(services, keys=()) == ("builtin", "dear")  # the status states the missing key
    assert default(services, "birefnet", keys=()) == ("builtin", "birefnet")


def test_default_steps_follow_the_settings(env, monkeypatch, guess, runware, fal):
    settings = Settings.from_environ({**env, **only("RUNWARE_API_KEY", "FAL_KEY")})
    assert find("cascade", settings).steps == ("builtin", "runware-birefnet", FAL)
    monkeypatch.setitem(PROVIDERS, "builtin", guess)
    network, guess.info = Other("birefnet"), dataclasses.replace(guess.info, id="builtin")
    monkeypatch.setitem(PROVIDERS, "birefnet", network)
    network.confidence = 0.9
    cascade = PROVIDERS["cascade"]
    assert find("cascade", settings).steps == ("builtin", "birefnet", FAL) and cascade.status(settings) == READY
    assert quote(cascade.info, {}, settings).steps == "Guess (free), then birefnet (free), then fal: RMBG 2.0 ($0.018)"
    cutout = remove_background(picture(), "cascade", settings=settings)
    assert states(cutout) == ["doubtful", "accepted"] and cutout.provider == "cascade" and not fal.jobs
    assert find("cascade", Settings()).info.pixels == "The photo stays on this machine."  # no service has a key


def test_networks_of_services_are_ranked():
    networks = {name: provider.info.network for name, provider in PROVIDERS.items() if provider.info.network}
    assert set(networks.values()) <= {*AUTO, "own"}
    for name in networks:
        info = PROVIDERS[name].info
        assert info.kind == "remote" and not {"announced", "generative"} & set(info.supports)


# Command line, comparison, benchmark


@pytest.fixture
def connected(env, monkeypatch, guess):
    for name, value in {**env, "RMBG_REMOTE_SECONDS": "100"}.items():
        monkeypatch.setenv(name, value)


def test_command_line(connected, rmbg, tmp_path, runware):
    (tmp_path / "photo.png").write_bytes(picture())
    status, out, _ = rmbg("remove", tmp_path / "photo.png", tmp_path / "out.png", "--provider", NAME, "--json")
    facts = json.loads(out)
    assert status == 0 and [step["state"] for step in facts["steps"]] == ["doubtful", "accepted"] and len(runware.jobs) == 1
    arguments = ("compare", tmp_path / "photo.png", "--providers", f"guess,{NAME}", "--out", tmp_path / "compared")
    assert rmbg(*arguments)[0] == 2 and len(runware.jobs) == 1
    assert rmbg(*arguments, "--yes")[0] == 0 and len(runware.jobs) == 2
    names = sorted(path.name for path in (tmp_path / "compared").glob("*cascade*"))
    assert len(names) == 2 and not any(":" in name for name in names)


def test_benchmark(connected, rmbg, tmp_path, runware, guess):
    from tests.benchmark.fakes import make_dataset

    dataset = make_dataset(tmp_path / "set", categories=("shop",), count=2)
    arguments = ("benchmark", dataset, "--providers", NAME, "--out", tmp_path / "measured", "--json")
    assert rmbg(*arguments)[0] == 2 and not runware.jobs
    status, out, err = rmbg(*arguments, "--yes")
    assert status == 0, err
    assert len(runware.jobs) == 2 and guess.calls == 2 and NAME in out
    assert rmbg(*arguments)[0] == 0 and len(runware.jobs) == 2


# Batch


@pytest.fixture
def batch(connected, rmbg, tmp_path):
    """Run a batch of four photos; returns exit status, summary and standard error."""
    photos = save_photos(tmp_path / "in", 4)

    def run(*arguments: object, provider: str = NAME):
        status, out, err = rmbg("batch", photos, tmp_path / "out", "--provider", provider, "--json", "--jobs", "1", *arguments)
        return status, json.loads(out) if out else None, err

    return run


def test_batch_pays_for_doubtful_photos_once(batch, runware, fal, guess, tmp_path):
    status, _, err = batch()
    assert status == 2 and "at most $0.078" in err and "add --yes" in err and not runware.jobs
    status, figures, _ = batch("--yes")
    assert status == 0 and len(runware.jobs) == 4 and not fal.jobs and figures["usd"] == pytest.approx(0.0052)
    assert figures["cost"] == {"charged": {"calls": 4, "usd": pytest.approx(0.0052)}}
    assert "Answered by Runware" in (tmp_path / "out/rmbg-summary.csv").read_text()
    assert batch()[1]["kept"] == 4
    calls = guess.calls
    assert batch("--background", "#ff0000")[0] == 0 and len(runware.jobs) == 4 and guess.calls == calls
    # Another threshold is another inference, which uses the paid mattes again.
    status, _, err = batch("--option", "threshold=0.7", "--yes")
    assert status == 0 and len(runware.jobs) == 4 and guess.calls == calls + 4
    assert batch(provider=RUNWARE)[0] == 2


def test_steps_of_a_batch_stay_the_same(batch, monkeypatch, guess, runware, fal, tmp_path):
    guess.info = dataclasses.replace(guess.info, id="builtin")
    monkeypatch.setitem(PROVIDERS, "builtin", guess)
    for name, value in only("FAL_KEY").items():
        monkeypatch.setenv(name, value)
    status, _, err = batch(provider="cascade")
    assert status == 2 and "Cascade: Guess (free), then fal: RMBG 2.0 ($0.018)." in err and "add --yes" in err
    assert batch("--yes", "--max-cost", "0.001", provider="cascade")[0] == 0 and not fal.jobs
    # A cheaper service has a key now, which another batch would call first.
    monkeypatch.setenv("RUNWARE_API_KEY", KEY)
    assert find("cascade").steps == ("builtin", "runware-birefnet", FAL)
    status, figures, _ = batch("--yes", provider="cascade")
    assert status == 0 and len(fal.jobs) == 4 and not runware.jobs and figures["provider"] == "cascade"
    assert batch(provider="cascade")[1]["kept"] == 4
    monkeypatch.setenv("FAL_KEY", "")
    assert "needs a key for fal: RMBG 2.0" in batch(provider="cascade")[2]


def test_batch_stops_paying_at_the_limit(batch, runware, tmp_path):
    status, figures, _ = batch("--yes", "--max-cost", "0.003")
    assert status == 0 and len(runware.jobs) == 2 and len(results(tmp_path / "out")) == 4
    assert figures["usd"] == pytest.approx(0.0026)
    assert "The limit of $0.003 is reached" in (tmp_path / "out/rmbg-summary.csv").read_text()
    status, figures, _ = batch("--yes", "--max-cost", "0.0052")  # the photos without an accepted result are tried again
    assert status == 0 and len(runware.jobs) == 4 and (figures["kept"], figures["done"]) == (2, 2)


def test_charged_step_without_a_result_is_repeated_only_with_retry(batch, runware, fal):
    runware.picture = b"no picture"
    assert batch("--yes")[0] == 0 and len(runware.jobs) == len(fal.jobs) == 4
    assert batch("--yes", "--option", "threshold=0.7")[0] == 0 and len(runware.jobs) == len(fal.jobs) == 4
    runware.picture = None
    assert batch("--yes", "--option", "threshold=0.6", "--retry")[0] == 0 and len(runware.jobs) == 8 and len(fal.jobs) == 4


@pytest.mark.skipif(os.name == "nt", reason="requires SIGKILL")
def test_killed_batch_pays_for_no_step_twice(connected, runware, fal, tmp_path):
    photos = save_photos(tmp_path / "in", 6)
    fal.polls = 1000
    arguments = ("-m", "rmbg", "batch", photos, tmp_path / "out", "--provider", PAID, "--option", "threshold=1", "--yes")

    def start() -> subprocess.Popen:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(python(*arguments), cwd=ROOT, env=dict(os.environ), start_new_session=True, **pipes)

    process = start()

    def polls() -> int:
        return sum("/status" in seen.path for seen in fal.seen)

    # Four photos at a time: their first steps are paid for, and the handles of the second ones are stored.
    assert until(lambda: len(fal.jobs) == 4 and polls() >= 8, 120)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    fal.polls = 1
    for job in fal.jobs:
        job["polls"] = 1
    process = start()
    err = process.communicate(timeout=300)[1].decode()
    assert process.returncode == 0, err
    assert len(runware.jobs) == len(fal.jobs) == 6 and len(results(tmp_path / "out")) == 6 and fal.cancelled == []


def test_failing_service_is_not_called_for_every_photo(batch, runware, tmp_path):
    save_photos(tmp_path / "in", 7)
    runware.faults["submit"] = refuse
    status, figures, _ = batch("--yes", provider=f"cascade:guess+{RUNWARE}")
    assert status == 0 and figures["done"] == 7 and len({seen.json[0]["taskUUID"] for seen in runware.seen}) == 5
    assert "failed on 5 consecutive photos" in (tmp_path / "out/rmbg-summary.csv").read_text()
    runware.faults.clear()
    status, figures, _ = batch("--yes", provider=f"cascade:guess+{RUNWARE}")
    assert status == 0 and figures["done"] == 7 and len(runware.jobs) == 7


def test_limit_of_a_batch_covers_services_of_different_prices():
    limit = SpendingLimit(Decimal("0.02"), Decimal(0), Decimal("0.0193"))
    limit.add_service("cheap", Decimal("0.0013"), Decimal(0))
    limit.add_service("expensive", Decimal("0.018"), Decimal(0))
    limit.settle(limit.reserve(lambda: False, "expensive"), Cost(Decimal("0.018"), "charged"), "expensive")
    with pytest.raises(LimitReachedError, match=r"a photo costs \$0.018"):
        limit.reserve(lambda: False, "expensive")
    assert limit.reserve(lambda: False, "cheap") == Decimal("0.0013")


def test_registry_of_a_cascade_may_change(guess):
    cascade = Cascade({"guess": guess, "other": guess}, ("guess", "other"))
    assert cascade.status(Settings()).state == "ready" and cascade.info.kind == "local"
