"""Comparison: order, failures, cancellation, agreement, exports."""

from __future__ import annotations

import csv
import io
import threading
import zipfile
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from PIL import Image

from rmbg.billing.cost import Cost
from rmbg.billing.quote import Estimate, estimate
from rmbg.compare.agreement import FIRST_COLOR, SECOND_COLOR, agreement, difference, edge_band
from rmbg.compare.comparison import Outcome, compare, select_providers
from rmbg.compare.export import contact_sheet, cutouts_zip, table_csv
from rmbg.cutout import Cutout
from rmbg.errors import ModelError, OptionError, PhotoError
from rmbg.images.photo import Photo
from rmbg.providers import PROVIDERS
from rmbg.providers.base import Status
from rmbg.render.backgrounds import parse_background
from rmbg.runtime.telemetry import Timings
from rmbg.settings import Settings
from tests.benchmark.fakes import Fake
from tests.pictures import scene
from tests.servers.web import until

SETTINGS = Settings.from_environ({})
RGB, ALPHA, FORE, _ = scene(120, 160)
PHOTO = Photo(RGB, name="scene")


@pytest.fixture
def add(monkeypatch):
    def adder(*fakes):
        for fake in fakes:
            monkeypatch.setitem(PROVIDERS, fake.info.id, fake)
        return fakes

    return adder


def run(ids, **more):
    return list(compare(PHOTO, ids, settings=SETTINGS, **more))


def outcome(name: str, matte: np.ndarray, price: str | None = None) -> Outcome:
    cost = Cost(None, "unknown") if price is None else Cost(Decimal(price), "charged")
    return Outcome(name, Cutout(PHOTO, matte.astype(np.float32), FORE.copy(), name, 1.5, cost, engine="fake", device="cpu"))


def test_local_networks_are_warmed_up_before_their_run(add):
    """A cold start is no part of seconds and cost."""
    events = []

    class Warmed(Fake):
        def warm_up(self, context):
            events.append("warm-up")
            if self.info.id == "broken":
                raise ModelError("The network cannot be loaded.")

        def cut(self, photo, options, call):
            events.append("run")
            return super().cut(photo, options, call)

    add(Warmed("near"), Warmed("broken"))
    near, broken = run(["near", "broken"])
    assert events == ["warm-up", "run", "warm-up"]
    assert near.cutout is not None and broken.error == "The network cannot be loaded."


def test_outcomes_are_yielded_when_available_and_remote_ones_do_not_wait(add):
    """Each provider ends only after the previous outcome was received."""
    gates = {name: threading.Event() for name in ("quick", "near", "slow")}

    class Gated(Fake):
        def cut(self, photo, options, call):
            assert gates[self.info.id].wait(120)
            return super().cut(photo, options, call)

    add(Gated("near"), Gated("quick", "remote", "0.01"), Gated("slow", "remote", "0.02"))
    order = []
    outcomes = compare(PHOTO, ["near", "slow", "quick"], settings=SETTINGS)
    for gate in gates.values():
        gate.set()
        order.append(next(outcomes).provider)
    assert order == ["quick", "near", "slow"] and next(outcomes, None) is None


def test_local_providers_run_one_after_another(add):
    first, second = add(Fake("first", wait=0.1), Fake("second", wait=0.1))
    first.at_once = second.at_once = 0
    seen = [result.provider for result in run(["second", "first"])]
    assert seen == ["second", "first"]


def test_a_failure_does_not_affect_other_providers(add):
    add(
        Fake("down", "remote", fail={"scene"}),
        Fake("broken", fail={"scene"}, error=ZeroDivisionError("oops")),
        Fake("keyless", "remote", status=Status("key", "it needs a key")),
        Fake("good"),
    )
    found = {result.provider: result for result in run(["down", "broken", "keyless", "good"])}
    assert found["good"].cutout is not None
    assert found["down"].error == "The service is down."
    assert found["broken"].error == "Broken failed because of an internal error; see the log."
    assert found["keyless"].error == "Keyless is not ready: it needs a key."


def test_a_key_for_this_request_makes_a_provider_ready(add):
    add(Fake("keyless", "remote", status=Status("key", "it needs a key")))
    assert run(["keyless"], keys={"keyless": "k"})[0].cutout is not None


def test_invalid_input_is_rejected_before_anything_is_sent(add):
    (fake,) = add(Fake("near"))
    with pytest.raises(OptionError, match="no provider"):
        compare(PHOTO, ["near", "missing"], settings=SETTINGS)
    with pytest.raises(OptionError, match="at least one"):
        compare(PHOTO, [], settings=SETTINGS)
    with pytest.raises(OptionError, match="no option"):
        compare(PHOTO, ["near"], options={"near": {"x": 1}}, settings=SETTINGS)
    with pytest.raises(PhotoError):
        compare(b"no picture", ["near"], settings=SETTINGS)
    assert fake.calls == []


def test_cancelling_stops_running_providers(add):
    add(Fake("quick"), Fake("slow", "remote", wait=30.0), Fake("waiting", wait=30.0))
    stop = threading.Event()
    results = []
    for result in compare(PHOTO, ["quick", "slow", "waiting"], settings=SETTINGS, cancelled=stop.is_set):
        results.append(result)
        stop.set()
    assert [result.cutout is not None for result in results] == [True, False, False]
    assert {result.error for result in results[1:]} == {"Stopped."}


