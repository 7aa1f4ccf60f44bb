"""Blind votes on the best of several cutouts, stored in SQLite, and Bradley-Terry ratings with confidence intervals."""

from __future__ import annotations

import csv
import io
import itertools
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

#: Games of each provider against an average one, half of them won, that are added to the votes. This prior keeps ratings finite
#: and close to average if there are few votes.
PRIOR_GAMES = 1.0

#: Rating of an average provider, and the difference in rating that means odds of ten to one.
AVERAGE, TENFOLD = 1000.0, 400.0

#: Iterations of the maximum-likelihood estimate.
ITERATIONS = 200

#: Quantile of the normal distribution that belongs to a 95% interval.
NORMAL_95 = 1.96

#: Votes of a provider from which on its rating is shown; with fewer the interval covers most of the scale.
RATED_VOTES = 10


@dataclass(frozen=True)
class Rating:
    """Rating of one provider.

    Attributes
    ----------
    provider : str
    rating, low, high : float
        Rating, and its 95% interval.
    votes, wins : int
        Number of ballots with this provider, and of those that it won.
    """

    provider: str
    rating: float
    low: float
    high: float
    votes: int
    wins: int

    @property
    def reliable(self) -> bool:
        """True if there are enough votes to show the rating."""
        return self.votes >= RATED_VOTES


def rate(votes: Sequence[tuple[Sequence[str], str | None]]) -> list[Rating]:
    """Rate providers from votes; returns ratings from best to worst.

    The winner of a ballot beats each of the others once. A ballot without a winner is half a win for both providers of each
    pair. In the model of R. Bradley and M. Terry, "Rank Analysis of Incomplete Block Designs", Biometrika 39, 1952, provider i
    with strength p_i beats j with probability p_i / (p_i + p_j). Intervals are normal approximations at the estimate, from
    the Fisher information of the games and the prior; unlike a bootstrap they stay wide for unanimous votes.

    Parameters
    ----------
    votes : sequence of (providers on the ballot, winner or None)
    """
    names = sorted({name for order, _ in votes for name in order})
    if not names:
        return []
    wins = np.zeros((len(names), len(names)))
    for order, winner in votes:
        for first, second in itertools.permutations(order, 2):
            wins[names.index(first), names.index(second)] += 0.5 if winner is None else float(first == winner)
    strength = bradley_terry(wins)
    ratings, errors = AVERAGE + TENFOLD * _centered(np.log10(strength)), NORMAL_95 * TENFOLD * standard_errors(wins, strength)
    rated = []
    for name, rating, error in zip(names, map(float, ratings), map(float, errors), strict=True):
        cast, won = sum(name in order for order, _ in votes), sum(winner == name for _, winner in votes)
        rated.append(Rating(name, rating, rating - error, rating + error, cast, won))
    return sorted(rated, key=lambda rating: (-rating.rating, rating.provider))


def bradley_terry(wins: np.ndarray) -> np.ndarray:
    """Maximum-likelihood strengths by the MM iterations of D. Hunter, "MM Algorithms for Generalized Bradley-Terry Models",
    Ann. Statist. 32, 2004.

    Parameters
    ----------
    wins : float array (N, N)
        ``wins[i, j]`` is the number of wins of i over j.

    Returns
    -------
    float array (N,)
        Strengths above zero; only their ratios have a meaning.
    """
    games = wins + wins.T
    total_wins = wins.sum(axis=1) + PRIOR_GAMES / 2
    strength = np.ones(len(wins))
    for _ in range(ITERATIONS):
        weights = (games / (strength[:, None] + strength)).sum(axis=1) + PRIOR_GAMES / (strength + 1)
        strength = total_wins / weights
    return strength


def standard_errors(wins: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Standard errors of the decadic logarithms of strengths relative to their mean, by the inverse Fisher information.

    Parameters
    ----------
    wins : float array (N, N)
    strength : float array (N,)
        Estimate by `bradley_terry`, whose prior is part of the information.

    Returns
    -------
    float array (N,)
    """
    games = wins + wins.T
    pairs = games * strength[:, None] * strength / (strength[:, None] + strength) ** 2
    prior = PRIOR_GAMES * strength / (strength + 1) ** 2
    covariance = np.linalg.inv(np.diag(pairs.sum(axis=1) + prior) - pairs)
    relative = _centered(_centered(covariance).T)
    return np.sqrt(np.diagonal(relative)) / np.log(10)


def _centered(values: np.ndarray) -> np.ndarray:
    """Subtract the mean along the first axis."""
    return values - values.mean(axis=0)


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

    def _cast(self) -> list[tuple[str, tuple[str, ...], str | None]]:
        """All votes, oldest first, as (time, providers on the ballot, winner or None)."""
        query = "SELECT cast_at, providers, choice FROM ballots WHERE cast_at IS NOT NULL ORDER BY cast_at, rowid"
        with self._open() as db:
            return [(time, tuple(json.loads(providers)), choice) for time, providers, choice in db.execute(query)]

    def all(self) -> list[tuple[tuple[str, ...], str | None]]:
        """All votes, oldest first, as (providers on the ballot, winner or None)."""
        return [(providers, choice) for _, providers, choice in self._cast()]

    def to_csv(self) -> str:
        """All votes as CSV: time, providers, and winner (empty for no preference)."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["cast_at", "providers", "winner"])
        writer.writerows((time, " ".join(providers), choice or "") for time, providers, choice in self._cast())
        return out.getvalue()

    def ratings(self) -> list[Rating]:
        """Ratings of all providers, from best to worst."""
        return rate(self.all())


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
