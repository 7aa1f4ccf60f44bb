"""Hugging Face: the endpoint from the hub, and the job at its router to fal."""

from __future__ import annotations

import time

import pytest

from rmbg import remove_background
from rmbg.billing.cost import Cost
from rmbg.cutout import Cutout
from rmbg.errors import CancelledError, NotReadyError, RmbgError, ServiceError
from rmbg.settings import Settings
from tests.providers.test_remote import CHARGE_SENTENCE, ledger_row
from tests.remote import environment, picture, short_delays  # noqa: F401
from tests.servers.huggingface import HF_FAULTS, TOKEN, Router

pytestmark = pytest.mark.usefixtures("short_delays")


@pytest.fixture
def router():
    with Router() as service:
        yield service


def cut(router: Router, folder, **more) -> Cutout:
    callbacks = {name: more.pop(name) for name in list(more) if callable(more[name])}
    env = environment(router, folder, **({"HF_TOKEN": TOKEN, "RMBG_HF_URL": router.url, "RMBG_REMOTE_SECONDS": "60"} | more))
    return remove_background(picture(), "hf-rmbg-2.0", settings=Settings.from_environ(env), **callbacks)


def test_photo_is_cut_out_at_unknown_cost(router, tmp_path):
    messages = []
    cutout = cut(router, tmp_path, progress=lambda fraction, text: messages.append(text))
    assert cutout.cost == Cost(None, "unknown") and ledger_row(tmp_path)[0] == "unknown"
    assert len(router.jobs) == 1 and 0.2 < cutout.matte.mean() < 0.8
    assert router.jobs[0]["arguments"]["sync_mode"] is True
    assert any("processing" in text for text in messages)


def test_missing_or_invalid_token_is_rejected_before_sending(router, tmp_path):
    with pytest.raises(NotReadyError, match="needs a key"):
        cut(router, tmp_path, HF_TOKEN="")
    with pytest.raises(NotReadyError, match=r"begins with hf_.* Nothing was charged"):
        cut(router, tmp_path, HF_TOKEN="id:secret-of-fal")
    assert not router.seen


@pytest.mark.parametrize(
    ("step", "name"),
    [
        ("mapping", "500"),
        ("submit", "401"),
        ("submit", "no balance"),
        ("stored", "dropped connection"),
        ("status", "500"),
        ("result", "HTML instead of JSON"),
    ],
)
def test_fault_is_one_error_with_charge_and_without_token(router, step, name, tmp_path):
    router.faults[step] = HF_FAULTS[name]
    with pytest.raises(RmbgError) as caught:
        cut(router, tmp_path)
    error = caught.value
    assert isinstance(error, ServiceError) and CHARGE_SENTENCE.search(str(error)) and TOKEN not in str(error)
    assert len(router.jobs) <= 1 and len(str(error)) < 300 and "\n" not in str(error)
    if step in ("status", "result"):
        assert error.cost == Cost(None, "unknown")
    if step == "mapping":
        assert error.cost is None


def test_pending_job_ends_at_the_deadline_or_by_cancellation(router, tmp_path):
    router.polls = 10_000
    started = time.monotonic()
    with pytest.raises(ServiceError, match=r"did not answer within 4 seconds\. You may have been charged"):
        cut(router, tmp_path / "a", RMBG_REMOTE_SECONDS="4")
    assert time.monotonic() - started < 24
    with pytest.raises(CancelledError, match="You may have been charged"):
        cut(router, tmp_path / "b", cancelled=lambda: len(router.jobs) == 2)
    requests = len(router.seen)
    time.sleep(0.1)
    assert len(router.seen) <= requests + 1  # polling has stopped


def test_result_on_a_private_host_is_not_downloaded(router, tmp_path, monkeypatch):
    router.picture_host = "127.0.0.2:1"
    monkeypatch.setattr(Router, "_url", lambda self, made, arguments: self.publish(made))
    with pytest.raises(ServiceError, match=r"127\.0\.0\.2 is not encrypted"):
        cut(router, tmp_path)
