# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What headers say: their cards, the unit of the data, and which telescope they come from.

Everything here takes a `~astropy.io.fits.Header` (or something made from one) and the *label*
of the image, which opens every message: the path of the file, or "the MUSE image".
"""

import copy
import math
import re
import unicodedata
import warnings

import astropy.units as u
import numpy as np
from astropy.io import fits

from ..exceptions import AssumptionWarning, HeaderError

__all__ = [
    "card_text",
    "card_value",
    "check_flux_density",
    "flux_scale",
    "is_wcs_card",
    "merged_header",
    "muse_flux_unit",
    "observation_meta",
    "parse_unit",
    "sanitize_card",
    "without_wcs",
]

FLUX_DENSITY = u.erg / u.s / u.cm**2 / u.AA
MUSE_UNIT = u.Unit(1e-20 * FLUX_DENSITY)

# The keywords of the FITS container: they describe one HDU and must not travel to another.
_STRUCTURE = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|[PG]COUNT|GROUPS|BSCALE|BZERO|BLANK|CHECKSUM|DATASUM"
    r"|EXTNAME|EXTVER|EXTLEVEL|INHERIT|NEXTEND|END|"
)
# The keywords of world coordinates, alternates and distortions included.
_COORDINATES = re.compile(
    r"(WCSAXES|WCSNAME|(CTYPE|CRVAL|CRPIX|CDELT|CUNIT|CROTA|CRDER|CSYER|CNAME)\d"
    r"|(CD|PC)\d_\d|P[VS]\d_\d+|LONPOLE|LATPOLE|RADE[C]?SYS|EQUINOX|EPOCH|SPECSYS|RESTFRQ|RESTWAV)"
    r"[A-Z]?"
    r"|[AB]P?_(ORDER|DMAX|\d_\d)|(CPDIS|CPERR|D2IMDIS|D2IMERR|D2IM|DP|DQ)\d.*|D2IMEXT|D2IMARR|AXISCORR"
)
_NO_UNIT = frozenset({"", "UNITLESS", "NONE", "UNKNOWN", "N/A", "DIMENSIONLESS"})
# The words of HST headers, which the FITS standard does not know.
_HST_WORDS = {
    "ELECTRONS": "electron",
    "ELECTRON": "electron",
    "COUNTS": "count",
    "DN": "count",
    "CPS": "count/s",
}


def card_value(header, key, default=None):
    """
    Value of a card; the default where the card is absent, empty, or cannot be parsed.

    Parameters
    ----------
    header : `~astropy.io.fits.Header` or dict
        The cards.
    key : str
        The keyword.
    default : object, optional
        What an absent card gives.
    """
    try:
        value = header.get(key, default)
    except (fits.VerifyError, ValueError):
        return default
    return default if isinstance(value, fits.card.Undefined) else value


def observation_meta(header):
    """
    When an image was taken, as it goes into the provenance of a result.

    Parameters
    ----------
    header : `~astropy.io.fits.Header` or dict
        The cards.

    Returns
    -------
    meta : dict
        ``"mjd"``, the modified Julian date of the start, if ``MJD-OBS`` tells it.
    """
    value = card_value(header, "MJD-OBS")
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return {"mjd": float(value)} if known and math.isfinite(value) else {}


def card_text(header, key):
    """
    Value of a card as upper-case text without blanks at the ends; "" where it is absent.

    Parameters
    ----------
    header : `~astropy.io.fits.Header` or dict
        The cards.
    key : str
        The keyword.

    Returns
    -------
    text : str
        The text.
    """
    return str(card_value(header, key, "")).strip().upper()


def is_wcs_card(card):
    """Return whether a card belongs to the world coordinates."""
    return _COORDINATES.fullmatch(card.keyword) is not None


def merged_header(header, primary=None):
    """
    One header for an image: its own cards, then those that only the primary header has.

    The keywords of the FITS structure are left out, and of the primary header also those of the
    coordinates: they belong to another grid, or would change the celestial frame of the image.

    Parameters
    ----------
    header, primary : `~astropy.io.fits.Header`
        The header of the image extension and that of the primary HDU.

    Returns
    -------
    header : `~astropy.io.fits.Header`
        A new header.
    """
    cards = [card for card in header.cards if not _STRUCTURE.fullmatch(card.keyword)]
    if primary is not None and primary is not header:
        own = {card.keyword for card in cards}
        cards += [
            card
            for card in primary.cards
            if card.keyword not in own
            and not _STRUCTURE.fullmatch(card.keyword)
            and not is_wcs_card(card)
        ]
    # Header() would share the cards, so that a change here would change the source as well.
    return fits.Header([copy.copy(card) for card in cards])


def without_wcs(header):
    """
    Copy of a header without its world coordinates.

    Parameters
    ----------
    header : `~astropy.io.fits.Header`
        The cards.

    Returns
    -------
    header : `~astropy.io.fits.Header`
        A new header.
    """
    return fits.Header([copy.copy(card) for card in header.cards if not is_wcs_card(card)])


def sanitize_card(value):
    """
    Text that a FITS header accepts: ASCII, on one line.

    Accents are taken off, other foreign characters become "?", line breaks and control
    characters become blanks.

    Parameters
    ----------
    value : object
        Anything; it is turned into text.

    Returns
    -------
    text : str
        Printable ASCII.
    """
    text = " ".join(str(value).split())
    text = unicodedata.normalize("NFKD", text)
    text = "".join(char for char in text if not unicodedata.combining(char))
    text = text.encode("ascii", "replace").decode("ascii")
    return "".join(char if char.isprintable() else " " for char in text)


def parse_unit(text):
    """
    Unit of a BUNIT card.

    The spelling of the FITS standard comes first (what MUSE and MPDAF write), then the words of
    HST (``ELECTRONS/S``, ``COUNTS/S``, ``DN``), then whatever `astropy.units` understands. An
    ``A`` in the denominator of a flux density is an Angstrom, not an ampere.

    Parameters
    ----------
    text : str, `~astropy.units.UnitBase` or None
        The text.

    Returns
    -------
    unit : `~astropy.units.UnitBase` or None
        None where the text says nothing (blank, ``UNITLESS``).

    Raises
    ------
    ValueError
        If the text is not a unit.
    """
    if isinstance(text, u.UnitBase):
        return None if text == u.dimensionless_unscaled else text
    text = "" if text is None else str(text).strip()
    if text.upper() in _NO_UNIT:
        return None
    words = re.sub(r"^e-(?=[/ *]|$)", "electron", text, flags=re.IGNORECASE)
    words = re.sub(r"[A-Za-z]+", lambda m: _HST_WORDS.get(m[0].upper(), m[0]), words)
    if words != text:
        words = re.sub(r"(?<=[/ *])(s|sec|second)\b", "s", words, flags=re.IGNORECASE)
    words = re.sub(r"\b(A|Ang|Angstroms?|angstroms?)(?=$|[\d\s*/^)-])", "Angstrom", words)
    # The generic parser warns about several slashes, which are usual in BUNIT.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", u.UnitsWarning)
        try:
            return u.Unit(words, format="fits")
        except ValueError:
            return u.Unit(words)


def muse_flux_unit(label, *headers):
    """
    Unit of MUSE data.

    The first BUNIT that says something counts. FSCALE, of old MPDAF files, is the unit where
    there is no BUNIT, and a factor where BUNIT has none of its own. Without either the unit is
    taken to be that of the MUSE pipeline, with a warning.

    Parameters
    ----------
    label : str
        The image, for messages.
    *headers : `~astropy.io.fits.Header`
        The header of the data, then the primary header.

    Returns
    -------
    unit : `~astropy.units.UnitBase`
        A flux density per wavelength.

    Raises
    ------
    HeaderError
        If BUNIT cannot be understood or is not a flux density per wavelength.
    """
    texts = (card_value(header, "BUNIT", "") for header in headers)
    text = next((t for t in texts if str(t).strip().upper() not in _NO_UNIT), None)
    fscale = flux_scale(*headers)
    if text is not None:
        unit = check_flux_density(_parsed_bunit(text, label), label)
        has_factor = not np.isclose(unit.to(FLUX_DENSITY), 1.0)
        return unit if has_factor or fscale is None else u.Unit(fscale * unit)
    if fscale is not None:
        return u.Unit(fscale * FLUX_DENSITY)
    warnings.warn(
        f"{label}: no BUNIT; the data are taken to be in 1e-20 erg/s/cm2/Angstrom",
        AssumptionWarning,
        stacklevel=3,
    )
    return MUSE_UNIT


def flux_scale(*headers):
    """
    Return the positive number in FSCALE, freed of rounding errors (9.99999999999999e-21).

    Parameters
    ----------
    *headers : `~astropy.io.fits.Header`
        Headers to look in.

    Returns
    -------
    factor : float or None
        The first one found.
    """
    for header in headers:
        value = card_value(header, "FSCALE")
        if isinstance(value, (int, float)) and np.isfinite(value) and value > 0:
            return float(f"{value:.10g}")
    return None


def _parsed_bunit(text, label):
    try:
        return parse_unit(text)
    except (ValueError, TypeError):
        raise HeaderError(
            f"{label}: BUNIT = {text!r} is not a unit; MUSE data are in a flux density such as "
            "'10**(-20)*erg/s/cm**2/Angstrom': correct BUNIT"
        ) from None


def check_flux_density(unit, label):
    """
    Return the unit if it is a flux density per wavelength.

    Raises
    ------
    HeaderError
        If it is something else.
    """
    # A plain conversion, so that magnitudes and Jy are refused.
    if not unit.is_equivalent(FLUX_DENSITY):
        raise HeaderError(
            f"{label}: the data are in {unit.to_string()!r}; MUSE data need a flux density per "
            "wavelength such as '10**(-20)*erg/s/cm**2/Angstrom'"
        )
    return unit
