# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The normal equations of a model with few parameters and many pixels, and steps that solve them.
"""

import numpy as np

__all__ = [
    "bounded_step",
    "enough_is_left",
    "invert",
    "normal_equations",
    "pixel_blocks",
    "solve_symmetric",
    "weighted_gradient",
]

# Where the noise of the template imitates all of what determines some combination of parameters but
# this part, the correction for it cannot be trusted.
_LEAST_LEFT = 0.01

# The normal equations are summed over so many pixels at a time: few enough for the cache.
_BLOCK = 16384


def pixel_blocks(n_data, size=_BLOCK):
    """
    Slices of so many pixels as fit into the cache of a processor.

    Parameters
    ----------
    n_data : int
        Number of pixels.
    size : int, optional
        Most pixels of a slice.

    Returns
    -------
    slices : list of slice
    """
    return [slice(i, min(i + size, n_data)) for i in range(0, n_data, size)]


def normal_equations(derivatives, root, residual):
    """
    The normal equations of a linearised model.

    Parameters
    ----------
    derivatives : 2D `~numpy.ndarray`
        Derivatives of the model, (n_parameters, n_pixels).
    root : 1D `~numpy.ndarray`
        Square roots of the weights.
    residual : 1D `~numpy.ndarray`
        Data minus model.

    Returns
    -------
    normal : 2D `~numpy.ndarray`
        ``J' W J``.
    gradient : 1D `~numpy.ndarray`
        ``J' W r``.
    chi2 : float
        ``r' W r``.
    """
    n, n_data = derivatives.shape
    # Chi-square needs all the digits.
    residual = residual * root
    chi2 = float(residual @ residual)
    residual, root = (a.astype(derivatives.dtype, copy=False) for a in (residual, root))
    # The derivatives and, below them, the residual, so that one product gives both.
    block = np.empty((n + 1, min(_BLOCK, n_data)), dtype=derivatives.dtype)
    products = np.zeros((n, n + 1))
    for part in pixel_blocks(n_data):
        weighted = block[:, : part.stop - part.start]
        np.multiply(derivatives[:, part], root[part], out=weighted[:n])
        weighted[n] = residual[part]
        # What is beyond single precision is infinite, and the caller will see that.
        with np.errstate(over="ignore", invalid="ignore"):
            products += weighted[:n] @ weighted.T
    normal = products[:, :n]
    return 0.5 * (normal + normal.T), products[:, n], chi2


def weighted_gradient(derivatives, root, residual):
    """
    The part of the normal equations that the residual determines.

    Parameters
    ----------
    derivatives, root, residual
        As for `normal_equations`.

    Returns
    -------
    gradient : 1D `~numpy.ndarray`
        ``J' W r``.
    chi2 : float
        ``r' W r``.
    """
    residual = residual * root
    chi2 = float(residual @ residual)
    residual *= root
    residual = residual.astype(derivatives.dtype, copy=False)
    gradient = np.zeros(len(derivatives))
    for part in pixel_blocks(len(residual)):
        gradient += derivatives[:, part] @ residual[part]
    return gradient, chi2


def enough_is_left(corrected, normal):
    """
    Whether some of the information of a normal matrix is left after a correction.

    In every direction of the parameters, that is: the smallest of the generalised eigenvalues of
    both matrices counts.

    Parameters
    ----------
    corrected, normal : 2D `~numpy.ndarray`
        The matrix with and without the correction.

    Returns
    -------
    answer : bool
    """
    if not (np.all(np.isfinite(normal)) and np.all(np.isfinite(corrected))):
        return False
    scale = np.sqrt(np.diag(normal).clip(0.0))
    if not scale.all():
        return False
    outer = np.outer(scale, scale)
    try:
        root = np.linalg.cholesky(normal / outer + 1e-9 * np.eye(len(normal)))
    except np.linalg.LinAlgError:
        return False
    half = np.linalg.solve(root, corrected / outer)
    return bool(np.linalg.eigvalsh(np.linalg.solve(root, half.T))[0] > _LEAST_LEFT)


def bounded_step(point, bounds, damping):
    """
    The damped step to the minimum of the quadratic model within the bounds.

    The active set is found by holding the parameters that would leave their bounds, and letting go
    those that the slope would bring back.

    Parameters
    ----------
    point : object
        With ``values``, ``gradient`` and ``normal``.
    bounds : tuple of 1D `~numpy.ndarray`
        Lowest and highest values.
    damping : float
        What the diagonal of the normal matrix grows by, relative to itself.

    Returns
    -------
    step : 1D `~numpy.ndarray`
    """
    low, high = (limit - point.values for limit in bounds)
    scale = np.sqrt(np.maximum(np.diag(point.normal), np.finfo(float).tiny))
    matrix = point.normal / np.outer(scale, scale)
    matrix[np.diag_indices_from(matrix)] *= 1.0 + damping
    slope, low, high = point.gradient / scale, low * scale, high * scale
    step = np.zeros(len(scale))
    held = np.zeros(len(scale), dtype=bool)
    for _ in range(5 * len(scale)):
        free = ~held
        if free.any():
            remaining = slope[free] - matrix[np.ix_(free, held)] @ step[held]
            step[free] = solve_symmetric(matrix[np.ix_(free, free)], remaining)
        leaves = free & ((step < low) | (step > high))
        if leaves.any():
            step = np.clip(step, low, high)
            held |= leaves
            continue
        rest = slope - matrix @ step
        inward = held & (((step <= low) & (rest > 0)) | ((step >= high) & (rest < 0)))
        inward &= high > low
        if not inward.any():
            break
        held[np.argmax(np.where(inward, np.abs(rest), -1.0))] = False
    return step / scale


def solve_symmetric(matrix, vector):
    """
    Solve a positive definite system; where it is singular, take the shortest solution.

    Parameters
    ----------
    matrix : 2D `~numpy.ndarray`
        The matrix.
    vector : 1D `~numpy.ndarray`
        The right-hand side.

    Returns
    -------
    solution : 1D `~numpy.ndarray`
    """
    try:
        return np.linalg.solve(matrix, vector)
    except np.linalg.LinAlgError:
        return np.linalg.lstsq(matrix, vector, rcond=None)[0]


def invert(matrix):
    """
    The inverse of a normal matrix, or None where it is singular.

    Parameters
    ----------
    matrix : 2D `~numpy.ndarray`
        Symmetric and positive.

    Returns
    -------
    inverse : 2D `~numpy.ndarray` or None
    """
    diagonal = np.diag(matrix)
    if not np.all(np.isfinite(matrix)) or np.any(diagonal <= 0):
        return None
    # Scaled to a unit diagonal, so that the units of the parameters do not matter.
    scale = np.sqrt(diagonal)
    correlation = matrix / np.outer(scale, scale)
    if np.linalg.cond(correlation) > 1e13:
        return None
    return np.linalg.inv(correlation) / np.outer(scale, scale)
