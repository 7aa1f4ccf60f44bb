"""Event handlers of the Compare tab: consent, comparison, display, vote."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator
from typing import Any

import gradio as gr

from rmbg.cancellation import CancellationToken
from rmbg.compare.comparison import compare, select_providers
from rmbg.errors import CancelledError, RmbgError
from rmbg.providers import PROVIDERS
from rmbg.render.picture import View
from rmbg.settings import Settings
from rmbg.ui.cancellation import buttons, stopping
from rmbg.ui.compare_state import Comparison, label
from rmbg.ui.components import panes, viewer
from rmbg.ui.components.photo_input import Upload
from rmbg.ui.components.provider_checkboxes import selected_ids, split
from rmbg.ui.components.provider_text import place
from rmbg.ui.consent import Charge, charge_of, describe, times, total
from rmbg.ui.lanes import DEVICE
from rmbg.ui.languages import in_language, t
from rmbg.ui.messages import visitor_text
from rmbg.ui.session import Session
from rmbg.ui.tabs import compare_photos, compare_view
from rmbg.ui.tabs.compare_downloads import votes_file
from rmbg.ui.tabs.compare_photos import uploads
from rmbg.ui.templates import render

log = logging.getLogger(__name__)

#: Name of this tab in the consent of a visitor, and prefix of its element ids.
PLACE = "compare"

#: Number of updates of a run: grid, table, pair, table of all photos, controls, message.
UPDATES = 12

#: Number of updates that `restore` returns.
RESTORED = UPDATES + 3

#: Value of the vote for no result.
NONE_BETTER = "none"


def price_line(settings: Settings, count: int, *checked: bool) -> str:
    """Return the expected cost of the selected providers for `count` photos as an HTML note."""
    return render("note.html", text=_expected_cost(selected_ids(checked), settings, count))


def _expected_cost(ids: list[str], settings: Settings, count: int) -> str:
    """Return the expected cost of the providers `ids` in one sentence."""
    if len(ids) < 2:
        return t("Choose two or more providers.")
    charge = total(_charges(ids, settings, count))
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
    charges = _charges(ids, settings, count)
    if total(charges):
        session.consent.request(PLACE, charges)
        return gr.skip(), viewer.notice(describe(charges, count), "info"), gr.update(visible=True), *buttons(False)
    return start_run(session)


def _charges(ids: list[str], settings: Settings, count: int) -> list[Charge]:
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


def begin(run: int | None, upload: Upload | None, session: Session, blind: bool, *providers: Any) -> Iterator[Any]:
    """Run a comparison that is free of charge. `providers` are the values of the checkboxes and key fields."""
    ids, keys = split(providers)
    photos = uploads(session, upload)
    if not photos or len(ids) < 2 or total(_charges(ids, Settings.from_environ(), len(photos))):
        yield _skipped()
        return
    yield from _compare(run, photos, session, blind, ids, keys)


def begin_paid(run: int | None, upload: Upload | None, session: Session, blind: bool, *providers: Any) -> Iterator[Any]:
    """Run a comparison that has the visitor's consent."""
    ids, keys = split(providers)
    photos = uploads(session, upload)
    charges = _charges(ids, Settings.from_environ(), len(photos))
    if not photos or len(ids) < 2 or not session.consent.covers(charges):
        session.comparisons.cancel(wait=False)
        text = "The photo, the selection or a price has changed since you accepted the cost. Press Compare again."
        yield _message_only(text)
        return
    yield from _compare(run, photos, session, blind, ids, keys)


def _skipped() -> tuple[Any, ...]:
    return tuple(gr.skip() for _ in range(UPDATES))


def _message_only(text: str, kind: str = "error") -> tuple[Any, ...]:
    return *_skipped()[1:], viewer.notice(text, kind)


def _compare(
    run: int | None, photos: list[Upload], session: Session, blind: bool, ids: list[str], keys: dict[str, str]
) -> Iterator[Any]:
    """Run all providers on each photo; yields updates of the page after each result.

    The providers run in a thread of their own, so that a reload of the page, which closes this iterator, does not stop them.
    """
    token, working = None, False
    try:
        token = session.comparisons.begin(run, paid=bool(_charges(ids, Settings.from_environ(), len(photos))))
        if token is None:
            yield _skipped()
            return
        for upload in photos[1:]:
            upload.open()  # reports broken files before the first call
        first = Comparison(photos[0].open(), ids, blind=blind and len(photos) == 1, token=token, upload=photos[0].path)
        for comparison in session.compared:
            comparison.close()
        session.comparison, session.compared = first, [first]
        steps: queue.SimpleQueue[bool] = queue.SimpleQueue()
        threading.Thread(
            target=in_language(_work), args=(session, first, photos, keys, token, steps), name="comparison"
        ).start()
        working = True
        yield _running(session)
        while steps.get():
            yield _running(session)
        yield _ended(session)
    except RmbgError as error:
        yield _message_only(str(error), "info" if isinstance(error, CancelledError) else "error")
    except Exception:
        log.exception("Comparison of %s failed", ids)
        yield _message_only(viewer.INTERNAL_ERROR)
    finally:
        if token is not None and not working:
            token.end()


