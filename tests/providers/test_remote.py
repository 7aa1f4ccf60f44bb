"""Remote providers against loopback services: results, cost, and every fault of every wire format."""

from __future__ import annotations

import base64
import io
import re
import shutil
import sqlite3
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from PIL import Image

from rmbg.billing import ledger
from rmbg.billing.cost import Cost
from rmbg.billing.quote import PRICES
from rmbg.errors import CancelledError, NoSubjectError, NotReadyError, OptionError, RmbgError, ServiceError
from rmbg.images.photo import open_photo
from rmbg.net import transport
from rmbg.providers import PROVIDERS
from rmbg.providers.base import PaidJob, RequestContext, run_directly
from tests.remote import JOB_PROTOCOLS, KEY_NAMES, PATHS, PROTOCOLS, cut, debug_log, picture, settings, short_delays  # noqa: F401
from tests.servers.service import KEY, PICTURE_FAULTS, Service, cut_out, once
from tests.servers.web import Web, tls_contexts, until

pytestmark = pytest.mark.usefixtures("short_delays")

CHARGE_SENTENCE = re.compile(r"(Nothing was charged|You may have been charged \$0\.\d+|You were charged \$0\.\d+)\.$")


def expected_matte(data: bytes) -> np.ndarray:
    """Return the matte that the loopback services produce for a photo."""
    return np.asarray(Image.open(io.BytesIO(cut_out(data))))[..., 3] / np.float32(255)


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def ledger_row(folder) -> tuple[str, int | None]:
    """Return state and amount of the only row in the ledger."""
    with sqlite3.connect(folder / "ledger.sqlite3") as db:
        rows = db.execute("SELECT state, usd FROM calls").fetchall()
    db.close()
    assert len(rows) == 1
    return rows[0]


#: One protocol of each wire format: picture in the body, JSON, job, fal's queue, and Runware. All faults run against them.
WIRE_FORMATS = ("remove.bg", "Recraft", "Replicate", "fal queue", "Runware")

#: Error responses, which each service reads by its own code, attributes or messages.
ERROR_RESPONSES = ("401", "no balance", "422 with the picture", "500", "error without code", "no subject")


# Results and cost


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_photo_is_cut_out_with_the_key_of_the_request(protocol, tmp_path):
    messages = []
    with PROTOCOLS[protocol].server() as service:
        service.key = "visitors-own-key"
        cutout = cut(
            service,
            tmp_path,
            protocol,
            key=" visitors-own-key\n",
            progress=lambda fraction, text: messages.append(text),
        )
        assert len(service.jobs) == 1 and cutout.provider == PROTOCOLS[protocol].provider
        assert ledger.of(settings(service, tmp_path)).spent_today() == 0
    assert np.abs(cutout.matte - expected_matte(picture())).max() < 0.01
    assert ledger_row(tmp_path)[0] == cutout.cost.basis
    assert any("Sending" in text or "processing" in text for text in messages) and not cutout.notes


def test_cost_and_basis_of_each_protocol(tmp_path):
    costs = {}
    for name in PROTOCOLS:
        with PROTOCOLS[name].server() as service:
            costs[name] = cut(service, tmp_path / name, name).cost
    assert costs == {
        "fal queue": Cost(Decimal("0.018"), "charged"),
        "fal direct": Cost(Decimal("0.018"), "charged"),
        "Runware": Cost(Decimal("0.018"), "charged"),
        "Runware async": Cost(Decimal("0.0013"), "charged"),
        "remove.bg": Cost(Decimal("0.05"), "listed"),  # the service reports credits; their price depends on the plan
        "Pixian": Cost(None, "unknown"),
        "Photoroom": Cost(Decimal("0.02"), "listed"),
        "Recraft": Cost(Decimal("0.01"), "listed"),
        "withoutBG": Cost(None, "unknown"),
        "BRIA": Cost(Decimal("0.018"), "listed"),
        "BRIA job": Cost(Decimal("0.018"), "listed"),
        "Replicate": Cost(None, "unknown"),
    }


