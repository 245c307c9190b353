# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The two conventions of the FWHM: with the pixel of the detector, and without.
"""

import numpy as np

from .moffat import core_radius

__all__ = ["optical_fwhm", "pixel_fwhm"]


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
    widths = []
    for direction in ((1.0, 0.0), (np.sqrt(0.5), np.sqrt(0.5))):

        def profile(radius, direction=direction):
            x = radius * direction[0] + offset[:, None]
            y = radius * direction[1] + offset[None, :]
            return float(np.sum(weight * (1.0 + (x**2 + y**2) / alpha2) ** -beta))

        half = 0.5 * profile(0.0)
        low, high = 0.0, fwhm + pixel
        for _ in range(60):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if profile(middle) > half else (low, middle)
        widths.append(low + high)
    return float(np.mean(widths))


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
    if fwhm < 1.02 * pixel:
        return np.nan
    estimate = np.sqrt(max(fwhm**2 - 0.5 * pixel**2, (0.2 * fwhm) ** 2))
    for _ in range(40):
        error = pixel_fwhm(estimate, beta, pixel) - fwhm
        if abs(error) < 1e-10 * fwhm:
            return float(estimate)
        estimate = max(estimate - error, 0.3 * estimate)
    return float(estimate) if abs(error) < 1e-4 * fwhm else np.nan
