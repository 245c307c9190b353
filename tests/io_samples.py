# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Small FITS files for the tests of the readers and writers."""

import copy

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from muse_imphot.io import parse_unit

MUSE_BUNIT = "10**(-20)*erg/s/cm**2/Angstrom"
CENTRE = (53.16, -27.79)


def wcs_cards(scale=0.2, shape=(12, 10), centre=CENTRE, **changes):
    """Cards of a north-up TAN WCS; a change to None takes a card out."""
    step = scale / 3600
    cards = {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CUNIT1": "deg",
        "CUNIT2": "deg",
        "CRVAL1": centre[0],
        "CRVAL2": centre[1],
        "CRPIX1": (shape[-1] + 1) / 2,
        "CRPIX2": (shape[-2] + 1) / 2,
        "CD1_1": -step,
        "CD1_2": 0.0,
        "CD2_1": 0.0,
        "CD2_2": step,
        **changes,
    }
    return {key: value for key, value in cards.items() if value is not None}


def header(cards):
    """Header with the given cards."""
    result = fits.Header()
    for key, value in cards.items():
        result[key] = value
    return result


def pixels(shape=(12, 10), seed=1, dtype=np.float32):
    """Noise with a mean of 5."""
    return np.random.default_rng(seed).normal(5.0, 1.0, shape).astype(dtype)


def muse_hdus(data=None, *, stat="auto", dq=None, primary=None, **changes):
    """HDUs of a MUSE image; changes are cards of DATA."""
    data = pixels() if data is None else data
    cards = wcs_cards(shape=data.shape, **{"BUNIT": MUSE_BUNIT, **changes})
    hdus = [fits.PrimaryHDU(header=header({"INSTRUME": "MUSE"} if primary is None else primary))]
    hdus.append(fits.ImageHDU(data, header(cards), name="DATA"))
    if isinstance(stat, str):
        stat = np.full(data.shape, 0.25, dtype=np.float32)
    if stat is not None:
        hdus.append(fits.ImageHDU(stat, name="STAT"))
    if dq is not None:
        hdus.append(fits.ImageHDU(dq, name="DQ"))
    return fits.HDUList(hdus)


def hst_hdus(data=None, *, wht=None, primary=None, centre=CENTRE, **changes):
    """HDUs of a drizzled HST image; changes are cards of SCI."""
    data = pixels((60, 50)) - 5 if data is None else data
    cards = wcs_cards(0.05, data.shape, centre, **{"BUNIT": "ELECTRONS/S", **changes})
    cards_hst = {"TELESCOP": "HST", "INSTRUME": "ACS", "EXPTIME": 500.0, **(primary or {})}
    cards_hst = {key: value for key, value in cards_hst.items() if value is not None}
    hdus = [fits.PrimaryHDU(header=header(cards_hst))]
    hdus.append(fits.ImageHDU(data, header(cards), name="SCI"))
    if wht is not None:
        hdus.append(fits.ImageHDU(wht, name="WHT"))
    return fits.HDUList(hdus)


def cube_hdus(shape=(7, 6, 5), *, stat=True, dq=None, data=None, **changes):
    """HDUs of a MUSE cube; changes are cards of DATA."""
    data = pixels(shape) if data is None else data
    spectral = {
        "BUNIT": MUSE_BUNIT,
        "CTYPE3": "AWAV",
        "CUNIT3": "Angstrom",
        "CRVAL3": 5000.0,
        "CRPIX3": 1.0,
        "CD3_3": 1.25,
        **changes,
    }
    cards = wcs_cards(shape=data.shape, **spectral)
    hdus = [fits.PrimaryHDU(header=header({"INSTRUME": "MUSE", "OBJECT": "field"}))]
    hdus.append(fits.ImageHDU(data, header(cards), name="DATA"))
    if stat:
        hdus.append(fits.ImageHDU(np.abs(data) + 1, name="STAT"))
    if dq is not None:
        hdus.append(fits.ImageHDU(dq, name="DQ"))
    return fits.HDUList(hdus)


def write(hdus, path):
    """Write HDUs and return the path."""
    hdus.writeto(path, output_verify="ignore")
    return path


class FakeCube:
    """An object with the attributes of an MPDAF Cube; a part of it is one, too."""

    def __init__(self, hdus, filename="cube.fits"):
        self.primary_header = hdus[0].header
        self.data_header = hdus["DATA"].header
        self.data = np.ma.masked_invalid(hdus["DATA"].data)
        self.var = np.ma.masked_invalid(hdus["STAT"].data) if "STAT" in hdus else None
        self.wcs = FakeWcs(self.data_header)
        self.wave = FakeWave(self.data_header)
        self.unit = parse_unit(self.data_header["BUNIT"])
        self.filename = filename

    @property
    def shape(self):
        return self.data.shape

    def __getitem__(self, item):
        part = copy.copy(self)
        part.data = self.data[item]
        part.var = None if self.var is None else self.var[item]
        return part


class FakeWcs:
    """Celestial coordinates, wrapped as MPDAF wraps them."""

    def __init__(self, header):
        self.wcs = WCS(header).celestial


class FakeWave:
    """The wavelengths of an MPDAF Cube."""

    def __init__(self, header):
        self._header = header

    def to_header(self, naxis=1, use_cd=False):
        assert naxis == 3
        assert use_cd
        keys = ("CRVAL3", "CRPIX3", "CUNIT3", "CTYPE3", "CD3_3")
        return fits.Header([(key, self._header[key]) for key in keys])
