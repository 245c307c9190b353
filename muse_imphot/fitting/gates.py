# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What is noteworthy about a fit: the rules behind the flags.
"""

import numpy as np

from ..flags import FitFlags

__all__ = ["SCORE_LIMIT", "SERIOUS", "judge"]

# Flags that make a warning: the numbers should not be used without a look.
SERIOUS = (
    FitFlags.NOT_CONVERGED
    | FitFlags.AT_BOUND
    | FitFlags.WEAK_START
    | FitFlags.PSF_UNCONSTRAINED
    | FitFlags.LOW_OVERLAP
)

# The sky between the sources tells whether the variance image is right.
_VARIANCE_RANGE = (0.5, 2.0)

# Chi-square relative to that of the sky between the sources.
_POOR_CHI2 = 2.0

# Correlation of the residual beyond the reach of the drizzling of a cube (pixels, coefficient).
_STRUCTURE_LAG, _STRUCTURE_LEVEL = 2.5, 0.15

_FEW_PIXELS = 400

# A peak of the correlation of unrelated images stands out by three to five times the scatter.
_WEAK_SIGNIFICANCE = 5.0
_WEAK_RIVAL = 0.9

# Terms that were not fitted, in units of their error. Among six of them in a few hundred images
# chance reaches about 4.
SCORE_LIMIT = 5.0

# Share of the noise of the template in that of the residual.
_LARGE_TEMPLATE_NOISE = 0.5

_LARGE_FWHM_ERROR, _LARGE_BETA_ERROR = 0.1, 0.3


def judge(fit):
    """
    Decide on the flags of a fit.

    Parameters
    ----------
    fit : `~muse_imphot.fitting.ImageFit`
        The fit.

    Returns
    -------
    flags : `~muse_imphot.flags.FitFlags`
    """
    rules = {
        FitFlags.NOT_CONVERGED: not fit.info.success,
        FitFlags.AT_BOUND: bool(fit.info.at_bound),
        FitFlags.POOR_CHI2: _chi2_is_poor(fit),
        FitFlags.LOW_OVERLAP: np.count_nonzero(fit.used) < _FEW_PIXELS,
        FitFlags.WEAK_START: _start_is_weak(fit.guess),
        FitFlags.PSF_UNCONSTRAINED: _psf_is_unconstrained(fit),
        FitFlags.VARIANCE_RESCALED: _variance_is_wrong(fit),
        FitFlags.STRUCTURED_RESIDUAL: _residual_is_structured(fit.noise),
        FitFlags.OUTLIERS_MASKED: bool(fit.outliers),
        FitFlags.MISSING_TERM: any(abs(s.significance) > SCORE_LIMIT for s in fit.scores),
        FitFlags.TEMPLATE_NOISE: fit.template_variance > _LARGE_TEMPLATE_NOISE,
    }
    flags = FitFlags(0)
    for flag, raised in rules.items():
        if raised:
            flags |= flag
    return flags


def _variance_is_wrong(fit):
    low, high = _VARIANCE_RANGE
    return not low < fit.core_variance < high


def _chi2_is_poor(fit):
    """Whether the misfit is larger than the noise between the sources explains."""
    return fit.noise.variance > _POOR_CHI2 * fit.core_variance


def _start_is_weak(guess):
    if guess is None:
        return False
    return guess.significance < _WEAK_SIGNIFICANCE or guess.rival > _WEAK_RIVAL * guess.correlation


def _residual_is_structured(noise):
    """Whether the residual is correlated over more pixels than drizzling couples."""
    reach = noise.correlation.shape[0] // 2
    lags = np.arange(-reach, reach + 1)
    distance = np.hypot(lags[:, None], lags[None, :])
    ring = (distance > _STRUCTURE_LAG) & (distance <= reach + 0.5)
    return bool(ring.any() and noise.correlation[ring].mean() > _STRUCTURE_LEVEL)


def _psf_is_unconstrained(fit):
    """Whether FWHM or beta have errors that leave them open."""
    error = dict(zip(fit.free, np.sqrt(np.abs(np.diag(fit.covariance)))))
    limits = (("fwhm", _LARGE_FWHM_ERROR), ("beta", _LARGE_BETA_ERROR))
    for name, limit in limits:
        if name in error and not error[name] < limit * fit.values[name]:
            return True
    return False