def _work(
    session: Session,
    comparison: Comparison,
    photos: list[Upload],
    keys: dict[str, str],
    token: CancellationToken,
    steps: queue.SimpleQueue[bool],
) -> None:
    """Compare the photos one after another; puts True after each outcome and False at the end.

    The photo that is compared is on the page. Of the earlier ones only the figures stay in memory.
    """
    try:
        for upload in photos:
            if upload is not photos[0]:
                if token.cancelled():
                    break
                former = comparison
                comparison = Comparison(upload.open(), former.providers, blind=False, token=token, upload=upload.path)
                session.compared.append(comparison)
                session.comparison = comparison
                former.release()
            _compare_one(session, comparison, upload, keys, token, steps)
    except RmbgError as error:
        comparison.message = viewer.notice(str(error))
    finally:
        token.end()
        steps.put(False)


def _compare_one(
    session: Session,
    comparison: Comparison,
    upload: Upload,
    keys: dict[str, str],
    token: CancellationToken,
    steps: queue.SimpleQueue[bool],
) -> None:
    """Record the outcomes of one photo, and draw the ballot of a blind comparison."""
    problem = ""
    try:
        for outcome in compare(upload.open(), comparison.providers, keys=keys, cancelled=token.cancelled, device=DEVICE.turn):
            session.record(outcome, comparison)
            steps.put(True)
        if comparison.blind and len(comparison.succeeded) > 1:
            comparison.ballot = votes_file().draw(comparison.succeeded)
    except RmbgError as error:  # without a ballot the results are still shown: they may be paid for
        problem = str(error)
    except Exception:
        log.exception("Comparison of %s failed", comparison.providers)
        problem = viewer.INTERNAL_ERROR
    finally:
        comparison.blind = comparison.ballot is not None
        comparison.message = _final_message(comparison, problem)


def _running(session: Session) -> tuple[Any, ...]:
    """Updates of the page during a run."""
    comparison = session.comparison
    if comparison is None:  # deleted meanwhile
        return _skipped()
    hidden = (*(gr.update(visible=False) for _ in range(3)), *(gr.skip() for _ in range(4)))
    all_photos = compare_photos.table(session.compared, comparison)
    return compare_view.grid(comparison), "", "", all_photos, *hidden, _progress(session) if comparison.outcomes else ""


def _ended(session: Session) -> tuple[Any, ...]:
    """Updates of the page after a run."""
    comparison = session.comparison
    if comparison is None:  # deleted meanwhile
        return _skipped()
    for other in session.compared:
        if other is not comparison:
            other.release()
    all_photos = compare_photos.table(session.compared, comparison)
    return compare_view.grid(comparison), *_page(comparison), all_photos, *_controls(comparison), comparison.message


def select_photo(event: gr.EventData, session: Session) -> tuple[Any, ...]:
    """Show the panes of another photo of the run; updates as of a run."""
    index = event._data.get("index") if isinstance(event._data, dict) else None
    known = isinstance(index, int) and not isinstance(index, bool) and 0 <= index < len(session.compared)
    if not known or session.comparisons.active:
        return _message_only("The run has not ended. Wait for it, then select the row again.", "info")
    chosen = session.compared[index]  # type: ignore[index]
    try:
        chosen.load()
    except RmbgError as error:
        return _message_only(str(error))
    session.comparison = chosen
    return _ended(session)


def restore(session: Session) -> tuple[Any, ...]:
    """Updates for the comparison that an earlier page has started: those of a run, then of start, cancel and list."""
    active = buttons(session.comparisons.active)
    if session.comparison is None:
        return *_skipped(), *active, compare_photos.listed(session)
    return *(_running(session) if session.comparisons.active else _ended(session)), *active, compare_photos.listed(session)


def _progress(session: Session) -> str:
    comparison = session.comparison
    assert comparison is not None
    counts = {"count": len(comparison.outcomes), "total": len(comparison.providers)}
    if len(session.compared) == 1:
        return viewer.notice(t("{count} of {total} providers have finished.", **counts), "info")
    number = len(session.compared)
    return viewer.notice(t("Photo {number}: {count} of {total} providers have finished.", number=number, **counts), "info")


