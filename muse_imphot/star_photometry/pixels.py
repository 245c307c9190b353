# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What header and weights of an image tell about its pixels: photons, saturation, noise.
"""

import numpy as np
from astropy import units as u

from ..io.headers import card_value, parse_unit

__all__ = ["electrons_per_unit", "relative_noise", "saturation_level"]

# What detectors count besides electrons.
_COUNTS = (u.count, u.adu, u.DN)


def electrons_per_unit(image, info):
    """
    Return the number of electrons per unit of an HST image.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`
        The image, as the reader returns it.
    info : `~muse_imphot.HstFilterInfo`
        Its filter.

    Returns
    -------
    gain : float
        Infinite if it is not known.
    """
    time = _positive(image.meta, "EXPTIME")
    if time is None:
        return np.inf
    if image.unit == u.electron / u.s:
        return time
    if image.unit == u.count / u.s:
        return time * (_positive(image.meta, "ATODGAIN") or _positive(image.meta, "CCDGAIN") or 1.0)
    return time / (info.photflam * u.Unit("erg / (s cm2 Angstrom)")).to_value(image.unit)


def saturation_level(image):
    """
    Return the level from which the pixels of an image are saturated, as its header says.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`
        The image, as the readers return it.

    Returns
    -------
    level : float
        ``SATURATE``, which is in the unit of ``BUNIT``, in the unit of the image; infinite if the
        header does not tell.
    """
    level = _positive(image.meta, "SATURATE")
    if level is None:
        return np.inf
    try:
        unit = parse_unit(card_value(image.meta, "BUNIT")) or image.unit
    except (ValueError, TypeError):
        return np.inf
    if unit.is_equivalent(image.unit):
        return level * unit.to(image.unit)
    time = _positive(image.meta, "EXPTIME")
    drizzled = str(card_value(image.meta, "D001OUUN", "")).strip().lower()
    # An amount per exposure; where the header contradicts itself about that, it tells nothing.
    if time is not None and drizzled != "cps":
        for amount in (u.electron, *_COUNTS):
            rate = (u.count if amount in _COUNTS else amount) / u.s
            if unit.is_equivalent(amount) and rate == image.unit:
                return level * unit.to(amount) / time
    return np.inf


def relative_noise(image):
    """
    Return how the noise of the sky varies over an HST image.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`
        The image, as the reader returns it: its variance, from a weight map, is only relative.

    Returns
    -------
    noise : 2D `~numpy.ndarray` or None
        Standard deviation, 1 at the median variance and where there is none. None without
        variances.
    """
    if image.uncertainty is None:
        return None
    variance = np.asarray(image.uncertainty.array, dtype=float)
    good = np.isfinite(variance) & (variance > 0) & ~image.mask
    noise = np.ones(variance.shape)
    if good.any():
        noise[good] = np.sqrt(variance[good] / np.median(variance[good]))
    return noise


def _positive(header, key):
    """Return a positive number of a header, or None."""
    value = card_value(header, key)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and 0 < value < np.inf else None
