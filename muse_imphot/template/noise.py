# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The noise of an HST image, from its empty sky and its weights.

A noisy template biases a fit that takes it for the truth. The bias can be taken out if the power
spectrum of the noise is known, at the frequencies that MUSE sees.

Weight maps come in many kinds (times, inverse variances, with or without the fourth power of a
ratio of pixels), and say nothing of correlations. So they tell how the noise varies over an image,
and the image itself how large it is.
"""

import logging
from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage, special

from .drizzle import drizzle_correlation

__all__ = ["TemplateNoise", "measure_template_noise"]

log = logging.getLogger(__name__)

# The image is sampled with tiles of this many pixels on a side, at most so many along an axis:
# more would not make the measurement better where it matters.
_TILE, _MAX_TILES = 256, 4

# Sources: pixels this far above the noise after smoothing with this width (pixels), and what lies
# within this distance (pixels) of them.
_DETECTION, _SMOOTHING, _AROUND = 5.0, 2.0, 6

# Drizzling correlates pixels up to this lag (pixels). What is left at the lags beyond is due to
# sources too faint to be masked, and is taken out of the shorter lags too.
_REACH, _BEYOND = 3.5, 6.5

_MIN_EMPTY = 2000

# What passes for empty sky is a crowd of sources if this part of its variance is shared by pixels
# beyond the reach of drizzling.
_STRUCTURE = 0.3

# The noise of a crowd is negligible if it is this part of its variance.
_NEGLIGIBLE = 1e-3

# The weights are believed within this factor of the usual one.
_MOST = 100.0


@dataclass(frozen=True)
class TemplateNoise:
    """
    Stationary noise, by its autocovariance.

    Attributes
    ----------
    lag : 1D `~numpy.ndarray`
        Distances between pixels (arcsec).
    covariance : 1D `~numpy.ndarray`
        Sum of the autocovariance over all lags of that length, times the area of an HST pixel:
        in the unit of the template squared, times arcsec^2.
    """

    lag: np.ndarray
    covariance: np.ndarray

    def power(self, frequency):
        """
        The power spectrum of the noise.

        Parameters
        ----------
        frequency : array_like
            Radial frequency (cycles/arcsec).

        Returns
        -------
        power : `~numpy.ndarray`
            In the unit of the template squared per (cycle/arcsec)^2; never negative.
        """
        frequency = np.asarray(frequency, dtype=float)
        waves = special.j0(2.0 * np.pi * frequency[..., None] * self.lag)
        return np.maximum(waves @ self.covariance, 0.0)

    def scaled(self, factor):
        """
        The noise after its image is multiplied by a factor.

        Parameters
        ----------
        factor : float

        Returns
        -------
        noise : `TemplateNoise`
        """
        return TemplateNoise(self.lag, self.covariance * factor**2)

    @property
    def pixel_variance(self):
        """Variance of a pixel times its area."""
        return float(self.covariance[self.lag == 0].sum())


def measure_template_noise(
    data, mask, pixel_scale, factor=1.0, *, variance=None, where=None, drop=None
):
    """
    Measure the noise of an HST image between its sources.

    Parameters
    ----------
    data : 2D `~numpy.ndarray`
        The image.
    mask : 2D bool `~numpy.ndarray`
        Its unusable pixels.
    pixel_scale : tuple of float
        Size of its pixels along y and x (arcsec).
    factor : float, optional
        Factor that brings its values into the unit of the template.
    variance : 2D `~numpy.ndarray`, optional
        How the variance varies over the image; only ratios matter.
    where : tuple of 1D `~numpy.ndarray`, optional
        Rows and columns of the pixels whose mean noise is wanted; by default that of all.
    drop : float, optional
        Size of the drops of a drizzled image (arcsec). Where sources leave no empty sky, the noise
        is then found from neighbouring pixels, whose correlation this tells.

    Returns
    -------
    noise : `TemplateNoise` or None
        None if there is not enough empty sky, ``drop`` is not known, and there may be noise that
        matters.
    """
    sigma = _RelativeNoise(variance, mask)
    reach = int(np.ceil(_BEYOND))
    lags = np.arange(-reach, reach + 1)
    products = np.zeros((lags.size, lags.size))
    pairs = np.zeros_like(products)
    for tile in _tiles(data.shape):
        residual, empty = _empty_sky(data[tile], mask[tile])
        one, two = _correlations(residual / sigma[tile], empty, lags)
        products += one
        pairs += two
    distance = np.hypot(lags[:, None], lags[None, :])
    near, ring = distance <= _REACH, (distance > _REACH + 0.5) & (distance <= _BEYOND)
    covariance = products / np.maximum(pairs, 1.0)
    beyond = covariance[ring].mean()
    empty_sky = beyond < _STRUCTURE * covariance[reach, reach]
    if pairs[reach, reach] >= _MIN_EMPTY and empty_sky:
        covariance -= beyond
    else:
        # Without the size of the drops, one pixel will do if the noise does not matter anyway.
        pixels = 1.0 if drop is None else drop / np.mean(pixel_scale)
        neighbours = _from_neighbours(data, mask, sigma, lags, pixels)
        matters = neighbours[reach, reach] > _NEGLIGIBLE * covariance[reach, reach]
        if drop is None and (matters or empty_sky):
            log.warning(
                "the HST image has no empty sky in which its noise could be measured (%d pixels)",
                pairs[reach, reach] if empty_sky else 0,
            )
            return None
        log.info("the HST image has no empty sky: its noise is that of neighbouring pixels")
        covariance, near = neighbours, np.ones_like(near)
    scale_y, scale_x = pixel_scale
    length = np.hypot(lags[:, None] * scale_y, lags[None, :] * scale_x)
    level = sigma.mean_variance(where) * factor**2 * scale_y * scale_x
    return TemplateNoise(length[near], covariance[near] * level)


class _RelativeNoise:
    """The noise of the pixels of an image relative to the usual one, by slices."""

    def __init__(self, variance, mask):
        self._variance, self._mask = variance, mask
        if variance is not None:
            # Every eighth pixel is enough for a median.
            usual = variance[::8, ::8][~mask[::8, ::8]]
            usual = usual[np.isfinite(usual) & (usual > 0)]
            self._usual = np.median(usual) if usual.size else 1.0

    def _relative(self, place):
        values = np.asarray(self._variance[place], dtype=float) / self._usual
        return np.clip(np.nan_to_num(values, nan=1.0), 1.0 / _MOST, _MOST)

    def __getitem__(self, place):
        return 1.0 if self._variance is None else np.sqrt(self._relative(place))

    def mean_variance(self, where):
        """Return the mean variance of some pixels."""
        if self._variance is None:
            return 1.0
        if where is None or where[0].size == 0:
            where = np.s_[::8, ::8]
        good = ~self._mask[where]
        return float(self._relative(where)[good].mean()) if good.any() else 1.0


def _from_neighbours(data, mask, sigma, lags, drop):
    """
    Return the covariance of drizzled noise whose level is found between sources and on them.

    Second differences of neighbouring pixels see the noise, and little of what is smooth.
    """
    bends = []
    for tile in _tiles(data.shape)[::2]:
        known = np.where(mask[tile], np.nan, data[tile])
        variance = np.broadcast_to(np.square(sigma[tile]), known.shape)
        for axis in (0, 1):
            mixed = ndimage.correlate1d(variance, [1 / 6, 4 / 6, 1 / 6], axis=axis)
            middle = mixed[1:-1] if axis == 0 else mixed[:, 1:-1]
            bends.append((np.diff(known, 2, axis=axis) / np.sqrt(middle)).ravel())
    bends = np.concatenate(bends)
    bends = bends[np.isfinite(bends)]
    if bends.size == 0:
        return np.zeros((lags.size, lags.size))
    scatter = 1.4826 * np.median(np.abs(bends))
    # Some pixels are noisier than others: the mean square counts, but not that of sharp sources.
    scatter = np.sqrt(np.mean(np.square(bends), where=np.abs(bends) <= 4.0 * scatter))
    c0, c1, c2 = drizzle_correlation([0, 1, 2], drop)
    level = scatter**2 / (c0 * (6.0 * c0 - 8.0 * c1 + 2.0 * c2))
    shape = drizzle_correlation(lags, drop)
    return level * np.outer(shape, shape)


def _tiles(shape):
    """Return tiles spread evenly over an image."""
    starts = []
    for n in shape:
        count = min(max(n // _TILE, 1), _MAX_TILES)
        size = min(n, _TILE)
        starts.append(np.linspace(0, n - size, count).astype(int))
    size_y, size_x = (min(n, _TILE) for n in shape)
    return [(slice(y, y + size_y), slice(x, x + size_x)) for y in starts[0] for x in starts[1]]


def _empty_sky(data, mask):
    """Return the image minus its local background, and where it shows neither source nor mask."""
    empty = ~mask
    background = np.median(data[empty]) if empty.any() else 0.0
    disc = np.hypot(*np.mgrid[-_AROUND : _AROUND + 1, -_AROUND : _AROUND + 1]) <= _AROUND
    residual = data - background
    for _ in range(3):
        if not empty.any():
            break
        residual = data - _local_mean(data, empty)
        smooth = ndimage.gaussian_filter(np.where(mask, 0.0, residual), _SMOOTHING)
        level = 1.4826 * np.median(np.abs(smooth[empty] - np.median(smooth[empty])))
        # A high threshold: cutting off the peaks of the noise would bias its power low.
        sources = smooth > _DETECTION * level
        empty = ~mask & ~ndimage.binary_dilation(sources, disc)
    return np.where(empty, residual, 0.0), empty


def _local_mean(data, empty, width=65):
    """Return the smooth background under an image."""
    total = ndimage.uniform_filter(np.where(empty, data, 0.0), width)
    weight = ndimage.uniform_filter(empty.astype(float), width)
    return total / np.maximum(weight, 1e-6)


def _correlations(residual, empty, lags):
    """Return the sums of products, and the numbers of pairs, at all lags up to the largest."""
    shape = [fft.next_fast_len(n + lags.size, real=True) for n in residual.shape]
    at = np.ix_(lags % shape[0], lags % shape[1])
    products = fft.irfft2(np.abs(fft.rfft2(residual, s=shape)) ** 2, s=shape)[at]
    pairs = fft.irfft2(np.abs(fft.rfft2(empty.astype(float), s=shape)) ** 2, s=shape)[at]
    return products, np.rint(pairs)
