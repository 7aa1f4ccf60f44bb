import numpy as np
import pytest
from scipy import ndimage

from rmbg.benchmark import matting, metrics, saliency
from tests.benchmark.shapes import chair, seeded, worse_and_worse

#: pysodmetrics 1.6.2 on `shapes.seeded`: max F, weighted F, S, mean E.
PYSODMETRICS = {
    1: (0.958099, 0.578314, 0.670014, 0.523759),
    2: (0.961458, 0.573279, 0.720727, 0.516761),
    3: (0.963550, 0.594418, 0.699371, 0.532355),
}


@pytest.fixture(scope="module")
def figures():
    truth = chair()
    return [metrics.measure(matte, truth) for matte in worse_and_worse(truth).values()]


@pytest.mark.parametrize("metric", metrics.METRICS, ids=lambda metric: metric.id)
def test_perfect_is_above_blurred_above_shifted_above_box_above_empty(metric, figures):
    values = [row[metric.id] for row in figures]
    assert values == sorted(values, reverse=metric.more_is_better)
    assert len(set(values)) == len(values)


def test_a_perfect_matte_scores_100_and_has_no_error(figures):
    perfect = figures[0]
    assert [perfect[i] for i in ("composite", "iou", "edge", "transparency")] == [100, 100, 100, 100]
    assert [perfect[i] for i in ("mae", "sad", "mse", "gradient", "connectivity")] == [0, 0, 0, 0, 0]


def test_a_perfect_binary_matte_is_perfect_in_the_saliency_measures():
    inside = chair() > 0.5
    measured = metrics.measure(inside, inside)
    assert measured["f_max"] == measured["f_weighted"] == pytest.approx(1)
    assert measured["s"] == pytest.approx(1)
    assert measured["e_mean"] == pytest.approx((255 + 0.25) / 256)


def test_an_empty_matte_scores_nothing(figures):
    empty = figures[-1]
    assert [empty[i] for i in ("composite", "iou", "edge", "transparency")] == [0, 0, 0, 0]


def test_iou_of_two_rectangles():
    truth, matte = np.zeros((2, 20, 30))
    truth[5:15, 5:15] = 1
    matte[5:15, 10:20] = 1
    assert metrics.iou(matte, truth) == pytest.approx(100 * 50 / 150)
    assert metrics.iou(truth * 0, truth * 0) == 100


def test_edge_of_a_shifted_straight_boundary():
    """Ten pixels off in a band of two on each side: all wrong on one side, and no boundary found."""
    truth, matte, near = np.zeros((3, 100, 100))
    truth[:, 50:] = 1
    matte[:, 60:] = 1
    near[:, 51:] = 1
    assert metrics.edge(matte, truth) == 0
    # The band has columns 48 to 52, and one of the five is wrong; the boundary is within the tolerance of one pixel.
    assert metrics.edge(near, truth) == pytest.approx(100 * np.sqrt(4 / 5))


def test_edge_does_not_apply_without_a_boundary():
    full = np.ones((40, 40))
    assert metrics.edge(full, full) is None
    assert metrics.measure(full, full)["composite"] == 100


def test_transparency_is_nothing_for_a_hard_answer_on_half_transparent_glass():
    truth = np.zeros((60, 60))
    truth[10:50, 10:50] = 0.5
    assert metrics.transparency(truth, truth) == 100
    assert metrics.transparency(np.ones_like(truth), truth) == 0
    assert metrics.transparency(truth / 2, truth) == pytest.approx(50)


def test_transparency_does_not_apply_to_antialiased_edges():
    hard = np.zeros((200, 200), np.float32)
    hard[50:150, 50:150] = 1
    assert metrics.transparency(hard, ndimage.gaussian_filter(hard, 0.6)) is None


