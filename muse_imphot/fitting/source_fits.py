# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Sources of a template, each given its own flux and position by a linear fit of the residual.
"""

import copy
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..models import MoffatPSF2D
from .noise import median
from .sources import background, beam_width, highest_around, highest_near

__all__ = ["WING_REACH", "FittedSources", "SourceField", "are_positive"]

# Sources are called compact if they reach this part of the peak of a point source when they are
# seen through a PSF of that FWHM (arcsec).
_COMPACT, _SHARP_FWHM = 0.8, 0.3

# Sources of which less than this part is left by masks and edges say little about themselves.
_WHOLE = 0.45

# The wings of a star that is not in the image itself are looked at within this distance (FWHM), if
# that many pixels are.
WING_REACH, _MIN_WINGS = 4.0, 12

# That star must be so bright (standard deviations of a pixel), or its wings do not matter.
_BRIGHT = 30.0

# A source must be that significant in the model, or there is nothing to be learnt from it.
_MIN_SNR = 10.0


@dataclass
class FittedSources:
    """Sources of the template, brightest first, each with its own flux and shift."""

    y: np.ndarray
    x: np.ndarray
    peak: np.ndarray
    values: np.ndarray  # (n, 3): relative flux excess, dx, dy
    errors: np.ndarray
    beyond: bool = False  # whether they are not in the image themselves

    def __len__(self):
        return len(self.peak)


@dataclass
class SourceField:
    """The images around which everything here turns."""

    sky: np.ndarray  # as fitted
    sources: np.ndarray  # the same without what is smooth
    along: tuple
    residual: np.ndarray
    sigma: np.ndarray
    used: np.ndarray
    pixel_scale: tuple
    fwhm: float
    beta: float
    matched: np.ndarray
    draw_sharp: object
    compact: np.ndarray = None

    @classmethod
    def make(cls, setup, model, residual, info=None):
        """Draw the sky of a fitted model, and look at the residual through its PSF."""
        scale, point, fwhm = model.scale.value, _point(model), model.fwhm.value
        sky, *along = _drawn(model, info)
        # Smooth light, such as that of a large galaxy, is not what is tested here.
        size = max(int(round(2.0 * fwhm / min(setup.pixel_scale))), 3)
        sources = sky - background(sky, size)

        def draw_sharp():
            sharp = scale * model.template.image(*point[:2], _SHARP_FWHM, point[3])
            return highest_around(sharp - background(sharp, size), 1)

        matched, noise = _match(sources, residual, setup, fwhm, size)
        return cls(
            sky, sources, along, residual, setup.sigma * noise, setup.used,
            setup.pixel_scale, fwhm, model.beta.value, matched, draw_sharp,
        )  # fmt: skip

    @property
    def level(self):
        """Standard deviation of a typical pixel."""
        return float(median(self.sigma[self.used]))

    def peaks(self):
        """Return the pixels (y, x) at which the template has a source, brightest first."""
        # Height of a peak against the noise of the pixels that a PSF covers.
        footprint = np.pi * (0.5 * self.fwhm) ** 2 / np.prod(self.pixel_scale)
        bright = (self.sources > (_MIN_SNR / np.sqrt(footprint)) * self.sigma) & self.used
        reach = max(int(round(0.5 * self.fwhm / min(self.pixel_scale))), 1)
        rows, columns = np.nonzero(bright)
        top = self.sources[rows, columns] >= highest_near(self.sources, (rows, columns), reach)
        rows, columns = rows[top], columns[top]
        order = np.argsort(-self.sources[rows, columns])
        return rows[order], columns[order]

    def stamps(self, rows, columns, radius):
        """
        Return the pixels within a radius of others: their indices, and which are used.

        The indices have the shape (number of stamps, pixels of a stamp); those beyond the edges
        are moved to the edge, and do not count as used.
        """
        reach = [int(np.ceil(radius / s)) for s in self.pixel_scale]
        dy, dx = (v.ravel() for v in np.mgrid[-reach[0] : reach[0] + 1, -reach[1] : reach[1] + 1])
        inside = np.hypot(dy * self.pixel_scale[0], dx * self.pixel_scale[1]) <= radius
        y, x = rows[:, None] + dy[inside], columns[:, None] + dx[inside]
        ny, nx = self.sky.shape
        there = (y >= 0) & (y < ny) & (x >= 0) & (x < nx)
        y, x = np.clip(y, 0, ny - 1), np.clip(x, 0, nx - 1)
        return (y, x), there & self.used[y, x]

    def measure(self, rows, columns):
        """Fit a flux and a shift to the residual around each peak where that is possible."""
        at, inside = self.stamps(rows, columns, 0.9 * self.fwhm)
        whole = np.count_nonzero(inside, axis=1) >= max(8, _WHOLE * inside.shape[1])
        heights = self.sources[rows, columns]
        return self._fit(self.sources, (rows, columns, heights), at, inside, whole)

    def measure_beyond(self, model):
        """Do the same for bright sources of which only wings are fitted, by these wings."""
        rows, columns, heights = self._beyond(model)
        at, inside = self.stamps(rows, columns, WING_REACH * self.fwhm)
        enough = np.count_nonzero(inside, axis=1) >= _MIN_WINGS
        return self._fit(self.sky, (rows, columns, heights), at, inside, enough, beyond=True)

    def _beyond(self, model):
        """Return the places (y, x) and heights of bright sources that are not fitted."""
        scale = min(self.pixel_scale)
        template, start = _widened(model.template, int(np.ceil(WING_REACH * self.fwhm / scale)))
        psf = self.fwhm, self.beta
        seen = model.scale.value * template.rough_images(*_point(model)[:2], [psf])[0]
        elsewhere = np.ones(seen.shape, dtype=bool)
        elsewhere[tuple(slice(i, i + n) for i, n in zip(start, self.used.shape))] = ~self.used
        y, x = np.nonzero(elsewhere & (seen > _BRIGHT * self.level))
        top = seen[y, x] >= highest_near(seen, (y, x), max(int(round(0.5 * self.fwhm / scale)), 1))
        y, x = y[top], x[top]
        return y - start[0], x - start[1], seen[y, x]

    def _fit(self, sky, sources, at, inside, whole, beyond=False):
        """Fit a flux, a shift and a background to the residual in stamps."""
        weight = np.where(inside, 1.0 / self.sigma[at], 0.0)
        columns_ = [sky[at], self.along[0][at], self.along[1][at], np.ones(inside.shape)]
        matrix = np.stack(columns_, axis=1) * weight[:, None]
        normal = matrix @ matrix.transpose(0, 2, 1)
        whole &= are_positive(normal, normal, 1e-8)
        covariance = np.linalg.inv(normal[whole])
        right = matrix[whole] @ (self.residual[at] * weight)[whole][:, :, None]
        values = (covariance @ right)[:, :3, 0]
        errors = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)[:, :3])
        return FittedSources(*(part[whole] for part in sources), values, errors, beyond)

    def are_compact(self, sources):
        """Whether sources of the template are as sharp as a point."""
        if self.compact is None:
            pixel = float(np.mean(self.pixel_scale))
            expected = _peak(_SHARP_FWHM, self.beta, pixel) / _peak(self.fwhm, self.beta, pixel)
            sharp = self.draw_sharp()[sources.y, sources.x]
            self.compact = sharp > _COMPACT * expected * sources.peak
        return self.compact


def _drawn(model, info):
    """Return the sky of a model, and its derivatives in dx and dy."""
    scale = model.scale.value
    fitted = dict(zip(info.free, info.derivatives)) if info is not None else {}
    if fitted.keys() >= {"scale", "dx", "dy"}:
        # The derivatives of the last step of the fit are these, but for digits that do not matter.
        sky, *along = (fitted[name].reshape(model.shape) for name in ("scale", "dx", "dy"))
        return scale * sky, *along
    terms = [("psf", 0, 0), ("psf", 1, 0), ("psf", 0, 1)]
    return tuple(scale * image for image in model.template.images(_point(model), terms))


def _widened(template, reach):
    """Return a template that shows more, as far as its area goes, and by how much at the start."""
    starts = [max(part.start - reach, 0) for part in template.window]
    stops = [min(part.stop + reach, n) for part, n in zip(template.window, template.area)]
    wide = copy.copy(template)
    wide.window = tuple(map(slice, starts, stops))
    return wide, [part.start - start for part, start in zip(template.window, starts)]


def _point(model):
    """Return the parameters of a model that its template takes."""
    return tuple(getattr(model, n).value for n in ("dx", "dy", "fwhm", "beta", "e1", "e2"))


def _peak(fwhm, beta, pixel):
    """Return the central height of a Moffat of unit flux, averaged over a pixel."""
    offset = pixel * (np.arange(8) - 3.5) / 8.0
    x, y = np.meshgrid(offset, offset)
    return float(np.mean(MoffatPSF2D.evaluate(x, y, 1.0, 0.0, 0.0, fwhm, beta)))


def _match(sky, residual, setup, fwhm, size):
    """
    Look at the residual through a filter that is as wide as the PSF.

    Returns the result in units of its own noise, and that noise relative to what independent
    pixels with the errors given would cause.
    """
    scaled = np.where(setup.used, residual / setup.sigma, 0.0)
    smooth = background(scaled, size)
    width = beam_width(fwhm, setup.pixel_scale)
    gain = np.sqrt(4.0 * np.pi * np.prod(width))
    # At an edge the image goes on as its own mirror image: half a source is one nevertheless.
    matched = gain * ndimage.gaussian_filter(scaled, width)
    if not setup.used.all():
        # Masks cut part of the filter off.
        cover = ndimage.gaussian_filter(setup.used.astype(np.float32), width / np.sqrt(2.0))
        matched /= np.sqrt(np.maximum(cover, 0.3))
    # Every second row says enough about the noise.
    rows = np.s_[::2]
    used, scaled = setup.used[rows], scaled[rows]
    level = median(sky[rows][used]) + 2.0 * setup.sigma[rows] * np.std(scaled[used])
    quiet = used & (sky[rows] < level)
    if not quiet.any():
        quiet = used
    # Steps and slopes of the background are left to the local constant of each source.
    slow = gain * smooth[rows][quiet]
    noise = max(1.4826 * float(median(np.abs(matched[rows][quiet] - slow))), 1e-12)
    return matched / noise, noise


def are_positive(matrices, reference, least):
    """Whether symmetric matrices are positive definite, with room to spare."""
    scale = np.sqrt(np.maximum(np.diagonal(reference, axis1=-2, axis2=-1), np.finfo(float).tiny))
    scaled = matrices / (scale[..., :, None] * scale[..., None, :])
    return np.linalg.eigvalsh(scaled)[:, 0] > least
