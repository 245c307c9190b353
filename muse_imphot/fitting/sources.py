# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Small tools for the sources of an image: the background under them, and their peaks.
"""

import numpy as np
from scipy import ndimage

__all__ = ["background", "beam_width", "highest_around", "highest_near"]


def background(image, size):
    """
    Return the smooth part of an image.

    Parameters
    ----------
    image : 2D `~numpy.ndarray`
        The image.
    size : int
        Side of the blocks of pixels of which the medians are taken, smoothed and interpolated.

    Returns
    -------
    background : 2D `~numpy.ndarray`
    """
    sides = [min(size, n) for n in image.shape]
    starts = [
        np.linspace(0, n - side, -(-n // side)).astype(int) for n, side in zip(image.shape, sides)
    ]
    blocks = np.lib.stride_tricks.sliding_window_view(image, sides)[np.ix_(*starts)]
    values = np.sort(blocks.reshape(*map(len, starts), -1), axis=-1)
    coarse = ndimage.median_filter(values[..., values.shape[-1] // 2], size=3, mode="nearest")
    rows, columns = (
        _hats(first + 0.5 * (side - 1), n) for first, side, n in zip(starts, sides, image.shape)
    )
    return rows @ coarse @ columns.T


def _hats(places, length):
    """Return the matrix that interpolates linearly between some places on an axis."""
    position = np.interp(np.arange(length), places, np.arange(len(places)))
    return np.maximum(1.0 - np.abs(position[:, None] - np.arange(len(places))), 0.0)


def highest_around(image, reach):
    """
    Return the highest value around each pixel.

    Parameters
    ----------
    image : 2D `~numpy.ndarray`
        The image.
    reach : int
        How many pixels to go along both axes, either way.

    Returns
    -------
    values : 2D `~numpy.ndarray`
    """
    return ndimage.maximum_filter(image, 2 * reach + 1)


def highest_near(image, places, reach):
    """
    Return the highest values around some pixels.

    Parameters
    ----------
    image : 2D `~numpy.ndarray`
        The image.
    places : tuple of 1D `~numpy.ndarray`
        Indices (y, x) of the pixels.
    reach : int
        How many pixels to go along both axes, either way.

    Returns
    -------
    values : 1D `~numpy.ndarray`
    """
    if len(places[0]) * (2 * reach + 1) ** 2 > 2 * image.size:
        return highest_around(image, reach)[places]
    away = np.arange(-reach, reach + 1)
    y, x = (np.clip(i[:, None] + away, 0, n - 1) for i, n in zip(places, image.shape))
    return image[y[:, :, None], x[:, None, :]].max(axis=(1, 2), initial=-np.inf)


def beam_width(fwhm, pixel_scale):
    """
    Return the standard deviation of the core of the PSF.

    Parameters
    ----------
    fwhm : float
        FWHM of the PSF (arcsec).
    pixel_scale : tuple of float
        Pixel size along y and x (arcsec).

    Returns
    -------
    width : 1D `~numpy.ndarray`
        Along y and x (pixels).
    """
    return fwhm / 2.355 / np.array(pixel_scale)
