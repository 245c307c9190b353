# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Would the fit be better with a term that it does not have?

The score test needs no further fit: one Newton step in the term, at the solution, says how large it
would be and how significant (Rao 1948, Proc. Cambridge Phil. Soc. 44, 50).
"""

from dataclasses import dataclass

import numpy as np

from .least_squares import pixel_blocks

__all__ = ["Score", "score_tests"]

# Fitted parameters whose derivatives have about the same spatial frequencies as a term: correlated
# noise enlarges the errors of both alike.
_ALIKE = {
    "rotation": ("dx", "dy"),
    "magnification": ("dx", "dy"),
    "bg_x": ("bg",),
    "bg_y": ("bg",),
    "e1": ("fwhm",),
    "e2": ("fwhm",),
}


@dataclass(frozen=True)
class Score:
    """
    A term that was not fitted.

    Attributes
    ----------
    name : str
        The term.
    estimate : float
        The value that one Newton step gives it.
    significance : float
        That value in units of its error.
    """

    name: str
    estimate: float
    significance: float


def score_tests(model, setup, info, residual, covariance, names):
    """
    Test terms that were held at zero.

    Parameters
    ----------
    model : `~muse_imphot.models.TemplateImage2D`
        The fitted model.
    setup : `~muse_imphot.fitting.setup.FitSetup`
        The pixels.
    info : `~muse_imphot.fitting.FitInfo`
        How the fit ended, with derivatives and covariance.
    residual : 2D `~numpy.ndarray`
        Image minus model.
    covariance : 2D `~numpy.ndarray`
        The covariance of the free parameters.
    names : iterable of str
        The terms.

    Returns
    -------
    scores : list of `Score`
    """
    names = [name for name in names if name not in info.free]
    shape, weights = setup.used.shape, setup.weights.astype(np.float32).ravel()
    free = info.derivatives
    own = np.empty((len(names), *shape), dtype=np.float32)
    known = dict(zip(info.free, free.reshape(-1, *shape)))
    model.linearise(names, model.parameters, own, given=known)
    own = own.reshape(len(names), -1)
    # Leave of the terms what the free parameters cannot imitate.
    blocks = pixel_blocks(weights.size)
    mixed = sum((own[:, part] * weights[part] ** 2) @ free[:, part].T for part in blocks)
    imitated = (mixed @ info.param_cov).astype(own.dtype)
    for part in blocks:
        own[:, part] -= imitated @ free[:, part]
        own[:, part] *= weights[part]
    residual = (residual.ravel() * weights).astype(own.dtype)
    curvatures = np.einsum("ki,ki->k", own, own)
    gradients = own @ residual
    if info.pull is not None:
        # At the solution the residual is not at right angles to the derivatives, but to them and
        # to what was subtracted for the noise of the template together.
        gradients -= imitated @ info.pull
    sizes = sum(np.square(free[:, part] * weights[part]).sum(axis=1) for part in blocks)
    excess = _noise_excess(info, sizes, covariance)
    found = []
    for name, gradient, curvature in zip(names, gradients, curvatures):
        alike = [excess[n] for n in _ALIKE[name] if n in excess] or list(excess.values())
        variance = curvature * np.mean(alike)
        if curvature > 0 and variance > 0:
            significance = float(gradient / np.sqrt(variance))
            found.append(Score(name, float(gradient / curvature), significance))
    return found


def _noise_excess(info, sizes, covariance):
    """
    Return, by parameter, the variance of the gradient relative to that for white noise.

    ``sizes`` are the weighted sums of squares of the derivatives.
    """
    normal = np.linalg.inv(info.param_cov)
    variance = np.einsum("ij,jk,ki->i", normal, covariance, normal)
    return dict(zip(info.free, variance / sizes))
