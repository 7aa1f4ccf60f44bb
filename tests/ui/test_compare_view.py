"""HTML of a comparison: estimate without a reference, failed providers, ratings, panes after the vote."""

from __future__ import annotations

import re
from decimal import Decimal

import numpy as np
import pytest

from rmbg.billing.cost import Cost
from rmbg.compare.agreement import agreement, consensus
from rmbg.compare.comparison import Outcome
from rmbg.compare.votes import Ballot, rate
from rmbg.cutout import Cutout
from rmbg.images.photo import Photo
from rmbg.runtime.cancellation import CancellationToken
from rmbg.settings import Settings
from rmbg.ui.compare_state import Comparison
from rmbg.ui.components import providers
from rmbg.ui.session import Session
from rmbg.ui.storage import storage
from rmbg.ui.tabs import compare_view

RGB = np.full((80, 100, 3), 90, np.uint8)


def cutout(provider: str, width: int, confidence: float | None = None) -> Cutout:
    """A cutout whose subject is `width` columns wide."""
    matte = np.zeros((80, 100), np.float32)
    matte[:, :width] = 1
    cost = Cost(Decimal("0.01"), "charged")
    return Cutout(Photo(RGB, name="mug"), matte, RGB, provider, 0.5, cost, confidence=confidence)


@pytest.fixture
def comparison(own_data):
    """Return a function that makes a completed comparison from widths of the subject by provider; None for a failure."""
    session = Session()

    def make(widths: dict[str, int | None], *, blind: bool = False, sure: dict[str, float] | None = None) -> Comparison:
        made = Comparison(Photo(RGB, name="mug"), list(widths), blind=blind, token=CancellationToken())
        for name, width in widths.items():
            done = (
                Outcome(name, None, "Out of order.")
                if width is None
                else Outcome(name, cutout(name, width, (sure or {}).get(name)))
            )
            session.record(done, made)
        return made

    yield make
    session.close()


def test_agreement_of_three_results_is_plotted_against_their_cost(comparison):
    text = compare_view.table(made := comparison({"builtin": 50, "rmbg-1.4": 52, "birefnet": 90}), "builtin")
    ious = made.consensus()
    assert re.findall(r'<li value=".">(.*?)</li>', text) == [
        f"{title}: {ious[name]:.1f}, $1,000"
        for name, title in (("rmbg-1.4", "RMBG-1.4"), ("builtin", "Built-in"), ("birefnet", "BiRefNet"))
    ]
    assert "no measured quality" in text and 'role="img" aria-label="Agreement against cost"' in text
    assert "<svg" not in compare_view.table(comparison({"builtin": 50, "birefnet": 90, "rmbg-1.4": None}), "builtin")
    blind = comparison({"builtin": 50, "rmbg-1.4": 52, "birefnet": 90}, blind=True)
    assert compare_view.plot(blind) == ""


def test_estimate_names_the_result_that_differs_from_the_others(comparison):
    text = compare_view.hint(comparison({"builtin": 50, "rmbg-1.4": 52, "birefnet": 90}))
    assert "Estimate without a reference: RMBG-1.4 probably looks best" in text and "BiRefNet, which agrees least" in text
    assert "hardly differ" in compare_view.hint(comparison({"builtin": 50, "rmbg-1.4": 50, "birefnet": 50}))
    assert "no majority" in compare_view.hint(comparison({"builtin": 50, "birefnet": 90}))
    assert compare_view.hint(comparison({"builtin": 50, "birefnet": None})) == ""


def test_estimate_states_the_confidence_and_waits_for_the_vote(comparison):
    widths = {"builtin": 52, "rmbg-1.4": 50, "birefnet": 90}
    sure = compare_view.hint(comparison(widths, sure={"builtin": 0.9}))
    assert "Built-in probably looks best" in sure and "predicts an IoU of 90% for its own result, which is high" in sure
    doubtful = compare_view.hint(comparison(widths, sure={"builtin": 0.5}))
    assert "Built-in agrees most, but its confidence is low" in doubtful and "probably" not in doubtful
    other = compare_view.hint(comparison({"builtin": 90, "rmbg-1.4": 50, "birefnet": 52}, sure={"builtin": 0.9}))
    assert "agrees most, but Built-in has high confidence in another result" in other and "probably" not in other
    blind = comparison(widths, blind=True, sure={"builtin": 0.9})
    blind.ballot = Ballot("id", tuple(widths))
    assert compare_view.hint(blind) == ""
    blind.voted = True
    assert "A: Built-in probably looks best" in compare_view.hint(blind)


