"""Alpha matting: closed-form solution in the unknown band of a trimap, tile by tile."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from rmbg.errors import CancelledError
from rmbg.matting.edges import AlphaMatting
from rmbg.matting.matte import BACKGROUND, FOREGROUND, UNKNOWN, make_trimap, tiles, widened

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

# Matting Laplacian of a block of a photo, restricted to its unknown pixels.


#: Regularization of the color covariance, in squared units of color in [0, 1].
EPSILON = 1e-5

#: Offsets of a 3 x 3 window.
WINDOW = [(y, x) for y in range(3) for x in range(3)]


def laplacian_weights(rgb: np.ndarray, epsilon: float = EPSILON) -> np.ndarray:
    """Weights of the matting Laplacian between each pixel and its 5 x 5 neighborhood.

    A. Levin, D. Lischinski and Y. Weiss, "A Closed-Form Solution to Natural Image Matting", TPAMI 30(2), 2008, equation 12,
    with 3 x 3 windows.

    Parameters
    ----------
    rgb : uint8 array (h, w, 3)
    epsilon : float

    Returns
    -------
    float64 array (25, h, w)
        The row of pixel (y, x) of the Laplacian: entry ``5 * (dy + 2) + dx + 2`` belongs to pixel (y + dy, x + dx). Rows sum to
        zero. Windows that reach beyond the block are missing.
    """
    height, width = rgb.shape[:2]
    result = np.zeros((25, height, width))
    if height < 3 or width < 3:
        return result
    planes = np.moveaxis(rgb.astype(np.float64) / 255, -1, 0)
    views = [slice(y, height - 2 + y) for y in range(3)], [slice(x, width - 2 + x) for x in range(3)]
    pixels = [planes[:, views[0][y], views[1][x]] for y, x in WINDOW]
    mean = sum(pixels) / 9
    centered = [pixel - mean for pixel in pixels]
    inverse = _inverse_covariance(centered, epsilon / 9)
    for j, (yj, xj) in enumerate(WINDOW):
        projected = [sum(inverse[min(a, b), max(a, b)] * centered[j][b] for b in range(3)) for a in range(3)]
        for i, (yi, xi) in enumerate(WINDOW[: j + 1]):
            affinity = (1 + sum(centered[i][a] * projected[a] for a in range(3))) / 9
            weight = float(i == j) - affinity
            result[5 * (yj - yi + 2) + xj - xi + 2, views[0][yi], views[1][xi]] += weight
            if i != j:
                result[5 * (yi - yj + 2) + xi - xj + 2, views[0][yj], views[1][xj]] += weight
    return result


def _inverse_covariance(centered: list[np.ndarray], ridge: float) -> dict[tuple[int, int], np.ndarray]:
    """Upper triangle of the inverse of each window's color covariance plus `ridge`, by cofactors."""
    a, d, f = (sum(c[k] * c[k] for c in centered) / 9 + ridge for k in range(3))
    b, c, e = (sum(p[k] * p[m] for p in centered) / 9 for k, m in ((0, 1), (0, 2), (1, 2)))
    cofactors = {
        (0, 0): d * f - e * e,
        (0, 1): c * e - b * f,
        (0, 2): b * e - c * d,
        (1, 1): a * f - c * c,
        (1, 2): b * c - a * e,
        (2, 2): a * d - b * b,
    }
    determinant = a * cofactors[0, 0] + b * cofactors[0, 1] + c * cofactors[0, 2]
    return {position: cofactor / determinant for position, cofactor in cofactors.items()}


def unknown_system(weights: np.ndarray, alpha: np.ndarray, unknown: np.ndarray) -> tuple[csr_matrix, np.ndarray]:
    """Linear system of the unknown pixels, with the others fixed at `alpha`.

    Parameters
    ----------
    weights : float64 array (25, h, w)
        From `laplacian_weights`.
    alpha : float array (h, w)
    unknown : bool array (h, w)

    Returns
    -------
    matrix : csr_matrix (n, n)
        Laplacian of the n unknown pixels, in row-major order.
    right : float64 array (n,)
        Minus the contribution of the fixed pixels.
    """
    from scipy import sparse

    rows, columns = np.nonzero(unknown)
    count = rows.size
    number = np.full((unknown.shape[0] + 4, unknown.shape[1] + 4), -1, np.int32)
    number[2:-2, 2:-2][unknown] = np.arange(count, dtype=np.int32)
    fixed = np.zeros(number.shape)
    fixed[2:-2, 2:-2] = np.where(unknown, 0, alpha)
    neighbors, values = np.empty((count, 25), np.int32), np.empty((count, 25))
    right = np.zeros(count)
    for entry in range(25):
        y, x = rows + entry // 5, columns + entry % 5
        neighbors[:, entry] = number[y, x]
        values[:, entry] = weights[entry, rows, columns]
        right -= values[:, entry] * fixed[y, x]
    inside = neighbors >= 0
    starts = np.concatenate([[0], np.cumsum(inside.sum(axis=1))])
    return sparse.csr_matrix((values[inside], neighbors[inside], starts), shape=(count, count)), right