def test_the_composite_gives_the_weights_of_what_does_not_apply_to_the_rest():
    assert metrics.composite(80, 60, 40) == pytest.approx(0.5 * 80 + 0.3 * 60 + 0.2 * 40)
    assert metrics.composite(80, 60, None) == pytest.approx((0.5 * 80 + 0.3 * 60) / 0.8)
    assert metrics.composite(80, None, None) == 80


def test_sums_of_differences():
    truth = np.zeros((50, 40))
    matte = np.full((50, 40), 0.5)
    assert matting.sad(matte, truth) == pytest.approx(1.0)
    assert matting.mae(matte, truth) == pytest.approx(0.5)
    assert matting.mse(matte, truth) == pytest.approx(0.25)


def test_gradient_of_a_ramp():
    """A ramp's slope is the same everywhere: its height a pixel times the kernels' response to it."""
    ramp = np.tile(np.linspace(0, 1, 101), (101, 1))
    x = np.arange(-4, 5)
    bell = np.exp(-(x**2) / (2 * 1.4**2))
    response = 0.01 * abs((x * bell * x).sum()) / np.linalg.norm(x * bell) * bell.sum() / np.linalg.norm(bell)
    error = matting._slope(ramp)[20:-20, 20:-20]
    assert error == pytest.approx(response, rel=1e-6)


def test_connectivity_of_a_loose_patch():
    """A patch that hangs together with nothing counts with all its alpha; a faint veil below 0.15 is forgiven."""
    truth = np.zeros((60, 60))
    truth[10:40, 10:40] = 1
    patch = truth.copy()
    patch[50:55, 50:55] = 0.8
    veil = truth.copy()
    veil[50:55, 50:55] = 0.14
    assert matting.connectivity(patch, truth) == pytest.approx(25 * 0.8 / 1000)
    assert matting.connectivity(veil, truth) == 0


@pytest.mark.parametrize("seed", PYSODMETRICS)
def test_saliency_measures_agree_with_figures_of_pysodmetrics(seed):
    matte, inside = seeded(seed)
    assert (
        saliency.f_max(matte, inside),
        saliency.f_weighted(matte, inside),
        saliency.structure(matte, inside),
        saliency.e_mean(matte, inside),
    ) == pytest.approx(PYSODMETRICS[seed], abs=2e-4)


@pytest.mark.parametrize("seed", range(10, 16))
def test_saliency_measures_agree_with_pysodmetrics(seed):
    sod = pytest.importorskip("py_sod_metrics", reason="pip install pysodmetrics, in an environment of its own")
    matte, inside = seeded(seed)
    pred, gt = np.rint(matte * 255).astype(np.uint8), inside.astype(np.uint8) * 255
    theirs = [sod.FmeasureV2(metric_handlers={"f": sod.FmeasureHandler(beta=0.3, with_dynamic=True, with_adaptive=False)})]
    theirs += [sod.WeightedFmeasure(), sod.Smeasure(), sod.Emeasure(), sod.MAE()]
    for measure in theirs:
        measure.step(pred=pred, gt=gt)
    results = [measure.get_results() for measure in theirs]
    assert saliency.f_max(matte, inside) == pytest.approx(results[0]["f"]["dynamic"].max(), abs=1e-5)
    assert saliency.f_weighted(matte, inside) == pytest.approx(results[1]["wfm"], abs=1e-5)
    assert saliency.structure(matte, inside) == pytest.approx(results[2]["sm"], abs=1e-5)
    size = inside.size  # they divide by one pixel less than there are
    assert saliency.e_mean(matte, inside) == pytest.approx(results[3]["em"]["curve"].mean() * (size - 1) / size, abs=1e-5)
    assert matting.mae(matte, inside) == pytest.approx(results[4]["mae"], abs=1e-5)


@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_every_metric_survives_an_empty_and_a_full_truth(fill):
    truth = np.full((30, 40), fill, np.float32)
    measured = metrics.measure(chair()[:30, :40], truth)
    assert all(value is None or np.isfinite(value) for value in measured.values())
