"""Bradley-Terry ratings from votes, with confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
    wins = np.sum([_win_matrix(order, winner, names) for order, winner in votes], axis=0)
    strength = bradley_terry(wins)
    ratings, errors = AVERAGE + TENFOLD * _centered(np.log10(strength)), NORMAL_95 * TENFOLD * standard_errors(wins, strength)
    rated = [
        Rating(
            name,
            float(ratings[i]),
            float(ratings[i] - errors[i]),
            float(ratings[i] + errors[i]),
            votes=sum(name in order for order, _ in votes),
            wins=sum(winner == name for _, winner in votes),
        )
        for i, name in enumerate(names)
    ]
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


def _win_matrix(order: Sequence[str], winner: str | None, names: list[str]) -> np.ndarray:
    """Wins of one ballot, (N, N)."""
    matrix = np.zeros((len(names), len(names)))
    for first in order:
        for second in order:
            if first != second:
                matrix[names.index(first), names.index(second)] = 0.5 if winner is None else float(first == winner)
    return matrix
