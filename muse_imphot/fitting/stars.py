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

from ..exceptions import FitError
from .least_squares import FitInfo, NormalEquationsFitter, _Point, invert
from .noise import NoiseModel, measure_noise, robust_scatter, weighted_products
from .stars_patches import (
    cut_out,
    flat_topped,
    half_width,
    locate,
    make_patches,
    neighbours,
    unlike_opposite,
)

__all__ = ["StarsFit", "fit_stars"]

# Rounds of fitting, masking what stands out, and weighting anew.
_ROUNDS = 4

# How far a star may be from its highest pixel, in units of the FWHM.
_ROAM = 1.5

# Stars may be so many times wider than expected.
_WIDEST = 3.0

# A gap between patches in the mosaic in which the noise is measured: its largest lag.
_GAP = 4

# Variances off by more than this are of no use as weights; and a residual so small is no noise.
_TRUSTED, _NOISELESS = (0.2, 5.0), 1e-6

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
        Flux (sum of the pixels), position (pixels) and background (at the star) of each star; NaN
        for stars that the image does not show.
    covariance : 2D `~numpy.ndarray`
        Of all free parameters: shape, then flux, x, y of each star, then the backgrounds.
    columns : 2D `~numpy.ndarray` of int
        Where flux, x, y and background of each star are in the covariance; -1 if nowhere.
    patches : list of `~muse_imphot.fitting.stars_patches.Patch`
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
        The noise of the residual.
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
        """Return the errors of ``"flux"``, ``"x"``, ``"y"`` or ``"bg"`` of the stars."""
        column = self.columns[:, ("flux", "x", "y", "bg").index(name)]
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