def _final_message(comparison: Comparison, problem: str = "") -> str:
    failed = len(comparison.outcomes) - len(comparison.succeeded)
    if not comparison.succeeded:
        return viewer.notice("All providers failed. The panes show the errors.")
    texts = [t("{count} of {total} providers failed.", count=failed, total=len(comparison.providers))] if failed else []
    return viewer.notice(" ".join([*texts, *(visitor_text(note) for note in (*comparison.notes, problem) if note)]), "info")


def _page(
    comparison: Comparison,
    reference: str | None = None,
    first: str | None = None,
    second: str | None = None,
    mode: str = "difference",
) -> tuple[str, str]:
    """Return the HTML of table and pair."""
    values = [value for _, value in comparison.choices()]
    compared = comparison.provider_of(reference) or next(iter(comparison.succeeded), "")
    table = "" if comparison.hidden else compare_view.table(comparison, compared)
    if len(values) < 2:
        return table, ""
    return table, compare_view.pair(comparison, _chosen(values, first, second), mode)


def _chosen(values: list[str], first: str | None, second: str | None) -> tuple[str, str]:
    """Values of the two dropdowns; the first two results in the place of values that are none."""
    return first if first in values else values[0], second if second in values else values[1]


def _controls(
    comparison: Comparison, reference: str | None = None, first: str | None = None, second: str | None = None
) -> tuple[Any, ...]:
    """Updates of the table, pair and vote controls; `reference`, `first` and `second` stay selected if they are results."""
    choices = comparison.choices()
    values: list[str | None] = [value for _, value in choices]
    candidates = [(t("Result {name}", name=name), value) for name, value in choices] + [(t("No preference"), NONE_BETTER)]
    initial = [*values, None, None]

    def dropdown(chosen: str | None, default: str | None) -> Any:
        return gr.update(choices=choices, value=chosen if chosen in values else default)

    return (
        gr.update(visible=bool(values) and not comparison.hidden),
        gr.update(visible=len(values) > 1),
        gr.update(visible=comparison.hidden),
        gr.update(choices=candidates if comparison.hidden else [], value=None),
        dropdown(reference, initial[0]),
        dropdown(first, initial[0]),
        dropdown(second, initial[1]),
    )


def show(session: Session, *detail: Any) -> tuple[Any, Any]:
    """Render table and pair with another reference, pair or mode; no provider is called."""
    if session.comparison is None or not session.comparison.complete:
        return gr.skip(), gr.skip()
    return _page(session.comparison, *detail)


def part_of_grid(session: Session, area: str, view: View) -> str:
    """Store a part of all panes at full size; returns JSON for the viewer, see `panes.answer`."""
    return panes.answer([] if session.comparison is None else compare_view.grid_parts(session.comparison, view), area, view)


def part_of_pair(session: Session, area: str, view: View, first: str | None, second: str | None) -> str:
    """Store a part of the two results under the slider at full size; returns JSON for the viewer, see `panes.answer`."""
    comparison = session.comparison
    values = [] if comparison is None else [value for _, value in comparison.choices()]
    if comparison is None or len(values) < 2:
        return panes.answer([], area, view)
    return panes.answer(compare_view.pair_parts(comparison, _chosen(values, first, second), view), area, view)


def stop(session: Session) -> Any:
    """Cancel the run; results so far are kept, and the start button returns when all providers have stopped."""
    session.comparisons.cancel(wait=False)
    return stopping()


def ratings() -> str:
    """Return the HTML of the ratings from all blind votes."""
    try:
        votes = votes_file()
        return compare_view.ratings(votes.ratings(), len(votes.all()))
    except RmbgError as error:
        return viewer.notice(str(error))


def vote(session: Session, choice: str | None, *selected: str) -> tuple[Any, ...]:
    """Cast the vote, then show the names and the updated ratings; `selected` are reference, pair and mode."""
    comparison = session.comparison
    skipped = _skipped()
    if comparison is None or comparison.ballot is None:
        return (*skipped, viewer.notice("There is no blind comparison. Run one first, then vote."))
    if choice is None:
        return (*skipped, viewer.notice("Choose the best result or “No preference”, then vote."))
    try:
        winner = votes_file().cast(comparison.ballot.id, None if choice == NONE_BETTER else int(choice))
    except RmbgError as error:
        return (*skipped, viewer.notice(str(error)))
    comparison.voted = True
    names = ", ".join(f"{label(i)}: {PROVIDERS[name].info.title}" for i, name in enumerate(comparison.ballot.order))
    result = t("You chose {title}.", title=PROVIDERS[winner].info.title) if winner else t("You have no preference.")
    comparison.message = viewer.notice(f"{result} {names}.", "info")
    page = compare_view.grid(comparison), *_page(comparison, *selected)
    return (*page, gr.skip(), *_controls(comparison, *selected[:3]), ratings(), comparison.message)
