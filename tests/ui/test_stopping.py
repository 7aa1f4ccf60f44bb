"""Who stops while others are at work is not asked for anything when the turn comes."""

from __future__ import annotations

import threading

import gradio as gr
import pytest
from PIL import Image

from rmbg.errors import CancelledError
from rmbg.providers import PROVIDERS
from rmbg.ui import benchmark_tab, compare_actions
from rmbg.ui.provider_boxes import key_names
from rmbg.ui.session import Session
from rmbg.ui.switch import Switch
from rmbg.ui.upload import Upload
from tests.benchmark.fakes import Fake
from tests.pictures import scene


@pytest.fixture
def fake(own_data, monkeypatch) -> Fake:
    made = Fake("far", "remote", "0.02")
    monkeypatch.setitem(PROVIDERS, "far", made)
    return made


@pytest.fixture
def choice(fake) -> tuple:
    """The values of the boxes and of the fields for keys: only the paid provider."""
    return (*(name == "far" for name in PROVIDERS), *("" for _ in key_names()))


def test_a_comparison_that_was_stopped_in_the_queue(fake, choice, tmp_path):
    Image.fromarray(scene(60, 80)[0]).save(tmp_path / "mug.png")
    upload, session = Upload(str(tmp_path / "mug.png"), "mug.png"), Session()

    def compare(*, stop: bool) -> str:
        compare_actions.agreed(session)
        if stop:
            compare_actions.stop(session)
        return list(compare_actions.begin_paid(upload, session, False, "cutout", "transparent", "#fff", *choice))[-1][-1]

    assert "nothing was sent" in compare(stop=True) and not fake.calls
    assert compare(stop=False) == "" and fake.calls == ["mug"]
    assert "nothing was sent" in compare(stop=True) and len(fake.calls) == 1
    session.close()


def test_a_measurement_that_was_stopped_in_the_queue(fake, choice, monkeypatch, tmp_path):
    monkeypatch.setenv("RMBG_DATA", str(tmp_path))
    session = Session()
    benchmark_tab._begin(session)
    benchmark_tab._stop(session)
    said = benchmark_tab.measure_paid(session, "examples", None, *choice, progress=gr.Progress())[-1]
    assert "Stopped" in said and not fake.calls
    session.close()


def test_what_was_stopped_on_its_way_does_not_begin():
    """Only the next click forgets a stop; what it was meant for may come late."""
    switch = Switch()
    switch.arm()
    assert switch.stop() == "Stopped."
    for _ in range(2):
        with pytest.raises(CancelledError, match="nothing was sent"):
            switch.begin(paid=True)
        switch.end("Stopped; nothing was sent.")
    switch.arm()
    switch.begin()


@pytest.mark.parametrize(("paid", "words"), [(True, "You may have been charged."), (False, "Stopped.")])
def test_the_last_words_of_what_is_paid_are_waited_for(paid, words):
    """Whatever is chosen on the page by then: what counts is what runs."""
    switch = Switch()
    switch.begin(paid=paid)
    ends = threading.Timer(0.3, switch.end, ["You may have been charged."])
    ends.start()
    assert switch.stop() == words
    assert switch.stopped()
    ends.join()
    assert switch.stop() == "Stopped.", "nothing runs any more"
