# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The noise of an HST image, measured in its empty sky.

A noisy template biases a fit that takes it for the truth. The bias can be taken out if the power
spectrum of the noise is known, at the frequencies that MUSE sees.
"""

import logging
from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage, special

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


def measure_template_noise(data, mask, pixel_scale, factor=1.0):
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

    Returns
    -------
    noise : `TemplateNoise` or None
        None if there is not enough empty sky.
    """
    reach = int(np.ceil(_BEYOND))
    lags = np.arange(-reach, reach + 1)
    products = np.zeros((lags.size, lags.size))
    pairs = np.zeros_like(products)
    for tile in _tiles(data.shape):
        residual, empty = _empty_sky(data[tile], mask[tile])
        one, two = _correlations(residual, empty, lags)
        products += one
        pairs += two
    if pairs[reach, reach] < _MIN_EMPTY:
        log.warning(
            "the HST image has no empty sky in which its noise could be measured (%d pixels)",
            pairs[reach, reach],
        )
        return None
    covariance = products / np.maximum(pairs, 1.0)
    distance = np.hypot(lags[:, None], lags[None, :])
    near, ring = distance <= _REACH, (distance > _REACH + 0.5) & (distance <= _BEYOND)
    covariance = np.where(near, covariance - covariance[ring].mean(), 0.0)
    scale_y, scale_x = pixel_scale
    length = np.hypot(lags[:, None] * scale_y, lags[None, :] * scale_x)
    area = scale_y * scale_x
    return TemplateNoise(length[near], covariance[near] * factor**2 * area)


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
