# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Tables of results: one row per exposure, filter and method, with units, and their files.

Written as ECSV, because that keeps units, descriptions and provenance in a plain text file.
"""

import datetime
import io
import re
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable

from .. import __version__
from ..exceptions import InputFileError
from ..io import atomic_path
from .flags import FitFlags

__all__ = [
    "COLUMNS",
    "FORMAT",
    "check_columns",
    "clean",
    "plain",
    "read_table",
    "results_table",
    "write_table",
]

# Version of the format of files of results; to be raised when older versions could not read them.
# Files without a version are of format 1.
FORMAT = 2

TEXT_COLUMNS = ("name", "exposure", "filter", "method")
PARAMETERS = ("scale", "bg", "dx", "dy", "dra", "ddec", "fwhm", "beta")
ARCSEC = frozenset({"dx", "dy", "dra", "ddec", "fwhm"})
_IMAGE_UNIT = ("bg", "bg_err", "rms")

# Scripts outside the project rely on these names and their order.
COLUMNS = (
    *TEXT_COLUMNS,
    *(column for name in PARAMETERS for column in (name, f"{name}_err")),
    "rms",
    "rchi",
    "flags",
)
# What would break a row of the file: control characters, and any white space but the blank.
_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]|[^\S ]")
_DESCRIPTIONS = {
    "name": "MUSE image",
    "exposure": "exposure that the image belongs to",
    "filter": "HST filter",
    "method": "image or stars",
    "scale": "flux of MUSE over flux of HST",
    "bg": "background of MUSE minus that of HST",
    "dx": "MUSE minus HST along +x of the MUSE pixels",
    "dy": "MUSE minus HST along +y of the MUSE pixels",
    "dra": "MUSE minus HST in right ascension (coordinate, no cos dec); subtract from CRVAL1",
    "ddec": "MUSE minus HST in declination; subtract from CRVAL2",
    "fwhm": "FWHM of the Moffat PSF of MUSE, its pixel included",
    "beta": "exponent of the Moffat PSF of MUSE, its pixel included",
    "rms": "rms of the residual over the fitted pixels",
    "rchi": "reduced chi-square",
    "flags": "names joined by |, or ok",
}


def results_table(results, *, meta=None):
    """
    Collect results in a table.

    Parameters
    ----------
    results : iterable of `~muse_imphot.results.FittedPhotometry`
        The results; failed ones keep their row, with NaN.
    meta : dict, optional
        Provenance: what goes into ``table.meta["provenance"]``.

    Returns
    -------
    `~astropy.table.QTable`
        Columns `COLUMNS`, one row per result. `bg` and `rms` are in the unit of the first result
        that has one. ``meta`` holds the version, the meaning of the flags that occur, the pivot
        wavelengths of the filters, and under ``"failures"`` the reason of each failed row.
    """
    results = list(results)
    rows = [result.to_row() for result in results]
    unit, factors = _common_unit(results)
    table = QTable(meta=_table_meta(results, factors, meta))
    for column in COLUMNS:
        values = [row[column] for row in rows]
        if column in TEXT_COLUMNS or column == "flags":
            table[column] = np.array([clean(text) for text in values], dtype=str)
            continue
        values = np.array(values, dtype=float)
        if column in _IMAGE_UNIT:
            table[column] = u.Quantity(values * factors, unit)
        elif column.removesuffix("_err") in ARCSEC:
            table[column] = u.Quantity(values, u.arcsec)
        else:
            table[column] = values
    for column in COLUMNS:
        name = column.removesuffix("_err")
        error = f"standard deviation of {name}"
        table[column].info.description = _DESCRIPTIONS[name] if name == column else error
    return table


def clean(text):
    """Return a text that a file gives back as it is: UTF-8, no line break, no blank at an end."""
    text = str(text).encode("utf-8", "replace").decode("utf-8")
    text = _UNWRITABLE.sub("?", text).strip()
    # A row that begins with # would be read as a comment.
    return "?" + text[1:] if text.startswith("#") else text


def _common_unit(results):
    """
    Return the unit of the table, and the factor that takes each result to it.

    The factor is NaN where a result is in a unit that cannot be converted: such a number has no
    place in the column.
    """
    unit = next((result.unit for result in results if result.unit is not None), None)
    unit = u.dimensionless_unscaled if unit is None else u.Unit(unit)
    factors = np.full(len(results), np.nan)
    for i, result in enumerate(results):
        own = u.dimensionless_unscaled if result.unit is None else u.Unit(result.unit)
        if own.is_equivalent(unit):
            factors[i] = own.to(unit)
    return unit, factors


def _table_meta(results, factors, provenance):
    """Gather what the reader of a table needs beside its rows."""
    flags = FitFlags(0)
    for result in results:
        flags |= result.flags
    odd = [result for result, factor in zip(results, factors, strict=True) if np.isnan(factor)]
    return {
        "format": FORMAT,
        "package": f"muse_imphot {__version__}",
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "provenance": plain(provenance or {}),
        "pivots": {
            result.filter: float(result.pivot) for result in results if np.isfinite(result.pivot)
        },
        "flags": {name: FitFlags[name].meaning for name in flags.names()},
        "failures": [
            {**_identity(result), "reason": str(result.meta.get("reason", "unknown"))}
            for result in results
            if result.failed
        ],
        "other_units": [
            {**_identity(result), "unit": str(result.unit)} for result in odd if not result.failed
        ],
    }


def _identity(result):
    return {name: str(getattr(result, name)) for name in TEXT_COLUMNS}


def plain(value):
    """Reduce a value to what YAML stores the same way everywhere."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray) and not isinstance(value, u.Quantity):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    # Flags are integers to Python, but words to a reader.
    if value is None or isinstance(value, bool | int | float) and not isinstance(value, FitFlags):
        return value
    return str(value)


