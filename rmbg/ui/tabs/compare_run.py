"""The run of a comparison: expected cost, validation of the inputs, consent, and the providers in a thread."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gradio as gr

from rmbg.compare.comparison import compare, select_providers
from rmbg.errors import RmbgError
from rmbg.images.photo import Photo
from rmbg.providers import ready_providers
from rmbg.runtime.cancellation import CancellationToken
from rmbg.settings import Settings
from rmbg.ui.compare_state import Comparison
from rmbg.ui.components import viewer
from rmbg.ui.components.inputs import Upload
from rmbg.ui.components.providers import hide, keys_by_id, place
from rmbg.ui.consent import Charge, charge_of, describe, times, total
from rmbg.ui.lanes import DEVICE
from rmbg.ui.languages import t, visitor_text
from rmbg.ui.runs import INTERNAL_ERROR, buttons, in_thread
from rmbg.ui.session import Session
from rmbg.ui.tabs.compare_actions import ended, message_only, running, skipped, votes_file
from rmbg.ui.tabs.compare_view import uploads
from rmbg.ui.templates import render

#: Name of this tab in the consent of a visitor, and prefix of its element ids.
PLACE = "compare"


def price_line(settings: Settings, count: int, ids: list[str]) -> str:
    """Return the expected cost of the selected providers for `count` photos as an HTML note."""
    return render("note.html", text=_expected_cost(ids, settings, count))


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


def check_request(upload: Upload | None, session: Session, blind: bool, ids: list[str], *keys: str) -> tuple[Any, ...]:
    """Validate the inputs; shows the consent buttons if the run may be charged, starts it otherwise."""
    settings, count = Settings.from_environ(), len(uploads(session, upload))
    problem = ""
    if not count:
        problem = "Choose a photo first."
    elif len(ids) < 2:
        problem = "Choose at least two providers to compare."
    elif blind and count > 1:
        problem = "A blind comparison takes one photo. Use one photo only, or show the names."
    else:
        try:
            ready_providers(ids, settings, keys_by_id(keys))
        except RmbgError as error:
            advice = t("Enter a key under “Your keys” if it needs one, or remove it from the selection.")
            problem = f"{visitor_text(error)} {advice}"
    if problem:
        return gr.skip(), viewer.notice(problem), gr.skip(), *buttons(False)
    expected = charges(ids, settings, count)
    if total(expected):
        session.consent.request(PLACE, expected)
        return gr.skip(), viewer.notice(describe(expected, count), "info"), gr.update(visible=True), *buttons(False)
    return start_run(session)


def invalidate(settings: Settings, session: Session, upload: Upload | None, ids: list[str]) -> tuple[Any, Any]:
    """Updates of consent and message after a change of the selection; a request for exactly its charges is kept."""
    expected = charges(ids, settings, len(uploads(session, upload)))
    return hide(PLACE, session, *(charge.provider for charge in expected))


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


# The run of a comparison, in a thread of its own.


log = logging.getLogger(__name__)

#: Returns updates of the page.
Draw = Callable[[], tuple[Any, ...]]


def begin(
    run: int | None, upload: Upload | None, session: Session, blind: bool, ids: list[str], *entered: str, paid: bool = False
) -> Iterator[tuple[Any, ...]]:
    """Run all providers on each photo, and yield updates of the page after each result.

    Parameters
    ----------
    ids : list of str
        Selected providers.
    *entered : str
        Values of the key fields.
    paid : bool
        True for the answer to the question about the cost; another run must be free of charge.
    """
    keys, photos = keys_by_id(entered), uploads(session, upload)
    expected = charges(ids, Settings.from_environ(), len(photos))
    accepted = session.consent.covers(expected) if paid else not total(expected)
    if photos and len(ids) > 1 and accepted:

        def work(show: Callable[[Draw], None]) -> None:
            def compare_all(token: CancellationToken) -> Draw:
                _work(session, photos, ids, keys, token, partial(show, partial(running, session)), blind=blind)
                return partial(ended, session)

            def failed(error: RmbgError) -> Draw:
                return partial(message_only, viewer.failure(error))

            show(session.comparisons.run(run, compare_all, failed, skipped, paid=bool(expected)))

        for draw in in_thread(work):
            yield draw()
    elif paid:
        session.comparisons.cancel(wait=False)
        text = "The photo, the selection or a price has changed since you accepted the cost. Press Compare again."
        yield message_only(viewer.notice(text))
    else:
        yield skipped()


def _work(
    session: Session,
    photos: list[Upload],
    ids: list[str],
    keys: dict[str, str],
    token: CancellationToken,
    step: Callable[[], None],
    *,
    blind: bool,
) -> None:
    """Compare the photos one after another, and call `step` at the start of each and after each outcome.

    The photo that is compared is on the page. Of the earlier ones only the figures stay in memory.
    """
    for upload in photos[1:]:
        upload.open()  # reports broken files before the first call
    photo = photos[0].open()
    for former in session.compared:
        former.close()
    session.compared = []
    for upload in photos:
        if session.compared:
            if token.cancelled():
                break
            try:
                photo = upload.open()
            except RmbgError as error:
                session.compared[-1].message = viewer.notice(str(error))
                break
            session.compared[-1].release()
        comparison = Comparison(photo, ids, blind=blind and len(photos) == 1, token=token, upload=upload.path)
        session.compared.append(comparison)
        session.comparison = comparison
        step()
        _compare_one(session, comparison, photo, keys, token, step)


def _compare_one(
    session: Session,
    comparison: Comparison,
    photo: Photo,
    keys: dict[str, str],
    token: CancellationToken,
    step: Callable[[], None],
) -> None:
    """Record the outcomes of one photo, and draw the ballot of a blind comparison."""
    problem = ""
    try:
        for outcome in compare(photo, comparison.providers, keys=keys, cancelled=token.cancelled, device=DEVICE.for_client()):
            session.record(outcome, comparison)
            step()
        comparison.compute_figures()
        if comparison.blind and len(comparison.succeeded) > 1:
            comparison.ballot = votes_file().draw(comparison.succeeded)
    except RmbgError as error:  # without a ballot the results are still shown: they may be paid for
        problem = str(error)
    except Exception:
        log.exception("Comparison of %s failed", comparison.providers)
        problem = INTERNAL_ERROR
    finally:
        comparison.blind = comparison.ballot is not None
        comparison.message = _final_message(comparison, problem)


def _final_message(comparison: Comparison, problem: str = "") -> str:
    failed = len(comparison.outcomes) - len(comparison.succeeded)
    if not comparison.succeeded:
        return viewer.notice("All providers failed. The panes show the errors.")
    texts = [t("{count} of {total} providers failed.", count=failed, total=len(comparison.providers))] if failed else []
    return viewer.notice(" ".join([*texts, *(visitor_text(note) for note in (*comparison.notes, problem) if note)]), "info")