@pytest.mark.parametrize("protocol", ["remove.bg", "withoutBG"])  # whose results are masks
def test_result_of_another_size_is_resized_to_the_photo(protocol, tmp_path):
    with PROTOCOLS[protocol].server() as service:
        for width, size in ((96, (48, 32)), (97, (192, 128)), (98, (64, 64))):
            service.size = size
            data = picture(width, 64)
            cutout = cut(service, tmp_path, protocol, data=data)
            assert cutout.matte.shape == (64, width)
            assert f"{size[0]} x {size[1]} pixels" in cutout.notes[0]
            assert np.abs(cutout.matte - expected_matte(data)).mean() < 0.06


# Keys and budget


def test_nothing_is_sent_without_a_key(tmp_path):
    none = dict.fromkeys(KEY_NAMES, "")
    for protocol in PROTOCOLS:
        with PROTOCOLS[protocol].server() as service:
            with pytest.raises(NotReadyError, match=r"needs a key\. Enter your own\. On the command line, set"):
                cut(service, tmp_path, protocol, **none)
            with pytest.raises(NotReadyError, match=r"is not a valid .* API key"):
                cut(service, tmp_path, protocol, key="two words")
            assert not service.seen


@pytest.mark.parametrize("protocol", ["fal queue", "remove.bg"])
def test_server_keys_are_refused_to_visitors_unless_enabled(protocol, tmp_path):
    with PROTOCOLS[protocol].server() as service:
        with pytest.raises(NotReadyError, match="needs your own key here"):
            cut(service, tmp_path, protocol, RMBG_SHARED="1")
        with pytest.raises(NotReadyError, match="needs your own key here"):
            cut(service, tmp_path, protocol, SPACE_ID="user/rmbg")
        assert not service.seen
        assert cut(service, tmp_path, protocol, RMBG_SHARED="1", RMBG_SERVER_KEYS="1").cost
        with pytest.raises(NotReadyError, match=r"limit of \$0\.001 a day .* midnight UTC"):
            cut(service, tmp_path, protocol, RMBG_SHARED="1", RMBG_SERVER_KEYS="1", RMBG_DAILY_BUDGET_USD="0.001")
        assert len(service.jobs) == 1
        assert cut(service, tmp_path, protocol, key=KEY, RMBG_SHARED="1", RMBG_DAILY_BUDGET_USD="0.001").cost


@pytest.mark.parametrize("protocol", [*WIRE_FORMATS, "fal direct"])
def test_plain_http_address_is_rejected_before_sending(protocol, tmp_path):
    where = dict.fromkeys(PATHS, "http://example.com")
    refused = pytest.raises(OptionError, match=r"is not an https address.* Nothing was charged")
    with PROTOCOLS[protocol].server() as service, refused:
        cut(service, tmp_path, protocol, **where)


# Faults: one message with fault and charge, and no photo is paid for twice

CASES = [
    (protocol, step, name)
    for protocol in PROTOCOLS
    for name in PROTOCOLS[protocol].faults
    for step in (("submit", "stored") if protocol in WIRE_FORMATS else ("stored",) * (name in ERROR_RESPONSES))
]


def check_fault(service: Service, folder, outcome, log: str = "") -> None:
    assert len(service.jobs) <= 1
    state, _ = ledger_row(folder)
    if isinstance(outcome, RmbgError):
        text = str(outcome)
        assert CHARGE_SENTENCE.search(text), text
        assert "\n" not in text and len(text) < 300 and ".." not in text and " :" not in text
        assert isinstance(outcome, (CancelledError, NoSubjectError, ServiceError))
        assert (outcome.cost is None) == ("Nothing was charged" in text) == (state == "nothing")
    else:
        assert state == outcome.cost.basis
        text = str(outcome.notes)
    for secret in (KEY, *KEY.split(":"), base64.b64encode(picture()).decode()[:60]):
        assert secret not in text + log
    # The key is sent to the service only, not to result hosts.
    for seen in service.seen:
        if seen.path.startswith(("/files/", "/secret")):
            assert KEY not in str(seen.headers)


def deadline(name: str) -> str:
    """Return a short deadline for faults that never complete, and a long one for all others."""
    return "0.25" if name in ("slow bytes", "hang") else "20"


def attempt(service: Service, folder, protocol: str, **more):
    """Return the cutout, or the error instead of raising it."""
    try:
        return cut(service, folder, protocol, **more)
    except RmbgError as error:
        return error