def write_table(table, path, *, overwrite=False, format="ascii.ecsv"):
    """
    Write a table as text, whole or not at all.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The table.
    path : path-like
        The file.
    overwrite : bool, optional
        Whether an existing file may be replaced.
    format : str, optional
        What astropy calls the format.

    Raises
    ------
    `~muse_imphot.exceptions.OutputError`
        If the file exists and ``overwrite`` is False, or cannot be written.
    """
    text = io.StringIO()
    table.write(text, format=format)
    with atomic_path(path, overwrite=overwrite) as temporary:
        # Not left to astropy, which would write in the encoding of the locale.
        temporary.write_text(text.getvalue(), encoding="utf-8")


def read_table(path):
    """
    Read an ECSV table.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    `~astropy.table.QTable`

    Raises
    ------
    `~muse_imphot.exceptions.InputFileError`
        If the file is absent, empty, or not ECSV.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        if not text.strip():
            raise InputFileError(path, "is empty; an ECSV table is needed")
        return QTable.read(text.split("\n"), format="ascii.ecsv", fill_values=None)
    except OSError as err:
        raise InputFileError(path, f"cannot be read ({err.strerror or err})") from err
    except InputFileError:
        raise
    except Exception as err:
        # What astropy raises for a file that is not ECSV depends on where it gives up.
        raise InputFileError(path, f"is not an ECSV table ({err})") from err


def check_columns(path, table):
    """
    Refuse a table that is not one of results.

    Parameters
    ----------
    path : path-like
        Where it comes from.
    table : `~astropy.table.Table`
        The table.

    Raises
    ------
    `~muse_imphot.exceptions.InputFileError`
        If it lacks columns of a table of results.
    """
    missing = [column for column in COLUMNS if column not in table.colnames]
    if missing:
        raise InputFileError(
            path,
            f"lacks the column(s) {', '.join(missing)} of a results table; is it another file?",
        )
