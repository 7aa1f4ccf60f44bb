"""Cancellation of queued and running work, and the runs of one visitor."""

from __future__ import annotations

import threading

import gradio as gr
import pytest
from PIL import Image

from rmbg.errors import CancelledError
from rmbg.providers import PROVIDERS
from rmbg.runtime.cancellation import CancellationToken
from rmbg.ui.components.inputs import Upload
from rmbg.ui.components.providers import key_names
from rmbg.ui.runs import Runs
from rmbg.ui.session import Session
from rmbg.ui.tabs import benchmark, compare_actions, compare_run
from tests.benchmark.fakes import Fake
from tests.pictures import scene


@pytest.fixture
def fake(own_data, monkeypatch) -> Fake:
    provider = Fake("far", "remote", "0.02")
    monkeypatch.setitem(PROVIDERS, "far", provider)
    return provider


@pytest.fixture
def choice(fake) -> tuple:
    """Selected providers, of which one is paid for, and values of the key fields."""
    return ["builtin", "far"], *("" for _ in key_names())


def test_comparison_cancelled_in_the_queue_does_not_run(fake, choice, tmp_path):
    Image.fromarray(scene(60, 80)[0]).save(tmp_path / "mug.png")
    upload, session = Upload(str(tmp_path / "mug.png"), "mug.png"), Session()

    def compare(*, stop: bool) -> str:
        compare_run.check_request(upload, session, False, *choice)
        run = compare_run.confirm(session)[0]
        if stop:
            compare_actions.stop(session)
        return list(compare_run.begin(run, upload, session, False, *choice, paid=True))[-1][-1]

    assert "nothing was sent" in compare(stop=True) and not fake.calls
    assert compare(stop=False) == "" and fake.calls == ["mug"]
    assert "nothing was sent" in compare(stop=True) and len(fake.calls) == 1
    session.close()


def test_benchmark_cancelled_in_the_queue_does_not_run(fake, choice, monkeypatch, tmp_path):
    monkeypatch.setenv("RMBG_DATA", str(tmp_path))
    session = Session()
    run = benchmark._begin(session)[0]
    benchmark._stop(session)
    message = benchmark.measure(run, session, "examples", None, *choice, progress=gr.Progress(), paid=True)[-1]
    assert "Stopped" in message and not fake.calls
    session.close()


def test_cancelled_run_does_not_begin():
    """The request of a cancelled run may arrive late; only the next click starts a new run."""
    runs = Runs()
    first = runs.start()
    assert runs.cancel() == "Stopped." and not runs.active
    for _ in range(2):
        with pytest.raises(CancelledError, match="nothing was sent"):
            runs.begin(first, paid=True)
    second = runs.start()
    assert runs.begin(first, paid=True) is None, "the run of an earlier click does not begin"
    token = runs.begin(second)
    assert token is not None and not token.cancelled() and runs.active
    assert runs.begin(second) is None, "a repeated request does not begin"


def test_cancelled_run_stays_cancelled():
    runs = Runs()
    old = runs.begin(runs.start())
    runs.cancel(wait=False)
    new = runs.begin(runs.start())
    assert old is not None and new is not None
    assert old.cancelled() and not new.cancelled()
    old.end("late")
    assert runs.active, "the end of the old run does not end the new one"
    assert runs.cancel() == "Stopped." and new.cancelled()


def test_second_click_returns_the_open_run():
    runs = Runs()
    assert runs.start() == runs.start()
    token = runs.begin(runs.start())
    assert token is not None and runs.begin(runs.start()) is None
    token.end()
    assert runs.begin(None) is not None, "an API call without a preceding click begins"


def test_concurrent_requests_begin_once():
    token, results = CancellationToken(), []
    barrier = threading.Barrier(8)

    def begin() -> None:
        barrier.wait()
        results.append(token.begin())

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False] * 7 + [True]


@pytest.mark.parametrize(("paid", "message"), [(True, "You may have been charged."), (False, "Stopped.")])
def test_final_message_of_a_paid_run_is_awaited(paid, message):
    """Payment is a property of the run, not of the current selection on the page."""
    token = CancellationToken()
    token.begin(paid=paid)
    timer = threading.Timer(0.3, token.end, ["You may have been charged."])
    timer.start()
    assert token.cancel() == message
    assert token.cancelled()
    timer.join()
    assert token.cancel() == "Stopped.", "the run has ended"
