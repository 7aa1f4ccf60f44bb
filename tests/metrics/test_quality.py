"""rmbg.metrics: published formulas, pysodmetrics, and limiting cases."""

import numpy as np
import pytest
from scipy import ndimage

from rmbg.metrics import quality
from tests.benchmark.shapes import chair, seeded, worse_and_worse

#: Results of pysodmetrics 1.6.2 for `shapes.seeded`: max F, weighted F, S, mean E.
PYSODMETRICS = {
    1: (0.958099, 0.578314, 0.670014, 0.523759),
    2: (0.961458, 0.573279, 0.720727, 0.516761),
    3: (0.963550, 0.594418, 0.699371, 0.532355),
}


@pytest.fixture(scope="module")
def measured():
    truth = chair()
    return [quality.measure(matte, truth) for matte in worse_and_worse(truth).values()]


@pytest.mark.parametrize("metric", quality.METRICS, ids=lambda metric: metric.id)
def test_metrics_rank_perfect_blurred_shifted_box_and_empty_mattes(metric, measured):
    values = [row[metric.id] for row in measured]
    assert values == sorted(values, reverse=metric.more_is_better)
    assert len(set(values)) == len(values)


def test_a_perfect_matte_has_full_scores_and_no_error(measured):
    perfect = measured[0]
    assert [perfect[i] for i in ("composite", "iou", "edge", "transparency")] == [100, 100, 100, 100]
    assert [perfect[i] for i in ("mae", "sad", "mse", "gradient", "connectivity")] == [0, 0, 0, 0, 0]


def test_a_perfect_binary_matte_has_full_saliency_metrics():
    inside = chair() > 0.5
    values = quality.measure(inside, inside)
    assert values["f_max"] == values["f_weighted"] == pytest.approx(1)
    assert values["s"] == pytest.approx(1)
    assert values["e_mean"] == pytest.approx((255 + 0.25) / 256)


def test_an_empty_matte_scores_zero(measured):
    empty = measured[-1]
    assert [empty[i] for i in ("composite", "iou", "edge", "transparency")] == [0, 0, 0, 0]


def test_iou_of_two_rectangles():
    truth, matte = np.zeros((2, 20, 30))
    truth[5:15, 5:15] = 1
    matte[5:15, 10:20] = 1
    assert quality.iou(matte, truth) == pytest.approx(100 * 50 / 150)
    assert quality.iou(truth * 0, truth * 0) == 100


def test_edge_of_a_shifted_straight_boundary():
    """Shifts of ten pixels, outside the band and the tolerance, and of one pixel, inside both."""
    truth, matte, near = np.zeros((3, 100, 100))
    truth[:, 50:] = 1
    matte[:, 60:] = 1
    near[:, 51:] = 1
    assert quality.edge(matte, truth) == 0
    # The band is columns 48 to 52, one of which is wrong. The boundary is within the tolerance of one pixel.
    assert quality.edge(near, truth) == pytest.approx(100 * np.sqrt(4 / 5))


def test_edge_does_not_apply_without_a_boundary():
    full = np.ones((40, 40))
    assert quality.edge(full, full) is None
    assert quality.measure(full, full)["composite"] == 100


def test_transparency_is_zero_for_a_hard_matte_of_glass():
    truth = np.zeros((60, 60))
    truth[10:50, 10:50] = 0.5
    assert quality.transparency(truth, truth) == 100
    assert quality.transparency(np.ones_like(truth), truth) == 0
    assert quality.transparency(truth / 2, truth) == pytest.approx(50)


def test_transparency_does_not_apply_to_antialiased_edges():
    hard = np.zeros((200, 200), np.float32)
    hard[50:150, 50:150] = 1
    assert quality.transparency(hard, ndimage.gaussian_filter(hard, 0.6)) is None


