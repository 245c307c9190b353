# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Would the fit be better with a term that it does not have?

The score test needs no further fit: one Newton step in the term, at the solution, says how large it
would be and how significant (Rao 1948, Proc. Cambridge Phil. Soc. 44, 50).
"""

from dataclasses import dataclass, replace

import numpy as np

from .noise import gradient_covariance
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


def score_tests(model, setup, info, residual, covariance, names, *, noise=None, correction=None):
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
    noise : `~muse_imphot.fitting.NoiseModel`, optional
        The noise of the residual, for the errors of values that were given. Those of other terms,
        of which there are always some, are taken from the free parameters.
    correction : `~muse_imphot.fitting.TemplateNoiseCorrection`, optional
        What was subtracted for the noise of the template, if anything.

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
    own = own.reshape(len(names), -1)
    products = _weighted_products(own, free, residual, setup.weights)
    everything = (*names, *info.free)
    gradient, normal = _corrected(products, model, everything, correction)
    # Leave of the terms what the free parameters cannot imitate.
    first, rest = slice(0, len(names)), slice(len(names), len(products))
    imitated = normal[first, rest] @ info.param_cov
    left = np.hstack([np.eye(len(names)), -imitated])
    gradient, curvature = left @ gradient, np.einsum("ki,ij,kj->k", left, normal, left)
    remaining = np.einsum("ki,ij,kj->k", left, products[:, :-1], left)
    squares = np.diagonal(products)
    excess = _noise_excess(info, squares[rest], covariance)
    found = []
    for i, name in enumerate(names):
        # Where next to nothing is left of a term, nothing can be said about it.
        if min(curvature[i], remaining[i]) < _LEAST_LEFT * squares[i]:
            continue
        if noise is not None and name in _HELD:
            image = (own[i] - imitated[i] @ free).reshape(1, *shape)
            seen = None
            if correction is not None:
                seen = correction.seen(model, everything)
                seen = replace(seen, quadratic=left[i : i + 1] @ seen.quadratic @ left[i : i + 1].T)
            variance = gradient_covariance(image, setup.sigma, setup.used, noise, seen)[0, 0]
        else:
            alike = [excess[n] for n in _ALIKE.get(name, ()) if n in excess]
            variance = remaining[i] * np.mean(alike or list(excess.values()))
        if variance > 0:
            estimate = _held_value(name, model, setup) + float(gradient[i] / curvature[i])
            found.append(Score(name, estimate, float(gradient[i] / np.sqrt(variance))))
    return found


def _corrected(products, model, names, correction):
    """
    Return gradient and normal matrix less what the noise of the template adds to them.

    ``products`` are those of `_weighted_products`.
    """
    gradient, normal = products[:, -1], products[:, :-1]
    if correction is None:
        return gradient, normal
    noise = correction.normal(model)
    rows = [model.param_names.index(name) for name in names]
    pull = model.scale.value * noise[model.param_names.index("scale"), rows]
    return gradient + pull, normal - noise[np.ix_(rows, rows)]


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
