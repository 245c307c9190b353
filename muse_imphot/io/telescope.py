# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Which telescope an image comes from, so that arguments in the wrong order are noticed.
"""

import numpy as np

from .coordinates import pixel_scale
from .headers import FLUX_DENSITY, card_text, card_value, flux_scale, parse_unit

__all__ = ["looks_like_hst", "looks_like_muse"]

_HST_INSTRUMENTS = frozenset({"ACS", "WFC3", "WFPC2", "WFPC", "NICMOS", "STIS", "FOC", "COS"})
_HST_KEYWORDS = ("PHOTFLAM", "PHOTPLAM", "PHOTMODE", "FILTER", "FILTER1", "FILTNAM1")


def looks_like_hst(header):
    """
    Whether a header surely belongs to an HST image.

    Parameters
    ----------
    header : `~astropy.io.fits.Header`
        The merged header.

    Returns
    -------
    yes : bool
        True if TELESCOP is HST or INSTRUME one of its instruments.
    """
    telescope = card_text(header, "TELESCOP")
    return telescope == "HST" or (
        not telescope and card_text(header, "INSTRUME") in _HST_INSTRUMENTS
    )


def looks_like_muse(header, wcs=None):
    """
    Whether a header surely belongs to MUSE data.

    Parameters
    ----------
    header : `~astropy.io.fits.Header`
        The merged header.
    wcs : `~astropy.wcs.WCS`, optional
        The celestial coordinates, for headers that do not name an instrument.

    Returns
    -------
    yes : bool
        True if INSTRUME is MUSE; or, for an image without any keyword of HST, if its pixels are
        those of MUSE and it is in units of 1e-20 erg/s/cm2/Angstrom (FSCALE or BUNIT).
    """
    if looks_like_hst(header) or any(card_text(header, key) for key in _HST_KEYWORDS):
        return False
    if card_text(header, "INSTRUME"):
        return card_text(header, "INSTRUME") == "MUSE"
    if wcs is None or not 0.196 < pixel_scale(wcs) < 0.204:
        return False
    try:
        unit = parse_unit(card_value(header, "BUNIT"))
    except (ValueError, TypeError):
        return False
    factors = [flux_scale(header)]
    if unit is not None and unit.is_equivalent(FLUX_DENSITY):
        factors.append(unit.to(FLUX_DENSITY))
    return any(f is not None and np.isclose(f, 1e-20, rtol=1e-6, atol=0) for f in factors)
