# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The filter and the zero point of an HST image, from its header or from a table."""

import re
import warnings
from collections.abc import Mapping
from os import PathLike

import numpy as np
from astropy.io import fits

from ..exceptions import AssumptionWarning, HeaderError
from ..io.fits_files import find_image, open_fits
from ..io.headers import card_value, merged_header

__all__ = ["DEFAULT_INSTRUMENT", "HstFilterInfo", "instrument_name", "parse_filter_name"]

DEFAULT_INSTRUMENT = "ACS/WFC"
_INSTRUMENTS = {"ACS": "ACS/WFC", "WFC3": "WFC3/UVIS", "WFPC2": "WFPC2"}
_FILTER = re.compile(r"F[QR]?\d{3,4}[A-Z]{1,2}")

_NAMING = ("FILTER", "FILTER1", "FILTER2"), ("FILTNAM1", "FILTNAM2"), ("PHOTMODE",)
_KEYWORDS = (*sum(_NAMING, ()), "INSTRUME", "DETECTOR", "PHOTFLAM", "PHOTPLAM", "PHOTBW")

# AB magnitude of a photon-weighted flux density f_lambda [erg/s/cm2/A] of 1 at a pivot wavelength
# of 1 A: -48.60 (the definition of the AB system) and c = 2.99792458e18 A/s.
_AB_CONSTANT = -48.60 + 2.5 * np.log10(2.99792458e18)

# AB zero point [mag of 1 e/s], pivot wavelength [A], rms width [A] of the filters of ACS/WFC: from
# the ACS zero points (2012-01-01) for F475W, F555W and F625W, from the XDF for the others.
_ACS_WFC = {
    "F435W": (25.68, 4328.2, 298.2),
    "F475W": (26.06, 4746.9, 420.2),
    "F555W": (25.72, 5361.0, 360.1),
    "F606W": (26.51, 5921.1, 672.3),
    "F625W": (25.91, 6311.4, 415.4),
    "F775W": (25.69, 7692.4, 434.4),
    "F814W": (25.94, 8057.0, 652.0),
    "F850LP": (24.87, 9033.1, 525.7),
}


def parse_filter_name(text):
    """Return (filter, instrument or "") of the name of a filter, or None for anything else."""
    if not isinstance(text, str):
        return None
    *instrument, name = re.split(r"[\s/_]+", text.strip().upper()) or [""]
    if not _FILTER.fullmatch(name) or (instrument and instrument[0] not in _INSTRUMENTS):
        return None
    return name, instrument_name("/".join(instrument)) if instrument else ""


def instrument_name(text):
    """Return the usual name of an instrument: ``"acs wfc1"`` gives ``"ACS/WFC"``."""
    first, *rest = re.split(r"[\s/_,]+", str(text).strip().upper())
    detector = rest[0].rstrip("0123456789") if rest else ""
    if first == "WFPC2" or not detector:
        return _INSTRUMENTS.get(first, first)
    return f"{first}/{detector}"


class HstFilterInfo:
    """
    The filter and the zero point of an HST image.

    Parameters
    ----------
    hst_or_name : str, path-like, `~astropy.io.fits.Header`, `~astropy.nddata.NDData` or image
        The name of a filter (``"F606W"``: ACS/WFC; the tabulated zero point), or whatever has the
        header of the image: the header itself, a file, an NDData with the header as ``meta``, an
        MPDAF image.

    Attributes
    ----------
    filter_name : str
        For instance ``"F606W"``.
    instrument : str
        For instance ``"ACS/WFC"``; empty if the header does not say.
    photflam : float
        Flux density (erg/s/cm2/Angstrom) that gives one count (electron or DN) per second.
    photplam, photbw : float
        Pivot wavelength and rms width (Angstrom); NaN if unknown.
    abmag_zero : float
        AB magnitude that gives one count per second; NaN without ``photplam``.
    tabulated : bool
        Whether the zero point is from a table, because the header has none.

    Raises
    ------
    HeaderError
        If the header does not name the filter or garbles PHOTFLAM, or if there is neither a
        PHOTFLAM nor a tabulated zero point.

    Warns
    -----
    AssumptionWarning
        If the header of an image has no PHOTFLAM and the tabulated zero point is taken.

    Examples
    --------
    >>> from muse_imphot.bandpass import HstFilterInfo
    >>> info = HstFilterInfo("F606W")
    >>> info.instrument, info.photplam, round(info.abmag_zero, 2)
    ('ACS/WFC', 5921.1, 26.51)
    """

    def __init__(self, hst_or_name):
        named = parse_filter_name(hst_or_name)
        label = _label_of(hst_or_name)
        if named is not None:
            self.filter_name, instrument = named
            self.instrument = instrument or DEFAULT_INSTRUMENT
            cards = {}
        else:
            cards = _cards_of(hst_or_name)
            self.filter_name = _filter_of(cards, label)
            self.instrument = _instrument_of(cards)
        photflam = _photflam_of(cards, label)
        self.tabulated = photflam is None
        row = self._tabulated_row()
        self.photplam = _positive(cards.get("PHOTPLAM"), row[1])
        self.photbw = _positive(cards.get("PHOTBW"), row[2])
        if self.tabulated:
            self._require_table(row, label, in_header=named is None)
            photflam = 10 ** (-0.4 * (row[0] - _AB_CONSTANT)) / row[1] ** 2
        self.photflam = float(photflam)
        zero = _AB_CONSTANT - 2.5 * np.log10(self.photflam * self.photplam**2)
        self.abmag_zero = float(zero)

    def __repr__(self):
        return (
            f"<HstFilterInfo {self.filter_name} {self.instrument or 'instrument unknown'}: "
            f"photflam={self.photflam:.5g} photplam={self.photplam:.5g}>"
        )

    def _tabulated_row(self):
        """Return (AB zero point, pivot wavelength, rms width) from the table, NaN if not there."""
        if self.instrument in (DEFAULT_INSTRUMENT, ""):
            return _ACS_WFC.get(self.filter_name, (np.nan,) * 3)
        return (np.nan,) * 3

    def _require_table(self, row, label, *, in_header):
        """Refuse a filter whose zero point is not tabulated; say when the table is used."""
        what = f"{self.instrument or 'HST'} {self.filter_name}"
        if in_header:
            what = f"{label}: no PHOTFLAM in the header; {what}"
        if np.isnan(row[0]):
            raise HeaderError(
                f"{what} is not in the table of zero points ({DEFAULT_INSTRUMENT} "
                f"{', '.join(_ACS_WFC)}); give a header with PHOTFLAM"
            )
        if in_header:
            warnings.warn(
                f"{what} is assumed to have the tabulated zero point of {DEFAULT_INSTRUMENT}, "
                f"{row[0]:.2f} mag AB",
                AssumptionWarning,
                stacklevel=4,
            )


