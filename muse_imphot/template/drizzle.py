# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The correlation that drizzling gives to noise.

A drizzled image is that of the detector, each of whose pixels has been shrunk to a drop, averaged
over the pixels of the new grid. White noise of the detector becomes white noise that has been
convolved with a drop and with a pixel (Casertano et al. 2000, AJ 120, 2747, section 3.5; Fruchter &
Hook 2002, PASP 114, 144, section 7).
"""

import numpy as np

from ..io.headers import card_text, card_value

__all__ = ["drizzle_correlation", "drop_size"]

# Pixels of the detectors (arcsec), from the instrument handbooks.
_NATIVE = {
    "ACS/WFC": 0.05, "ACS/HRC": 0.026, "WFC3/UVIS": 0.04, "WFC3/IR": 0.128, "WFPC2": 0.0996,
}  # fmt: skip

# Kernels that are not squares: a point has no size, and a Gaussian, whose FWHM is what the size
# says, is taken for the square of the same variance.
_FACTORS = {"POINT": 0.0, "GAUSSIAN": np.sqrt(12.0) / 2.3548}


def drop_size(header, instrument):
    """
    Size of the drops of a drizzled image.

    Parameters
    ----------
    header : `~astropy.io.fits.Header`
        Its header: D001PIXF and D001KERN, of the first exposure, speak for all.
    instrument : str
        Such as "ACS/WFC".

    Returns
    -------
    size : float or None
        Side of the square drop (arcsec); None if the header does not tell, or the instrument is
        not known.
    """
    native, fraction = _NATIVE.get(instrument), card_value(header, "D001PIXF")
    if native is None or not isinstance(fraction, int | float):
        return None
    factor = _FACTORS.get(card_text(header, "D001KERN"), 1.0)
    return factor * native * float(fraction)


def drizzle_correlation(lags, drop):
    """
    Autocovariance of drizzled noise along one axis.

    Parameters
    ----------
    lags : array_like
        Distances of pixels (pixels).
    drop : float
        Side of the drops (pixels).

    Returns
    -------
    covariance : `~numpy.ndarray`
        It adds up to 1 over all whole lags: areas of many pixels are as noisy as without
        correlation. That of an image is the product of both axes.

    Notes
    -----
    At lag 0 it is 1 / R, R being the factor of Casertano et al. by which the noise of a pixel is
    smaller than that of large areas: R = r / (1 - 1 / (3 r)) for drops of r > 1 pixels, and
    1 / (1 - r / 3) for smaller ones.
    """
    # A box of width 1 and one of the width of the drop, each convolved with itself: the fourth
    # integral of the delta function, |x|^3 / 12, and twice second differences of that.
    drop = max(float(drop), 1e-3)
    x = np.asarray(lags, dtype=float)
    total = np.zeros_like(x)
    for i, first in zip((-1, 0, 1), (1, -2, 1)):
        for j, second in zip((-1, 0, 1), (1, -2, 1)):
            total += first * second * np.abs(x + i * drop + j) ** 3
    return total / (12.0 * drop**2)
