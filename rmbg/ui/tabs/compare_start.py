"""Start of a comparison: expected cost, validation of the inputs, consent."""

from __future__ import annotations

from typing import Any

import gradio as gr

from rmbg.compare.comparison import select_providers
from rmbg.settings import Settings
from rmbg.ui.cancellation import buttons
from rmbg.ui.components import viewer
from rmbg.ui.components.photo_input import Upload
from rmbg.ui.components.provider_checkboxes import selected_ids
from rmbg.ui.components.provider_text import place
from rmbg.ui.consent import Charge, charge_of, describe, times, total
from rmbg.ui.languages import t
from rmbg.ui.session import Session
from rmbg.ui.tabs.compare_photos import uploads
from rmbg.ui.templates import render

#: Name of this tab in the consent of a visitor, and prefix of its element ids.
PLACE = "compare"


def price_line(settings: Settings, count: int, *checked: bool) -> str:
    """Return the expected cost of the selected providers for `count` photos as an HTML note."""
    return render("note.html", text=_expected_cost(selected_ids(checked), settings, count))


def _expected_cost(ids: list[str], settings: Settings, count: int) -> str:
    """Return the expected cost of the providers `ids` in one sentence."""
    if len(ids) < 2:
        return t("Choose two or more providers.")
    charge = total(charges(ids, settings, count))
    if not charge:
        return t("Free of charge: the selected providers run on {place}.", place=place(settings))
    price = t(str(charge))
    if count == 1:
        return t("Expected charge: {price}.", price=price)
    return t("Expected charge for {count} photos: {price}.", count=count, price=price)


def check_request(upload: Upload | None, session: Session, blind: bool, *checked: bool) -> tuple[Any, ...]:
    """Validate the inputs; shows the consent buttons if the run may be charged, starts it otherwise."""
    settings, ids, count = Settings.from_environ(), selected_ids(checked), len(uploads(session, upload))
    problem = ""
    if not count:
        problem = "Choose a photo first."
    elif len(ids) < 2:
        problem = "Choose at least two providers to compare."
    elif blind and count > 1:
        problem = "A blind comparison takes one photo. Use one photo only, or show the names."
    if problem:
        return gr.skip(), viewer.notice(problem), gr.skip(), *buttons(False)
    expected = charges(ids, settings, count)
    if total(expected):
        session.consent.request(PLACE, expected)
        return gr.skip(), viewer.notice(describe(expected, count), "info"), gr.update(visible=True), *buttons(False)
    return start_run(session)


def charges(ids: list[str], settings: Settings, count: int) -> list[Charge]:
    """Return the expected charges of the providers `ids` for `count` photos."""
    infos = [provider.info for provider in select_providers(ids, settings)] if ids else []
    return [times(charge_of(info, {}, settings), count) for info in infos if info.kind == "remote"]


def confirm(session: Session) -> tuple[Any, ...]:
    """Accept the cost that was shown, and start the run."""
    session.consent.accept(PLACE)
    return start_run(session)


def start_run(session: Session) -> tuple[Any, ...]:
    """Start a run that is free of charge or has the visitor's consent."""
    return session.comparisons.start(), "", gr.update(visible=False), *buttons(True)


def after(session: Session) -> tuple[Any, Any]:
    """Updates of the buttons after a run has ended; another run may be active by then."""
    return buttons(session.comparisons.active)
