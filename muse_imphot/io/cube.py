# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
MUSE cubes, read slab by slab in bounded memory.
"""

import os
import warnings
from contextlib import ExitStack

import astropy.units as u
import numpy as np

from ..exceptions import AssumptionWarning, HeaderError, InputFileError
from .coordinates import celestial_wcs
from .fits_files import (
    base_name,
    find_image,
    image_shape,
    open_fits,
    open_plain,
    same_shape_hdu,
)
from .headers import card_text, card_value, merged_header, muse_flux_unit, sanitize_card
from .planes import PlaneReader
from .telescope import looks_like_hst

__all__ = [
    "MuseCube",
    "air_to_vacuum",
    "open_cube",
    "require_cube",
    "slab_ranges",
    "vacuum_to_air",
    "wavelength_edges",
]

# Types of the wavelength axis (without an algorithm code) and whether they are air wavelengths.
# Old MUSE and MPDAF files say LINEAR; the MUSE pipeline writes air unless asked otherwise.
_AIR = {"AWAV": True, "WAVE": False, "LINEAR": True, "": True}
_UNSAID = ("LINEAR", "")


def open_cube(path):
    """
    Open a MUSE cube.

    Parameters
    ----------
    path : path-like
        A FITS file of the layout PRIMARY / DATA / STAT / DQ; STAT and DQ may be absent.

    Returns
    -------
    cube : `MuseCube`
        To be used as a context manager, or closed with its ``close`` method.

    Raises
    ------
    InputFileError
        If the file cannot be read, is truncated, or holds no cube.
    HeaderError
        If its celestial coordinates, wavelengths or unit cannot be used.
    """
    return MuseCube(path)


class MuseCube:
    """
    A MUSE cube on disk: its headers are read, its voxels come in slabs.

    Not for several threads or processes at a time: each opens the file itself.

    Parameters
    ----------
    path : path-like
        The file.

    Attributes
    ----------
    path : str
        The file.
    name : str
        Its name without folder and .fits.
    shape : tuple of int
        Number of channels, rows and columns (nlam, ny, nx).
    header, primary_header : `~astropy.io.fits.Header`
        The header of DATA followed by the cards that only the primary one has; the latter alone.
    wcs : `~astropy.wcs.WCS`
        Celestial coordinates, two axes.
    unit : `~astropy.units.UnitBase`
        Unit of the data, a flux density per wavelength.
    wavelength_edges : `~numpy.ndarray`
        Edges of the channels, shape (nlam + 1,), vacuum Angstrom.
    wavelengths : `~numpy.ndarray`
        Centres of the channels, shape (nlam,), vacuum Angstrom.
    air : bool
        Whether the file gives air wavelengths (CTYPE3 = AWAV).
    has_variance, has_dq : bool
        Whether there are a variance (STAT) and a quality extension (DQ).
    """

    def __init__(self, path):
        self.path = os.fspath(path)
        self.name = base_name(path)
        self._closed = False
        self._stack = ExitStack()
        try:
            self._read_headers(self._stack.enter_context(open_fits(self.path)))
        except BaseException:
            self._stack.close()
            raise
        self._stamp = self._file_stamp()

    def _read_headers(self, hdul):
        data = find_image(hdul, self.path, ("DATA", "SCI"), 3)
        self.shape = image_shape(data, 3)
        self.primary_header = hdul[0].header.copy()
        self.header = merged_header(data.header, hdul[0].header)
        self.header["IMPFILE"] = (sanitize_card(self.name), "file that the cube came from")
        require_cube(self.shape, self.header, self.path)
        self.wcs = celestial_wcs(data.header, self.path, hdul=hdul)
        self.unit = muse_flux_unit(self.path, data.header, hdul[0].header)
        self.wavelength_edges, self.air = wavelength_edges(data.header, self.shape[0], self.path)
        pixels = np.arange(1, self.shape[0] + 1.0)
        self.wavelengths = _wavelengths(data.header, pixels, self.path)[0]
        file = open_plain(self.path)
        if file is not None:
            self._stack.enter_context(file)
        stat, dq = (same_shape_hdu(hdul, self.path, name, self.shape) for name in ("STAT", "DQ"))
        self._data, self._stat, self._dq = (
            None if hdu is None else PlaneReader(hdu, self.path, file) for hdu in (data, stat, dq)
        )

    @property
    def has_variance(self):
        """Whether the cube has a variance (STAT)."""
        return self._stat is not None

    @property
    def has_dq(self):
        """Whether the cube has a quality extension (DQ)."""
        return self._dq is not None

    def __repr__(self):
        first, last = self.wavelengths[[0, -1]]
        return f"<MuseCube {self.path!r} {self.shape}, {first:.1f}-{last:.1f} Angstrom (vacuum)>"

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        """Close the file."""
        self._stack.close()
        self._closed = True

    def slabs(self, planes=32, *, variance=True, start=0, stop=None, native=True):
        """
        Read the cube slab by slab.

        Parameters
        ----------
        planes : int, optional
            Number of channels of a slab; 32 of 300x300 spaxels are 11 MB of data.
        variance : bool, optional
            Whether to read the variance too.
        start, stop : int, optional
            First channel, and the one after the last; by default all are read.
        native : bool, optional
            Whether the arrays are new ones of native float32. Otherwise they are of the type and
            the byte order of the file, and valid until the next slab.

        Yields
        ------
        first, end : int
            The channels of the slab, ``first:end``.
        data : `~numpy.ndarray`
            Shape (end - first, ny, nx); NaN where DQ != 0.
        variance : `~numpy.ndarray` or None
            The same of the variance, untouched by DQ; None without STAT or if not asked for.

        Raises
        ------
        InputFileError
            If the data cannot be read, or the file is changed meanwhile.
        ValueError
            If the cube is closed, or ``planes`` is not positive.
        """
        stat = self._stat if variance else None
        for first, end in slab_ranges(self.shape[0], planes, start, stop):
            if self._closed:
                raise ValueError(f"the cube {self.path} is closed")
            data = self._data(first, end)
            if native or (self._dq is not None and data.dtype.kind != "f"):
                data = np.array(data, np.float32, order="C")
            if self._dq is not None:
                np.copyto(data, np.nan, where=self._dq(first, end) != 0)
            errors = None if stat is None else stat(first, end)
            if native and errors is not None:
                errors = np.array(errors, np.float32, order="C")
            yield first, end, data, errors
        if self._file_stamp() != self._stamp:
            raise InputFileError(self.path, "was changed while it was read; run again")

    def _file_stamp(self):
        try:
            info = os.stat(self.path)
        except OSError:
            return None
        return info.st_size, info.st_mtime_ns, info.st_ino


def slab_ranges(n_channels, planes, start=0, stop=None):
    """
    Yield the ranges of channels of slabs.

    Parameters
    ----------
    n_channels : int
        Number of channels of the cube.
    planes : int
        Number of channels of a slab.
    start, stop : int, optional
        First channel, and the one after the last.

    Yields
    ------
    first, end : int
        The channels ``first:end``.

    Raises
    ------
    ValueError
        If ``planes`` is not positive.
    """
    if planes < 1:
        raise ValueError(f"planes must be at least 1, not {planes}")
    stop = n_channels if stop is None else min(stop, n_channels)
    for first in range(max(start, 0), stop, planes):
        yield first, min(first + planes, stop)


def require_cube(shape, header, label):
    """
    Refuse what is not a cube of several channels.

    Parameters
    ----------
    shape : tuple of int
        The shape of the array.
    header : `~astropy.io.fits.Header`
        The merged header.
    label : str
        The cube, for messages.

    Raises
    ------
    InputFileError
        If it is an image, or an image of HST.
    """
    if looks_like_hst(header):
        raise InputFileError(label, "is an HST image, where a MUSE cube is needed")
    if len(shape) == 3 and shape[0] > 1:
        return
    if len(shape) in (2, 3):
        raise InputFileError(
            label,
            f"is an image (shape {shape}), where a cube is needed; an image needs no extraction, "
            "give it to the fit as it is (muse-imphot fit)",
        )
    raise InputFileError(label, f"has {len(shape)} axes, shape {shape}; a cube of 3 is needed")


# ---------------------------------------------------------------------------------------------
# Wavelengths
# ---------------------------------------------------------------------------------------------
def air_to_vacuum(wavelength):
    """
    Vacuum wavelengths of wavelengths in standard air.

    The refractive index is that of Ciddor (1996, Applied Optics 35, 1566, equation 1), for dry
    air at 15 C, 101325 Pa, with 450 ppm of CO2. It is a function of the vacuum wavelength, so
    that the relation is inverted by iteration, to better than 1e-9 Angstrom.

    Parameters
    ----------
    wavelength : float or `~numpy.ndarray`
        Air wavelengths, Angstrom, 2300-17000.

    Returns
    -------
    vacuum : float or `~numpy.ndarray`
        Vacuum wavelengths, Angstrom.
    """
    air = np.asarray(wavelength, dtype=np.float64)
    vacuum = air
    for _ in range(4):
        vacuum = air * _index_of_air(vacuum)
    return vacuum


def vacuum_to_air(wavelength):
    """
    Wavelengths in standard air of vacuum wavelengths: the inverse of `air_to_vacuum`.

    Parameters
    ----------
    wavelength : float or `~numpy.ndarray`
        Vacuum wavelengths, Angstrom, 2300-17000.

    Returns
    -------
    air : float or `~numpy.ndarray`
        Air wavelengths, Angstrom.
    """
    vacuum = np.asarray(wavelength, dtype=np.float64)
    return vacuum / _index_of_air(vacuum)


def _index_of_air(vacuum):
    """Return the refractive index of air at vacuum wavelengths (Angstrom)."""
    sigma2 = (1e4 / vacuum) ** 2
    return 1.0 + 1e-8 * (5792105.0 / (238.0185 - sigma2) + 167917.0 / (57.362 - sigma2))


def wavelength_edges(header, nlam, label):
    """
    Edges of the channels of a cube.

    Parameters
    ----------
    header : `~astropy.io.fits.Header`
        The header of the HDU that holds the cube.
    nlam : int
        Number of channels.
    label : str
        The cube, for messages.

    Returns
    -------
    edges : `~numpy.ndarray`
        Shape (nlam + 1,), vacuum Angstrom, increasing.
    air : bool
        Whether the header gives air wavelengths.

    Raises
    ------
    HeaderError
        If the third axis is not one of wavelengths, or does not increase.

    Warns
    -----
    AssumptionWarning
        If CTYPE3 does not say air or vacuum: air is assumed then.
    """
    edges, air = _wavelengths(header, np.arange(nlam + 1) + 0.5, label)
    ctype = card_text(header, "CTYPE3")
    if ctype in _UNSAID:
        warnings.warn(
            f"{label}: CTYPE3 = {ctype!r} does not say whether the wavelengths are of air or "
            "vacuum; air is assumed, as the MUSE pipeline writes it",
            AssumptionWarning,
            stacklevel=2,
        )
    return edges, air


def _wavelengths(header, pixels, label):
    """Return the vacuum wavelengths of FITS pixel coordinates, and whether they were in air."""
    ctype = card_text(header, "CTYPE3")
    kind, _, algorithm = ctype.partition("-")
    if kind not in _AIR or algorithm.strip("-") not in ("", "LOG"):
        raise HeaderError(
            f"{label}: CTYPE3 = {ctype!r} is not a wavelength axis that can be used; AWAV (air) "
            "or WAVE (vacuum) is needed"
        )
    value, step = _number(header, "CRVAL3", label), _spectral_step(header, label)
    offset = (pixels - _number(header, "CRPIX3", label)) * step
    # Greisen et al. (2006, A&A 446, 747), section 3.2, for the logarithmic axis.
    waves = value * np.exp(offset / value) if algorithm.strip("-") == "LOG" else value + offset
    waves = waves * _angstroms(header, value, label)
    if not (step > 0 and waves[0] > 0 and np.isfinite(waves).all()):
        raise HeaderError(
            f"{label}: the wavelengths run from {waves[0]:.6g} to {waves[-1]:.6g} Angstrom; "
            "positive, increasing ones are needed (CRVAL3, CRPIX3, CD3_3 or CDELT3, CUNIT3)"
        )
    return (air_to_vacuum(waves) if _AIR[kind] else waves), _AIR[kind]


def _spectral_step(header, label):
    coupled = [f"{m}{i}" for m in ("CD", "PC") for i in ("1_3", "2_3", "3_1", "3_2")]
    for key in coupled:
        if card_value(header, key, 0.0) != 0.0:
            raise HeaderError(
                f"{label}: {key} couples the wavelength axis to the sky; it has to be 0"
            )
    if "CD3_3" in header:
        return _number(header, "CD3_3", label)
    factor = _number(header, "PC3_3", label) if "PC3_3" in header else 1.0
    return _number(header, "CDELT3", label) * factor


def _number(header, key, label):
    value = card_value(header, key)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not np.isfinite(value):
        raise HeaderError(
            f"{label}: {key} = {value!r}; the wavelength axis of the cube needs a number there"
        )
    return float(value)


def _angstroms(header, value, label):
    """Return the Angstrom in the unit of the wavelength axis."""
    text = str(card_value(header, "CUNIT3", "")).strip()
    if not text:
        # The standard says metres; numbers in the thousands can only be Angstrom.
        return 1.0 if value > 1.0 else 1e10
    try:
        unit = u.Unit("Angstrom" if text.upper() in ("A", "ANGSTROMS") else text, format="fits")
        return unit.to(u.AA)
    except ValueError:  # UnitConversionError is one too
        raise HeaderError(
            f"{label}: CUNIT3 = {text!r} is not a unit of wavelength; Angstrom, nm or m is needed"
        ) from None