def test_the_composite_renormalizes_the_weights_of_the_scores_that_apply():
    assert quality.composite(80, 60, 40) == pytest.approx(0.5 * 80 + 0.3 * 60 + 0.2 * 40)
    assert quality.composite(80, 60, None) == pytest.approx((0.5 * 80 + 0.3 * 60) / 0.8)
    assert quality.composite(80, None, None) == 80


def test_sad_mae_and_mse():
    truth = np.zeros((50, 40))
    matte = np.full((50, 40), 0.5)
    assert quality.sad(matte, truth) == pytest.approx(1.0)
    assert quality.mae(matte, truth) == pytest.approx(0.5)
    assert quality.mse(matte, truth) == pytest.approx(0.25)


def test_gradient_of_a_ramp():
    """The gradient of a ramp is constant: its height per pixel times the response of the kernels."""
    ramp = np.tile(np.linspace(0, 1, 101), (101, 1))
    x = np.arange(-4, 5)
    gaussian = np.exp(-(x**2) / (2 * 1.4**2))
    response = 0.01 * abs((x * gaussian * x).sum()) / np.linalg.norm(x * gaussian) * gaussian.sum() / np.linalg.norm(gaussian)
    magnitude = quality._gradient_magnitude(ramp)[20:-20, 20:-20]
    assert magnitude == pytest.approx(response, rel=1e-6)


def test_connectivity_of_a_separate_patch():
    """An unconnected patch counts with its full alpha; a difference below 0.15 does not count."""
    truth = np.zeros((60, 60))
    truth[10:40, 10:40] = 1
    patch = truth.copy()
    patch[50:55, 50:55] = 0.8
    veil = truth.copy()
    veil[50:55, 50:55] = 0.14
    assert quality.connectivity(patch, truth) == pytest.approx(25 * 0.8 / 1000)
    assert quality.connectivity(veil, truth) == 0


@pytest.mark.parametrize("seed", PYSODMETRICS)
def test_saliency_metrics_match_stored_results_of_pysodmetrics(seed):
    matte, inside = seeded(seed)
    assert (
        quality.f_max(matte, inside),
        quality.f_weighted(matte, inside),
        quality.structure(matte, inside),
        quality.e_mean(matte, inside),
    ) == pytest.approx(PYSODMETRICS[seed], abs=2e-4)


@pytest.mark.parametrize("seed", range(10, 16))
def test_saliency_metrics_match_pysodmetrics(seed):
    sod = pytest.importorskip("py_sod_metrics", reason="pip install pysodmetrics, in an environment of its own")
    matte, inside = seeded(seed)
    pred, gt = np.rint(matte * 255).astype(np.uint8), inside.astype(np.uint8) * 255
    references = [sod.FmeasureV2(metric_handlers={"f": sod.FmeasureHandler(beta=0.3, with_dynamic=True, with_adaptive=False)})]
    references += [sod.WeightedFmeasure(), sod.Smeasure(), sod.Emeasure(), sod.MAE()]
    for reference in references:
        reference.step(pred=pred, gt=gt)
    results = [reference.get_results() for reference in references]
    assert quality.f_max(matte, inside) == pytest.approx(results[0]["f"]["dynamic"].max(), abs=1e-5)
    assert quality.f_weighted(matte, inside) == pytest.approx(results[1]["wfm"], abs=1e-5)
    assert quality.structure(matte, inside) == pytest.approx(results[2]["sm"], abs=1e-5)
    size = inside.size  # pysodmetrics divides by size - 1
    assert quality.e_mean(matte, inside) == pytest.approx(results[3]["em"]["curve"].mean() * (size - 1) / size, abs=1e-5)
    assert quality.mae(matte, inside) == pytest.approx(results[4]["mae"], abs=1e-5)


@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_all_metrics_are_finite_for_an_empty_and_a_full_truth(fill):
    truth = np.full((30, 40), fill, np.float32)
    values = quality.measure(chair()[:30, :40], truth)
    assert all(value is None or np.isfinite(value) for value in values.values())
