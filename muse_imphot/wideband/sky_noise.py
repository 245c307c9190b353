# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The noise of a MUSE image, measured in its empty sky.

The variance of a MUSE cube (STAT) is propagated through the drizzle as if the voxels were
independent, and may be wrong by a factor besides. The scatter of the pixels between the sources
says by how much.
"""

import logging
from numbers import Real

import numpy as np
from scipy import ndimage

from ..exceptions import InputFileError, UserError

__all__ = ["apply_noise_factor", "check_noise_factor", "measure_noise_factor"]

log = logging.getLogger(__name__)

# Sources are found in the image smoothed by this Gaussian (pixels), above this many sigma, and
# cut out with all that is as near as this (pixels).
_SMOOTHING = 1.5
_DETECTION = 3.0
_AROUND = 5
# The background is a mean over squares of this side (pixels).
_BOX = 41
_ROUNDS = 5
# Fewer pixels of empty sky than this say nothing: 3 % error.
_MIN_PIXELS = 500


def measure_noise_factor(image):
    """
    Measure by how much the noise of an image is larger than its variance says.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`
        A MUSE image with a variance, as the readers and `~muse_imphot.wideband.wideband_images`
        return it.

    Returns
    -------
    factor : float
        The robust scatter of data / sigma between the sources, their background subtracted. It is
        a factor of the standard deviation of single pixels.

    Raises
    ------
    InputFileError
        If there is no variance, or too little empty sky.
    """
    name = _name(image)
    mask = np.zeros(image.shape, bool) if image.mask is None else np.asarray(image.mask)
    ratio = np.where(mask, 0.0, image.data / np.sqrt(_variance(image)))
    residual, empty = _empty_sky(ratio, ~mask)
    if np.count_nonzero(empty) < _MIN_PIXELS:
        raise InputFileError(
            name,
            f"its noise cannot be measured: {np.count_nonzero(empty)} pixels of empty sky, "
            f"{_MIN_PIXELS} are needed; give noise_factor (--noise-factor) as a number",
        )
    factor = _scatter(residual[empty])
    log.info("%s: the noise in empty sky is %.3f times that of STAT", name, factor)
    return factor


def apply_noise_factor(image, noise_factor):
    """
    Multiply the noise of an image.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`
        It is changed: the variance grows by the square, and the header says so (``IMPNOISE``).
    noise_factor : float, "measure" or None
        The factor of the standard deviation; None does nothing.

    Returns
    -------
    image : `~astropy.nddata.CCDData`
        The same.

    Raises
    ------
    InputFileError
        If there is no variance, or too little empty sky to measure it.
    """
    if noise_factor is None:
        return image
    if noise_factor == "measure":
        noise_factor = measure_noise_factor(image)
    variance = _variance(image)
    good = ... if image.mask is None else ~image.mask  # bad pixels keep their 1
    variance[good] *= noise_factor**2
    image.meta["IMPNOISE"] = (round(float(noise_factor), 6), "factor applied to the noise of STAT")
    return image


def check_noise_factor(noise_factor):
    """
    Refuse what is not a factor of the noise.

    Parameters
    ----------
    noise_factor : object
        None, "measure" and positive numbers pass.

    Raises
    ------
    UserError
        For anything else.
    """
    if noise_factor is None or (isinstance(noise_factor, str) and noise_factor == "measure"):
        return
    number = isinstance(noise_factor, Real) and not isinstance(noise_factor, bool)
    if not (number and 0 < noise_factor < np.inf):
        raise UserError(f"noise_factor: {noise_factor!r}; a positive number or 'measure' is needed")


def _name(image):
    return str(image.meta.get("IMPFILE", "the MUSE image"))


def _variance(image):
    """Return the variance of an image, or refuse one without."""
    if image.uncertainty is None:
        raise InputFileError(_name(image), "has no variance (STAT) for a noise factor to change")
    return image.uncertainty.array


def _scatter(values):
    """Return the standard deviation from the median absolute deviation."""
    return float(1.482602 * np.median(np.abs(values - np.median(values))))


def _empty_sky(data, good):
    """Return an image minus its background, and where it shows neither source nor mask."""
    empty = good
    disc = np.hypot(*np.mgrid[-_AROUND : _AROUND + 1, -_AROUND : _AROUND + 1]) <= _AROUND
    residual = data - (np.median(data[good]) if good.any() else 0.0)
    near = np.maximum(ndimage.gaussian_filter(good.astype(float), _SMOOTHING), 0.1)
    for _ in range(_ROUNDS):
        if not empty.any():
            break
        # The mean over good pixels alone, so that the edges of the field are no sources.
        smooth = ndimage.gaussian_filter(np.where(good, residual, 0.0), _SMOOTHING) / near
        level = _scatter(smooth[empty])
        # Holes, too: what is left of neighbours that were subtracted.
        sources = good & (np.abs(smooth - np.median(smooth[empty])) > _DETECTION * level)
        found = good & ~ndimage.binary_dilation(sources, disc)
        weight = ndimage.uniform_filter(found.astype(float), _BOX)
        background = ndimage.uniform_filter(np.where(found, data, 0.0), _BOX)
        residual = data - background / np.maximum(weight, 1e-3)
        if np.array_equal(found, empty):
            break
        empty = found
    return residual, empty
