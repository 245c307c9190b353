# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Would the fit be better with a term that it does not have?

The score test needs no further fit: one Newton step in the term, at the solution, says how large it
would be and how significant (Rao 1948, Proc. Cambridge Phil. Soc. 44, 50).
"""

from dataclasses import dataclass

import numpy as np

from .normal_equations import pixel_blocks

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
    "dx": ("dy", "fwhm"),
    "dy": ("dx", "fwhm"),
    "scale": ("fwhm", "dx", "dy"),
}

# Parameters whose values are tested where they are held. Not those of the PSF: who holds beta knows
# that it is not quite right.
_HELD = ("scale", "bg", "dx", "dy")

# Pixels that are summed at a time.
_BLOCK = 4096

# Part of the square of a term that the fitted parameters have to leave for it to be tested.
_LEAST_LEFT = 1e-5


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
        That step in units of its error.
    """

    name: str
    estimate: float
    significance: float


def score_tests(model, setup, info, residual, covariance, names):
    """
    Test terms that were held at zero, and values that were given.

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
        The terms. Scale, background and offset are tested besides, where they were held.

    Returns
    -------
    scores : list of `Score`
    """
    names = [name for name in (*names, *_HELD) if name not in info.free]
    if not names:
        return []
    shape, free = setup.used.shape, info.derivatives
    own = np.empty((len(names), *shape), dtype=np.float32)
    known = dict(zip(info.free, free.reshape(-1, *shape)))
    model.linearise(names, model.parameters, own, given=known, image=False)
    products = _weighted_products(own.reshape(len(names), -1), free, residual, setup.weights)
    # Leave of the terms what the free parameters cannot imitate.
    own, free = slice(0, len(names)), slice(len(names), len(products))
    imitated = products[own, free] @ info.param_cov
    change = products[own, free] - 0.5 * imitated @ products[free, free]
    squares = np.diagonal(products)
    curvatures = squares[own] - 2.0 * np.einsum("ki,ki->k", imitated, change)
    gradients = products[own, -1] - imitated @ products[free, -1]
    if info.pull is not None:
        # At the solution the residual is not at right angles to the derivatives, but to them and
        # to what was subtracted for the noise of the template together.
        gradients -= imitated @ info.pull
    # Where next to nothing is left of a term, nothing can be said about it.
    curvatures[curvatures < _LEAST_LEFT * squares[own]] = 0.0
    excess = _noise_excess(info, squares[free], covariance)
    found = []
    for name, gradient, curvature in zip(names, gradients, curvatures):
        alike = [excess[n] for n in _ALIKE.get(name, ()) if n in excess] or list(excess.values())
        variance = curvature * np.mean(alike)
        if curvature > 0 and variance > 0:
            significance = float(gradient / np.sqrt(variance))
            estimate = _held_value(name, model, setup) + float(gradient / curvature)
            found.append(Score(name, estimate, significance))
    return found


def _held_value(name, model, setup):
    """Return what a parameter was held at, as the user gave it."""
    if name in ("dx", "dy"):
        return setup.offset_of(model)[name == "dy"]
    return getattr(model, name).value


def _weighted_products(own, free, residual, weights):
    """Return the products of the weighted terms, derivatives and residual, all with each other."""
    n_own, weights, residual = len(own), weights.ravel(), residual.ravel()
    n_all = n_own + len(free) + 1
    products = np.zeros((n_all - 1, n_all))
    for part in pixel_blocks(weights.size, _BLOCK):
        weight = weights[part].astype(np.float32)
        block = np.empty((n_all, len(weight)), dtype=np.float32)
        np.multiply(own[:, part], weight, out=block[:n_own])
        np.multiply(free[:, part], weight, out=block[n_own:-1])
        block[-1] = residual[part] * weights[part]
        products += block[:-1] @ block.T
    return products


def _noise_excess(info, sizes, covariance):
    """
    Return, by parameter, the variance of the gradient relative to that for white noise.

    ``sizes`` are the weighted sums of squares of the derivatives.
    """
    normal = np.linalg.inv(info.param_cov)
    variance = np.einsum("ij,jk,ki->i", normal, covariance, normal)
    return dict(zip(info.free, variance / sizes))
