# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Files of results: ECSV, FITS or CSV, by the ending of the name.

The first two hold the table of results, which any program reads. Beside it may be a JSON text with
everything that has no place in a row (covariance, what was fixed, sources left out, provenance).
`read_document` returns that text as plain values; `muse_imphot.results` makes results of them.
CSV, which has no place for units either, is for spreadsheets and is not read back.
"""

import contextlib
import logging
from pathlib import Path

import numpy as np
from astropy.io import fits

from ..exceptions import InputFileError
from ..io import atomic_path
from .json_text import from_json, to_json
from .tables import FORMAT, check_columns, read_table, results_table, write_table

__all__ = ["read_document", "write_results"]

log = logging.getLogger(__name__)

_FITS_ENDINGS = (".fits", ".fit", ".fits.gz")
_FITS_STARTS = (b"SIMPLE  =", b"\x1f\x8b")  # plain, and compressed

# Where the JSON text is: under this key of the metadata in ECSV, in an extension of this name in
# FITS.
_KEY, _EXTENSION = "results", "DETAILS"


def write_results(results, path, *, full=False, overwrite=False, meta=None):
    """
    Write results as a table, one row each, or in full.

    Parameters
    ----------
    results : iterable of `~muse_imphot.results.FittedPhotometry`
        The results; failed ones keep their row.
    path : path-like
        The file: FITS or CSV if it ends so, ECSV otherwise. CSV holds the numbers of the table,
        and cannot be read back.
    full : bool, optional
        Whether an ECSV file holds everything that `~muse_imphot.results.read_result_list` needs to
        give the same results back; otherwise it holds the table alone. FITS files always hold
        everything. The images behind the fits are never written.
    overwrite : bool, optional
        Whether an existing file may be replaced.
    meta : dict, optional
        Provenance for the header of the table: inputs, options, versions.

    Returns
    -------
    `~astropy.table.QTable`
        The table that was written.

    Raises
    ------
    `~muse_imphot.exceptions.OutputError`
        If the file exists and ``overwrite`` is False, or cannot be written.
    """
    results, path = list(results), Path(path)
    table = results_table(results, meta=meta)
    if path.name.lower().endswith(_FITS_ENDINGS):
        with atomic_path(path, overwrite=overwrite) as temporary:
            _hdus(table, results).writeto(temporary)
        return table
    if path.suffix.lower() == ".csv":
        log.info("%s: CSV keeps neither units nor covariances; .ecsv and .fits do", path)
        write_table(table, path, overwrite=overwrite, format="ascii.csv")
        return table
    written = table.copy(copy_data=False)
    if full:
        # One text for each result, so that the header stays legible.
        written.meta[_KEY] = [to_json(result) for result in results]
    write_table(written, path, overwrite=overwrite)
    return table


def _hdus(table, results):
    """Return the table, and the JSON text, as the extensions of a FITS file."""
    primary = fits.PrimaryHDU()
    primary.header["IMPFMT"] = (FORMAT, "version of this format of results")
    primary.header["CREATOR"] = table.meta["package"].encode("ascii", "replace").decode("ascii")
    primary.header["DATE"] = (table.meta["created"], "when these results were written (UTC)")
    primary.header["NRESULT"] = (len(results), "number of results")
    text = to_json({"meta": dict(table.meta), _KEY: results})
    details = fits.ImageHDU(np.frombuffer(text.encode("ascii"), dtype=np.uint8), name=_EXTENSION)
    details.header["CONTENT"] = ("application/json", "what the bytes are")
    return fits.HDUList([primary, _table_hdu(table), details])


def _table_hdu(table):
    """Return the table of results for other programs; its texts in ASCII, as FITS wants them."""
    columns = []
    for name in table.colnames:
        column = table[name]
        if column.dtype.kind == "U":
            texts = np.array([text.encode("ascii", "replace") for text in column], dtype=np.bytes_)
            width = max(texts.dtype.itemsize, 1)
            columns.append(fits.Column(name, format=f"{width}A", array=texts))
            continue
        unit = _unit_text(getattr(column, "unit", None))
        values = np.asarray(getattr(column, "value", column), dtype=float)
        columns.append(fits.Column(name, format="D", unit=unit, array=values))
    return fits.BinTableHDU.from_columns(columns, name="RESULTS")


def _unit_text(unit):
    """Return a unit as FITS spells it, or as astropy does if FITS cannot; None for none."""
    try:
        return None if unit is None else unit.to_string("fits") or None
    except ValueError:  # a unit, or a scale, that FITS does not know
        return unit.to_string()


def read_document(path):
    """
    Read a file of results, of this format or an older one.

    Parameters
    ----------
    path : path-like
        A file that `write_results` wrote.

    Returns
    -------
    table : `~astropy.table.QTable` or None
        The table of results; None where the file is FITS, whose table is for other programs.
    meta : dict
        The metadata of that table.
    entries : list of dict or None
        The attributes of each result, with its class under ``"class"``; None where the file holds
        the table alone.

    Raises
    ------
    `~muse_imphot.exceptions.InputFileError`
        If the file is absent, holds something else, or is of a newer format.
    """
    path = Path(path)
    if _is_fits(path):
        content = _read_fits(path)
        _check_format(path, content["meta"])
        return None, content["meta"], content[_KEY]
    table = read_table(path)
    _check_format(path, table.meta)
    check_columns(path, table)
    texts = table.meta.pop(_KEY, None)
    if texts is None:
        return table, table.meta, None
    with _damage(path):
        return table, table.meta, [from_json(text) for text in texts]


def _is_fits(path):
    try:
        with open(path, "rb") as file:
            return file.read(9).startswith(_FITS_STARTS)
    except OSError as err:
        raise InputFileError(path, f"cannot be read ({err.strerror or err})") from err


def _read_fits(path):
    """Return the content of the JSON text in a FITS file."""
    # The file is opened here, because astropy leaves a truncated one open.
    with _damage(path), open(path, "rb") as file, fits.open(file, memmap=False) as hdus:
        if _EXTENSION not in hdus:
            raise InputFileError(
                path, f"has no extension {_EXTENSION}; is it a file of results of muse_imphot?"
            )
        version = hdus[0].header.get("IMPFMT", 0)
        _check_format(path, {"format": version})
        content = from_json(np.asarray(hdus[_EXTENSION].data, np.uint8).tobytes().decode("ascii"))
        return {"meta": content["meta"], _KEY: content[_KEY]}


@contextlib.contextmanager
def _damage(path):
    """Turn whatever a damaged file leads to into one error that names it."""
    try:
        yield
    except InputFileError:
        raise
    except Exception as err:
        text = " ".join(str(err).split()) or type(err).__name__
        raise InputFileError(path, f"is damaged, or no file of results ({text})") from err


def _check_format(path, meta):
    """Refuse a format that this version cannot know."""
    version = meta.get("format", 1)
    if not isinstance(version, int) or version > FORMAT:
        raise InputFileError(
            path,
            f"is of format {version!r} of results, and this version of muse_imphot reads up to "
            f"{FORMAT}; read it with a newer version",
        )
