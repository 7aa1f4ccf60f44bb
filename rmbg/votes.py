"""Blind votes: which of several unnamed cut-outs is best, kept in SQLite, and the ratings that follow from them.

A ballot is drawn before anything is shown: providers in a random order that only the database knows. A vote is cast by the
ballot's id and the number of a pane, once.
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

import numpy as np

from rmbg.errors import OptionError, OutputError

SCHEMA = """
CREATE TABLE IF NOT EXISTS ballots (
    id TEXT PRIMARY KEY,
    providers TEXT NOT NULL,  -- JSON list in the order of the panes
    drawn TEXT NOT NULL,
    cast_at TEXT,             -- NULL until the vote is cast
    choice TEXT               -- the winner; NULL after the vote means that none was better
)
"""

#: Votes that every provider is given in advance against an average one, half of them won. With few votes this keeps ratings
#: finite and near the middle; it is soon outweighed.
PRIOR = 1.0

#: Rating of an average provider, and the difference that means ten to one.
AVERAGE, TENFOLD = 1000.0, 400.0

RESAMPLINGS, SEED, ROUNDS = 1000, 1, 200


@dataclass(frozen=True)
class Ballot:
    """One comparison to vote on; pane i shows the cutout of ``order[i]``."""

    id: str
    order: tuple[str, ...]


@dataclass(frozen=True)
class Rating:
    """What the votes say about one provider.

    Attributes
    ----------
    provider : str
    rating, low, high : float
        Rating, and its 95% interval by bootstrap over the ballots.
    votes, wins : int
        Ballots that it was on, and those that it won.
    """

    provider: str
    rating: float
    low: float
    high: float
    votes: int
    wins: int


class Votes:
    """The votes in one file."""

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
        """A new ballot for these providers, in an order that nobody can foresee."""
        if len(set(providers)) < 2:
            raise OptionError("A vote needs at least two results.")
        order = list(dict.fromkeys(providers))
        secrets.SystemRandom().shuffle(order)
        ballot = Ballot(secrets.token_urlsafe(12), tuple(order))
        with self._open() as db:
            db.execute("INSERT INTO ballots (id, providers, drawn) VALUES (?, ?, ?)", (ballot.id, json.dumps(order), _now()))
        return ballot

    def cast(self, ballot: str, pane: int | None) -> str | None:
        """Vote for the result in a pane (from 0), or for none of them (None); returns the provider that was chosen.

        Raises
        ------
        OptionError
            If there is no such ballot or pane, or its vote has been cast already.
        """
        with self._open() as db:
            row = db.execute("SELECT providers FROM ballots WHERE id = ?", (ballot,)).fetchone()
            order = json.loads(row[0]) if row else []
            if not row or (pane is not None and not 0 <= pane < len(order)):
                raise OptionError("There is no such result to vote for.")
            choice = None if pane is None else order[pane]
            # One statement both looks and writes, so that of two votes at the same moment one is refused.
            changed = db.execute(
                "UPDATE ballots SET cast_at = ?, choice = ? WHERE id = ? AND cast_at IS NULL", (_now(), choice, ballot)
            )
            if changed.rowcount != 1:
                raise OptionError("This comparison has its vote already.")
        return choice

    def all(self) -> list[tuple[tuple[str, ...], str | None]]:
        """Every vote, oldest first: the providers on the ballot, and the winner or None."""
        with self._open() as db:
            rows = db.execute(
                "SELECT providers, choice FROM ballots WHERE cast_at IS NOT NULL ORDER BY cast_at, rowid"
            ).fetchall()
        return [(tuple(json.loads(providers)), choice) for providers, choice in rows]

    def to_csv(self) -> str:
        """Every vote as a line: when, the providers, the winner (empty: none was better)."""
        with self._open() as db:
            rows = db.execute(
                "SELECT cast_at, providers, choice FROM ballots WHERE cast_at IS NOT NULL ORDER BY cast_at, rowid"
            ).fetchall()
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["cast_at", "providers", "winner"])
        writer.writerows([when, " ".join(json.loads(providers)), choice or ""] for when, providers, choice in rows)
        return out.getvalue()

    def ratings(self) -> list[Rating]:
        """The providers from best to worst."""
        return rate(self.all())


def rate(votes: Sequence[tuple[Sequence[str], str | None]]) -> list[Rating]:
    """Ratings from votes, best first.

    The winner of a ballot beats each of the others on it once; where none was better, each pair is half a win for both. The
    strengths follow the model of R. Bradley and M. Terry, "Rank Analysis of Incomplete Block Designs", Biometrika 39, 1952:
    i beats j with probability p_i / (p_i + p_j). Intervals are quantiles over ballots drawn again with replacement.
    """
    names = sorted({name for order, _ in votes for name in order})
    if not names:
        return []
    wins = np.stack([_wins(order, winner, names) for order, winner in votes])
    strength = bradley_terry(wins.sum(axis=0)[None])[0]
    random = np.random.default_rng(SEED)
    counts = random.multinomial(len(votes), np.full(len(votes), 1 / len(votes)), size=RESAMPLINGS)
    drawn = bradley_terry(np.tensordot(counts, wins, axes=1))
    low, high = np.quantile(_scale(drawn), (0.025, 0.975), axis=0)
    rated = [
        Rating(
            name,
            float(_scale(strength)[i]),
            float(low[i]),
            float(high[i]),
            votes=sum(name in order for order, _ in votes),
            wins=sum(winner == name for _, winner in votes),
        )
        for i, name in enumerate(names)
    ]
    return sorted(rated, key=lambda rating: (-rating.rating, rating.provider))


def bradley_terry(wins: np.ndarray) -> np.ndarray:
    """Strengths by the iterations of D. Hunter, "MM Algorithms for Generalized Bradley-Terry Models", Ann. Statist. 32, 2004.

    Parameters
    ----------
    wins : float array (B, N, N)
        B sets of results; ``wins[b, i, j]`` is how often i beat j.

    Returns
    -------
    float array (B, N)
        Above zero; 1 is an average provider.
    """
    games = wins + wins.transpose(0, 2, 1)
    won = wins.sum(axis=2) + PRIOR / 2
    strength = np.ones(wins.shape[:2])
    for _ in range(ROUNDS):
        met = (games / (strength[:, :, None] + strength[:, None, :])).sum(axis=2) + PRIOR / (strength + 1)
        strength = won / met
    return strength


def _wins(order: Sequence[str], winner: str | None, names: list[str]) -> np.ndarray:
    table = np.zeros((len(names), len(names)))
    for one in order:
        for other in order:
            if one != other:
                table[names.index(one), names.index(other)] = 0.5 if winner is None else float(one == winner)
    return table


def _scale(strength: np.ndarray) -> np.ndarray:
    return AVERAGE + TENFOLD * np.log10(strength)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
