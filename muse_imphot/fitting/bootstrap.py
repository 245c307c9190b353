# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Errors from the data alone: the fit repeated on resampled blocks of the image.

It knows nothing of variances or of correlations of the noise, and is therefore an independent check
of the covariance that the fit quotes.
"""

import numpy as np

__all__ = ["block_bootstrap"]

# Side of a block (pixels): well above the reach of the correlation of the noise.
_BLOCK = 12


def block_bootstrap(info, weights, residual, n_draws, *, seed=0, block=_BLOCK):
    """
    The covariance of the free parameters, from resampled blocks of pixels.

    Parameters
    ----------
    info : `~muse_imphot.fitting.FitInfo`
        How the fit ended.
    weights : 2D `~numpy.ndarray`
        One over the standard deviation of each pixel, zero where it was not fitted.
    residual : 2D `~numpy.ndarray`
        Image minus model.
    n_draws : int
        Number of resampled images.
    seed : int, optional
        Seed of the random numbers.
    block : int, optional
        Side of a block (pixels).

    Returns
    -------
    covariance : 2D `~numpy.ndarray`
        Of the free parameters, in their order; NaN if there are fewer than ten blocks.

    Notes
    -----
    In every draw each block is taken as often as chance decides. One Newton step from the solution
    then leads to the solution of that draw (Kuensch 1989, Annals of Statistics 17, 1217, for the
    resampling of blocks).
    """
    n_free = len(info.free)
    derivatives = info.derivatives.reshape(n_free, *weights.shape) * weights
    gradients, normals = [], []
    for rows in _blocks(weights.shape[0], block):
        for columns in _blocks(weights.shape[1], block):
            part = derivatives[:, rows, columns].reshape(n_free, -1)
            if not part.any():
                continue
            gradients.append(part @ (weights * residual)[rows, columns].ravel())
            normals.append(part @ part.T)
    if len(gradients) < 10:
        return np.full((n_free, n_free), np.nan)
    gradients, normals = np.array(gradients), np.array(normals)
    # What was subtracted for the noise of the template belongs to all the blocks alike.
    share = 1.0 / len(gradients)
    gradients -= share * gradients.sum(axis=0)
    normals -= share * (normals.sum(axis=0) - info.normal_matrix)
    rng = np.random.default_rng(seed)
    times = rng.multinomial(len(gradients), np.full(len(gradients), share), size=n_draws)
    steps = [
        np.linalg.lstsq(np.tensordot(t, normals, axes=1), t @ gradients, rcond=None)[0]
        for t in times.astype(float)
    ]
    return np.cov(np.array(steps), rowvar=False).reshape(n_free, n_free)


def _blocks(length, block):
    """Return slices of about the same length that cover an axis."""
    edges = np.linspace(0, length, max(round(length / block), 1) + 1).astype(int)
    return [slice(a, b) for a, b in zip(edges[:-1], edges[1:])]
