"""Remote providers against their stand-ins: results, cost, and every fault of every one of them."""

from __future__ import annotations

import base64
import re
import sqlite3
from decimal import Decimal

import numpy as np
import pytest

from rmbg import ledger
from rmbg.cutout import Cost
from rmbg.errors import CancelledError, NoSubjectError, NotReadyError, OptionError, RmbgError, ServiceError
from tests.remote import WAYS, cut, everything_logged, hurry, picture, settings  # noqa: F401
from tests.servers.service import KEY, PICTURE_FAULTS, Service, cut_out, once
from tests.servers.web import Exchange, Web, until

pytestmark = pytest.mark.usefixtures("hurry")

MONEY = re.compile(r"(Nothing was charged|You may have been charged \$0\.\d+|It cost \$0\.\d+ all the same)\.$")


def expected_matte(data: bytes) -> np.ndarray:
    import io

    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(cut_out(data))))[..., 3] / np.float32(255)


def line(folder) -> tuple[str, int | None]:
    """State and dollars of the only line in the ledger."""
    with sqlite3.connect(folder / "ledger.sqlite3") as db:
        rows = db.execute("SELECT state, usd FROM calls").fetchall()
    db.close()
    assert len(rows) == 1
    return rows[0]


@pytest.fixture(params=list(WAYS))
def way(request):
    return request.param


@pytest.fixture
def service(way):
    with WAYS[way][2]() as server:
        yield server


# What works


def test_a_photo_becomes_a_cutout(way, service, tmp_path):
    said = []
    cutout = cut(service, tmp_path, way, progress=lambda fraction, text: said.append(text))
    assert len(service.jobs) == 1 and cutout.provider == WAYS[way][0]
    assert np.abs(cutout.matte - expected_matte(picture())).max() < 0.01
    assert cutout.cost.usd is not None and line(tmp_path)[0] == cutout.cost.basis
    assert any("Sending" in text or "working" in text for text in said) and not cutout.notes


def test_what_each_says_it_cost(tmp_path):
    costs = {}
    for name, (_, _, server, _) in WAYS.items():
        with server() as service:
            costs[name] = cut(service, tmp_path / name, name).cost
    assert costs == {
        "fal queue": Cost(Decimal("0.018"), "charged"),
        "fal direct": Cost(Decimal("0.018"), "charged"),
        "Runware": Cost(Decimal("0.018"), "charged"),
        "Runware async": Cost(Decimal("0.0013"), "charged"),
        "remove.bg": Cost(Decimal("0.05"), "listed"),  # credits are charged, what one costs only its buyer knows
    }


def test_a_result_of_another_size_is_brought_to_the_photos(way, service, tmp_path):
    for size in ((48, 32), (192, 128), (64, 64)):
        service.size = size
        data = picture(96 + len(service.jobs), 64)
        cutout = cut(service, tmp_path, way, data=data)
        assert cutout.matte.shape == (64, cutout.width) and cutout.width == 95 + len(service.jobs)
        assert f"{size[0]} x {size[1]} pixels" in cutout.notes[0]
        assert np.abs(cutout.matte - expected_matte(data)).mean() < 0.06


def test_a_key_of_the_request_goes_before_that_of_the_environment(way, service, tmp_path):
    service.key = "visitors-own-key"
    assert cut(service, tmp_path, way, key=" visitors-own-key\n").cost.usd
    assert ledger.of(settings(service, tmp_path)).spent_today() == 0


# Whose key, whose money


def test_without_a_key_nothing_leaves(way, service, tmp_path):
    none = {"FAL_KEY": "", "RUNWARE_API_KEY": "", "REMOVEBG_API_KEY": ""}
    with pytest.raises(NotReadyError, match="needs a key: give one, or set"):
        cut(service, tmp_path, way, **none)
    with pytest.raises(NotReadyError, match="no key of"):
        cut(service, tmp_path, way, key="two words")
    assert not service.seen


def test_the_owners_keys_are_not_for_visitors_unless_the_owner_says_so(way, service, tmp_path):
    with pytest.raises(NotReadyError, match="needs your own key here"):
        cut(service, tmp_path, way, RMBG_SHARED="1")
    with pytest.raises(NotReadyError, match="needs your own key here"):
        cut(service, tmp_path, way, SPACE_ID="someone/rmbg")
    assert not service.seen
    assert cut(service, tmp_path, way, RMBG_SHARED="1", RMBG_SERVER_KEYS="1").cost.usd
    with pytest.raises(NotReadyError, match=r"limit of \$0\.001 a day .* midnight UTC"):
        cut(service, tmp_path, way, RMBG_SHARED="1", RMBG_SERVER_KEYS="1", RMBG_DAILY_BUDGET_USD="0.001")
    assert len(service.jobs) == 1
    assert cut(service, tmp_path, way, key=KEY, RMBG_SHARED="1", RMBG_DAILY_BUDGET_USD="0.001").cost.usd


