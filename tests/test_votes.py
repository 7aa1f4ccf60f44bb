"""Blind votes: drawn in chance order, cast once, rated."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from rmbg.errors import OptionError, OutputError
from rmbg.votes import AVERAGE, PRIOR, Votes, bradley_terry, rate


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
        with pytest.raises(OptionError, match="has its vote already"):
            votes.cast(ballot.id, pane)
    assert len(votes.all()) == 1


def test_of_many_votes_at_the_same_moment_one_counts(votes):
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


def test_what_is_no_vote_is_refused(votes):
    ballot = votes.draw(["a", "b"])
    for name, pane in (("nothing", 0), (ballot.id, 2), (ballot.id, -1)):
        with pytest.raises(OptionError, match="no such result"):
            votes.cast(name, pane)
    with pytest.raises(OptionError, match="at least two"):
        votes.draw(["a", "a"])
    assert votes.all() == []


def test_votes_outlive_the_process_and_are_exported(votes, tmp_path):
    first, second = votes.draw(["a", "b"]), votes.draw(["b", "a"])
    votes.cast(first.id, first.order.index("b"))
    votes.cast(second.id, None)
    again = Votes(tmp_path / "data" / "votes.sqlite3")
    lines = again.to_csv().splitlines()
    assert lines[0] == "cast_at,providers,winner"
    assert [line.split(",")[2] for line in lines[1:]] == ["b", ""]


def test_votes_of_the_same_moment_stay_in_the_order_of_their_ballots(votes, monkeypatch):
    """Two may fall into one tick of the clock, and ids are random."""
    monkeypatch.setattr("rmbg.votes._now", lambda: "2026-11-21T12:00:00.000+00:00")
    pairs = [(f"a{number}", f"b{number}") for number in range(8)]
    for pair in pairs:
        votes.cast(votes.draw(pair).id, None)
    assert [tuple(sorted(order)) for order, _ in votes.all()] == pairs


def test_a_damaged_file_is_one_sentence(tmp_path):
    path = tmp_path / "votes.sqlite3"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(OutputError, match="cannot be used"):
        Votes(path).all()


def test_bradley_terry_finds_the_strengths_that_made_the_results():
    true = np.array([4.0, 2.0, 1.0, 0.5])
    wins = 100_000 * true[:, None] / (true[:, None] + true[None])
    np.fill_diagonal(wins, 0)
    found = bradley_terry(wins[None])[0]
    assert found / found[2] == pytest.approx(true, rel=1e-3)


def test_two_players_have_the_odds_of_their_games():
    """Three to one, and the prior's half win and half loss against an average player."""
    found = bradley_terry(np.array([[[0.0, 300.0], [100.0, 0.0]]]))[0]
    assert found[0] / found[1] == pytest.approx(3, rel=0.01)
    assert pytest.approx(1.0) == PRIOR


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


def test_ties_leave_everybody_average_and_a_clean_sweep_stays_finite():
    assert [r.rating for r in rate([(("a", "b"), None)] * 5)] == pytest.approx([AVERAGE, AVERAGE])
    swept = rate([(("a", "b"), "a")] * 30)
    assert np.isfinite([swept[0].rating, swept[1].rating]).all() and swept[0].rating > swept[1].rating
    assert rate([]) == []
