"""Blind votes on the best of several cutouts, stored in SQLite.

A ballot fixes a random order of providers before the cutouts are shown. The page shows the
panes without names until the vote is cast, and each ballot accepts one vote.
"""

from __future__ import annotations

import csv
import io
import json
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from rmbg.compare.ratings import Rating, rate
from rmbg.errors import OptionError, OutputError

SCHEMA = """
CREATE TABLE IF NOT EXISTS ballots (
    id TEXT PRIMARY KEY,
    providers TEXT NOT NULL,  -- JSON list in the order of the panes
    drawn TEXT NOT NULL,
    cast_at TEXT,             -- NULL until the vote is cast
    choice TEXT               -- winning provider; NULL on a cast ballot means no preference
)
"""


@dataclass(frozen=True)
class Ballot:
    """A comparison to vote on; pane i shows the cutout of ``order[i]``."""

    id: str
    order: tuple[str, ...]


class Votes:
    """Votes in one SQLite file. Safe to use from several threads and processes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._path, timeout=10)) as db, db:
                db.execute(SCHEMA)
                yield db
        except (OSError, sqlite3.Error) as error:
            raise OutputError(f"The votes in {self._path} cannot be used: {error}.") from None

    def draw(self, providers: Sequence[str]) -> Ballot:
        """Create a ballot with `providers` in an unpredictable order.

        Raises
        ------
        OptionError
            If there are fewer than two providers.
        """
        if len(set(providers)) < 2:
            raise OptionError("A vote needs at least two results.")
        order = list(dict.fromkeys(providers))
        secrets.SystemRandom().shuffle(order)
        ballot = Ballot(secrets.token_urlsafe(12), tuple(order))
        with self._open() as db:
            db.execute("INSERT INTO ballots (id, providers, drawn) VALUES (?, ?, ?)", (ballot.id, json.dumps(order), _now()))
        return ballot

    def cast(self, ballot: str, pane: int | None) -> str | None:
        """Cast the vote of a ballot; returns the winning provider.

        Parameters
        ----------
        ballot : str
            Id of the ballot.
        pane : int or None
            Number of the best pane, from 0, or None for no preference.

        Raises
        ------
        OptionError
            If the ballot or pane does not exist, or the ballot has been cast.
        """
        with self._open() as db:
            row = db.execute("SELECT providers FROM ballots WHERE id = ?", (ballot,)).fetchone()
            order = json.loads(row[0]) if row else []
            if not row or (pane is not None and not 0 <= pane < len(order)):
                raise OptionError("There is no such result to vote for. Run the comparison again.")
            choice = None if pane is None else order[pane]
            # Check and update in one statement, so that only one of two concurrent votes succeeds.
            changed = db.execute(
                "UPDATE ballots SET cast_at = ?, choice = ? WHERE id = ? AND cast_at IS NULL", (_now(), choice, ballot)
            )
            if changed.rowcount != 1:
                raise OptionError("This comparison has already been voted on.")
        return choice

    def all(self) -> list[tuple[tuple[str, ...], str | None]]:
        """All votes, oldest first, as (providers on the ballot, winner or None)."""
        with self._open() as db:
            rows = db.execute(
                "SELECT providers, choice FROM ballots WHERE cast_at IS NOT NULL ORDER BY cast_at, rowid"
            ).fetchall()
        return [(tuple(json.loads(providers)), choice) for providers, choice in rows]

    def to_csv(self) -> str:
        """All votes as CSV: time, providers, and winner (empty for no preference)."""
        with self._open() as db:
            rows = db.execute(
                "SELECT cast_at, providers, choice FROM ballots WHERE cast_at IS NOT NULL ORDER BY cast_at, rowid"
            ).fetchall()
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["cast_at", "providers", "winner"])
        writer.writerows([cast_at, " ".join(json.loads(providers)), choice or ""] for cast_at, providers, choice in rows)
        return out.getvalue()

    def ratings(self) -> list[Rating]:
        """Ratings of all providers, from best to worst."""
        return rate(self.all())


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
