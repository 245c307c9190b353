# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The noise around stars, measured in more sky than is fitted.

The pixels of a star are few, and a fit takes a part of their noise away: measured there, the
correlations would be too small, and the errors with them.
"""

import numpy as np
from scipy import ndimage

from ..noise import measure_noise, robust_scatter

__all__ = ["choose_noise", "mosaic", "sky_around"]

# So many pixels of sky are enough; boxes around stars are so many times wider than their circles.
_ENOUGH, _WIDER = 20000, 2.0

# With fewer pixels of sky the residual of the fit tells as much.
_LEAST = 1000

# The light of stars may be so many sigma where it is sky that counts. Sources stand out so much,
# smoothed, and end where they do so no more.
_STARLIGHT, _DETECTION, _END = 5.0, 4.0, 1.0
_ROUNDS = 4

# A residual that is larger than the sky explains, by so many standard deviations of its variance.
_MISFIT = 4.0

# Gaps in a mosaic: the largest lag at which noise is measured.
_GAP = 4


def sky_around(problem, values, scatter):
    """
    Return what is left around stars once their light is subtracted.

    Parameters
    ----------
    problem : `~muse_imphot.fitting.stars.problem.StarsProblem`
        The image and its stars.
    values : 1D `~numpy.ndarray`
        The parameters.
    scatter : float
        That of the residual over sigma, roughly: 1 if sigma is right.

    Returns
    -------
    boxes : list of tuple
        Residual over sigma, with its slow variations taken off, and which of its pixels are empty
        sky; two 2D arrays each.
    """
    boxes, count = [], 0
    side = np.sqrt(_ENOUGH / len(problem.patches))
    for patch in problem.patches:
        sizes = [part.stop - part.start for part in patch.part]
        part = tuple(
            _wider(old, max(_WIDER * size, side), n)
            for old, size, n in zip(patch.part, sizes, problem.image.data.shape)
        )
        light = problem.starlight(part, values)
        sigma = problem.sigma_of(part, light)
        good = problem.image.good[part] & (np.abs(light) < _STARLIGHT * scatter * sigma)
        pull = np.where(good, (problem.image.data[part] - light) / sigma, 0.0)
        # What varies over twice the width of a circle is taken up by the background of the star.
        box = _empty_sky(pull, good, problem.fwhm, int(_WIDER * min(sizes)))
        boxes.append(box)
        count += np.count_nonzero(box[1])
        if count > _ENOUGH:
            break
    return boxes


def _wider(part, size, limit):
    """Return a slice around a slice."""
    grow = max(int(np.ceil(0.5 * (size - (part.stop - part.start)))), 0)
    return slice(max(part.start - grow, 0), min(part.stop + grow, limit))


def _empty_sky(pull, good, fwhm, window):
    """Return an image minus its slow variations, and where it shows nothing but sky."""
    width = max(0.4 * fwhm, 0.7)
    reach = max(int(np.ceil(fwhm)), 2)
    disc = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1]) <= reach
    near = np.maximum(ndimage.gaussian_filter(good.astype(float), width), 0.1)
    empty, residual = good, pull
    for _ in range(_ROUNDS):
        if not empty.any():
            break
        count = ndimage.uniform_filter(empty.astype(float), window, mode="constant")
        mean = ndimage.uniform_filter(np.where(empty, pull, 0.0), window, mode="constant")
        residual = np.where(good, pull - mean / np.maximum(count, 1e-3), 0.0)
        smooth = ndimage.gaussian_filter(residual, width) / near
        sources = _sources(smooth, good, robust_scatter(smooth[empty]))
        empty = good & ~ndimage.binary_dilation(sources, disc)
    return residual, empty


def _sources(smooth, good, scatter):
    """Return the pixels of sources, and of what is negative instead."""
    found = np.zeros(good.shape, dtype=bool)
    for sign in (1.0, -1.0):
        labels, _ = ndimage.label(good & (sign * smooth > _END * scatter))
        high = np.unique(labels[sign * smooth > _DETECTION * scatter])
        found |= np.isin(labels, high[high > 0])
    return found


def mosaic(boxes):
    """
    Put images below each other, with gaps so wide that no lag connects them.

    Parameters
    ----------
    boxes : list of tuple
        Images and their masks, two 2D arrays each.

    Returns
    -------
    image : 2D `~numpy.ndarray`
        Zero where the mask is False.
    used : 2D bool `~numpy.ndarray`
        The masks.
    """
    height = sum(used.shape[0] + _GAP for _, used in boxes)
    width = max(used.shape[1] for _, used in boxes)
    whole, mask = np.zeros((height, width)), np.zeros((height, width), dtype=bool)
    row = 0
    for image, used in boxes:
        ny, nx = used.shape
        part = slice(row, row + ny), slice(0, nx)
        whole[part], mask[part] = np.where(used, image, 0.0), used
        row += ny + _GAP
    return whole, mask


def choose_noise(residuals, sky, n_free):
    """
    Return the noise of the pixels that were fitted.

    It is that of the sky, unless the residual of the fit is larger: a PSF that is not quite that of
    the model makes errors, too.

    Parameters
    ----------
    residuals : list of tuple
        Residual over sigma of the fit, and the pixels that were fitted; two 2D arrays each.
    sky : list of tuple
        What `sky_around` returns.
    n_free : int
        Number of parameters that were fitted.

    Returns
    -------
    noise : `~muse_imphot.fitting.NoiseModel`
    """
    residual, used = mosaic(residuals)
    fitted = measure_noise(residual, used, n_free)
    around, empty = mosaic(sky)
    if np.count_nonzero(empty) < _LEAST:
        return fitted
    noise = measure_noise(around, empty, 0)
    uncertain = np.sqrt(2.0 * np.sum(noise.correlation**2) / np.count_nonzero(used))
    misfit = fitted.variance > (1.0 + _MISFIT * uncertain) * noise.variance
    return fitted if misfit else noise
