# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Celestial coordinates of images and cubes, checked before anything relies on them.
"""

import re
import warnings

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS
from astropy.wcs.utils import wcs_to_celestial_frame

from ..exceptions import AssumptionWarning, HeaderError
from .headers import card_text, card_value, is_wcs_card

__all__ = ["celestial_wcs", "check_celestial", "pixel_scale"]


def celestial_wcs(header, label, *, hdul=None):
    """
    Celestial coordinates of an image or a cube, from the header of its own HDU alone.

    RADESYS and EQUINOX of that header decide the frame, as the FITS standard says: EQUINOX 2000
    without RADESYS means FK5, neither means ICRS.

    Parameters
    ----------
    header : `~astropy.io.fits.Header`
        The header of the HDU that holds the data.
    label : str
        The image, for messages.
    hdul : `~astropy.io.fits.HDUList`, optional
        The file, in which lookup tables of distortions are found.

    Returns
    -------
    wcs : `~astropy.wcs.WCS`
        Two axes, longitude first, checked by `check_celestial`.

    Raises
    ------
    HeaderError
        If there are no usable celestial coordinates.
    """
    # The cards of coordinates alone: a drizzled header has 5000 others (0.2 s), among them
    # dates such as '28/09/98', which are nothing to warn about here.
    wanted = (c for c in header.cards if re.fullmatch(r"NAXIS\d*", c.keyword) or is_wcs_card(c))
    header = fits.Header(list(wanted))
    _check_numbers(header, label)
    header = _with_one_matrix(header, label)
    header = _without_stray_sip(header, label)
    try:
        # FITSFixedWarning: RADECSYS, units and other things that wcslib mends by itself.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            wcs = WCS(header, fobj=hdul)
            if wcs.naxis > 2 and wcs.has_celestial:
                wcs = wcs.celestial
    # wcslib and its wrapper raise a dozen kinds, from MemoryError (-TAB without its table) to
    # KeyError (a lookup table that is not in the file).
    except Exception as error:
        raise HeaderError(
            f"{label}: the WCS cannot be used ({_short(error)}); correct the WCS keywords"
        ) from error
    return check_celestial(wcs, label)


def check_celestial(wcs, label):
    """
    Validate celestial coordinates, and put the longitude first.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`
        The coordinates.
    label : str
        The image, for messages.

    Returns
    -------
    wcs : `~astropy.wcs.WCS`
        The same, or an equivalent one whose first world axis is the longitude.

    Raises
    ------
    HeaderError
        If they are not celestial, not finite, singular, or of an absurd pixel scale.
    """
    if not isinstance(wcs, WCS):
        found = "no WCS" if wcs is None else f"a WCS of type {type(wcs).__name__}"
        raise HeaderError(f"{label}: has {found}; a FITS WCS (astropy.wcs.WCS) is needed")
    if not wcs.has_celestial:
        types = ", ".join(f"CTYPE{i + 1} = {t!r}" for i, t in enumerate(wcs.wcs.ctype))
        raise HeaderError(
            f"{label}: no celestial WCS ({types}); the image needs RA and DEC axes "
            "(CTYPE, CRVAL, CRPIX and CD keywords in the header of its data)"
        )
    if wcs.naxis != 2:
        wcs = wcs.celestial
    _check_matrix(wcs, label)
    try:
        wcs_to_celestial_frame(wcs)
    except ValueError:
        raise HeaderError(
            f"{label}: RADESYS = {wcs.wcs.radesys!r} is not a known celestial frame; "
            "ICRS, FK5 or FK4 is needed"
        ) from None
    return wcs if wcs.wcs.lng == 0 else _longitude_first(wcs, label)


def pixel_scale(wcs):
    """
    Size of the pixels of an image.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`
        Celestial coordinates of two axes, in degrees.

    Returns
    -------
    scale : float
        Square root of the area of a pixel at the reference point, without distortion, arcsec.
    """
    return float(np.sqrt(abs(np.linalg.det(wcs.pixel_scale_matrix)))) * 3600.0


def _check_matrix(wcs, label):
    """Raise HeaderError unless the linear part is finite, invertible and of a sane scale."""
    matrix = wcs.pixel_scale_matrix
    if not all(np.isfinite(v).all() for v in (wcs.wcs.crval, wcs.wcs.crpix, matrix)):
        raise HeaderError(f"{label}: CRVAL, CRPIX or the CD matrix of the WCS is not finite")
    singular_values = np.linalg.svd(matrix, compute_uv=False)
    if singular_values[1] <= 1e-6 * singular_values[0]:
        raise HeaderError(
            f"{label}: the CD matrix of the WCS is singular ({matrix.ravel().tolist()}); "
            "both axes need a pixel scale"
        )
    # Absent CD and CDELT give 1 deg per pixel, also if it is those of one axis.
    long, short = 3600.0 * singular_values
    if not (1e-4 < short and long < 60.0):
        size = f"{long:.6g}" if np.isclose(long, short) else f"{long:.6g} x {short:.6g}"
        raise HeaderError(
            f"{label}: the WCS says pixels of {size} arcsec; MUSE has 0.2, HST 0.03-0.1: "
            "correct the CD matrix (or CDELT) and CUNIT"
        )


def _check_numbers(header, label):
    """Raise HeaderError if a card of the linear WCS is not a number (wcslib would take 0)."""
    keys = [f"{name}{i}" for name in ("CRVAL", "CRPIX", "CDELT") for i in (1, 2)]
    keys += [f"{name}{i}_{j}" for name in ("CD", "PC") for i in (1, 2) for j in (1, 2)]
    for key in keys:
        if key not in header:
            continue
        value = card_value(header, key)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (is_number and np.isfinite(value)):
            raise HeaderError(f"{label}: {key} = {value!r} in the WCS is not a finite number")


def _with_one_matrix(header, label):
    """
    Return the header without the PC matrix if there is a CD matrix, too.

    That is against the standard, and HeaderError is raised unless they are the same.
    """
    cd, pc = (_matrix_cards(header, name) for name in ("CD", "PC"))
    if cd is None or pc is None:
        return header
    steps = [card_value(header, f"CDELT{i}", 1.0) for i in (1, 2)]
    pc = pc + np.diag([f"PC{i}_{i}" not in header for i in (1, 2)])
    if not np.allclose(pc * np.reshape(steps, (2, 1)), cd, rtol=0, atol=1e-6 * np.abs(cd).max()):
        raise HeaderError(
            f"{label}: the WCS has a CD and a PC matrix, which differ; delete the wrong one of them"
        )
    return fits.Header([c for c in header.cards if not re.fullmatch(r"PC\d_\d", c.keyword)])


def _matrix_cards(header, name):
    """Return the matrix of the first two axes in CDi_j or PCi_j cards; None without any."""
    keys = [f"{name}{i}_{j}" for i in (1, 2) for j in (1, 2)]
    if not any(key in header for key in keys):
        return None
    return np.reshape([float(card_value(header, key, 0.0)) for key in keys], (2, 2))


def _without_stray_sip(header, label):
    """Return the header without SIP terms that CTYPE does not announce (a drizzled image)."""
    if not ("A_ORDER" in header or "B_ORDER" in header):
        return header
    if any(card_text(header, f"CTYPE{i}").endswith("-SIP") for i in (1, 2)):
        return header
    warnings.warn(
        f"{label}: the header holds SIP distortion terms, but its CTYPE has no -SIP; "
        "they are left out (the image is taken to be drizzled)",
        AssumptionWarning,
        stacklevel=4,
    )
    return fits.Header([c for c in header.cards if not re.match(r"[AB]P?_(ORD|\d_\d)", c.keyword)])


def _longitude_first(wcs, label):
    """Return an equivalent WCS (same pixels) whose world axes are longitude, latitude."""
    swapped = WCS(naxis=2)
    swapped.wcs.ctype = list(wcs.wcs.ctype)[::-1]
    swapped.wcs.cunit = list(wcs.wcs.cunit)[::-1]
    swapped.wcs.crval = wcs.wcs.crval[::-1]
    swapped.wcs.crpix = wcs.wcs.crpix
    swapped.wcs.cd = wcs.pixel_scale_matrix[::-1]
    for name in ("lonpole", "latpole", "radesys", "equinox"):
        setattr(swapped.wcs, name, getattr(wcs.wcs, name))
    for name in ("sip", "cpdis1", "cpdis2", "det2im1", "det2im2"):
        setattr(swapped, name, getattr(wcs, name))
    swapped.array_shape = wcs.array_shape
    swapped.wcs.set()
    # wcslib hides the parameters of some projections (TPV), which would be lost.
    x, y = wcs.wcs.crpix[:, None] + 500.0 * np.array([[-1, -1, 1, 1], [-1, 1, -1, 1]])
    if not np.allclose(swapped.wcs_pix2world(x, y, 1)[::-1], wcs.wcs_pix2world(x, y, 1), 0, 1e-9):
        raise HeaderError(
            f"{label}: DEC comes before RA in a WCS with extra parameters; exchange the two axes"
        )
    return swapped


def _short(error):
    """Return the gist of an exception of wcslib: the last line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__