@pytest.mark.parametrize(("protocol", "step", "name"), CASES)
def test_fault_is_one_error_with_charge_and_without_key(protocol, step, name, tmp_path, debug_log):  # noqa: F811
    with PROTOCOLS[protocol].server() as service:
        service.faults[step] = PROTOCOLS[protocol].faults[name]
        outcome = attempt(service, tmp_path, protocol, RMBG_REMOTE_SECONDS=deadline(name), RMBG_MAX_BYTES="200_000")
        check_fault(service, tmp_path, outcome, debug_log.text)
        assert isinstance(outcome, RmbgError) or (step == "stored" and protocol.startswith("Runware"))
        # A stored job may be charged, unless the service itself reports its failure.
        if service.jobs and isinstance(outcome, RmbgError) and outcome.cost is None:
            assert name in ("401", "no balance", "429 for an hour", "429 with seconds", "429 with a date") or re.search(
                r"^(500|503|error without code|no subject|422|redirect)", name
            )
        assert not any(seen.path == "/secret" for seen in service.seen)


@pytest.mark.parametrize("name", ["429 with seconds", "429 with a date"])
def test_request_is_retried_after_429(name, tmp_path, monkeypatch):
    monkeypatch.setattr("rmbg.net.transport.Exchange.sleep", lambda self, seconds: None)
    monkeypatch.setattr("rmbg.net.client.MAX_RETRY_AFTER", 30)
    with PROTOCOLS["Runware"].server() as service:
        service.faults["submit"] = once(PROTOCOLS["Runware"].faults[name], "submit")
        assert cut(service, tmp_path, "Runware").cost.usd
        assert len(service.jobs) == 1


@pytest.mark.parametrize(
    ("protocol", "step", "name", "keeps_history"),
    [
        ("Runware", "submit", "dropped connection", True),
        ("Runware", "submit", "503", True),
        ("Runware", "stored", "truncated body", True),
        ("Runware", "stored", "dropped connection", False),
        ("Runware", "stored", "gateway error page", False),
        ("Runware async", "stored", "dropped connection", True),
    ],
)
def test_runware_task_is_repeated_after_a_lost_response(protocol, step, name, keeps_history, tmp_path):
    """The same task is sent again; if the first one was accepted, its result is requested by its id."""
    with PROTOCOLS[protocol].server() as service:
        service.keeps_history = keeps_history
        service.faults[step] = once(PROTOCOLS[protocol].faults[name], step)
        cutout = cut(service, tmp_path, protocol)
        assert cutout.cost.basis == "charged" and len(service.jobs) == 1
        sent = [task for seen in service.seen for task in seen.json if task["taskType"] == "removeBackground"]
        assert len(sent) == 2 and sent[0] == sent[1]


JOB_CASES = [
    (protocol, step, name)
    for protocol in JOB_PROTOCOLS
    for step in (("status", "result") if protocol == "fal queue" else ("status",))
    for name in (("hang", "503") if protocol == "BRIA job" else PROTOCOLS[protocol].faults)  # which cannot be cancelled
    if name != "422 with the picture"
]


@pytest.mark.parametrize(("protocol", "step", "name"), JOB_CASES)
def test_fault_after_a_job_was_accepted(protocol, step, name, tmp_path):
    with PROTOCOLS[protocol].server() as service:
        service.faults[step] = PROTOCOLS[protocol].faults[name]
        outcome = attempt(service, tmp_path, protocol, RMBG_REMOTE_SECONDS=deadline(name), RMBG_MAX_BYTES="200_000")
        check_fault(service, tmp_path, outcome)
        assert isinstance(outcome, ServiceError) and len(service.jobs) == 1
        # The state of the job is unknown, as no response about it arrives.
        assert outcome.cost == Cost(None, "unknown")
        assert service.cancelled or step == "result" or protocol == "BRIA job", "BRIA has no request for it"
        del service.faults[step]
        service.jobs.clear()
        service.faults[step] = once(PROTOCOLS[protocol].faults[name], step)
        if name in ("503", "gateway error page", "dropped connection", "truncated body"):
            assert cut(service, tmp_path, protocol).cost  # the request is retried and succeeds
            assert len(service.jobs) == 1