def test_addresses_must_be_safe_before_anything_leaves(way, service, tmp_path):
    http = "http://example.com"
    where = dict.fromkeys(("RMBG_FAL_URL", "RMBG_FAL_QUEUE_URL", "RMBG_RUNWARE_URL", "RMBG_REMOVEBG_URL"), http)
    with pytest.raises(OptionError, match=r"https only.* Nothing was charged"):
        cut(service, tmp_path, way, **where)


# Faults: one sentence, whose fault, what became of the money, and no photo paid twice

CASES = [(way, step, name) for way in WAYS for step in ("submit", "stored") for name in WAYS[way][3]]


def check_fault(service: Service, folder, outcome, log: str = "") -> None:
    assert len(service.jobs) <= 1
    state, _ = line(folder)
    if isinstance(outcome, RmbgError):
        text = str(outcome)
        assert MONEY.search(text), text
        assert "\n" not in text and len(text) < 300 and ".." not in text and " :" not in text
        assert isinstance(outcome, (CancelledError, NoSubjectError)) or outcome.fault in ("user", "service", "connection")
        assert (outcome.cost is None) == ("Nothing was charged" in text) == (state == "nothing")
    else:
        assert state == outcome.cost.basis
        text = str(outcome.notes)
    for secret in (KEY, *KEY.split(":"), base64.b64encode(picture()).decode()[:60]):
        assert secret not in text + log
    # The key goes to the service and to nobody else.
    for seen in service.seen:
        if seen.path.startswith(("/files/", "/secret")):
            assert KEY not in str(seen.headers)


def patience(name: str) -> str:
    """A deadline that is met at once by what is slow, and never by what is not."""
    return "0.25" if name in ("slow bytes", "hang") else "20"


def attempt(service: Service, folder, way: str, **more):
    try:
        return cut(service, folder, way, **more)
    except RmbgError as error:
        return error


@pytest.mark.parametrize(("way", "step", "name"), CASES)
def test_faults(way, step, name, tmp_path, everything_logged):  # noqa: F811
    _, _, server, faults = WAYS[way]
    with server() as service:
        service.faults[step] = faults[name]
        outcome = attempt(service, tmp_path, way, RMBG_REMOTE_SECONDS=patience(name), RMBG_MAX_BYTES="200_000")
        check_fault(service, tmp_path, outcome, everything_logged.text)
        assert isinstance(outcome, RmbgError) or (step == "stored" and way.startswith("Runware"))
        # Whoever has stored the job may charge for it, unless it says itself that it failed.
        if service.jobs and isinstance(outcome, RmbgError) and outcome.cost is None:
            assert name in ("401", "no balance", "429 for an hour", "429 with seconds", "429 with a date") or re.search(
                r"^(500|503|error without code|no subject|422|redirect)", name
            )
        assert not any(seen.path == "/secret" for seen in service.seen)


@pytest.mark.parametrize("way", ["Runware", "Runware async"])
@pytest.mark.parametrize("name", ["429 with seconds", "429 with a date"])
def test_too_many_requests_are_waited_out(way, name, tmp_path, monkeypatch):
    monkeypatch.setattr("rmbg.network.Trip.sleep", lambda self, seconds: None)
    monkeypatch.setattr("rmbg.http.PATIENCE", 30)
    with WAYS[way][2]() as service:
        service.faults["submit"] = once(WAYS[way][3][name], "submit")
        assert cut(service, tmp_path, way).cost.usd
        assert len(service.jobs) == 1


@pytest.mark.parametrize("way", ["Runware", "Runware async"])
@pytest.mark.parametrize("step", ["submit", "stored"])
@pytest.mark.parametrize("name", ["dropped connection", "broken off", "page of a gateway", "503"])
@pytest.mark.parametrize("remembers", [True, False])
def test_runware_knows_a_repeated_task(way, step, name, remembers, tmp_path):
    """A lost answer costs nothing: the same task is sent again, and if it had arrived its result is asked for."""
    with WAYS[way][2]() as service:
        service.remembers = remembers or "async" in way
        service.faults[step] = once(WAYS[way][3][name], step)
        cutout = cut(service, tmp_path, way)
        assert cutout.cost.basis == "charged" and len(service.jobs) == 1
        sent = [task for seen in service.seen for task in seen.json if task["taskType"] == "removeBackground"]
        assert len(sent) == 2 and sent[0] == sent[1]


QUEUE_CASES = [(step, name) for step in ("status", "result") for name in WAYS["fal queue"][3] if name != "422 with the picture"]


