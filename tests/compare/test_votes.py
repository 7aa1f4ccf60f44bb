"""Blind votes: ballots in random order, one vote each, ratings."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from rmbg.compare.votes import AVERAGE, PRIOR_GAMES, Votes, bradley_terry, rate
from rmbg.errors import OptionError, OutputError


@pytest.fixture
def votes(tmp_path):
    return Votes(tmp_path / "data" / "votes.sqlite3")


def test_a_ballot_is_shuffled_and_a_vote_finds_its_provider(votes):
    orders = {votes.draw(["a", "b", "c"]).order for _ in range(60)}
    assert len(orders) == 6
    ballot = votes.draw(["a", "b", "c"])
    assert votes.cast(ballot.id, 1) == ballot.order[1]
    assert votes.all() == [(ballot.order, ballot.order[1])]


def test_a_vote_is_cast_once(votes):
    ballot = votes.draw(["a", "b"])
    votes.cast(ballot.id, 0)
    for pane in (0, 1, None):
        with pytest.raises(OptionError, match="has already been voted on"):
            votes.cast(ballot.id, pane)
    assert len(votes.all()) == 1


def test_one_of_many_concurrent_votes_counts(votes):
    ballot = votes.draw(["a", "b"])
    start, errors = threading.Barrier(8), []

    def cast():
        start.wait()
        try:
            votes.cast(ballot.id, 0)
        except OptionError as error:
            errors.append(error)

    threads = [threading.Thread(target=cast) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 7 and len(votes.all()) == 1


def test_invalid_votes_are_rejected(votes):
    ballot = votes.draw(["a", "b"])
    for name, pane in (("nothing", 0), (ballot.id, 2), (ballot.id, -1)):
        with pytest.raises(OptionError, match="no such result"):
            votes.cast(name, pane)
    with pytest.raises(OptionError, match="at least two"):
        votes.draw(["a", "a"])
    assert votes.all() == []


def test_votes_are_persistent_and_exported(votes, tmp_path):
    first, second = votes.draw(["a", "b"]), votes.draw(["b", "a"])
    votes.cast(first.id, first.order.index("b"))
    votes.cast(second.id, None)
    again = Votes(tmp_path / "data" / "votes.sqlite3")
    lines = again.to_csv().splitlines()
    assert lines[0] == "cast_at,providers,winner"
    assert [line.split(",")[2] for line in lines[1:]] == ["b", ""]


def test_votes_with_equal_times_keep_the_order_of_their_ballots(votes, monkeypatch):
    """The clock may return the same time twice, and ids are random."""
    monkeypatch.setattr("rmbg.compare.votes._now", lambda: "2026-11-21T12:00:00.000+00:00")
    pairs = [(f"a{number}", f"b{number}") for number in range(8)]
    for pair in pairs:
        votes.cast(votes.draw(pair).id, None)
    assert [tuple(sorted(order)) for order, _ in votes.all()] == pairs


def test_a_damaged_file_raises_one_sentence(tmp_path):
    path = tmp_path / "votes.sqlite3"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(OutputError, match="cannot be used"):
        Votes(path).all()


def test_bradley_terry_recovers_the_strengths_behind_the_results():
    true = np.array([4.0, 2.0, 1.0, 0.5])
    wins = 100_000 * true[:, None] / (true[:, None] + true[None])
    np.fill_diagonal(wins, 0)
    found = bradley_terry(wins)
    assert found / found[2] == pytest.approx(true, rel=1e-3)


def test_two_players_have_the_odds_of_their_games():
    """Three to one, and the prior's half win and half loss against an average player."""
    found = bradley_terry(np.array([[0.0, 300.0], [100.0, 0.0]]))
    assert found[0] / found[1] == pytest.approx(3, rel=0.01)
    assert pytest.approx(1.0) == PRIOR_GAMES


def test_ratings_order_and_intervals():
    random = np.random.default_rng(3)
    few = [(("a", "b", "c"), str(random.choice(["a", "b", "c"], p=[0.6, 0.3, 0.1]))) for _ in range(20)]
    many = few * 20
    for votes in (few, many):
        rated = rate(votes)
        assert [r.provider for r in rated] == ["a", "b", "c"]
        assert all(r.low <= r.rating <= r.high and r.votes == len(votes) for r in rated)
        assert sum(r.wins for r in rated) == len(votes)
    assert rate(many)[0].high - rate(many)[0].low < rate(few)[0].high - rate(few)[0].low


def test_ties_give_average_ratings_and_a_clean_sweep_stays_finite():
    assert [r.rating for r in rate([(("a", "b"), None)] * 5)] == pytest.approx([AVERAGE, AVERAGE])
    swept = rate([(("a", "b"), "a")] * 30)
    assert np.isfinite([swept[0].rating, swept[1].rating]).all() and swept[0].rating > swept[1].rating
    assert swept[0].rating + swept[1].rating == pytest.approx(2 * AVERAGE)
    assert rate([]) == []


def test_few_and_unanimous_votes_have_wide_intervals_and_are_marked_as_unreliable():
    """All resamples of a bootstrap over unanimous votes are equal, which gave an interval of no width."""
    for count in (1, 9, 10, 40):
        best, other = rate([(("a", "b"), "a")] * count)
        assert best.high - best.low > 100 and best.low < best.rating < best.high
        assert best.reliable == other.reliable == (count >= 10)


def test_interval_of_two_providers_matches_the_binomial_standard_error():
    """The logit of a share p of n games has the standard error 1 / sqrt(n p (1 - p)), which both ratings divide."""
    votes = [(("a", "b"), "a")] * 3000 + [(("a", "b"), "b")] * 1000
    best = rate(votes)[0]
    expected = 1.96 * 400 / np.log(10) / np.sqrt(4000 * 0.75 * 0.25) / 2
    assert (best.high - best.low) / 2 == pytest.approx(expected, rel=0.01)