@pytest.mark.parametrize("protocol", ["BRIA job", "Replicate"])
def test_failed_job_has_an_unknown_charge(protocol, tmp_path):
    with PROTOCOLS[protocol].server() as service:
        service.failed = True
        outcome = attempt(service, tmp_path, protocol)
        check_fault(service, tmp_path, outcome)
        assert "could not process the photo: It failed." in str(outcome) and outcome.cost == Cost(None, "unknown")


@pytest.mark.parametrize(
    ("protocol", "name"),
    [
        *(("Replicate", name) for name in PICTURE_FAULTS),
        *((protocol, name) for protocol in ("fal queue", "Runware", "BRIA") for name in ("not found", "truncated body")),
    ],
)
def test_fault_while_the_result_is_downloaded(protocol, name, tmp_path):
    url = {"fal": {"sync_mode": False}, "Runware": {"outputType": "URL"}}.get(protocol.split()[0], {})
    with PROTOCOLS[protocol].server() as service:
        service.faults["picture"] = PICTURE_FAULTS[name]
        outcome = attempt(service, tmp_path, protocol, RMBG_REMOTE_SECONDS=deadline(name), RMBG_MAX_BYTES="200_000", **url)
        check_fault(service, tmp_path, outcome)
        assert isinstance(outcome, ServiceError)
        if name != "slow bytes":  # on a busy machine this deadline may pass before the job exists
            assert len(service.jobs) == 1
            assert outcome.cost.basis == ("charged" if url else PRICES[PROTOCOLS[protocol].provider].basis)
        assert all("authorization" not in seen.headers for seen in service.seen if seen.path.startswith("/files"))


URL_RESULTS = (("fal queue", {"sync_mode": False}), ("Runware", {"outputType": "URL"}), ("Replicate", {}))


def test_result_on_a_private_host_is_not_downloaded(tmp_path):
    with Web() as other, PROTOCOLS["Replicate"].server() as service:
        for number, host in enumerate((f"127.0.0.2:{other.port}", f"localhost:{service.port}", "10.0.0.1", "169.254.169.254")):
            for scheme, reason in (("http", "is not encrypted"), ("https", "in a private network or on this machine")):
                service.jobs.clear()
                service.picture_host, service.picture_scheme = host, scheme
                folder = tmp_path / f"{number} {scheme}"
                outcome = attempt(service, folder, "Replicate")
                check_fault(service, folder, outcome)
                assert reason in str(outcome) and not other.seen


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs the openssl command to make a certificate")
@pytest.mark.parametrize(("protocol", "url"), URL_RESULTS)
def test_paid_result_on_any_public_host_is_downloaded_without_the_key(protocol, url, tmp_path, monkeypatch):
    resolve = transport._resolve
    monkeypatch.setattr(transport, "_resolve", lambda host, *rest: resolve(host.replace("results.example", "127.0.0.1"), *rest))
    for name, value in (("is_loopback", False), ("is_own", False), ("is_public", True)):
        monkeypatch.setattr(transport, name, lambda address, value=value: value)
    server, client = tls_contexts(tmp_path, "results.example")
    monkeypatch.setattr(transport, "_tls", lambda: client)
    with PROTOCOLS[protocol].server() as service, Web(tls=server) as host:
        service.picture_host, service.picture_scheme = f"results.example:{host.port}", "https"
        host.answer = lambda exchange: exchange.send(200, service.files[exchange.path][0], "image/png")
        cutout = cut(service, tmp_path, protocol, **url)
        assert np.abs(cutout.matte - expected_matte(picture())).max() < 0.01
        assert host.seen and not any(secret in str(seen.headers) for seen in host.seen for secret in KEY.split(":"))


def test_plain_http_result_requires_an_allowed_loopback_host(tmp_path):
    with PROTOCOLS["Runware"].server() as service:
        outcome = attempt(service, tmp_path, "Runware", outputType="URL", RMBG_RESULT_HOSTS="")
        check_fault(service, tmp_path, outcome)
        assert "is not encrypted" in str(outcome)


