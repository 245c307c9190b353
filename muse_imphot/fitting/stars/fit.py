# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The fit of stars in one image, at its own pixels: one PSF, and flux, position and background of
each star.

The normal equations are added up from patches of a few hundred pixels, each of which concerns few
of the parameters.
"""

import dataclasses
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from ...exceptions import FitError
from ..least_squares import FitInfo, NormalEquationsFitter
from ..noise import NoiseModel, weighted_products
from ..normal_equations import invert
from .noise import choose_noise, sky_around
from .patches import cut_out, flat_topped, half_width, locate, make_patches
from .problem import StarsProblem

__all__ = ["StarsFit", "fit_stars"]

# Rounds of fitting, masking what stands out, and weighting anew; most evaluations in each.
_ROUNDS, _EVALUATIONS = 4, 60

# Stars may be so many times wider than expected.
_WIDEST = 3.0

# Pixels above this part of the level at which a star is flat are saturated.
_SATURATION = 0.95

# Stars below this many sigma are not seen.
DETECTED = 5.0


@dataclass
class StarsFit:
    """
    The outcome of a fit of stars in one image.

    Attributes
    ----------
    shape : dict
        The shape of the PSF: ``fwhm`` (arcsec), ``beta``, ...; empty for a PSF image.
    free : tuple of str
        Those of them that were fitted.
    flux, x, y, bg : 1D `~numpy.ndarray`
        Flux (sum of the pixels), position (pixels) and background of each star (where it is; of a
        blend, at its first star); NaN for stars that the image does not show.
    covariance : 2D `~numpy.ndarray`
        Of all free parameters: shape, then flux, x, y of each star, then the backgrounds.
    bg_x, bg_y : 1D `~numpy.ndarray`
        Slopes of the background of each star (per pixel); zero if there are none.
    columns : 2D `~numpy.ndarray` of int
        Where flux, x, y and background of each star are in the covariance; -1 if nowhere. The
        slopes, if there are any, follow on the background.
    patches : list of `~muse_imphot.fitting.stars.patches.Patch`
        The pixels.
    models : list of 2D `~numpy.ndarray`
        The model in each patch.
    rchi : 1D `~numpy.ndarray`
        Reduced chi-square of each star.
    width, width_err : 1D `~numpy.ndarray`
        By how much each star on its own would be wider than the others (arcsec).
    saturated : 1D bool `~numpy.ndarray`
        Stars with pixels that were left out because they are saturated.
    noise : `~muse_imphot.fitting.NoiseModel`
        The noise of the pixels, relative to the weights: that of the sky around the stars, or of
        the residual where this is larger.
    sky_variance : float
        Variance of the residual where there is little light of the stars, relative to the weights.
    variance_ratio : float
        The same relative to the variance that was given, which is not used if it is far from 1.
    info : `~muse_imphot.fitting.FitInfo`
        How the fit ended.
    n_pixels : int
        Number of pixels that were fitted.
    """

    shape: dict
    free: tuple
    flux: np.ndarray
    x: np.ndarray
    y: np.ndarray
    bg: np.ndarray
    bg_x: np.ndarray
    bg_y: np.ndarray
    covariance: np.ndarray
    columns: np.ndarray
    patches: list = field(repr=False)
    models: list = field(repr=False)
    rchi: np.ndarray
    width: np.ndarray
    width_err: np.ndarray
    saturated: np.ndarray
    noise: NoiseModel
    sky_variance: float
    info: FitInfo
    n_pixels: int
    variance_ratio: float = 1.0

    @property
    def shown(self):
        """Which stars were fitted."""
        return self.columns[:, 0] >= 0

    def errors(self, name):
        """Return the errors of ``flux``, ``x``, ``y``, ``bg``, ``bg_x`` or ``bg_y``."""
        index = ("flux", "x", "y", "bg", "bg_x", "bg_y").index(name)
        # The slopes follow on the background.
        column = self.columns[:, min(index, 3)] + max(index - 3, 0)
        return np.where(self.shown, np.sqrt(np.diag(self.covariance))[column], np.nan)

    @property
    def seen(self):
        """Which stars stand out of the noise of the sky."""
        # The error of a bright star that is no point source says nothing about its presence.
        error = np.sqrt(self.sky_variance * np.diag(self.info.param_cov))[self.columns[:, 0]]
        return self.shown & (np.nan_to_num(self.flux) > DETECTED * error)

    @property
    def rchi_all(self):
        """Reduced chi-square of all pixels."""
        return self.info.chi2 / max(self.n_pixels - len(self.covariance), 1)


def fit_stars(
    image, positions, radii, profile, start, *, free=(), plane=False, skip=(), search=None
):
    """
    Fit stars in one image.

    Parameters
    ----------
    image : `~muse_imphot.fitting.stars.patches.StarField`
        The image.
    positions : 2D array_like
        Expected positions (x, y) in pixels, shape (n, 2).
    radii : 1D array_like
        Radii of the circles to fit (arcsec).
    profile : `~muse_imphot.fitting.stars.psf.MoffatProfile` or ImageProfile
        The PSF.
    start : dict
        The shape of the PSF, by name: starting values, and those that are held. For a profile
        without shape ``fwhm`` alone, roughly.
    free : iterable of str, optional
        Which parameters of the shape to fit.
    plane : bool, optional
        Whether backgrounds may have slopes.
    skip : iterable of int, optional
        Stars to leave out.
    search : 1D array_like, optional
        Radii of the circles around the expected positions that contain the stars (arcsec), if they
        are others.

    Returns
    -------
    fit : `StarsFit`

    Raises
    ------
    FitError
        If no star has enough usable pixels, or if the pixels do not determine the fit.
    """
    positions = np.atleast_2d(np.asarray(positions, dtype=float)).copy()
    positions[list(skip)] = np.nan
    radii, search = (
        np.broadcast_to(np.asarray(size, dtype=float), len(positions)) / np.mean(image.pixel_scale)
        for size in (radii, radii if search is None else search)
    )
    fwhm = start["fwhm"] / np.mean(image.pixel_scale)
    peaks = locate(image, positions, search, fwhm)
    image, saturated = _without_saturated(image, peaks, fwhm)
    if "fwhm" in free:
        start = {**start, "fwhm": _rough_width(image, peaks, fwhm) * np.mean(image.pixel_scale)}
    patches = make_patches(image, peaks, radii)
    if not patches:
        raise FitError("no star has enough usable pixels in the image")
    problem = StarsProblem(image, profile, start, free, patches, peaks, plane)
    fitter = NormalEquationsFitter(maxiter=_EVALUATIONS)
    ratio = 1.0
    for k in range(_ROUNDS):
        info = fitter.solve(problem)
        if k == 0 and image.sigma is not None:
            ratio = problem.check_sigma()
        if not problem.improve():
            break
    return dataclasses.replace(_finish(problem, info, saturated), variance_ratio=ratio)


def _rough_width(image, peaks, fwhm):
    """Return the FWHM of most stars, roughly (pixels)."""
    shown = peaks[np.isfinite(peaks).all(axis=1)]
    widths = np.array([half_width(image, peak, _WIDEST * fwhm) for peak in shown])
    widths = widths[widths > 0]
    return np.clip(np.median(widths), 0.7 * fwhm, _WIDEST * fwhm) if widths.size else fwhm


def _without_saturated(image, peaks, fwhm):
    """Return the image with saturated cores masked, and which stars have them."""
    saturated = np.zeros(len(peaks), dtype=bool)
    good = image.good.copy()
    shown = np.flatnonzero(np.isfinite(peaks).all(axis=1))
    over = good & (image.data >= image.saturation)
    good &= ~ndimage.binary_dilation(over, np.ones((3, 3)))
    lowest = np.inf
    for i in shown:
        part, flat = flat_topped(image, peaks[i], fwhm)
        if flat.any():
            saturated[i] = True
            good[part] &= ~flat
            lowest = min(lowest, _SATURATION * np.median(image.data[part][flat]))
    if saturated.any() or over.any():
        # What saturates one star also cuts the peaks off that are too small to look flat.
        high = over | (image.good & (image.data > lowest))
        good &= ~high
        saturated[shown] |= [high[cut_out(image, peaks[i], 2.0 * fwhm)].any() for i in shown]
    return dataclasses.replace(image, good=good), saturated


def _finish(problem, info, saturated):
    """Collect what was found, with its errors."""
    values, patches = problem.start, problem.patches
    inverse = invert(info.normal_matrix)
    if inverse is None:
        raise FitError("the pixels around the stars do not determine PSF, fluxes and backgrounds")
    with_bg = [problem.model(k, values) for k in range(len(patches))]
    models = [model for model, _ in with_bg]
    residuals = [
        ((problem.image.data[patch.part] - model) / patch.sigma, patch.used)
        for patch, model in zip(patches, models)
    ]
    scatter = problem.sky_scatter(with_bg, divided=True)
    noise = choose_noise(residuals, sky_around(problem, values, scatter), len(values))
    middle = np.zeros_like(inverse)
    width, width_err, rchi = (np.full(len(problem.columns), np.nan) for _ in range(3))
    for k, patch in enumerate(patches):
        columns, rows, _ = problem.rows(k, values, everywhere=True)
        images = rows.reshape(-1, *patch.used.shape)
        weight = np.where(patch.used, 1.0 / patch.sigma, 0.0)
        middle[np.ix_(columns, columns)] += weighted_products(images, noise, weight)
        residual = np.where(patch.used, residuals[k][0], 0.0)
        count = np.count_nonzero(patch.used)
        rchi[patch.members] = np.sum(residual**2) / max(count - 3 * len(patch.members) - 1, 1)
        if "fwhm" in problem.profile.names:
            own = _own_width(problem, k, values, residual, weight)
            width[patch.members], width_err[patch.members] = own[0], own[1] * scatter
    shown = problem.columns[:, 0] >= 0
    star = np.where(shown, values[problem.columns].T, np.nan)
    slopes = np.zeros((2, len(shown)))
    if problem.plane:
        slopes = np.array([values[problem.columns[:, 3] + k] for k in (1, 2)])
    slopes = np.where(shown, slopes, np.nan)
    return StarsFit(
        shape=dict(zip(problem.profile.names, map(float, problem.shape_at(values)))),
        free=tuple(problem.profile.names[which] for which in problem.wanted),
        flux=star[0], x=star[1], y=star[2], bg=star[3], bg_x=slopes[0], bg_y=slopes[1],
        covariance=inverse @ middle @ inverse,
        columns=problem.columns,
        patches=patches, models=models, rchi=rchi, width=width, width_err=width_err,
        saturated=saturated & shown,
        noise=noise, sky_variance=scatter**2, info=info, n_pixels=problem.n_data,
    )  # fmt: skip


def _own_width(problem, k, values, residual, weight):
    """
    Return by how much the stars of a patch alone would change the FWHM, and the error of that.

    One step towards the minimum of its own chi2 is taken, with the rest of the shape held.
    """
    fwhm = problem.profile.names.index("fwhm")
    _, rows, _ = problem.rows(k, values, wanted=[fwhm], everywhere=True)
    rows *= weight.ravel()
    inverse = invert(rows @ rows.T)
    if inverse is None:
        return np.nan, np.nan
    return inverse[0] @ (rows @ residual.ravel()), np.sqrt(inverse[0, 0])
