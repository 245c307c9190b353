# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
When an image was taken, and where a star is then.
"""

import datetime
import math
import re

import numpy as np

from ..io.headers import card_text, card_value

__all__ = ["image_epoch", "moved"]

_DAY, _YEAR = 86400.0, 365.25
# J2000.0 as a modified Julian date.
_J2000 = 51544.5
# Dates outside of these years are what programs write when they do not know.
_YEARS = (1980.0, 2100.0)
_MAS = 1e-3 / 206264.80624709636


def image_epoch(header):
    """
    The middle of the exposure of an image.

    Parameters
    ----------
    header : `~astropy.io.fits.Header` or dict
        The merged header of the image. What is looked for, in this order: ``MJD-AVG``;
        ``EXPSTART`` and ``EXPEND`` (HST) or ``MJD-BEG`` and ``MJD-END``; ``MJD-OBS`` and
        ``DATE-OBS``, which are the start, so that half of ``EXPTIME`` is added.

    Returns
    -------
    epoch : float
        Julian year, such as 2016.0; NaN if the header does not tell.

    Examples
    --------
    >>> from muse_imphot.star_lists import image_epoch
    >>> round(image_epoch({"DATE-OBS": "2014-09-21T07:12:55"}), 3)
    2014.721
    """
    half = _number(header, "EXPTIME") / (2 * _DAY)
    half = half if half >= 0 else 0.0
    candidates = (
        _number(header, "MJD-AVG"),
        _middle(header, "EXPSTART", "EXPEND", half),
        _middle(header, "MJD-BEG", "MJD-END", half),
        _number(header, "MJD-OBS") + half,
        _date(header) + half,
    )
    years = (2000.0 + (mjd - _J2000) / _YEAR for mjd in candidates)
    return next((year for year in years if _YEARS[0] < year < _YEARS[1]), math.nan)


def _number(header, key):
    """Return the value of a card as a float, NaN where it is absent or no number."""
    value = card_value(header, key)
    if isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _middle(header, first, last, half):
    """Return the middle (MJD) between two cards; without the second, of the exposure."""
    start, end = _number(header, first), _number(header, last)
    return 0.5 * (start + end) if end >= start else start + half


def _date(header):
    """Return DATE-OBS, with TIME-OBS where it has no time of its own, as MJD."""
    text = card_text(header, "DATE-OBS")
    if old := re.fullmatch(r"(\d\d)/(\d\d)/(\d\d)", text):  # until 1999: day, month, year
        text = f"19{old[3]}-{old[2]}-{old[1]}"
    if "T" not in text:
        text = f"{text}T{card_text(header, 'TIME-OBS') or card_text(header, 'UT') or '00:00:00'}"
    for attempt in (text.removesuffix("Z"), text.partition("T")[0]):
        try:
            time = datetime.datetime.fromisoformat(attempt)
        except ValueError:
            continue
        time = time.replace(tzinfo=None)
        return (time - datetime.datetime(1858, 11, 17)).total_seconds() / _DAY
    return math.nan


def moved(ra, dec, pmra, pmdec, years):
    """
    Positions after some years of proper motion.

    The stars move on great circles with constant velocity. What is left out, the change of the
    distance and the parallax, is below a milliarcsecond but for the nearest stars.

    Parameters
    ----------
    ra, dec : array_like
        Positions in degrees.
    pmra, pmdec : array_like
        Proper motions in mas/yr; that in right ascension with the factor cos(dec), as Gaia has it.
    years : array_like
        Julian years; may be negative.

    Returns
    -------
    ra, dec : `~numpy.ndarray`
        Positions in degrees, right ascension from 0 to 360.
    """
    lon, lat = np.radians(ra), np.radians(dec)
    zero = np.zeros_like(lon + lat)
    position = np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat) + zero])
    east = np.array([-np.sin(lon) + zero, np.cos(lon) + zero, zero])
    north = np.array([-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat) + zero])
    angles = np.asarray(years, dtype=float) * _MAS
    x, y, z = position + np.asarray(pmra) * angles * east + np.asarray(pmdec) * angles * north
    return np.degrees(np.arctan2(y, x)) % 360.0, np.degrees(np.arctan2(z, np.hypot(x, y)))