@pytest.mark.parametrize("protocol", JOB_PROTOCOLS)
def test_key_is_not_sent_to_urls_of_jobs_on_a_foreign_host(protocol, tmp_path):
    with Web() as other, PROTOCOLS[protocol].server() as service:
        service.host_of_urls = f"127.0.0.1:{other.port}"
        outcome = attempt(service, tmp_path, protocol)
        check_fault(service, tmp_path, outcome)
        assert "key is not sent there" in str(outcome) and outcome.cost == Cost(None, "unknown")
        assert not other.seen


def test_key_is_not_sent_to_urls_above_the_base_url(tmp_path):
    with PROTOCOLS["fal queue"].server() as service:
        service.host_of_urls = f"127.0.0.1:{service.port}/queue/.."
        outcome = attempt(service, tmp_path, "fal queue")
        assert "key is not sent there" in str(outcome) and not any(".." in seen.path for seen in service.seen)


def test_fault_of_a_resumed_job_has_an_unknown_charge(tmp_path):
    provider, photo, handles = PROVIDERS["fal-rmbg-2.0"], open_photo(picture()), []
    with PROTOCOLS["fal queue"].server() as service:
        context = RequestContext(settings(service, tmp_path), job=PaidJob("id", "", handles.append))
        assert run_directly(provider, photo, provider.info.parse_options({}), context).cost
        service.faults["status"] = PROTOCOLS["fal queue"].faults["401"]
        context = replace(context, job=PaidJob("id", handles[0], handles.append))
        with pytest.raises(ServiceError, match="may have been charged") as caught:
            run_directly(provider, photo, provider.info.parse_options({}), context)
        assert caught.value.cost == Cost(None, "unknown") and len(service.jobs) == 1


@pytest.mark.parametrize("protocol", ["remove.bg", "Replicate", "withoutBG"])  # the last one returns masks
def test_result_without_transparency_or_without_subject(protocol, tmp_path):
    with PROTOCOLS[protocol].server() as service:
        service.picture = png(Image.new("L", (96, 64), 255)) if protocol == "withoutBG" else cut_out(picture(), form="JPEG")
        outcome = attempt(service, tmp_path / "a", protocol)
        assert "without transparency" in str(outcome) and outcome.cost
        check_fault(service, tmp_path / "a", outcome)
        service.jobs.clear()
        service.picture = png(Image.new("RGBA", (96, 64)))
        outcome = attempt(service, tmp_path / "b", protocol)
        assert isinstance(outcome, NoSubjectError) and "found no subject" in str(outcome)
        check_fault(service, tmp_path / "b", outcome)


@pytest.mark.parametrize(
    ("error", "charge"),
    [
        ((500, {"detail": "Internal error", "error_type": "internal_error"}), None),
        ((504, {"detail": [{"msg": "Too slow", "type": "generation_timeout"}]}), None),
        ((422, {"detail": [{"msg": "Image too large", "type": "image_too_large", "input": "data:x"}]}), "unknown"),
    ],
)
@pytest.mark.parametrize("protocol", ["fal queue", "fal direct"])
def test_failed_fal_job_and_its_charge(protocol, error, charge, tmp_path):
    with PROTOCOLS[protocol].server() as service:
        service.job_error = error
        outcome = attempt(service, tmp_path, protocol)
        check_fault(service, tmp_path, outcome)
        assert (outcome.cost and outcome.cost.basis) == charge and len(service.jobs) == 1


@pytest.mark.parametrize("protocol", ["Runware", "Runware async"])
def test_runware_error_with_status_200(protocol, tmp_path):
    with PROTOCOLS[protocol].server() as service:
        for code, text in (
            ("inferenceError", "failed (inferenceError)"),
            ("invalidImage", "rejected the photo or the options"),
        ):
            service.jobs.clear()
            service.job_error = {"code": code}
            outcome = attempt(service, tmp_path / code, protocol)
            check_fault(service, tmp_path / code, outcome)
            assert text in str(outcome)
            accepted = protocol == "Runware async" or code == "inferenceError"
            assert (outcome.cost == Cost(None, "unknown")) == accepted


