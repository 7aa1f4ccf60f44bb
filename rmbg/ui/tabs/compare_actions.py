"""Events of the Compare tab that call no provider: display, choice of a photo, vote, downloads."""

from __future__ import annotations

import logging
from typing import Any

import gradio as gr

from rmbg.compare.export import contact_sheet, cutouts_zip, table_csv
from rmbg.compare.votes import Votes
from rmbg.errors import OptionError, RmbgError
from rmbg.providers import PROVIDERS
from rmbg.render.picture import View
from rmbg.settings import Settings
from rmbg.ui.compare_state import Comparison, label
from rmbg.ui.components import viewer
from rmbg.ui.components.rendering import RenderOptions
from rmbg.ui.languages import page_error, t
from rmbg.ui.runs import buttons, stopping
from rmbg.ui.session import Session
from rmbg.ui.tabs import compare_view


def votes_file() -> Votes:
    """Return the blind votes of this server."""
    return Votes(Settings.from_environ().data / "votes.sqlite3")


def save(what: str, session: Session, kind: str, color: str, reference: str) -> Any:
    """Write the cutouts (``zip``), contact sheet (``sheet``), table (``csv``) or all ``votes`` to a file for download."""
    try:
        return gr.update(value=session.download(*_content(what, session, kind, color, reference)))
    except RmbgError as error:
        raise page_error(error) from None


def _content(what: str, session: Session, kind: str, color: str, reference: str) -> tuple[bytes, str]:
    """Return content and name of a file; raises OptionError if there are no results or names are hidden."""
    if what == "votes":
        return votes_file().to_csv().encode(), "votes.csv"
    comparison = session.comparison
    if comparison is None or not comparison.succeeded or comparison.hidden:
        raise OptionError("There are no results to save. Run a comparison first, and vote if it is blind.")
    name, background = comparison.photo.name, RenderOptions(kind=kind, color=color).background(session, full=True)
    if what == "zip":
        return cutouts_zip(comparison.full(), background), f"{name}-cutouts.zip"
    if what == "sheet":
        return contact_sheet(comparison.shown(), background), f"{name}-contact-sheet.png"
    compared = comparison.provider_of(reference) or comparison.succeeded[0]
    return table_csv(comparison.table(compared), compared).encode(), f"{name}-table.csv"


# Event handlers of the Compare tab that call no provider: display, choice of a photo, vote.


log = logging.getLogger(__name__)

#: Number of updates of a run: grid, table, pair, table of all photos, controls, message.
UPDATES = 12

#: Value of the vote for no result.
NONE_BETTER = "none"


def skipped() -> tuple[Any, ...]:
    """Updates that change nothing."""
    return tuple(gr.skip() for _ in range(UPDATES))


def message_only(message: str) -> tuple[Any, ...]:
    """Updates that show a message only, which is HTML."""
    return *skipped()[1:], message


def running(session: Session) -> tuple[Any, ...]:
    """Updates of the page during a run."""
    comparison = session.comparison
    if comparison is None:  # deleted meanwhile
        return skipped()
    hidden = (*(gr.update(visible=False) for _ in range(3)), *(gr.skip() for _ in range(4)))
    all_photos = compare_view.photos_table(session.compared, comparison)
    return compare_view.grid(comparison), "", "", all_photos, *hidden, _progress(session) if comparison.outcomes else ""


def ended(session: Session) -> tuple[Any, ...]:
    """Updates of the page after a run."""
    comparison = session.comparison
    if comparison is None:  # deleted meanwhile
        return skipped()
    for other in session.compared:
        if other is not comparison:
            other.release()
    all_photos = compare_view.photos_table(session.compared, comparison)
    return compare_view.grid(comparison), *_page(comparison), all_photos, *_controls(comparison), comparison.message


def select_photo(event: gr.EventData, session: Session) -> tuple[Any, ...]:
    """Show the panes of another photo of the run; updates as of a run."""
    index = event._data.get("index") if isinstance(event._data, dict) else None
    known = isinstance(index, int) and not isinstance(index, bool) and 0 <= index < len(session.compared)
    if not known or session.comparisons.active:
        return message_only(viewer.notice("The run has not ended. Wait for it, then select the row again.", "info"))
    former, session.comparison = session.comparison, session.compared[index]  # type: ignore[index]
    try:
        return ended(session)
    except RmbgError as error:
        session.comparison = former
        return message_only(viewer.failure(error))


def restore(session: Session) -> tuple[Any, ...]:
    """Updates for the comparison that an earlier page has started: those of a run, then of start, cancel and list."""
    active = buttons(session.comparisons.active)
    if session.comparison is None:
        return *skipped(), *active, compare_view.listed(session)
    return *(running(session) if session.comparisons.active else ended(session)), *active, compare_view.listed(session)


def _progress(session: Session) -> str:
    comparison = session.comparison
    assert comparison is not None
    counts = {"count": len(comparison.outcomes), "total": len(comparison.providers)}
    if len(session.compared) == 1:
        return viewer.notice(t("{count} of {total} providers have finished.", **counts), "info")
    number = len(session.compared)
    return viewer.notice(t("Photo {number}: {count} of {total} providers have finished.", number=number, **counts), "info")


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
    return viewer.answer([] if session.comparison is None else compare_view.grid_parts(session.comparison, view), area, view)


def part_of_pair(session: Session, area: str, view: View, first: str | None, second: str | None) -> str:
    """Store a part of the two results under the slider at full size; returns JSON for the viewer, see `panes.answer`."""
    comparison = session.comparison
    values = [] if comparison is None else [value for _, value in comparison.choices()]
    if comparison is None or len(values) < 2:
        return viewer.answer([], area, view)
    return viewer.answer(compare_view.pair_parts(comparison, _chosen(values, first, second), view), area, view)


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


def vote(session: Session, choice: str | None, ratings_open: bool, *selected: str) -> tuple[Any, ...]:
    """Cast the vote, then show the names, and the new ratings if they are open; `selected` are reference, pair and mode."""
    comparison = session.comparison
    unchanged = skipped()
    if comparison is None or comparison.ballot is None:
        return (*unchanged, viewer.notice("There is no blind comparison. Run one first, then vote."))
    if choice is None:
        return (*unchanged, viewer.notice("Choose the best result or “No preference”, then vote."))
    try:
        winner = votes_file().cast(comparison.ballot.id, None if choice == NONE_BETTER else int(choice))
    except RmbgError as error:
        return (*unchanged, viewer.notice(str(error)))
    comparison.voted = True
    names = ", ".join(f"{label(i)}: {PROVIDERS[name].info.title}" for i, name in enumerate(comparison.ballot.order))
    result = t("You chose {title}.", title=PROVIDERS[winner].info.title) if winner else t("You have no preference.")
    comparison.message = viewer.notice(f"{result} {names}.", "info")
    page = compare_view.grid(comparison), *_page(comparison, *selected)
    new_ratings = ratings() if ratings_open else gr.skip()
    return (*page, gr.skip(), *_controls(comparison, *selected[:3]), new_ratings, comparison.message)
