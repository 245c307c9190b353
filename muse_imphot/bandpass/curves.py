# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Files of filter curves: text, ECSV and FITS tables, read and checked.

Nothing in a curve is repaired in silence. A curve that is faulty, or that may be in another unit
than Angstrom, ends in a `~muse_imphot.exceptions.BandpassError` that says how to mend it.
"""

import logging
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits

from ..exceptions import BandpassError, InputFileError
from ..io.fits_files import open_fits

__all__ = ["Curve", "parse_wave_unit", "read_curve", "validated"]

log = logging.getLogger(__name__)

# Names of columns, in lower case, by preference.
_WAVE_NAMES = ("wavelength", "wavelengths", "wave", "lambda", "lam", "wl")
_THROUGHPUT_NAMES = ("throughput", "transmission", "sensitivity", "response", "efficiency", "t")

# Spellings that astropy does not know, or (A, ampere) takes for something else.
_WAVE_UNITS = {
    "a": u.AA,
    "å": u.AA,
    "ang": u.AA,
    "angstroms": u.AA,
    "nanometer": u.nm,
    "nanometers": u.nm,
    "nanometre": u.nm,
    "nanometres": u.nm,
    "microns": u.um,
    "micrometer": u.um,
    "metre": u.m,
}

_COMMENT_MARKS = ("#", "%", ";", "!", "//", "\\")
_MAX_BYTES = 50_000_000  # no filter curve is that large; a data cube is
_MAX_THROUGHPUT = 1.5  # above it, the numbers are probably percent
_MORE_THAN_ALL = 1.001  # above it, they are not throughputs, but their shape may be right
_MIN_MEAN_WAVELENGTH = 2000.0  # below it, the numbers are probably nm or micron
_OPEN_END = 0.01  # fraction of the peak that is too much for the end of a curve


@dataclass
class Curve:
    """
    A filter curve as its file states it.

    Attributes
    ----------
    wavelength, throughput : `numpy.ndarray`
        The points, shape ``(n,)``, float64.
    unit : `~astropy.units.Unit` or None
        The unit of ``wavelength``; None where the file does not state it.
    meta : dict
        What the file says of itself (``filter``, ``instrument``, ``wavelength_medium``, ...).
    """

    wavelength: np.ndarray
    throughput: np.ndarray
    unit: u.UnitBase | None = None
    meta: dict = field(default_factory=dict)


def parse_wave_unit(unit, *, name="wave_unit"):
    """
    Return a unit of length from its name.

    Parameters
    ----------
    unit : str or `~astropy.units.Unit`
        For instance ``"Angstrom"``, ``"A"``, ``"nm"``, ``"micron"``.
    name : str, optional
        Where the unit comes from, for the message of the error.

    Returns
    -------
    `~astropy.units.Unit`

    Raises
    ------
    BandpassError
        If it is not a unit of length.
    """
    try:
        parsed = _WAVE_UNITS.get(str(unit).strip().lower()) or u.Unit(unit)
        parsed.to(u.AA)
    except (ValueError, TypeError, AttributeError, u.UnitConversionError):
        raise BandpassError(
            f"{name}: {str(unit)!r} is not a unit of wavelength; use Angstrom, nm or micron"
        ) from None
    return parsed


def read_curve(path):
    """
    Read a filter curve from a file.

    Parameters
    ----------
    path : path-like
        Text with two columns (wavelength and throughput, separated by blanks or commas, with any
        header and comment lines), an ECSV table, or a FITS table.

    Returns
    -------
    `Curve`
        Not yet checked; see `validated`.

    Raises
    ------
    InputFileError
        If the file is absent, damaged, or cannot be read.
    BandpassError
        If it holds no filter curve.
    """
    path = Path(path)
    start = _read_bytes(path, 30)
    if start.startswith(b"SIMPLE  ="):
        return _read_fits(path)
    if path.stat().st_size > _MAX_BYTES:
        raise BandpassError(f"{path}: too large for a filter curve; give a table of two columns")
    raw = _read_bytes(path)
    if b"\0" in raw:
        raise BandpassError(f"{path}: not text, ECSV or FITS; give a table of two columns")
    text = raw.decode("utf-8-sig", errors="replace")
    return _read_ecsv(path, text) if text.startswith("# %ECSV") else _read_text(path, text)


def validated(wavelength, throughput, *, name, unit=None, min_points=3, known=False):
    """
    Check the points of a filter curve.

    Parameters
    ----------
    wavelength, throughput : array-like
        The points, shape ``(n,)``.
    name : str or path-like
        What to call the curve in messages.
    unit : `~astropy.units.Unit`, optional
        The unit of ``wavelength``. Without it Angstrom is assumed if the numbers look like that.
    min_points : int, optional
        How many points there must be.
    known : bool, optional
        Whether what is odd about the curve has been said before.

    Returns
    -------
    wavelength, throughput : `numpy.ndarray`
        The points by increasing wavelength, in Angstrom.

    Raises
    ------
    BandpassError
        If there are too few points, wavelengths that are not positive, not in order or
        equal, throughputs that are not finite, negative, or look like percent, or if wavelengths
        without a unit do not look like Angstrom.
    """
    wavelength, throughput = np.asarray(wavelength, float), np.asarray(throughput, float)
    if len(wavelength) < min_points:
        raise BandpassError(
            f"{name}: only {len(wavelength)} points; a filter curve needs {min_points} or more"
        )
    _check_throughput(wavelength, throughput, name)
    wavelength, throughput = _check_order(wavelength, throughput, name)
    if unit is None:
        _check_looks_like_angstrom(wavelength.mean(), name)
    if not known:
        _warn_of_oddities(wavelength, throughput, name)
    return wavelength * (unit or u.AA).to(u.AA), throughput


def _warn_of_oddities(wavelength, throughput, name):
    """Say what is odd about a curve that can be used."""
    peak = throughput.max()
    if peak > _MORE_THAN_ALL:
        log.warning(
            "%s: the largest throughput is %.4g, more than 1; only the shape of the curve counts",
            name,
            peak,
        )
    for end in (0, -1):
        if throughput[end] > _OPEN_END * peak:
            log.warning(
                "%s: the curve does not reach zero at its end at %g (%.1f %% of the peak); "
                "it is taken as zero beyond",
                name,
                wavelength[end],
                100 * throughput[end] / peak,
            )


def _check_throughput(wavelength, throughput, name):
    """Refuse throughputs that cannot be one."""
    bad = ~np.isfinite(throughput)
    if bad.any():
        raise BandpassError(
            f"{name}: {bad.sum()} throughputs are not finite, the first at wavelength "
            f"{wavelength[bad][0]:g}; remove these points"
        )
    bad = throughput < 0
    if bad.any():
        raise BandpassError(
            f"{name}: {bad.sum()} throughputs are negative, the first ({throughput[bad][0]:g}) at "
            f"wavelength {wavelength[bad][0]:g}; set them to zero if they are noise"
        )
    if throughput.max() > _MAX_THROUGHPUT:
        raise BandpassError(
            f"{name}: the largest throughput is {throughput.max():g}, which looks like percent; "
            "give fractions between 0 and 1"
        )
    if not throughput.any():
        raise BandpassError(f"{name}: every throughput is zero; a filter must transmit something")


def _check_order(wavelength, throughput, name):
    """Return the points by increasing wavelength, or refuse them."""
    bad = ~(np.isfinite(wavelength) & (wavelength > 0))
    if bad.any():
        raise BandpassError(
            f"{name}: wavelength {wavelength[bad][0]:g} at point {np.flatnonzero(bad)[0] + 1} is "
            "not a positive number; remove or correct it"
        )
    step = np.diff(wavelength)
    if (step == 0).any():
        where = np.flatnonzero(step == 0)[0]
        raise BandpassError(
            f"{name}: wavelength {wavelength[where]:g} occurs twice (points {where + 1} and "
            f"{where + 2}); remove one, or move it a little"
        )
    if (step < 0).all():
        return wavelength[::-1], throughput[::-1]
    if (step < 0).any():
        where = np.flatnonzero(step < 0)[0]
        raise BandpassError(
            f"{name}: the wavelengths are not in order ({wavelength[where + 1]:g} follows "
            f"{wavelength[where]:g} at point {where + 2}); sort the curve by wavelength"
        )
    return wavelength, throughput


def _check_looks_like_angstrom(mean, name):
    """Refuse wavelengths without a unit that are hardly in Angstrom."""
    if mean >= _MIN_MEAN_WAVELENGTH:
        return
    guess = "nm" if mean > 100 else "micron" if mean > 0.1 else "m"
    raise BandpassError(
        f"{name}: the mean wavelength is {mean:g}, which looks like {guess}, not Angstrom; "
        f"say which it is: wave_unit={guess!r} or 'Angstrom' (--wave-unit)"
    )


def _read_bytes(path, size=-1):
    """Return the content of a regular file."""
    try:
        if path.exists() and not path.is_file():
            raise InputFileError(path, "not a regular file; give the file of a filter curve")
        with open(path, "rb") as stream:
            return stream.read(size)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputFileError(
            path, f"{reason}; give a filter name such as F606W or the file of a filter curve"
        ) from None


def _read_text(path, text):
    """Return the curve of a text file with two columns of numbers."""
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.split("#")[0].strip()
        if not line or line.startswith(_COMMENT_MARKS):
            continue
        values = _numbers(line.strip(" \t,;|"))
        if values is not None:
            rows.append(values)
        elif rows:
            raise BandpassError(f"{path}: line {number} is not two numbers: {line[:40]!r}")
    if not rows:
        raise BandpassError(
            f"{path}: no line with two numbers; a filter curve has the columns wavelength and "
            "throughput"
        )
    _refuse_row_numbers(path, rows)
    wavelength, throughput = np.array([row[:2] for row in rows]).T
    return Curve(wavelength, throughput)


def _numbers(line):
    """Return the leading numbers of a line as a list, or None if these are not two or more."""
    values = []
    for text in re.split(r"[\s,;|]+", line):
        try:
            values.append(float(text.replace("D", "E")))
        except ValueError:
            break
    return values if len(values) >= 2 else None


def _refuse_row_numbers(path, rows):
    """Refuse a table whose first column only counts its rows."""
    first = np.array([row[0] for row in rows])
    counts = np.array_equal(first, np.arange(len(rows)) + first[0]) and first[0] in (0, 1)
    if counts and len(rows) > 2 and min(map(len, rows)) > 2:
        raise BandpassError(
            f"{path}: the first column only numbers the rows; keep the columns wavelength and "
            "throughput"
        )


def _read_ecsv(path, text):
    """Return the curve of an ECSV table."""
    from astropy.table import Table

    try:
        table = Table.read(text.splitlines(), format="ascii.ecsv")
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        problem = f"not a readable ECSV table ({type(error).__name__}: {error})"
        raise BandpassError(f"{path}: {problem}; save the curve again") from None
    return _curve_of_columns(path, table, {n: table[n].unit for n in table.colnames}, table.meta)


def _read_fits(path):
    """Return the curve of the first table in a FITS file."""
    with open_fits(path) as hdus:
        tables = [hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)]
        if not tables:
            raise BandpassError(f"{path}: no table in this FITS file; a filter curve is a table")
        columns = {column.name: tables[0].data[column.name] for column in tables[0].columns}
        units = {column.name: column.unit for column in tables[0].columns}
    return _curve_of_columns(path, columns, units, {})


def _curve_of_columns(path, columns, units, meta):
    """Return the curve from named columns: the usual names, or else the first two."""
    names = list(units)
    if len(names) < 2:
        raise BandpassError(f"{path}: {len(names)} columns; needed are wavelength and throughput")
    wave = _pick(names, _WAVE_NAMES, names[0])
    throughput = _pick(names, _THROUGHPUT_NAMES, names[1] if wave == names[0] else names[0])
    try:
        points = [
            np.ma.filled(np.ma.asarray(columns[n], float), np.nan) for n in (wave, throughput)
        ]
    except (ValueError, TypeError):
        raise BandpassError(
            f"{path}: columns {wave!r} and {throughput!r} are not numbers"
        ) from None
    unit = parse_wave_unit(units[wave], name=path) if units[wave] else None
    return Curve(*points, unit, dict(meta))


def _pick(names, wanted, default):
    """Return the first of the wanted names that is there, whatever its case."""
    by_case = {name.lower(): name for name in names}
    return next((by_case[name] for name in wanted if name in by_case), default)