def test_runware_result_with_an_additional_error_is_used(tmp_path):
    with PROTOCOLS["Runware"].server() as service:
        made = service._outcome
        service._outcome = lambda job: (made(job)[0], [{"code": "webhookFailed", "message": "The webhook did not answer."}])
        assert cut(service, tmp_path, "Runware").cost.basis == "charged" and len(service.jobs) == 1


def test_missing_cost_is_not_zero(tmp_path):
    with PROTOCOLS["Runware"].server() as service:
        service.reports_cost = False
        assert cut(service, tmp_path, "Runware").cost == Cost(None, "unknown")
        assert ledger.of(settings(service, tmp_path)).spent_today() == Decimal("0.018")
        assert cut(service, tmp_path, "Runware", includeCost=False).cost == Cost(Decimal("0.018"), "listed")
    with PROTOCOLS["fal queue"].server() as service:
        service.units = None
        assert cut(service, tmp_path, "fal queue").cost == Cost(Decimal("0.018"), "listed")
        service.units, service.unit_price = "2.5", 0.02
        assert cut(service, tmp_path, "fal queue").cost == Cost(Decimal("0.05"), "charged")
        service.faults["price"] = lambda s, x: s.refuse(x, 500, "no")
        assert cut(service, tmp_path, "fal queue").cost == Cost(Decimal("0.045"), "listed")
        service.units = "many"
        assert cut(service, tmp_path, "fal queue").cost == Cost(Decimal("0.018"), "listed")
    with PROTOCOLS["remove.bg"].server() as service:
        assert cut(service, tmp_path, "remove.bg", RMBG_REMOVEBG_CREDIT_USD="0.02").cost == Cost(Decimal("0.02"), "charged")
        assert cut(service, tmp_path, "remove.bg", size="preview").cost == Cost(Decimal("0.0125"), "listed")
        service.credits = ""
        assert cut(service, tmp_path, "remove.bg").cost == Cost(None, "unknown")
        free = {"RMBG_REMOVEBG_CREDIT_USD": "0", "RMBG_DAILY_BUDGET_USD": "0"}
        assert cut(service, tmp_path / "own service", "remove.bg", **free).cost == Cost(None, "unknown")


@pytest.mark.parametrize("reported", ["1e30", "1e999999", "-1", "NaN"])
def test_invalid_cost_is_unknown_and_the_result_is_kept(reported, tmp_path):
    with PROTOCOLS["fal queue"].server() as service:
        service.units = reported
        assert cut(service, tmp_path / "fal", "fal queue").cost == Cost(Decimal("0.018"), "listed")
    with PROTOCOLS["remove.bg"].server() as service:
        service.credits = reported
        assert cut(service, tmp_path / "removebg", "remove.bg").cost == Cost(None, "unknown")
    with PROTOCOLS["Runware"].server() as service:
        made = service._outcome
        service._outcome = lambda job: ([item | {"cost": float(reported)} for item in made(job)[0]], [])
        assert cut(service, tmp_path / "Runware", "Runware").cost == Cost(None, "unknown")


# Cancellation


@pytest.mark.parametrize(
    ("protocol", "step"),
    [*((protocol, "submit") for protocol in WIRE_FORMATS), *((name, "status") for name in (*JOB_PROTOCOLS, "Runware async"))],
)
def test_cancellation_leaves_the_charge_unknown(protocol, step, tmp_path):
    with PROTOCOLS[protocol].server() as service:
        service.polls = 10_000
        if step == "submit":
            service.faults[step] = lambda s, x: x.hang()
        elif protocol == "fal queue":
            service.faults[step] = lambda s, x: x.send_json(202, {"status": "IN_PROGRESS"})
        paths = [("removebg", "/v1"), ("requests/", "/v1", "/job-")][step == "status"]

        def cancelled() -> bool:
            many = 1 if step == "submit" else 2
            return len([s for s in service.seen if any(p in s.path for p in paths) or s.method == "POST"]) >= many

        outcome = attempt(service, tmp_path, protocol, cancelled=cancelled)
        check_fault(service, tmp_path, outcome)
        assert isinstance(outcome, CancelledError) and outcome.cost == Cost(None, "unknown")
        if protocol in ("fal queue", "Replicate") and step == "status":
            assert until(lambda: len(service.cancelled) == 1)