@pytest.mark.parametrize(("step", "name"), QUEUE_CASES)
def test_faults_of_the_queue_after_the_job_was_taken(step, name, tmp_path):
    with WAYS["fal queue"][2]() as service:
        service.faults[step] = WAYS["fal queue"][3][name]
        outcome = attempt(service, tmp_path, "fal queue", RMBG_REMOTE_SECONDS=patience(name), RMBG_MAX_BYTES="200_000")
        check_fault(service, tmp_path, outcome)
        assert isinstance(outcome, ServiceError) and len(service.jobs) == 1
        # Only what fal calls a failure of the job is one; here it is kept from saying anything about it.
        assert outcome.cost == Cost(None, "unknown") and (step == "result" or service.cancelled)
        del service.faults[step]
        service.jobs.clear()
        service.faults[step] = once(WAYS["fal queue"][3][name], step)
        if name in ("503", "page of a gateway", "dropped connection", "broken off"):
            assert cut(service, tmp_path, "fal queue").cost.usd  # asked again, and it was there
            assert len(service.jobs) == 1


@pytest.mark.parametrize("way", ["fal queue", "fal direct", "Runware", "Runware async"])
@pytest.mark.parametrize("name", PICTURE_FAULTS)
def test_faults_of_the_result(way, name, tmp_path):
    url = {"sync_mode": False} if way.startswith("fal") else {"outputType": "URL"}
    with WAYS[way][2]() as service:
        service.faults["picture"] = PICTURE_FAULTS[name]
        outcome = attempt(service, tmp_path, way, RMBG_REMOTE_SECONDS=patience(name), RMBG_MAX_BYTES="200_000", **url)
        check_fault(service, tmp_path, outcome)
        assert isinstance(outcome, ServiceError)
        if name != "slow bytes":  # on a busy machine that deadline is over before there is a job
            assert len(service.jobs) == 1
            assert outcome.cost.basis == "charged" and "all the same" in str(outcome)
        assert all("authorization" not in seen.headers for seen in service.seen if seen.path.startswith("/files"))


def test_a_result_on_another_host_is_not_fetched(tmp_path):
    for way, url in (("fal queue", {"sync_mode": False}), ("Runware", {"outputType": "URL"})):
        with Web() as other, WAYS[way][2]() as service:
            service.picture_host = f"127.0.0.2:{other.port}"
            outcome = attempt(service, tmp_path / way, way, **url)
            check_fault(service, tmp_path / way, outcome)
            assert "127.0.0.2 is not one of the hosts" in str(outcome) and not other.seen
            service.picture_host = f"localhost:{service.port}"  # a name that nobody has allowed
            assert "localhost is not one of the hosts" in str(attempt(service, tmp_path / f"{way} 2", way, **url))


def test_plain_http_results_only_from_this_machine_and_only_if_allowed(tmp_path):
    with WAYS["Runware"][2]() as service:
        outcome = attempt(service, tmp_path, "Runware", outputType="URL", RMBG_RESULT_HOSTS="")
        check_fault(service, tmp_path, outcome)
        assert "not one of the hosts" in str(outcome)


def test_fals_addresses_on_another_host_do_not_get_the_key(tmp_path):
    with Web() as other, WAYS["fal queue"][2]() as service:
        service.host_of_urls = f"127.0.0.1:{other.port}"
        outcome = attempt(service, tmp_path, "fal queue")
        check_fault(service, tmp_path, outcome)
        assert "key is not sent there" in str(outcome) and outcome.cost == Cost(None, "unknown")
        assert not other.seen


def test_pictures_that_are_no_cut_out(way, service, tmp_path):
    service.picture = cut_out(picture(), form="JPEG")
    outcome = attempt(service, tmp_path / "a", way)
    assert "without transparency" in str(outcome) and outcome.cost
    check_fault(service, tmp_path / "a", outcome)
    import io

    from PIL import Image

    empty = io.BytesIO()
    Image.new("RGBA", (96, 64)).save(empty, "PNG")
    service.jobs.clear()
    service.picture = empty.getvalue()
    outcome = attempt(service, tmp_path / "b", way)
    assert isinstance(outcome, NoSubjectError) and "found nothing" in str(outcome)
    check_fault(service, tmp_path / "b", outcome)


@pytest.mark.parametrize(
    ("error", "charge"),
    [
        ((500, {"detail": "Internal error", "error_type": "internal_error"}), None),
        ((504, {"detail": [{"msg": "Too slow", "type": "generation_timeout"}]}), None),
        ((422, {"detail": [{"msg": "Image too large", "type": "image_too_large", "input": "data:x"}]}), "unknown"),
    ],
)
@pytest.mark.parametrize("way", ["fal queue", "fal direct"])
def test_fal_jobs_that_complete_and_failed(way, error, charge, tmp_path):
    with WAYS[way][2]() as service:
        service.job_error = error
        outcome = attempt(service, tmp_path, way)
        check_fault(service, tmp_path, outcome)
        assert (outcome.cost and outcome.cost.basis) == charge and len(service.jobs) == 1


