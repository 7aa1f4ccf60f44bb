"""Consent to paid calls: it covers a provider at a price, and is checked on the server."""

from __future__ import annotations

from decimal import Decimal

import gradio as gr
import pytest
from PIL import Image

from rmbg.providers import PROVIDERS
from rmbg.replace import INFO
from rmbg.settings import Settings
from rmbg.ui.components import providers
from rmbg.ui.components.inputs import Upload
from rmbg.ui.components.providers import key_names
from rmbg.ui.consent import Charge, Consent, ConsentError, charges_of, times
from rmbg.ui.session import Session
from rmbg.ui.tabs import compare_run, removal
from tests.benchmark.fakes import Fake
from tests.pictures import scene
from tests.sentences import sentence

#: Values of the key fields.
NO_KEYS = ("",) * len(key_names())

FAR = Charge("far", "Far", Decimal("0.02"))


def test_consent_is_requested_once_for_a_provider_at_a_price():
    consent = Consent()
    with pytest.raises(ConsentError) as caught:
        consent.require("remove", [FAR])
    assert sentence(caught.value) == "This sends your photo to Far. Expected charge: about $0.02."
    assert consent.pending("remove") and not consent.covers([FAR])
    consent.accept("remove")
    consent.require("remove", [FAR])
    assert not consent.pending("remove")
    for other in (Charge("near", "Near", FAR.usd), Charge("far", "Far", Decimal("0.04")), Charge("far", "Far", None)):
        with pytest.raises(ConsentError):
            consent.require("remove", [other])


def test_consent_applies_to_what_its_own_tab_has_shown():
    consent = Consent()
    consent.request("remove", [FAR])
    consent.accept("compare")
    assert not consent.covers([FAR])
    consent.decline("remove")
    consent.accept("remove")
    assert not consent.covers([FAR])


def test_late_event_of_a_selection_keeps_the_consent_that_a_run_of_it_has_requested(far):
    """A click on Start right after the selection of a provider can be processed before the selection."""
    session = Session()
    session.consent.request("remove", [FAR])
    assert providers.hide("remove", session, "far") == (gr.skip(), gr.skip())
    session.consent.accept("remove")
    assert session.consent.covers([FAR])
    session.consent.request("remove", [FAR])
    assert providers.hide("remove", session, "builtin") == (gr.update(visible=False), "")
    assert not session.consent.pending("remove")


def test_late_event_of_a_selection_keeps_the_consent_that_a_comparison_of_it_has_requested(far, upload):
    session, settings = Session(), Settings.from_environ()
    chosen, free = ["builtin", "far"], ["builtin"]
    compare_run.check_request(upload, session, False, chosen, *NO_KEYS)
    assert compare_run.invalidate(settings, session, upload, chosen) == (gr.skip(), gr.skip())
    assert session.consent.pending(compare_run.PLACE)
    assert compare_run.invalidate(settings, session, upload, free) == (gr.update(visible=False), "")
    assert not session.consent.pending(compare_run.PLACE)
    session.close()


def test_price_of_the_options_is_part_of_the_consent():
    settings = Settings.from_environ({"FAL_KEY": "a:b"})
    one, three = (charges_of(INFO, {"num_images": count}, "", settings) for count in (1, 3))
    assert one != three and three[0].usd == 3 * one[0].usd


def test_local_calls_and_calls_without_a_key_have_no_charge():
    settings = Settings.from_environ({})
    assert charges_of(PROVIDERS["builtin"].info, {}, "", settings) == ()
    assert charges_of(INFO, {}, "", settings) == ()
    assert len(charges_of(INFO, {}, "a:b", settings)) == 1


@pytest.fixture
def far(own_data, monkeypatch) -> Fake:
    provider = Fake("far", "remote", "0.02")
    monkeypatch.setitem(PROVIDERS, "far", provider)
    return provider


@pytest.fixture
def upload(tmp_path) -> Upload:
    Image.fromarray(scene(60, 80)[0]).save(tmp_path / "mug.png")
    return Upload(str(tmp_path / "mug.png"), "mug.png")


def test_removal_without_consent_is_not_sent(far, upload):
    """A request that was not made by the page is checked as well."""
    session = Session()

    def remove() -> str:
        display = ("cutout", "transparent", "#ffffff", "#ffffff", "#ffffff", None, False, 5)
        arguments = (None, upload, "far", "", {}, session, None, *display)
        *_, last = removal.remove(*arguments, progress=gr.Progress())
        return str(last[2])

    assert "Expected charge: about $0.02." in remove() and not far.calls
    session.consent.accept("remove")
    assert "Expected charge" not in remove() and far.calls == ["mug"]
    session.close()


def test_comparison_without_consent_is_not_sent(far, upload):
    session = Session()
    updates = list(compare_run.begin(None, upload, session, False, ["builtin", "far"], *NO_KEYS, paid=True))
    assert "Press Compare again." in updates[-1][-1] and not far.calls
    session.close()


def test_consent_for_one_photo_does_not_cover_two(far, upload, tmp_path):
    """An unknown price is the same for any number of photos."""
    for charge in (FAR, Charge("hidden", "Hidden", None)):
        consent = Consent()
        consent.request("compare", [charge])
        consent.accept("compare")
        assert consent.covers([times(charge, 1)]) and not consent.covers([times(charge, 2)])
    Image.fromarray(scene(60, 90)[0]).save(tmp_path / "cup.png")
    session = Session()
    request = upload, session, False, ["builtin", "far"], *NO_KEYS
    assert "about $0.02." in compare_run.check_request(*request)[1]
    session.consent.accept(compare_run.PLACE)
    session.added = [Upload(str(tmp_path / "cup.png"), "cup.png")]
    updates = list(compare_run.begin(None, *request, paid=True))
    assert "Press Compare again." in updates[-1][-1] and not far.calls
    assert "your 2 photos to Far. Expected charge: about $0.04." in compare_run.check_request(*request)[1]
    session.close()
