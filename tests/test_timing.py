"""rmbg.runtime.telemetry, and the seconds of a provider's first and second picture."""

from __future__ import annotations

import pytest
from PIL import Image

from rmbg.billing.quote import own_hardware
from rmbg.images.photo import open_photo
from rmbg.inference import builtin_runner
from rmbg.providers.base import RequestContext
from rmbg.providers.builtin import Builtin
from rmbg.runtime.telemetry import Timer, Timings, add_timings
from rmbg.settings import Settings
from tests.pictures import scene


def test_phases_and_the_rest_add_up():
    timer = Timer()
    with timer.phase("load"):
        pass
    with pytest.raises(ValueError), timer.phase("inference"):
        raise ValueError
    seconds, timings = timer.stop()
    assert seconds == pytest.approx(timings.load + timings.inference + timings.processing)
    assert timings.warm == timings.inference + timings.processing
    assert timings.download == timings.queue == 0


def test_excluded_seconds_are_not_counted(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("rmbg.runtime.telemetry.time.perf_counter", lambda: now[0])
    timer = Timer(started=0.0)
    with timer.phase("inference"):
        now[0] += 2
    with timer.excluded():
        now[0] += 50
    now[0] += 1
    seconds, timings = timer.stop()
    assert (seconds, timings.inference, timings.processing) == (3.0, 2.0, 1.0)


def test_timings_of_several_runs():
    first, second = Timings(1.0, 2.0, 0.0, 0.5, 0.25), Timings(0.0, 0.0, 3.0, 0.5, 0.25)
    assert add_timings([first, second], 8.0) == Timings(1.0, 2.0, 3.0, 1.0, 1.0)


def test_the_first_picture_costs_no_more_than_later_ones():
    """The load of the network is neither in the cost nor in the seconds of a comparison."""
    builtin_runner._load.cache_clear()
    settings = Settings.from_environ()
    photo = open_photo(Image.fromarray(scene(60, 80)[0]))
    first, second = (Builtin().cut(photo, {}, RequestContext(settings)) for _ in range(2))
    assert first.timings.load > second.timings.load
    assert first.seconds > first.warm_seconds + first.timings.load / 2
    for cutout in (first, second):
        assert cutout.cost == own_hardware(cutout.warm_seconds, settings.hourly_usd)
        assert cutout.summary()["timings"]["inference"] == round(cutout.timings.inference, 3)
