# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Results of fits that failed, and results read back from files.
"""

import dataclasses
import math

from ..exceptions import InputFileError
from .files import read_document
from .fitted import FittedImagePhotometry, FittedPhotometry, FittedStarPhotometry
from .flags import FitFlags
from .tables import ARCSEC, PARAMETERS, TEXT_COLUMNS, results_table
from .values import FittedValue

__all__ = [
    "failed_result",
    "read_result",
    "read_result_list",
    "read_results",
    "results_from_table",
]


def failed_result(name, filter, reason, *, exposure=None, method="image", flags=0, **attributes):
    """
    Make the result of an exposure that could not be fitted, so that it keeps its row.

    Parameters
    ----------
    name, filter : str
        Name of the MUSE image, and of the HST filter.
    reason : str or Exception
        Why there is no fit.
    exposure : str, optional
        The exposure that the image belongs to.
    method : str, optional
        ``"image"`` or ``"stars"``.
    flags : `FitFlags`, optional
        Further flags; ``FAILED`` is always set.
    **attributes
        Further attributes that are known, such as ``unit`` or ``pivot``.

    Returns
    -------
    `FittedImagePhotometry` or `FittedStarPhotometry`
        All values are NaN; ``meta["reason"]`` holds the reason on one line.
    """
    kind = FittedStarPhotometry if method == "stars" else FittedImagePhotometry
    text = " ".join(str(reason).split()) or type(reason).__name__
    return kind(
        name=name,
        exposure=exposure,
        filter=filter,
        method=method,
        flags=FitFlags.FAILED | flags,
        meta={**attributes.pop("meta", {}), "reason": text},
        **attributes,
    )


def read_result(path):
    """
    Read a result back.

    Parameters
    ----------
    path : path-like
        A file that `FittedPhotometry.write` wrote.

    Returns
    -------
    `FittedImagePhotometry` or `FittedStarPhotometry`
        The result, without the images behind it. Of a file that holds the table alone (as older
        versions wrote), what the table holds: no covariance, and nothing is known to be fixed.

    Raises
    ------
    InputFileError
        If the file is absent, holds something else, or does not hold exactly one result.
    """
    results = read_result_list(path)
    if len(results) != 1:
        raise InputFileError(
            path, f"holds {len(results)} results, not one; read it with read_result_list"
        )
    return results[0]


def read_result_list(path):
    """
    Read all results of a file back.

    Parameters
    ----------
    path : path-like
        A file that `write_results` or `FittedPhotometry.write` wrote, ECSV or FITS.

    Returns
    -------
    list of `FittedPhotometry`
        The results, as `read_result` gives them.

    Raises
    ------
    InputFileError
        If the file is absent or holds something else.
    """
    table, _, entries = read_document(path)
    return results_from_table(table) if entries is None else _results(path, entries)


def read_results(path):
    """
    Read a table of results back.

    Parameters
    ----------
    path : path-like
        A file that `write_results` or `FittedPhotometry.write` wrote, ECSV or FITS.

    Returns
    -------
    `~astropy.table.QTable`
        See `results_table`.

    Raises
    ------
    InputFileError
        If the file is absent, holds something else, or lacks columns of a results table.
    """
    table, meta, entries = read_document(path)
    if table is None:
        table = results_table(_results(path, entries))
        table.meta.update(meta)
    return table


def _results(path, entries):
    """Make results of the attributes that a file holds."""
    kinds = {
        kind.__name__: kind
        for kind in (FittedPhotometry, FittedImagePhotometry, FittedStarPhotometry)
    }
    try:
        return [_from_attributes(kinds[entry["class"]], entry) for entry in entries]
    except (KeyError, TypeError, ValueError) as err:
        raise InputFileError(path, f"is damaged, or no file of results ({err})") from err


def _from_attributes(kind, attributes):
    # An attribute that a later version has added says nothing to this one.
    known = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in attributes.items() if name in known})


def results_from_table(table):
    """
    Turn a table of results back into results, as far as the table holds them.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        A table with the columns of `results_table`.

    Returns
    -------
    list of `FittedPhotometry`
    """
    keys = ("name", "filter", "method")
    reasons = {
        tuple(str(entry.get(key, "")) for key in keys): str(entry.get("reason", ""))
        for entry in table.meta.get("failures", ())
    }
    pivots = table.meta.get("pivots", {})
    found = [reasons.get(tuple(str(row[key]) for key in keys)) for row in table]
    return [_from_row(row, pivots, reason) for row, reason in zip(table, found, strict=True)]


def _from_row(row, pivots, reason):
    kind = FittedStarPhotometry if str(row["method"]) == "stars" else FittedImagePhotometry
    values = {
        name: FittedValue(*(_number(row[column], name) for column in (name, f"{name}_err")))
        for name in PARAMETERS
    }
    return kind(
        **{name: str(row[name]) for name in TEXT_COLUMNS},
        **values,
        rms_error=_number(row["rms"]),
        rchi=_number(row["rchi"]),
        flags=FitFlags.from_names(str(row["flags"])),
        unit=getattr(row["bg"], "unit", None),
        pivot=float(pivots.get(str(row["filter"]), math.nan)),
        meta={"reason": reason} if reason else {},
    )


def _number(value, name=""):
    """Return a number of a table without its unit: arcsec for angles, else as it is."""
    if name in ARCSEC and hasattr(value, "to_value"):
        return float(value.to_value("arcsec"))
    return float(getattr(value, "value", value))
