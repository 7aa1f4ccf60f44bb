"""What the Compare tab does: first look and consent, the comparison itself, other looks at it, the vote, files."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from rmbg import compose, encode
from rmbg.compare import chosen, compare, expected_usd
from rmbg.compare_files import contact_sheet, cutouts_zip, table_csv
from rmbg.errors import RmbgError
from rmbg.prices import in_words
from rmbg.providers import PROVIDERS
from rmbg.settings import Settings
from rmbg.ui import compare_view, viewer
from rmbg.ui.comparison import Comparison, label
from rmbg.ui.provider_boxes import split, ticked
from rmbg.ui.session import Session
from rmbg.ui.switch import buttons, stopping
from rmbg.ui.upload import Upload
from rmbg.votes import Votes

log = logging.getLogger(__name__)

#: The choice in a vote that prefers none.
NONE_BETTER = "none"


def price_line(settings: Settings, *on: bool) -> str:
    """What the choice is expected to cost, in a sentence."""
    ids = ticked(on)
    if not ids:
        return '<p class="note">Choose two or more providers.</p>'
    price = in_words(*expected_usd(chosen(ids, settings)))
    if not price:
        return '<p class="note">Nothing is charged: all of these run on this machine.</p>'
    return f'<p class="note">Expected to be charged: {price}.</p>'


def first_look(upload: Upload | None, session: Session, *on: bool) -> tuple[Any, ...]:
    """Before anything is sent: is there a photo, is there a choice, and may it cost money?"""
    session.stop_comparing = threading.Event()
    settings = Settings.from_environ()
    if upload is None:
        return viewer.notice("Choose a photo first."), gr.skip(), *buttons(False)
    if not ticked(on):
        return viewer.notice("Choose at least one provider to compare."), gr.skip(), *buttons(False)
    if _is_paid(ticked(on), settings):
        titles = ", ".join(p.info.title for p in chosen(ticked(on), settings) if p.info.kind == "remote")
        text = f"This sends your photo to {titles}. {_plain(price_line(settings, *on))}"
        return viewer.notice(text, "info"), gr.update(visible=True), *buttons(False)
    return "", gr.update(visible=False), *buttons(True)


def _plain(markup: str) -> str:
    return markup.removeprefix('<p class="note">').removesuffix("</p>")


def _is_paid(ids: list[str], settings: Settings) -> bool:
    return bool(in_words(*expected_usd(chosen(ids, settings))))


def agreed(session: Session) -> tuple[Any, ...]:
    """The yes was said."""
    session.stop_comparing = threading.Event()
    return "", gr.update(visible=False), *buttons(True)


def begin(upload: Upload | None, session: Session, blind: bool, view: str, kind: str, colour: str, *rest: Any) -> Iterator[Any]:
    """Start what is free; what is paid waits for a yes. `rest` are the boxes and the keys."""
    ids, keys = split(rest)
    if upload is None or not ids or _is_paid(ids, Settings.from_environ()):
        yield tuple(gr.skip() for _ in range(11))
        return
    yield from _compare(upload, session, blind, (view, kind, colour), ids, keys)


def begin_paid(
    upload: Upload | None, session: Session, blind: bool, view: str, kind: str, colour: str, *rest: Any
) -> Iterator[Any]:
    """Start after the yes."""
    ids, keys = split(rest)
    if upload is None or not ids:
        yield (*(gr.skip() for _ in range(10)), viewer.notice("Choose a photo and at least one provider first."))
        return
    yield from _compare(upload, session, blind, (view, kind, colour), ids, keys)


def _compare(
    upload: Upload, session: Session, blind: bool, look: tuple[str, str, str], ids: list[str], keys: dict[str, str]
) -> Iterator[Any]:
    """Ask all providers; the page changes whenever one has answered."""
    hidden = (*(gr.update(visible=False) for _ in range(3)), *(gr.skip() for _ in range(4)))
    switch = session.stop_comparing
    if switch.is_set():  # while it waited for its turn
        yield (*(gr.skip() for _ in range(10)), viewer.notice("Stopped; nothing was sent.", "info"))
        return
    try:
        photo = upload.open()
        comparison = Comparison(photo, ids, blind=blind, stop=switch)
        if session.comparison is not None:
            session.comparison.close()
        session.comparison = comparison
        outcomes = compare(photo, ids, keys=keys, cancelled=switch.is_set)
        yield (compare_view.grid(comparison, *_look(*look)), "", "", *hidden, "")
        for outcome in outcomes:
            comparison.add(outcome, session)
            if not comparison.complete:
                yield (compare_view.grid(comparison, *_look(*look)), "", "", *hidden, _so_far(comparison))
        if comparison.blind and len(comparison.made) > 1:
            comparison.ballot = _votes().draw(comparison.made)
        else:
            comparison.blind = False
        yield (*_page(session, *look), *_controls(comparison), _ended(comparison))
    except RmbgError as error:
        yield (*(gr.skip() for _ in range(10)), viewer.notice(str(error)))
    except Exception:
        log.exception("Comparison of %s failed", ids)
        yield (*(gr.skip() for _ in range(10)), viewer.notice(viewer.OUR_FAULT))


def _so_far(comparison: Comparison) -> str:
    return viewer.notice(f"{len(comparison.outcomes)} of {len(comparison.providers)} are there.", "info")


def _ended(comparison: Comparison) -> str:
    failed = len(comparison.outcomes) - len(comparison.made)
    if not comparison.made:
        return viewer.notice("None of the providers made a cut-out; the panes say why.")
    return viewer.notice(f"{failed} of {len(comparison.providers)} made no cut-out.", "info") if failed else ""


def _look(view: str, kind: str, colour: str) -> tuple[compose.View, compose.Background]:
    if kind == "transparent":
        background = compose.TRANSPARENT
    elif kind == "blur":
        background = compose.BLURRED
    else:
        background = compose.Background("colour", (compose.colour(colour if kind == "colour" else kind),))
    return view, background  # type: ignore[return-value]


def _page(
    session: Session,
    view: str,
    kind: str,
    colour: str,
    reference: str | None = None,
    first: str | None = None,
    second: str | None = None,
    mode: str = "difference",
) -> tuple[str, str, str]:
    """Grid, table and pair of the comparison that the visitor looks at."""
    comparison = session.comparison
    assert comparison is not None
    look = _look(view, kind, colour)
    choices = comparison.choices()
    values = [value for _, value in choices]
    names = {value: name for name, value in choices}
    reference = reference if reference in values else next(iter(comparison.made), "")
    table = "" if comparison.hidden else compare_view.table(comparison.table(reference), reference)
    pair = ""
    if len(values) > 1:
        one = first if first in values else values[0]
        other = second if second in values else values[1]
        outcomes = comparison.cutout_of(one), comparison.cutout_of(other)
        pair = compare_view.pair(*outcomes, (names[one], names[other]), mode, look[1])
    return compare_view.grid(comparison, *look), table, pair


def _controls(comparison: Comparison) -> tuple[Any, ...]:
    """What can be done with the results that are there."""
    choices = comparison.choices()
    values = [value for _, value in choices]
    panes = [(f"Result {name}", value) for name, value in choices] + [("None is better", NONE_BETTER)]
    return (
        gr.update(visible=bool(values) and not comparison.hidden),
        gr.update(visible=len(values) > 1),
        gr.update(visible=comparison.hidden),
        gr.update(choices=panes if comparison.hidden else [], value=None),
        gr.update(choices=choices, value=values[0] if values else None),
        gr.update(choices=choices, value=values[0] if values else None),
        gr.update(choices=choices, value=values[1] if len(values) > 1 else None),
    )


def show(session: Session, *look: Any) -> tuple[Any, Any, Any]:
    """The comparison in another look; nobody is asked again."""
    if session.comparison is None or not session.comparison.complete:
        return gr.skip(), gr.skip(), gr.skip()
    try:
        return _page(session, *look)
    except RmbgError:  # a half-typed colour
        return gr.skip(), gr.skip(), gr.skip()


def stop(session: Session) -> Any:
    """Stop what runs or waits for its turn: what has come stays, and the button to start comes back when all has ended."""
    session.stop_comparing.set()
    return stopping()


def _votes() -> Votes:
    return Votes(Settings.from_environ().data / "votes.sqlite3")


def ratings() -> str:
    try:
        votes = _votes()
        return compare_view.ratings(votes.ratings(), len(votes.all()))
    except RmbgError as error:
        return viewer.notice(str(error))


def vote(session: Session, choice: str | None, *look: str) -> tuple[Any, ...]:
    """Cast the vote, show who is who and what the ratings are now."""
    comparison = session.comparison
    skipped = tuple(gr.skip() for _ in range(11))
    if comparison is None or comparison.ballot is None:
        return (*skipped, viewer.notice("Make a blind comparison first."))
    if choice is None:
        return (*skipped, viewer.notice("Choose the best result first, or that none is better."))
    try:
        winner = _votes().cast(comparison.ballot.id, None if choice == NONE_BETTER else int(choice))
    except RmbgError as error:
        return (*skipped, viewer.notice(str(error)))
    comparison.voted = True
    names = ", ".join(f"{label(i)} was {PROVIDERS[name].info.title}" for i, name in enumerate(comparison.ballot.order))
    said = f"You chose {PROVIDERS[winner].info.title}" if winner else "You found none better"
    return (*_page(session, *look), *_controls(comparison), ratings(), viewer.notice(f"{said}: {names}.", "info"))


def _made(session: Session) -> Comparison:
    """The comparison, if it has results whose makers may be known."""
    if session.comparison is None or not session.comparison.made or session.comparison.hidden:
        raise gr.Error(
            "Compare first, and vote if the comparison is blind; then there is something to save.", print_exception=False
        )
    return session.comparison


def _saved(session: Session, name: str, data: Callable[[], bytes]) -> Any:
    try:
        path = session.download_folder() / name
        encode.write(path, data())
    except RmbgError as error:
        raise gr.Error(str(error), print_exception=False) from None
    return gr.update(value=str(path))


def save_zip(session: Session, kind: str, colour: str, reference: str) -> Any:
    comparison = _made(session)
    name = f"{comparison.photo.name}-cutouts.zip"
    return _saved(session, name, lambda: cutouts_zip(comparison.full(), _look("cutout", kind, colour)[1]))


def save_sheet(session: Session, kind: str, colour: str, reference: str) -> Any:
    comparison = _made(session)
    made = [comparison.outcomes[name] for name in comparison.made]
    name = f"{comparison.photo.name}-contact-sheet.png"
    return _saved(session, name, lambda: contact_sheet(made, _look("cutout", kind, colour)[1]))


def save_csv(session: Session, kind: str, colour: str, reference: str) -> Any:
    comparison = _made(session)
    reference = reference if reference in comparison.made else comparison.made[0]
    name = f"{comparison.photo.name}-table.csv"
    return _saved(session, name, lambda: table_csv(comparison.table(reference), reference).encode())


def save_votes(session: Session, kind: str, colour: str, reference: str) -> Any:
    return _saved(session, "votes.csv", lambda: _votes().to_csv().encode())