def fit_stars(image, positions, radii, profile, start, *, free=(), plane=False, skip=()):
    """
    Fit stars in one image.

    Parameters
    ----------
    image : `~muse_imphot.fitting.stars_patches.StarField`
        The image.
    positions : 2D array_like
        Expected positions (x, y) in pixels, shape (n, 2).
    radii : 1D array_like
        Radii of the circles to fit (arcsec), which also contain the stars.
    profile : `~muse_imphot.fitting.stars_psf.MoffatProfile` or ImageProfile
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
    radii = np.broadcast_to(np.asarray(radii, dtype=float), len(positions))
    radii = radii / np.mean(image.pixel_scale)
    fwhm = start["fwhm"] / np.mean(image.pixel_scale)
    peaks = locate(image, positions, radii, fwhm)
    image, saturated = _without_saturated(image, peaks, fwhm)
    if "fwhm" in free:
        start = {**start, "fwhm": _rough_width(image, peaks, fwhm) * np.mean(image.pixel_scale)}
    patches = make_patches(image, peaks, radii)
    if not patches:
        raise FitError("no star has enough usable pixels in the image")
    problem = _Problem(image, profile, start, free, patches, peaks, plane)
    fitter = NormalEquationsFitter(maxiter=60)
    ratio = 1.0
    for k in range(_ROUNDS):
        info = fitter._solve(problem)
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
    lowest = np.inf
    for i in shown:
        part, flat = flat_topped(image, peaks[i], fwhm)
        if flat.any():
            saturated[i] = True
            good[part] &= ~flat
            lowest = min(lowest, _SATURATION * np.median(image.data[part][flat]))
    if saturated.any():
        # What saturates one star also cuts the peaks off that are too small to look flat.
        high = image.good & (image.data > lowest)
        good &= ~high
        saturated[shown] |= [high[cut_out(image, peaks[i], 2.0 * fwhm)].any() for i in shown]
    return dataclasses.replace(image, good=good), saturated


class _Problem:
    """The pixels, and the way from the free parameters to chi2 and its derivatives."""

    def __init__(self, image, profile, start, free, patches, peaks, plane):
        self.image, self.profile, self.patches, self.plane = image, profile, patches, plane
        self.shape = np.array([start.get(name, 0.0) for name in profile.names])
        self.wanted = [profile.names.index(name) for name in profile.names if name in free]
        self.fwhm = start["fwhm"] / np.mean(image.pixel_scale)
        n_shape = len(self.wanted)
        stars = [i for patch in patches for i in patch.members]
        self.columns = np.full((len(peaks), 4), -1)
        self.columns[stars, :3] = n_shape + np.arange(3 * len(stars)).reshape(-1, 3)
        self.per_bg = 3 if plane else 1
        self.first_bg = n_shape + 3 * len(stars)
        for k, patch in enumerate(patches):
            self.columns[patch.members, 3] = self.first_bg + k * self.per_bg
        self.names = tuple(range(self.first_bg + self.per_bg * len(patches)))
        self.bounds = self._bounds(peaks)
        self.start = self._start(peaks)
        self._weigh(self.start)

    def _bounds(self, peaks):
        low = np.full(len(self.names), -np.inf)
        high = -low
        for k, which in enumerate(self.wanted):
            low[k], high[k] = self.profile.bounds[which]
        shown = np.flatnonzero(self.columns[:, 0] >= 0)
        for i in shown:
            distance = np.hypot(*(peaks[shown] - peaks[i]).T)
            nearest = np.min(distance[shown != i], initial=np.inf)
            # Stars of a blend must not change places.
            roam = min(max(_ROAM * self.fwhm, 1.5), max(0.7 * nearest, 1.0))
            low[self.columns[i, 1:3]] = peaks[i] - roam
            high[self.columns[i, 1:3]] = peaks[i] + roam
        return low, high

    def _start(self, peaks):
        """Return starting values: fluxes and backgrounds that fit best at the start of the rest."""
        values = np.zeros(len(self.names))
        values[: len(self.wanted)] = self.shape[self.wanted]
        shown = np.flatnonzero(self.columns[:, 0] >= 0)
        values[self.columns[shown, 1:3]] = peaks[shown]
        values[self.columns[shown, 0]] = 1.0
        for k, patch in enumerate(self.patches):
            columns, rows, _ = self.rows(k, values)
            data = self.image.data[patch.part][patch.used]
            linear = np.isin(columns, self.columns[patch.members][:, [0, 3]])
            solution = np.linalg.lstsq(rows[linear].T, data, rcond=None)[0]
            values[columns[linear]] = solution
        return values

    def clip(self, values):
        return np.clip(values, *self.bounds)

    def rows(self, k, values, *, wanted=None, everywhere=False):
        """
        Linearise the model in a patch.

        Parameters
        ----------
        k : int
            The patch.
        values : 1D `~numpy.ndarray`
            The free parameters.
        wanted : list of int, optional
            Derivatives in which parameters of the shape come first; by default the free ones.
        everywhere : bool, optional
            In all pixels of the patch, not only the used ones.

        Returns
        -------
        columns : 1D `~numpy.ndarray` of int
            The parameters that matter here (if ``wanted`` is not given).
        rows : 2D `~numpy.ndarray`
            Derivatives in them.
        model : 1D `~numpy.ndarray`
            The model.
        """
        patch = self.patches[k]
        wanted = self.wanted if wanted is None else wanted
        if everywhere:
            y, x = np.indices(patch.used.shape).reshape(2, -1)
            x, y = x + patch.columns.start, y + patch.rows.start
        else:
            x, y = patch.positions()
        stars = patch.members + patch.others
        bg = self.columns[patch.members[0], 3] + np.arange(self.per_bg)
        n_shape = len(wanted)
        columns = np.concatenate([np.arange(n_shape), *self.columns[stars, :3], bg])
        rows = np.zeros((len(columns), x.size))
        scale_y, scale_x = self.image.pixel_scale
        model = np.zeros(x.size)
        for j, i in enumerate(stars):
            flux, x_0, y_0 = values[self.columns[i, :3]]
            at = (x - x_0) * scale_x, (y - y_0) * scale_y
            images = self.profile.evaluate(*at, self.shape_at(values), wanted)
            images *= scale_x * scale_y
            star = rows[n_shape + 3 * j : n_shape + 3 * j + 3]
            star[0] = images[0]
            star[1], star[2] = flux * scale_x * images[1], flux * scale_y * images[2]
            rows[:n_shape] += flux * images[3:]
            model += flux * images[0]
        rows[-self.per_bg] = 1.0
        if self.plane:
            x_0, y_0 = values[self.columns[patch.members[0], 1:3]]
            rows[-2:] = x - x_0, y - y_0
        model += values[bg] @ rows[-self.per_bg :]
        return columns, rows, model

    def shape_at(self, values):
        """Return the shape of the PSF."""
        shape = self.shape.copy()
        shape[self.wanted] = values[: len(self.wanted)]
        return shape

    def linearise(self, values):
        """Return chi2, its gradient and the normal matrix at ``values``."""
        n = len(values)
        normal, gradient, chi2 = np.zeros((n, n)), np.zeros(n), 0.0
        for k, patch in enumerate(self.patches):
            columns, rows, model = self.rows(k, values)
            root = 1.0 / patch.sigma[patch.used]
            rows *= root
            residual = (self.image.data[patch.part][patch.used] - model) * root
            normal[np.ix_(columns, columns)] += rows @ rows.T
            gradient[columns] += rows @ residual
            chi2 += float(residual @ residual)
        return _Point(values.copy(), chi2, gradient, normal, None, objective=chi2)

    def finish(self, point, info):
        """Complete the information."""
        self.start = point.values
        info.chi2, info.normal_matrix = point.chi2, point.normal
        low, high = self.bounds
        near = 1e-9 * np.maximum(np.abs(point.values), 1.0)
        hit = (point.values - low <= near) | (high - point.values <= near)
        n_shape = len(self.wanted)
        info.at_bound = tuple(
            self.profile.names[which] for which, at in zip(self.wanted, hit[:n_shape]) if at
        )
        info.param_cov = invert(point.normal)
        return info

    @property
    def n_data(self):
        return sum(int(np.count_nonzero(patch.used)) for patch in self.patches)

    def check_sigma(self):
        """
        Return the variance of the sky relative to that given; if that is wrong, do not use it.

        Constant weights are better than weights that the sky contradicts.
        """
        models = [self.model(k, self.start) for k in range(len(self.patches))]
        ratio = self.sky_scatter(models, divided=True) ** 2
        low, high = _TRUSTED
        # An image without noise contradicts nothing.
        if not low < ratio < high and ratio > _NOISELESS:
            self.image = dataclasses.replace(self.image, sigma=None)
        return ratio

    def improve(self):
        """Mask what stands out of the model, weight anew, and say whether to fit again."""
        before = [(patch.used, patch.sigma) for patch in self.patches]
        self._weigh(self.start)
        for patch, (used, sigma) in zip(self.patches, before):
            ratio = patch.sigma / sigma
            if not np.array_equal(used, patch.used) or np.ptp(ratio[patch.used]) > 0.01:
                return True
        return False

    def model(self, k, values):
        """Return the model in the whole of a patch, and the background in it."""
        shape = self.patches[k].used.shape
        columns, rows, model = self.rows(k, values, everywhere=True)
        bg = values[columns[-self.per_bg :]] @ rows[-self.per_bg :]
        return model.reshape(shape), bg.reshape(shape)

    def _weigh(self, values):
        """Mask what stands out of the model, and find the standard deviation of the pixels."""
        image = self.image
        models = [self.model(k, values) for k in range(len(self.patches))]
        if image.sigma is None:
            brightest = max(float(np.abs(model - bg).max()) for model, bg in models)
            # A simulation may have no noise at all.
            sky = max(self.sky_scatter(models), 1e-7 * brightest, 1e-300)
        for patch, (model, bg) in zip(self.patches, models):
            if image.sigma is not None:
                patch.sigma = image.sigma[patch.part]
            else:
                light = np.maximum(model - bg, 0.0)
                patch.sigma = np.sqrt(sky**2 + light / image.gain)
            usable = patch.usable
            data = image.data[patch.part]
            residual = np.where(usable, data - model, 0.0)
            if len(patch.members) == 1:
                x, y = values[self.columns[patch.members[0], 1:3]]
                centre = y - patch.rows.start, x - patch.columns.start
                residual = unlike_opposite(residual, centre)
            found = neighbours(residual, model - bg, patch.sigma, usable, self.fwhm)
            # Never so much that the star itself is lost.
            if np.count_nonzero(usable & ~found) > 0.4 * np.count_nonzero(usable):
                patch.used = usable & ~found

    def sky_scatter(self, models, divided=False):
        """Return the scatter of the residual (over sigma) where the stars are faint."""
        outside = []
        for patch, (model, bg) in zip(self.patches, models):
            light = np.abs(model - bg)
            faint = patch.used & (light <= np.median(light[patch.used]))
            residual = (self.image.data[patch.part] - model)[faint]
            outside.append(residual / patch.sigma[faint] if divided else residual)
        return robust_scatter(np.concatenate(outside))


def _finish(problem, info, saturated):
    """Collect what was found, with its errors."""
    values, patches = problem.start, problem.patches
    inverse = invert(info.normal_matrix)
    if inverse is None:
        raise FitError("the pixels around the stars do not determine PSF, fluxes and backgrounds")
    with_bg = [problem.model(k, values) for k in range(len(patches))]
    models = [model for model, _ in with_bg]
    noise = _measure_noise(problem, models, len(values))
    sky = problem.sky_scatter(with_bg, divided=True) ** 2
    middle = np.zeros_like(inverse)
    width, width_err, rchi = (np.full(len(problem.columns), np.nan) for _ in range(3))
    for k, patch in enumerate(patches):
        columns, rows, _ = problem.rows(k, values, everywhere=True)
        images = rows.reshape(-1, *patch.used.shape)
        weight = np.where(patch.used, 1.0 / patch.sigma, 0.0)
        middle[np.ix_(columns, columns)] += weighted_products(images, noise, weight)
        residual = (problem.image.data[patch.part] - models[k]) * weight
        count = np.count_nonzero(patch.used)
        rchi[patch.members] = np.sum(residual**2) / max(count - 3 * len(patch.members) - 1, 1)
        if "fwhm" in problem.profile.names:
            own = _own_width(problem, k, values, residual, weight)
            width[patch.members], width_err[patch.members] = own[0], own[1] * np.sqrt(sky)
    star = np.where(problem.columns >= 0, values[problem.columns], np.nan).T
    return StarsFit(
        shape=dict(zip(problem.profile.names, map(float, problem.shape_at(values)))),
        free=tuple(problem.profile.names[which] for which in problem.wanted),
        flux=star[0], x=star[1], y=star[2], bg=star[3],
        covariance=inverse @ middle @ inverse,
        columns=problem.columns,
        patches=patches, models=models, rchi=rchi, width=width, width_err=width_err,
        saturated=saturated & (problem.columns[:, 0] >= 0),
        noise=noise, sky_variance=sky, info=info, n_pixels=problem.n_data,
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


def _measure_noise(problem, models, n_free):
    """Measure the noise in a mosaic of the patches, with gaps between them."""
    height = sum(patch.used.shape[0] + _GAP for patch in problem.patches)
    width = max(patch.used.shape[1] for patch in problem.patches)
    residual, used = np.zeros((height, width)), np.zeros((height, width), dtype=bool)
    row = 0
    for patch, model in zip(problem.patches, models):
        ny, nx = patch.used.shape
        part = slice(row, row + ny), slice(0, nx)
        pull = (problem.image.data[patch.part] - model) / patch.sigma
        residual[part], used[part] = np.where(patch.used, pull, 0.0), patch.used
        row += ny + _GAP
    return measure_noise(residual, used, n_free)