def _label_of(source):
    """Return what messages call an image."""
    if isinstance(source, str | PathLike):
        return f"{source}"
    name = card_value(getattr(source, "meta", None) or {}, "IMPFILE")
    return f"HST image {name}" if name else "HST image"


def _cards_of(source):
    """Return the cards that matter of the header of an image, blank ones left out."""
    if isinstance(source, str | PathLike):
        headers = [_header_of_file(source)]
    elif isinstance(source, Mapping | fits.Header):
        headers = [source]
    else:
        names = ("primary_header", "data_header", "meta")
        headers = [getattr(source, name, None) or {} for name in names]
    cards = {}
    for header in headers:
        if not isinstance(header, fits.Header):
            header = {str(key).upper(): value for key, value in header.items()}
        cards.update({key: card_value(header, key) for key in _KEYWORDS if key in header})
    return {key: v for key, v in cards.items() if v is not None and str(v).strip()}


def _header_of_file(path):
    """Return the merged header of the image in a file; the pixels stay unread."""
    with open_fits(path) as hdus:
        return merged_header(find_image(hdus, path, ("DATA", "SCI"), 2).header, hdus[0].header)


def _filter_of(cards, label):
    """Return the name of the filter from the keywords of ACS, WFC3 and WFPC2."""
    for keywords in _NAMING:
        # WFPC2 has the numbers of its filters as FILTER1 and FILTER2.
        text = " ".join(v for v in map(cards.get, keywords) if isinstance(v, str)).upper()
        names = dict.fromkeys(filter(_FILTER.fullmatch, re.split(r"[\s,;/|+]+", text)))
        if len(names) > 1:
            raise HeaderError(
                f"{label}: {'/'.join(keywords)} name several filters ({', '.join(names)}); "
                "leave the one of this image"
            )
        if names:
            return next(iter(names))
    raise HeaderError(
        f"{label}: the header names no HST filter, such as F606W, in FILTER, FILTER1, FILTER2, "
        "FILTNAM1 or PHOTMODE; add FILTER to it"
    )


def _instrument_of(cards):
    """Return the instrument from INSTRUME and DETECTOR, or from PHOTMODE; "" if unknown."""
    first, *rest = re.split(r"[\s,]+", str(cards.get("PHOTMODE", "")).strip())
    instrument = cards.get("INSTRUME", first)
    detector = cards.get("DETECTOR", rest[0] if rest else "")
    # WFPC2 has the number of the chip as DETECTOR.
    return instrument_name(f"{instrument} {detector if isinstance(detector, str) else ''}")


def _photflam_of(cards, label):
    """Return PHOTFLAM, or None if there is no such card."""
    if "PHOTFLAM" not in cards:
        return None
    found = cards["PHOTFLAM"]
    photflam = _positive(found, None)
    if photflam is None:
        raise HeaderError(
            f"{label}: PHOTFLAM = {found!r} is not a positive number; correct the header"
        )
    return photflam


def _positive(value, default):
    """Return a positive finite number, or the default for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return default
    return number if 0 < number < np.inf and not isinstance(value, bool) else default