def test_closing_the_iterator_stops_running_providers(add):
    quick, slow = add(Fake("quick"), Fake("slow", wait=30.0))
    results = compare(PHOTO, ["quick", "slow"], settings=SETTINGS)
    assert next(results).provider == "quick"
    results.close()
    assert until(lambda: slow.at_once == 0, 25) and quick.calls == ["scene"]


def test_the_expected_cost_counts_paid_providers_and_names_unknown_prices(add):
    add(Fake("near"), Fake("a", "remote", "0.018"), Fake("b", "remote", "0.0013"), Fake("c", "remote"))

    def charge(*ids: str) -> Estimate:
        return estimate([(provider.info, 1) for provider in select_providers(ids, SETTINGS)], SETTINGS)

    assert charge("near", "a", "b", "c", "a") == Estimate(Decimal("0.0193"), ("C",))
    assert str(charge("near", "a", "b", "c", "a")) == "about $0.019 and an unknown price at C"
    assert charge("near") == Estimate() and not charge("near")


def test_the_difference_map_has_a_color_for_each_side():
    first, second = np.zeros((2, 8, 12), np.float32)
    first[:, :4] = 1
    second[:, 8:] = 1
    shown = difference(first, second, np.full((8, 12, 3), 100, np.uint8))
    assert tuple(shown[0, 0]) == FIRST_COLOR and tuple(shown[0, 11]) == SECOND_COLOR
    assert len(set(shown[0, 5].tolist())) == 1  # no difference: gray


def test_agreement_with_a_reference():
    full, half = np.zeros((2, 120, 160))
    full[20:100, 20:140] = 1
    half[20:100, 20:80] = 1
    half[0:12, 0:16] = 0.5
    lines = agreement([outcome("a", full, "0.018"), outcome("b", half), Outcome("c", None, "It failed.")], "a")
    assert (lines[0].iou, lines[0].edge_difference, lines[0].soft) == (100, 0, 0)
    assert lines[0].usd_100000 == 1800
    assert lines[1].iou == pytest.approx(50)
    band = edge_band(full)
    assert lines[1].edge_difference == pytest.approx(100 * np.abs(half - full)[band].mean(), rel=1e-5)
    assert lines[1].soft == pytest.approx(1.0)
    assert lines[1].usd_100000 is None
    assert (lines[2].iou, lines[2].soft) == (None, None)


def test_a_failed_reference_gives_no_agreement():
    lines = agreement([outcome("a", ALPHA), Outcome("b", None, "It failed.")], "b")
    assert lines[0].iou is None and lines[0].soft > 0


def test_exports(add):
    add(Fake("a"), Fake("b"), Fake("c"))
    outcomes = [outcome("a", ALPHA, "0.018"), outcome("b", 1 - ALPHA), Outcome("c", None, "It failed.")]
    sheet = Image.open(io.BytesIO(contact_sheet(outcomes, parse_background("#ff0000"))))
    assert sheet.format == "PNG" and sheet.width == 20 + 3 * (160 + 20)
    assert sheet.getpixel((20 + 180 + 2, 22)) == (255, 0, 0)
    with zipfile.ZipFile(io.BytesIO(cutouts_zip(outcomes))) as archive:
        assert archive.namelist() == ["scene-a.png", "scene-b.png"]
        alpha = np.asarray(Image.open(io.BytesIO(archive.read("scene-a.png"))))[..., 3]
    assert np.abs(alpha / 255 - ALPHA).max() < 0.003
    lines = list(csv.DictReader(io.StringIO(table_csv(agreement(outcomes, "a"), "a"))))
    assert [line["usd"] for line in lines] == ["0.018", "", ""]
    assert [line["basis"] for line in lines] == ["charged", "unknown", "unknown"]
    assert lines[0]["iou_with_a"] == "100.000" and lines[2]["error"] == "It failed."
    assert outcomes[0].cutout is not None
    timed = Outcome("a", replace(outcomes[0].cutout, timings=Timings(load=2.0, inference=0.25, processing=0.5)))
    (line,) = csv.DictReader(io.StringIO(table_csv(agreement([timed], "a"), "a")))
    assert line["seconds"] == "0.750" and line["load_seconds"] == "2.000" and line["inference_seconds"] == "0.250"
    assert lines[1]["inference_seconds"] == "", "of a service"


def test_a_contact_sheet_of_a_narrow_photo_keeps_its_labels():
    photo = Photo(np.full((2000, 30, 3), 200, np.uint8), name="strip")
    matte = np.ones((2000, 30), np.float32)
    made = Cutout(photo, matte, photo.rgb.copy(), "builtin", 0.5, Cost(None, "unknown"))
    sheet = Image.open(io.BytesIO(contact_sheet([Outcome("builtin", made), Outcome("runware-rembg-1.4", made)])))
    assert sheet.height < 700 and sheet.width == 20 + 3 * (160 + 20)
    labels = np.asarray(sheet.convert("L"))[545:]
    assert (labels < 128).any(), "labels are drawn"