def test_released_comparison_keeps_its_figures_and_reads_its_cutouts_again(comparison):
    made = comparison({"builtin": 52, "rmbg-1.4": 50, "birefnet": 90})
    figures, before = made.consensus(), [made.cutout(name) for name in made.succeeded]
    made.release()
    assert all(made.outcomes[name].cutout.matte.size == 0 for name in made.succeeded)
    assert made.consensus() == figures and "all photos" in compare_view.photos_table([made, made], made)
    after = [made.cutout(name) for name in made.succeeded]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one.matte, other.matte)
        assert one.seconds == other.seconds and one.cost == other.cost


def test_figures_are_those_of_the_command_line(own_data):
    """They come from the cutouts at full size, which the panes show smaller."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (700, 2000, 3), np.uint8)
    y, x = np.mgrid[:700, :2000].astype(np.float32)
    outcomes = []
    for number, name in enumerate(("builtin", "rmbg-1.4", "birefnet")):
        matte = np.clip((260 - np.hypot(y - 350, x - 900 - 9 * number)) / (3 + 6 * number) + 0.5, 0, 1)
        cost = Cost(Decimal("0.01"), "charged")
        outcomes.append(Outcome(name, Cutout(Photo(rgb), matte.astype(np.float32), rgb, name, 0.5, cost)))
    session = Session()
    made = Comparison(Photo(rgb), [outcome.provider for outcome in outcomes], blind=False, token=CancellationToken())
    for outcome in outcomes:
        session.record(outcome, made)
    assert all(outcome.cutout.width < 2000 for outcome in made.outcomes.values())
    for reference in ("builtin", "birefnet"):
        rows = zip(made.table(reference), agreement(outcomes, reference), strict=True)
        for shown, expected in rows:
            figures = [(line.iou, line.edge_difference, line.soft) for line in (shown, expected)]
            assert (
                shown.iou == expected.iou
                and figures[0] == pytest.approx(figures[1], abs=1e-3)
                and shown.usd_100000 == expected.usd_100000
            )
    assert made.consensus() == consensus(outcomes)
    before = made.table("builtin")
    for result in list(made._results.values()):
        storage().discard(result.folder)
    assert [row.iou for row in made.table("builtin")] == [row.iou for row in before], "computed once"
    assert [row.iou for row in made.table("rmbg-1.4")] == [None] * 3, "of results that were removed to make room"
    session.close()


def test_consensus_is_the_mean_iou_with_the_other_results(comparison):
    found = comparison({"builtin": 50, "rmbg-1.4": 100, "birefnet": 25, "sam2": None}).consensus()
    assert found == pytest.approx({"builtin": 50, "rmbg-1.4": 37.5, "birefnet": 37.5})


def test_failed_provider_follows_the_panes_of_the_ballot(comparison):
    made = comparison({"sam2": None, "builtin": 50, "birefnet": 60}, blind=True)
    made.ballot = Ballot("id", ("birefnet", "builtin"))
    assert [pane.name for pane in made.panes()] == ["A", "B"]
    assert made.provider_of("builtin") is None and made.provider_of("1") == "builtin"
    assert "data-use" not in compare_view.grid(made)
    made.voted = True
    assert [pane.name for pane in made.panes()] == ["A: BiRefNet", "B: Built-in", "SAM 2"]
    assert made.provider_of("1") == "builtin" and made.provider_of("2") is None
    table = compare_view.table(made, "birefnet")
    assert table.index("A: BiRefNet") < table.index("B: Built-in") < table.index("Out of order.")


def test_rating_has_an_interval_from_ten_votes_on():
    few, enough = (compare_view.ratings(rate([(("builtin", "gone"), "builtin")] * count), count) for count in (9, 10))
    assert "9 of 10 votes" in few and " to 1" not in few
    assert "of 10 votes" not in enough and "Built-in" in enough and "gone" in enough
    assert enough.count(" to ") == 2 + enough.count("odds of ten to one")


def test_offers_of_a_second_provider_state_download_and_license():
    texts = [text for text, _ in providers.offers(Settings.from_environ({"HF_HUB_OFFLINE": "0"}))]
    assert len(texts) == providers.OFFERED
    assert all("MB on first use" in text and ("commercial use" in text) for text in texts)
    note, _ = providers.refresh_second_provider(Settings.from_environ({}))
    assert "Runware: BiRefNet costs $0.0006 listed a picture" in note