@pytest.mark.parametrize("way", ["Runware", "Runware async"])
def test_runware_tasks_that_fail_inside_http_200(way, tmp_path):
    with WAYS[way][2]() as service:
        service.job_error = {"code": "inferenceError"}
        outcome = attempt(service, tmp_path, way)
        check_fault(service, tmp_path, outcome)
        assert "inferenceError" in str(outcome) and outcome.cost == Cost(None, "unknown")


@pytest.mark.parametrize("way", ["Runware", "Runware async"])
def test_a_runware_result_with_an_error_beside_it_is_used(way, tmp_path):
    with WAYS[way][2]() as service:
        made = service._outcome
        service._outcome = lambda job: (made(job)[0], [{"code": "webhookFailed", "message": "The webhook did not answer."}])
        assert cut(service, tmp_path, way).cost.basis == "charged" and len(service.jobs) == 1


def test_a_missing_cost_is_not_zero(tmp_path):
    with WAYS["Runware"][2]() as service:
        service.tells_cost = False
        assert cut(service, tmp_path, "Runware").cost == Cost(None, "unknown")
        assert ledger.of(settings(service, tmp_path)).spent_today() == Decimal("0.018")
        assert cut(service, tmp_path, "Runware", includeCost=False).cost == Cost(Decimal("0.018"), "listed")
    with WAYS["fal queue"][2]() as service:
        service.units = None
        assert cut(service, tmp_path, "fal queue").cost == Cost(Decimal("0.018"), "listed")
        service.units, service.unit_price = "2.5", 0.02
        assert cut(service, tmp_path, "fal queue").cost == Cost(Decimal("0.05"), "charged")
        service.faults["price"] = lambda s, x: s.refuse(x, 500, "no")
        assert cut(service, tmp_path, "fal queue").cost == Cost(Decimal("0.045"), "listed")
        service.units = "many"
        assert cut(service, tmp_path, "fal queue").cost == Cost(Decimal("0.018"), "listed")
    with WAYS["remove.bg"][2]() as service:
        assert cut(service, tmp_path, "remove.bg", RMBG_REMOVEBG_CREDIT_USD="0.02").cost == Cost(Decimal("0.02"), "charged")
        assert cut(service, tmp_path, "remove.bg", size="preview").cost == Cost(Decimal("0.0125"), "listed")
        service.credits = ""
        assert cut(service, tmp_path, "remove.bg").cost == Cost(None, "unknown")
        free = {"RMBG_REMOVEBG_CREDIT_USD": "0", "RMBG_DAILY_BUDGET_USD": "0"}
        assert cut(service, tmp_path / "own service", "remove.bg", **free).cost == Cost(None, "unknown")


@pytest.mark.parametrize("said", ["1e30", "1e999999", "-1", "NaN"])
def test_a_cost_that_is_none_is_unknown_and_the_result_is_not_lost(said, tmp_path):
    with WAYS["fal queue"][2]() as service:
        service.units = said
        assert cut(service, tmp_path / "fal", "fal queue").cost == Cost(Decimal("0.018"), "listed")
    with WAYS["remove.bg"][2]() as service:
        service.credits = said
        assert cut(service, tmp_path / "removebg", "remove.bg").cost == Cost(None, "unknown")
    with WAYS["Runware"][2]() as service:
        made = service._outcome
        service._outcome = lambda job: ([item | {"cost": float(said)} for item in made(job)[0]], [])
        assert cut(service, tmp_path / "Runware", "Runware").cost == Cost(None, "unknown")


# The stop button


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("step", ["submit", "status"])
def test_stopping(way, step, tmp_path):
    with WAYS[way][2]() as service:
        service.polls = 10_000
        service.faults[step] = Exchange.hang if step == "submit" else lambda s, x: x.send_json(202, {"status": "IN_PROGRESS"})
        if step == "submit":
            service.faults[step] = lambda s, x: x.hang()
        elif not (way == "fal queue" or way == "Runware async"):
            return
        if way == "Runware async":
            service.faults.pop("status", None)
        paths = [("removebg", "/v1"), ("requests/", "/v1")][step == "status"]

        def stop() -> bool:
            many = 1 if step == "submit" else 2
            return len([s for s in service.seen if any(p in s.path for p in paths) or s.method == "POST"]) >= many

        outcome = attempt(service, tmp_path, way, cancelled=stop)
        check_fault(service, tmp_path, outcome)
        assert isinstance(outcome, CancelledError) and outcome.cost == Cost(None, "unknown")
        if way == "fal queue" and step == "status":
            assert until(lambda: len(service.cancelled) == 1)
