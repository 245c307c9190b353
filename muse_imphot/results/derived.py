# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What follows from the fitted values: differences of the coordinates on the sky, and the FWHM without
the pixel.
"""

import numpy as np
from astropy.wcs.utils import proj_plane_pixel_scales

from ..models.pixel import optical_fwhm
from .values import FittedValue

__all__ = ["covariance_block", "fwhm_without_pixel", "sky_offsets"]

_CENTRAL = np.eye(2) / 2  # half a pixel along x, and along y


def sky_offsets(wcs, shape, dx, dy, covariance=None):
    """
    Turn offsets along the pixels into differences of the sky coordinates at the image centre.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`
        Celestial WCS of the MUSE image.
    shape : tuple of int
        Shape of the image, (ny, nx).
    dx, dy : `FittedValue` or float
        MUSE minus HST, arcsec, along +x and +y of the pixels.
    covariance : 2x2 array-like, optional
        Covariance of dx and dy in arcsec**2. The errors of `dx` and `dy` if left out. What
        concerns a fixed offset counts as zero.

    Returns
    -------
    dra, ddec : `FittedValue`
        Arcsec; coordinates at the centre minus those of the point (dx, dy) before it, to be
        subtracted from CRVAL1 and CRVAL2. `dra` is without cos dec.
    """
    offset = [item if isinstance(item, FittedValue) else FittedValue(item) for item in (dx, dy)]
    scales = proj_plane_pixel_scales(wcs)[:2] * 3600.0
    step = np.array([item.value for item in offset]) / scales
    centre = (np.array(shape[::-1]) - 1) / 2

    # What MUSE shows at its centre is the sky of the point that lies (dx, dy) before it.
    sky = _coordinate_step(wcs, centre - step, centre)
    jacobian = np.column_stack(
        [
            _coordinate_step(wcs, centre - half, centre + half) / scale
            for half, scale in zip(_CENTRAL, scales, strict=True)
        ]
    )
    if covariance is None:
        covariance = np.diag([item.stdev**2 for item in offset])
    covariance = np.array(covariance, dtype=float)
    held = np.array([item.fixed for item in offset])
    covariance[held, :] = covariance[:, held] = 0
    variance = np.diag(jacobian @ covariance @ jacobian.T)
    return tuple(
        FittedValue(value, np.sqrt(var), fixed=held.all())
        for value, var in zip(sky, variance, strict=True)
    )


def _coordinate_step(wcs, start, end):
    """Return (longitude, latitude) at one pixel minus those at another, in arcsec."""
    world = wcs.all_pix2world([start, end], 0)
    lon, lat = (np.diff(world[:, axis])[0] for axis in (wcs.wcs.lng, wcs.wcs.lat))
    lon = (lon + 180.0) % 360.0 - 180.0  # across right ascension zero
    return 3600.0 * np.array([lon, lat])


def covariance_block(covariance, names, wanted):
    """
    Return the covariance of some parameters.

    Parameters
    ----------
    covariance : 2D `~numpy.ndarray`
        The covariance of the fitted parameters.
    names : sequence of str
        Their names.
    wanted : sequence of str
        The parameters wanted.

    Returns
    -------
    block : 2D `~numpy.ndarray`
        Zero for parameters that were not fitted.
    """
    block = np.zeros((len(wanted), len(wanted)))
    for i, first in enumerate(wanted):
        for j, second in enumerate(wanted):
            if first in names and second in names:
                block[i, j] = covariance[names.index(first), names.index(second)]
    return block


def fwhm_without_pixel(fwhm, beta, covariance, pixel):
    """
    Return the FWHM of a PSF before the pixels of the detector broadened it.

    Parameters
    ----------
    fwhm, beta : `FittedValue`
        The Moffat that includes the pixel; FWHM in arcsec.
    covariance : 2x2 `~numpy.ndarray`
        The covariance of both.
    pixel : float
        Size of a pixel (arcsec).

    Returns
    -------
    fwhm_optical : `FittedValue`
        Its error is that of both, to first order.
    """
    point = np.array([fwhm.value, beta.value])
    slopes = []
    for step in ((1e-4, 0.0), (0.0, 1e-4 * point[1])):
        change = optical_fwhm(*(point + step), pixel) - optical_fwhm(*(point - step), pixel)
        slopes.append(change / (2.0 * sum(step)))
    variance = np.array(slopes) @ covariance @ np.array(slopes)
    fixed = fwhm.fixed and beta.fixed
    return FittedValue(optical_fwhm(*point, pixel), float(np.sqrt(variance)), fixed=fixed)
