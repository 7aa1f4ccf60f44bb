"""Downloads of the Compare tab: cutouts, contact sheet, table, votes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from rmbg.compare.export import contact_sheet, cutouts_zip, table_csv
from rmbg.compare.votes import Votes
from rmbg.errors import RmbgError
from rmbg.settings import Settings
from rmbg.ui.compare_state import Comparison
from rmbg.ui.messages import page_error
from rmbg.ui.session import Session
from rmbg.ui.tabs.compare_view import background_of


def votes_file() -> Votes:
    """Return the blind votes of this server."""
    return Votes(Settings.from_environ().data / "votes.sqlite3")


def _finished(session: Session) -> Comparison:
    """Return the comparison; raises gr.Error if it has no results or names are hidden."""
    if session.comparison is None or not session.comparison.succeeded or session.comparison.hidden:
        raise page_error("There are no results to save. Run a comparison first, and vote if it is blind.")
    return session.comparison


def _download(session: Session, name: str, data: Callable[[], bytes]) -> Any:
    try:
        path = session.download(data(), name)
    except RmbgError as error:
        raise page_error(error) from None
    return gr.update(value=path)


def save_zip(session: Session, kind: str, color: str, reference: str) -> Any:
    comparison = _finished(session)
    name = f"{comparison.photo.name}-cutouts.zip"
    return _download(session, name, lambda: cutouts_zip(comparison.full(), background_of(kind, color)))


def save_sheet(session: Session, kind: str, color: str, reference: str) -> Any:
    comparison = _finished(session)
    outcomes = [comparison.outcomes[name] for name in comparison.succeeded]
    name = f"{comparison.photo.name}-contact-sheet.png"
    return _download(session, name, lambda: contact_sheet(outcomes, background_of(kind, color)))


def save_csv(session: Session, kind: str, color: str, reference: str) -> Any:
    comparison = _finished(session)
    compared = comparison.provider_of(reference) or comparison.succeeded[0]
    name = f"{comparison.photo.name}-table.csv"
    return _download(session, name, lambda: table_csv(comparison.table(compared), compared).encode())


def save_votes(session: Session, kind: str, color: str, reference: str) -> Any:
    return _download(session, "votes.csv", lambda: votes_file().to_csv().encode())
