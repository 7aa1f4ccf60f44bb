"""Alpha matting: closed-form solution in the unknown band of a trimap, tile by tile."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rmbg.errors import CancelledError
from rmbg.matting.edges import AlphaMatting
from rmbg.matting.laplacian import laplacian_weights, unknown_system
from rmbg.matting.matte import tiles
from rmbg.matting.trimap import BACKGROUND, FOREGROUND, UNKNOWN, make_trimap

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
    for number, (rows, columns) in enumerate(todo):
        if cancelled():
            raise CancelledError("Stopped.")
        progress(number / len(todo), "Alpha matting")
        top, left = max(0, rows.start - MARGIN), max(0, columns.start - MARGIN)
        block = slice(top, rows.stop + MARGIN), slice(left, columns.stop + MARGIN)
        solved = solve(rgb[block], result[block], unknown[block])
        inner = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
        result[rows, columns] = solved[inner]
        unknown[rows, columns] = False  # a boundary condition of the tiles beside it, so that no seam appears
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
