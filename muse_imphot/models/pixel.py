# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The two conventions of the FWHM: with the pixel of the detector, and without.
"""

import numpy as np
from scipy.optimize import brentq

from .moffat import core_radius

__all__ = ["optical_fwhm", "pixel_fwhm"]


# Widths, in pixels, from which the inversion is tried if the pixel dominates.
_UNRESOLVED = (0.9, 0.8, 0.75, 0.7, 0.65, 0.6, 0.5, 0.4)


def pixel_fwhm(fwhm, beta, pixel):
    """
    The FWHM of a Moffat profile after the convolution with a square pixel.

    Parameters
    ----------
    fwhm : float
        Full width at half maximum without the pixel.
    beta : float
        Moffat exponent.
    pixel : float
        Side of the pixel, in the unit of ``fwhm``.

    Returns
    -------
    fwhm : float
        Full width at half maximum with the pixel, averaged between the direction of the sides and
        that of the diagonal.
    """
    nodes, weights = np.polynomial.legendre.leggauss(10)
    offset = 0.5 * pixel * nodes
    weight = 0.25 * weights[:, None] * weights[None, :]
    alpha2 = core_radius(fwhm, beta) ** 2
    half = 0.5 * np.sum(weight * (1.0 + (offset[:, None] ** 2 + offset**2) / alpha2) ** -beta)
    # Newton's method for the radii of half the height, along a side and along a diagonal.
    along = np.array([[1.0, 0.0], [np.sqrt(0.5), np.sqrt(0.5)]])[:, :, None, None]
    radius = np.full(2, 0.5 * np.hypot(fwhm, 0.8 * pixel))
    for _ in range(30):
        x = radius[:, None, None] * along[:, 0] + offset[:, None]
        y = radius[:, None, None] * along[:, 1] + offset[None, :]
        base = 1.0 + (x**2 + y**2) / alpha2
        value = weight * base**-beta
        slope = -2.0 * beta / alpha2 * value / base * (x * along[:, 0] + y * along[:, 1])
        step = (value.sum(axis=(1, 2)) - half) / slope.sum(axis=(1, 2))
        # Never beyond the centre, whatever the slope there.
        radius = np.maximum(radius - step, 0.2 * radius)
        if np.all(np.abs(step) < 1e-13 * (fwhm + pixel)):
            break
    return float(radius.sum())


def optical_fwhm(fwhm, beta, pixel):
    """
    The FWHM without the pixel of a PSF whose FWHM includes it.

    Parameters
    ----------
    fwhm : float
        Full width at half maximum with the pixel.
    beta : float
        Moffat exponent, taken to be the same for both.
    pixel : float
        Side of the pixel, in the unit of ``fwhm``.

    Returns
    -------
    fwhm : float
        Full width at half maximum of the Moffat that gets ``fwhm`` when it is convolved with the
        pixel; NaN if ``fwhm`` is less than the pixel alone would give.
    """
    if pixel == 0:
        return float(fwhm)
    # A pixel adds no more than its diagonal. Of profiles that it hardly resolves it shows its own
    # corners: the narrower they are, the more; the solution is the wider one.
    for narrow in (max(pixel, fwhm - 1.5 * pixel), *(part * pixel for part in _UNRESOLVED)):
        if pixel_fwhm(narrow, beta, pixel) < fwhm:
            break
    else:
        return np.nan
    return float(
        brentq(lambda width: pixel_fwhm(width, beta, pixel) - fwhm, narrow, fwhm, rtol=1e-12)
    )
