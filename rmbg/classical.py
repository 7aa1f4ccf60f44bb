"""A subject found without a network: what differs from the picture's border, joined by its edges.

Two steps on a small copy. First, how far every pixel is from the border by way of colour: the geodesic distance of Y. Wei,
F. Wen, W. Zhu and J. Sun, "Geodesic Saliency Using Background Priors", ECCV 2012. It is small on plain and on graded
backgrounds, however large they are, as each single step is small. Then colour models of background and subject, seeded by
it, and a minimum cut between them as in C. Rother, V. Kolmogorov and A. Blake, "GrabCut", SIGGRAPH 2004, with colour
histograms for the mixtures.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage, sparse
from scipy.sparse.csgraph import dijkstra, maximum_flow

#: Longest side of the copy that is segmented.
SIDE = 160

#: Confidence below which a subject is not clear enough to be shown.
CONFIDENT = 0.25

#: Bins a channel of the colour models.
BINS = 12

#: Rounds of colour models and cut.
ROUNDS = 2

#: Weight of the edges against the colours in the cut, and the scale of its whole-number capacities.
SMOOTHNESS, SCALE = 4.0, 100


def segment(rgb: np.ndarray) -> tuple[np.ndarray, float]:
    """Subject and background of a photo.

    Parameters
    ----------
    rgb : uint8 array (H, W, 3)

    Returns
    -------
    matte : float32 array (h, w)
        0 or 1, on a copy of at most `SIDE` pixels a side.
    confidence : float
        0 to 1: how far the subject's colours are from the border's.
    """
    lab = _small_lab(rgb)
    shape = lab.shape[:2]
    step = _steps(lab)
    distance = _distance_to_border(step, shape)
    if distance.max() <= 0:
        return np.zeros(shape, np.float32), 0.0
    inside = distance > _threshold(distance)
    bins = _bins(lab)
    for _ in range(ROUNDS):
        if not inside.any() or inside.all():
            return np.zeros(shape, np.float32), 0.0
        inside = _cut(bins, inside, step, _border(shape))
    inside = _solid(inside)
    return inside.astype(np.float32), _confidence(lab, inside)


def _small_lab(rgb: np.ndarray) -> np.ndarray:
    """A small smoothed copy in a roughly uniform colour space: float64 (h, w, 3), lightness 0 to 100."""
    height, width = rgb.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = max(2, round(width * scale)), max(2, round(height * scale))
    small = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BOX), dtype=np.float64) / 255
    linear = np.where(small <= 0.04045, small / 12.92, ((small + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    lab = np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)
    return ndimage.gaussian_filter(lab, (0.7, 0.7, 0))


def _border(shape: tuple[int, int]) -> np.ndarray:
    """The outermost pixels, without the lower edge's middle, where people and busts run out of the picture."""
    border = np.ones(shape, bool)
    border[1:-1, 1:-1] = False
    border[-1, shape[1] // 6 : -(shape[1] // 6) or None] = False
    return border


def _steps(lab: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of neighbours, right and down, as (from, to, difference of colour)."""
    height, width = lab.shape[:2]
    index = np.arange(height * width).reshape(height, width)
    one = np.concatenate([index[:, :-1].ravel(), index[:-1].ravel()])
    other = np.concatenate([index[:, 1:].ravel(), index[1:].ravel()])
    flat = lab.reshape(-1, 3)
    return one, other, np.linalg.norm(flat[one] - flat[other], axis=1)


def _distance_to_border(step: tuple[np.ndarray, np.ndarray, np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Sum of colour steps on the cheapest way to the border, small steps free: float64 (h, w)."""
    one, other, difference = step
    free = np.quantile(difference, 0.4)
    cost = np.maximum(difference - free, 0) + 1e-3
    count = shape[0] * shape[1]
    graph = sparse.coo_matrix((cost, (one, other)), (count, count)).tocsr()
    start = np.flatnonzero(_border(shape))
    return dijkstra(graph, directed=False, indices=start, min_only=True).reshape(shape)


def _threshold(values: np.ndarray) -> float:
    """The value that splits a histogram best: N. Otsu, 1979."""
    counts, edges = np.histogram(values, 128)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = sums / below - (sums[-1] - sums) / above
    between = np.where((below > 0) & (above > 0), below * above * gap**2, 0)
    return float(centres[int(between.argmax())])


def _bins(lab: np.ndarray) -> np.ndarray:
    """Each pixel's cell in a histogram of three channels: int (h, w)."""
    low = lab.reshape(-1, 3).min(axis=0)
    span = np.maximum(lab.reshape(-1, 3).max(axis=0) - low, 1e-6)
    cell = np.minimum(((lab - low) / span * BINS).astype(int), BINS - 1)
    return (cell[..., 0] * BINS + cell[..., 1]) * BINS + cell[..., 2]


def _cut(bins: np.ndarray, inside: np.ndarray, step: tuple[np.ndarray, ...], border: np.ndarray) -> np.ndarray:
    """One round: colour models from the present division, then the minimum cut between them."""
    shape, count = inside.shape, inside.size
    models = [_model(bins[region]) for region in (~inside, inside)]
    background, subject = (-np.log(model[bins.ravel()]) for model in models)
    background = np.where(border.ravel(), 0, background)
    subject = np.where(border.ravel(), 50, subject)
    one, other, difference = step
    edge = SMOOTHNESS * np.exp(-(difference**2) / (2 * np.mean(difference**2) + 1e-9)) + 0.05
    source, sink = count, count + 1
    pixels = np.arange(count)
    rows = np.concatenate([one, other, np.full(count, source), pixels])
    columns = np.concatenate([other, one, pixels, np.full(count, sink)])
    weights = np.concatenate([edge, edge, background, subject])
    capacity = sparse.coo_matrix(((weights * SCALE).astype(np.int32), (rows, columns)), (count + 2, count + 2)).tocsr()
    residual = capacity - maximum_flow(capacity, source, sink).flow
    residual.data = (residual.data > 0).astype(np.int8)
    residual.eliminate_zeros()
    reached = sparse.csgraph.breadth_first_order(residual, source, return_predecessors=False)
    result = np.zeros(count + 2, bool)
    result[reached] = True
    return result[:count].reshape(shape)


def _model(cells: np.ndarray) -> np.ndarray:
    """Probability of each cell, smoothed between neighbouring colours: float64 (BINS**3,)."""
    histogram = np.bincount(cells, minlength=BINS**3).reshape(BINS, BINS, BINS).astype(float)
    histogram = ndimage.gaussian_filter(histogram, 0.8, mode="nearest").ravel()
    return (histogram + 1e-3) / (histogram + 1e-3).sum()


def _solid(inside: np.ndarray) -> np.ndarray:
    """Without specks, and with the largest parts only."""
    parts, count = ndimage.label(inside)
    if not count:
        return inside
    area = np.bincount(parts.ravel())
    area[0] = 0
    return np.isin(parts, np.flatnonzero(area >= 0.05 * area.max()))


def _confidence(lab: np.ndarray, inside: np.ndarray) -> float:
    """How clearly subject and surroundings differ: 0 to 1.

    The difference of colour across the edge of the cut, against the differences inside the background; little of either kind
    of area, or a subject that fills the border, takes it away.
    """
    share = inside.mean()
    if not 0.003 < share < 0.95:
        return 0.0
    near = ndimage.binary_dilation(inside, iterations=3) & ~ndimage.binary_dilation(inside, iterations=1)
    rim = inside & ~ndimage.binary_erosion(inside, iterations=3)
    if not near.any() or not rim.any():
        return 0.0
    across = np.linalg.norm(np.median(lab[rim], axis=0) - np.median(lab[near], axis=0))
    clutter = np.linalg.norm(np.std(lab[~inside], axis=0))
    touching = inside[_border(inside.shape)].mean()
    return float(np.clip(across / (across + clutter + 5) * (1 - touching), 0, 1))
