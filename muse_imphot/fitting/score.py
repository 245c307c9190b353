# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Would the fit be better with a term that it does not have?

The score test needs no further fit: one Newton step in the term, at the solution, says how large it
would be and how significant (Rao 1948, Proc. Cambridge Phil. Soc. 44, 50).
"""

from dataclasses import dataclass

import numpy as np

from .noise import weighted_products

__all__ = ["Score", "score_tests"]


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


def score_tests(model, setup, info, inverse, noise, names):
    """
    Test terms that were held at zero.

    Parameters
    ----------
    model : `~muse_imphot.models.TemplateImage2D`
        The fitted model.
    setup : `~muse_imphot.fitting.setup.FitSetup`
        The pixels.
    info : `~muse_imphot.fitting.FitInfo`
        How the fit ended, with its derivatives.
    inverse : 2D `~numpy.ndarray`
        Inverse of the normal matrix of the free parameters.
    noise : `~muse_imphot.fitting.NoiseModel`
        The noise of the residual.
    names : iterable of str
        The terms.

    Returns
    -------
    scores : list of `Score`
    """
    names = [name for name in names if name not in info.free]
    x, y = model.grid()
    columns = model.partial_derivatives(names, x, y, *model.parameters)
    weights = setup.weights
    free = info.derivatives.reshape(len(info.free), *setup.used.shape) * weights
    residual = setup.residual(model) * weights
    columns = np.stack(columns) * weights
    # What of the terms the free parameters cannot imitate.
    mixed = np.tensordot(free, columns, axes=([1, 2], [1, 2]))
    own = columns - np.tensordot((inverse @ mixed).T, free, axes=1)
    curvatures = np.einsum("kij,kij->k", own, columns)
    gradients = np.einsum("kij,ij->k", own, residual)
    variances = np.diag(weighted_products(own, noise))
    return [
        Score(name, float(gradient / curvature), float(gradient / np.sqrt(variance)))
        for name, gradient, curvature, variance in zip(names, gradients, curvatures, variances)
        if curvature > 0 and variance > 0
    ]