# Solution of all tiles.


#: Weight of the given matte in the unknown band, relative to the Laplacian: for alpha of one half, for alpha of 0 or 1, and the
#: exponent between them. Where the matte is confident, only clear colors overrule it. Without this prior, a band that is wide
#: enough for the errors of a coarse matte fills with haze where both sides have similar colors.
PRIOR_MIN, PRIOR_MAX, PRIOR_EXPONENT = 0.003, 0.3, 8

#: Side of a tile and margin around it, in pixels.
TILE, MARGIN = 256, 32

#: Limit of the relative residual and of the iterations of the conjugate gradient method.
TOLERANCE, ITERATIONS = 1e-3, 200


def refine_alpha(
    rgb: np.ndarray,
    matte: np.ndarray,
    settings: AlphaMatting,
    *,
    progress: Callable[[float | None, str], None] = lambda fraction, text: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> np.ndarray:
    """Compute alpha in the uncertain band of a matte from the photo's colors.

    A. Levin, D. Lischinski and Y. Weiss, "A Closed-Form Solution to Natural Image Matting", TPAMI 30(2), 2008. The trimap comes
    from the matte, which also is a weak prior in the unknown band. Suited to mattes whose edge is a few pixels off; an accurate
    matte loses detail (figures: ``benchmarks/README.md``).

    Parameters
    ----------
    rgb : uint8 array (H, W, 3)
        The photo.
    matte : float32 array (H, W)
        Alpha in [0, 1] from any provider.
    settings : AlphaMatting
        Thresholds and width of the unknown band.
    progress : callable (fraction or None, text), optional
        Called after each tile.
    cancelled : callable () -> bool, optional
        Called before each tile.

    Returns
    -------
    float32 array (H, W)

    Raises
    ------
    CancelledError
        Once `cancelled` returns True.
    """
    trimap = make_trimap(matte, settings)
    result = matte.astype(np.float32, copy=True)
    result[trimap == BACKGROUND] = 0
    result[trimap == FOREGROUND] = 1
    unknown = trimap == UNKNOWN
    height, width = unknown.shape
    todo = [tile for tile in tiles(height, width, TILE) if unknown[tile].any()]
    for number, tile in enumerate(todo):
        if cancelled():
            raise CancelledError("Stopped.")
        progress(number / len(todo), "Alpha matting")
        block, inner = widened(tile, MARGIN)
        result[tile] = solve(rgb[block], result[block], unknown[block])[inner]
        unknown[tile] = False  # a boundary condition of the tiles beside it, so that no seam appears
    progress(1.0, "Alpha matting")
    return result


def solve(rgb: np.ndarray, alpha: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Closed-form solution in one block.

    Minimizes a^T L a + sum of w * (a - alpha)^2 over the unknown pixels by the conjugate gradient method with a Jacobi
    preconditioner; w is the weight of the prior.

    Parameters
    ----------
    rgb : uint8 array (h, w, 3)
    alpha : float32 array (h, w)
        Boundary values where `unknown` is False, prior and initial guess where it is True.
    unknown : bool array (h, w)

    Returns
    -------
    float32 array (h, w)
        In [0, 1].
    """
    from scipy import sparse
    from scipy.sparse.linalg import cg

    matrix, right = unknown_system(laplacian_weights(rgb), alpha, unknown)
    prior = alpha[unknown].astype(np.float64)
    weight = PRIOR_MIN + (PRIOR_MAX - PRIOR_MIN) * np.abs(2 * prior - 1) ** PRIOR_EXPONENT
    system = matrix + sparse.diags(weight, format="csr")
    jacobi = sparse.diags(1 / system.diagonal())
    solution, _ = cg(system, right + weight * prior, x0=prior, rtol=TOLERANCE, maxiter=ITERATIONS, M=jacobi)
    result = alpha.copy()
    result[unknown] = np.clip(solution, 0, 1)
    return result
