# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What is noteworthy about a fit: the rules behind the flags.
"""

import numpy as np

from ..exceptions import FitError
from ..results.flags import FitFlags
from .agreement import compare_sources

__all__ = ["SCORE_LIMIT", "SERIOUS", "judge", "refuse_chance"]

# Flags that make a warning: the numbers should not be used without a look.
SERIOUS = (
    FitFlags.NOT_CONVERGED
    | FitFlags.AT_BOUND
    | FitFlags.WEAK_START
    | FitFlags.PSF_UNCONSTRAINED
    | FitFlags.LOW_OVERLAP
    | FitFlags.OFFSET_UNCONFIRMED
)

# The sky between the sources tells whether the variance image is right.
_VARIANCE_RANGE = (0.5, 2.0)

# Chi-square relative to that of the sky between the sources.
_POOR_CHI2 = 2.0

# Correlation of the residual beyond the reach of the drizzling of a cube (pixels, coefficient).
_STRUCTURE_LAG, _STRUCTURE_LEVEL = 2.5, 0.15

# Pixels to fit, and part of the image that they make up.
_FEW_PIXELS, _SMALL_PART = 400, 0.06

# Strength of a peak of the correlation: its height in units of the scatter, times that relative to
# the highest chance match, less one half. Unrelated images reach 5.
_WEAK_STRENGTH = 5.0

# Probability with which unrelated images may match as well, at one of the offsets searched.
_CHANCE = 0.01

# Terms that were not fitted, in units of their error. Among six of them in a few hundred images
# chance reaches about 4.
SCORE_LIMIT = 5.0

# Share of the noise of the template in that of the residual.
_LARGE_TEMPLATE_NOISE = 0.5

# A fit did not come out.
_LOST = FitFlags.AT_BOUND | FitFlags.NOT_CONVERGED

# Scales in units of their errors: what noise may reach by chance, and a single source by lying on
# another one.
_BY_CHANCE, _BEYOND_DOUBT = 8.0, 20.0

_ADVICE = "check the coordinates, or give the offset (init_dx, init_dy; --init-dx, --init-dy)"

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
    flags : `~muse_imphot.results.FitFlags`
    """
    rules = {
        FitFlags.NOT_CONVERGED: not fit.info.success,
        FitFlags.AT_BOUND: bool(fit.info.at_bound),
        FitFlags.POOR_CHI2: _chi2_is_poor(fit),
        FitFlags.LOW_OVERLAP: _few_pixels(fit),
        FitFlags.WEAK_START: _start_is_weak(fit.guess),
        FitFlags.PSF_UNCONSTRAINED: _psf_is_unconstrained(fit),
        FitFlags.VARIANCE_RESCALED: _variance_is_wrong(fit),
        FitFlags.STRUCTURED_RESIDUAL: _residual_is_structured(fit.noise),
        FitFlags.OUTLIERS_MASKED: bool(fit.outliers),
        FitFlags.MISSING_TERM: any(abs(s.significance) > SCORE_LIMIT for s in fit.scores),
        FitFlags.TEMPLATE_NOISE: fit.biased or fit.template_variance > _LARGE_TEMPLATE_NOISE,
        FitFlags.OFFSET_UNCONFIRMED: _offset_is_unconfirmed(fit),
    }
    flags = FitFlags(0)
    for flag, raised in rules.items():
        if raised:
            flags |= flag
    return flags


def _few_pixels(fit):
    n_used = np.count_nonzero(fit.used)
    return n_used < max(_FEW_PIXELS, _SMALL_PART * fit.n_image)


def refuse_chance(fit, flags):
    """
    Refuse a fit of which nothing but chance is left.

    Parameters
    ----------
    fit : `~muse_imphot.fitting.ImageFit`
        The fit.
    flags : `~muse_imphot.results.FitFlags`
        Its flags.

    Raises
    ------
    FitError
        If most sources are seen by MUSE alone or by HST alone, or if the offset is no better than
        chance and the PSF did not come out either.
    """
    weak = bool(flags & FitFlags.WEAK_START)
    agreement = fit.agreement
    if agreement is not None and _most_disagree(fit, agreement, weak):
        raise FitError(
            f"the images do not seem to show the same sky: of their sources {agreement.common} "
            f"agree, {agreement.missing} are in the HST image only, and {agreement.unexpected} in "
            f"the MUSE image only; {_ADVICE}"
        )
    if weak and flags & _LOST and _scale_in_errors(fit) < _BY_CHANCE:
        raise FitError(
            "the images do not seem to show the same sky: the correlation at the best offset is "
            f"{fit.guess.correlation:.2f}, {fit.guess.significance:.1f} times the scatter of all "
            f"offsets (elsewhere it reaches {fit.guess.rival:.2f}), and the PSF found is "
            f"{fit.values['fwhm']:.2f} arcsec with beta {fit.values['beta']:.1f}; {_ADVICE}"
        )


def _most_disagree(fit, agreement, weak):
    """Whether so few sources are shared that what is shared may be by chance."""
    common, contrary = agreement.common, agreement.contrary
    # One source lies on another one in any two images, once they are moved.
    if contrary >= max(2, common + 1):
        return True
    doubtful = weak and _scale_in_errors(fit) < _BEYOND_DOUBT
    return doubtful and contrary >= max(1.0, 0.5 * common)


def _scale_in_errors(fit):
    """Return the scale in units of its error: how clearly the template is in the image."""
    if "scale" not in fit.free:
        return 0.0
    row = fit.free.index("scale")
    return float(fit.values["scale"] / np.sqrt(fit.covariance[row, row]))


def _variance_is_wrong(fit):
    low, high = _VARIANCE_RANGE
    return not low < fit.core_variance < high


def _chi2_is_poor(fit):
    """Whether the misfit is larger than the noise between the sources explains."""
    return fit.noise.variance > _POOR_CHI2 * fit.core_variance


def _start_is_weak(guess):
    """Whether the offset that was found may be a chance match."""
    if guess is None:
        return False
    ratio = np.inf
    if np.isfinite(guess.rival) and guess.rival > 0:
        ratio = np.arctanh(min(guess.correlation, 0.999999)) / np.arctanh(guess.rival)
    return bool(guess.significance * (ratio - 0.5) < _WEAK_STRENGTH)


def _offset_is_unconfirmed(fit):
    """Whether the sources that agree may do so by chance, at one of the offsets searched."""
    if fit.guess is None:
        return False
    agreement = fit.agreement or _agreement(fit)
    return agreement.chance * fit.guess.trials > _CHANCE


def _agreement(fit):
    """Compare the sources of a fit that left nothing out."""
    sky = fit.model - fit.values["bg"]
    residual = np.where(fit.used, fit.info.residual.reshape(sky.shape), 0.0)
    level = np.sqrt(fit.core_variance * max(fit.noise.correlation.sum(), 1.0))
    return compare_sources(
        sky,
        sky + residual,
        level * fit.sigma,
        fit.used,
        pixel_scale=fit.pixel_scale,
        fwhm=fit.values["fwhm"],
    )


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
