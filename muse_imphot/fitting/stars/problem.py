# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The pixels of stars, and the way from the parameters to chi-square and its derivatives.
"""

import dataclasses

import numpy as np

from ..linearised import Point
from ..noise import robust_scatter
from ..normal_equations import invert
from .patches import neighbours, unlike_opposite

__all__ = ["StarsProblem"]

# How far a star may be from its highest pixel, in units of the FWHM.
_ROAM = 1.5

# Variances off by more than this are of no use as weights; and a residual so small is no noise.
_TRUSTED, _NOISELESS = (0.2, 5.0), 1e-6

# The light of distant stars is worked out at so many points along an axis of a patch, and changes
# of this part of sigma matter.
_NODES, _MATTERS = 12, 1e-3


class StarsProblem:
    """
    The pixels of stars, and the way from the free parameters to chi-square and its derivatives.

    Parameters
    ----------
    image : `~muse_imphot.fitting.stars.patches.StarField`
        The image.
    profile : `~muse_imphot.fitting.stars.psf.MoffatProfile`, or another profile
        The PSF.
    start : dict
        The shape of the PSF, by name.
    free : iterable of str
        Which parameters of the shape to fit.
    patches : list of `~muse_imphot.fitting.stars.patches.Patch`
        The pixels; their ``used`` and ``sigma`` change during the fit.
    peaks : 2D `~numpy.ndarray`
        Where the stars are (pixels), shape (n, 2); NaN for those that the image does not show.
    plane : bool
        Whether backgrounds have slopes.

    Attributes
    ----------
    columns : 2D `~numpy.ndarray` of int
        Where flux, x, y and background of each star are among the parameters; -1 if nowhere.
    start : 1D `~numpy.ndarray`
        The parameters: shape, then flux, x, y of each star, then the backgrounds.
    """

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
        self.far = [np.zeros(patch.used.shape) for patch in patches]
        self.sky = 0.0
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
        """Move parameters into their bounds."""
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
        model = (self.far[k].ravel() if everywhere else self.far[k][patch.used]).copy()
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
        return Point(values.copy(), chi2, gradient, normal, None, objective=chi2)

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
        if hit[self.columns[self.columns[:, 0] >= 0, 1:3]].any():
            info.at_bound += ("position",)
        info.param_cov = invert(point.normal)
        return info

    @property
    def n_data(self):
        """Number of pixels that are fitted."""
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
        before = [(p.used, p.sigma, far) for p, far in zip(self.patches, self.far)]
        self._weigh(self.start)
        for patch, now, (used, sigma, far) in zip(self.patches, self.far, before):
            ratio = patch.sigma / sigma
            moved = np.abs(now - far) > _MATTERS * patch.sigma
            if not np.array_equal(used, patch.used) or np.ptp(ratio[patch.used]) > 0.01:
                return True
            if np.any(moved & patch.used):
                return True
        return False

    def model(self, k, values):
        """Return the model in the whole of a patch, and the background in it."""
        shape = self.patches[k].used.shape
        columns, rows, model = self.rows(k, values, everywhere=True)
        bg = values[columns[-self.per_bg :]] @ rows[-self.per_bg :]
        return model.reshape(shape), bg.reshape(shape)

    def starlight(self, part, values):
        """
        Return the light of the stars that are in a part of the image, or near it.

        Parameters
        ----------
        part : tuple of slice
            The rows and columns.
        values : 1D `~numpy.ndarray`
            The parameters.

        Returns
        -------
        light : 2D `~numpy.ndarray`
        """
        rows, columns = part
        margin = max(0.5 * patch.used.shape[0] for patch in self.patches)
        at = self.columns[self.columns[:, 0] >= 0]
        x, y = values[at[:, 1]], values[at[:, 2]]
        near = (x > columns.start - margin) & (x < columns.stop + margin)
        near &= (y > rows.start - margin) & (y < rows.stop + margin)
        place = (np.arange(part.start, part.stop) for part in (columns, rows))
        return self._light(at[near], *place, values)

    def _light(self, columns, x, y, values):
        """Return the light of stars, whose columns are given, on a grid of positions."""
        scale_y, scale_x = self.image.pixel_scale
        flux, x_0, y_0 = values[columns[:, :3]].T[:, :, None, None]
        at = np.broadcast_arrays((x - x_0) * scale_x, (y[:, None] - y_0) * scale_y)
        images = self.profile.evaluate(*at, self.shape_at(values), [])[0]
        return np.sum(flux * scale_x * scale_y * images, axis=0)

    def _distant_light(self, k, values):
        """Return the light in a patch of the stars that are too far away to be fitted along."""
        patch = self.patches[k]
        known = set(patch.members + patch.others)
        far = [i for i in np.flatnonzero(self.columns[:, 0] >= 0) if i not in known]
        if not far or not np.isinf(self.profile.reach):
            return np.zeros(patch.used.shape)
        # It is smooth: a polynomial through a few points tells it everywhere.
        (y, along_y), (x, along_x) = (_nodes(part.start, part.stop) for part in patch.part)
        return along_y @ self._light(self.columns[far], x, y, values) @ along_x.T

    def sigma_of(self, part, light):
        """
        Return the standard deviation of the pixels of a part of the image.

        Parameters
        ----------
        part : tuple of slice
            The rows and columns.
        light : 2D `~numpy.ndarray`
            The light of the stars.

        Returns
        -------
        sigma : 2D `~numpy.ndarray`
        """
        if self.image.sigma is not None:
            return self.image.sigma[part]
        sky = self.sky * self._relative_noise(part)
        return np.sqrt(sky**2 + np.maximum(light, 0.0) / self.image.gain)

    def _relative_noise(self, part):
        """Return the noise of the sky relative to that of most pixels."""
        return 1.0 if self.image.noise is None else self.image.noise[part]

    def _weigh(self, values):
        """Mask what stands out of the model, and find the standard deviation of the pixels."""
        image = self.image
        self.far = [self._distant_light(k, values) for k in range(len(self.patches))]
        models = [self.model(k, values) for k in range(len(self.patches))]
        if image.sigma is None:
            brightest = max(float(np.abs(model - bg).max()) for model, bg in models)
            # A simulation may have no noise at all.
            self.sky = max(self.sky_scatter(models), 1e-7 * brightest, 1e-300)
        for patch, (model, bg) in zip(self.patches, models):
            patch.sigma = self.sigma_of(patch.part, model - bg)
            usable = patch.usable
            residual = np.where(usable, image.data[patch.part] - model, 0.0)
            if len(patch.members) == 1:
                x, y = values[self.columns[patch.members[0], 1:3]]
                centre = y - patch.rows.start, x - patch.columns.start
                residual = unlike_opposite(residual, centre)
            found = neighbours(residual, model - bg, patch.sigma, usable, self.fwhm)
            # Never so much that the star itself is lost.
            if np.count_nonzero(usable & ~found) > 0.4 * np.count_nonzero(usable):
                patch.used = usable & ~found

    def sky_scatter(self, models, divided=False):
        """Return the scatter of the residual (over sigma, or the noise) where stars are faint."""
        outside = []
        for patch, (model, bg) in zip(self.patches, models):
            light = np.abs(model - bg)
            faint = patch.used & (light <= np.median(light[patch.used]))
            sigma = patch.sigma if divided else self._relative_noise(patch.part)
            residual = (self.image.data[patch.part] - model) / sigma
            outside.append(residual[faint])
        return robust_scatter(np.concatenate(outside))


def _nodes(start, stop):
    """Return the points of a range of pixels to evaluate at, and what takes them to all pixels."""
    angle = np.pi * (np.arange(_NODES) + 0.5) / _NODES
    middle, half = 0.5 * (start + stop - 1), 0.5 * (stop - start)
    waves = 2.0 / _NODES * np.cos(np.outer(np.arange(_NODES), angle))
    waves[0] *= 0.5
    at = (np.arange(start, stop) - middle) / half
    return middle + half * np.cos(angle), np.polynomial.chebyshev.chebvander(at, _NODES - 1) @ waves
