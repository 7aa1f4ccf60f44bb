"""Hugging Face: the hub's own client in its own process, with a deadline of ours."""

from __future__ import annotations

import time

import pytest

from rmbg import remove_background
from rmbg.cutout import Cost, Cutout
from rmbg.errors import CancelledError, NotReadyError, RmbgError, ServiceError
from rmbg.settings import Settings
from tests.remote import environment, picture
from tests.servers.huggingface import HF_FAULTS, TOKEN, Router
from tests.test_remote import MONEY, line


@pytest.fixture
def router():
    with Router() as service:
        yield service


def cut(router: Router, folder, **more) -> Cutout:
    called = {name: more.pop(name) for name in list(more) if callable(more[name])}
    env = environment(router, folder, **({"HF_TOKEN": TOKEN, "RMBG_HF_URL": router.url} | more))
    return remove_background(picture(), "hf-rmbg-2.0", settings=Settings.from_environ(env), **called)


def test_a_photo_becomes_a_cutout_of_unknown_cost(router, tmp_path):
    said = []
    cutout = cut(router, tmp_path, progress=lambda fraction, text: said.append(text))
    assert cutout.cost == Cost(None, "unknown") and line(tmp_path)[0] == "unknown"
    assert len(router.jobs) == 1 and 0.2 < cutout.matte.mean() < 0.8
    assert router.jobs[0]["arguments"]["sync_mode"] is True
    assert any("working" in text for text in said)


def test_tokens(router, tmp_path):
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
        ("result", "page instead of JSON"),
    ],
)
def test_faults(router, step, name, tmp_path):
    router.faults[step] = HF_FAULTS[name]
    with pytest.raises(RmbgError) as caught:
        cut(router, tmp_path, RMBG_REMOTE_SECONDS="20")
    error = caught.value
    assert isinstance(error, ServiceError) and MONEY.search(str(error)) and TOKEN not in str(error)
    assert len(router.jobs) <= 1 and len(str(error)) < 300 and "\n" not in str(error)
    if step in ("status", "result"):
        assert error.cost == Cost(None, "unknown")
    if step == "mapping":
        assert error.cost is None


def test_a_job_that_hangs_meets_our_deadline_and_can_be_stopped(router, tmp_path):
    router.polls = 10_000
    started = time.monotonic()
    with pytest.raises(ServiceError, match=r"did not answer within 4 seconds\. You may have been charged"):
        cut(router, tmp_path / "a", RMBG_REMOTE_SECONDS="4")
    assert time.monotonic() - started < 7
    with pytest.raises(CancelledError, match="You may have been charged"):
        cut(router, tmp_path / "b", cancelled=lambda: len(router.jobs) == 2)
    asked = len(router.seen)
    time.sleep(0.1)
    assert len(router.seen) <= asked + 1  # nobody asks any more


def test_results_elsewhere_are_not_fetched(router, tmp_path, monkeypatch):
    router.picture_host = "127.0.0.2:1"
    monkeypatch.setattr(Router, "_url", lambda self, made, arguments: self.publish(made))
    with pytest.raises(ServiceError, match=r"127\.0\.0\.2 is not one of the hosts"):
        cut(router, tmp_path)
