# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The PSF of an exposure against wavelength: from results to polynomials, tables and files.

The polynomials of FWHM and beta are fitted together, because FWHM and beta of one filter are
strongly correlated.
"""

import dataclasses
import logging
import math

import numpy as np
from astropy import units as u
from astropy.table import QTable

from . import __version__
from .exceptions import FitError, InputFileError
from .psf_polynomials import PsfWavelength
from .results.tables import clean, plain, read_table, write_table

__all__ = ["PsfWavelength", "fit_psf_wavelength", "psf_table", "read_psf", "write_psf"]

log = logging.getLogger(__name__)

_QUANTITIES = ("fwhm", "beta")
# Columns without which a table is not one of PSF coefficients.
_NEEDED = ("lb1", "lb2", "fwhm_c0", "beta_c0", "covariance")
# chi-square this much above its expectation, in its standard deviations, earns a warning.
_POOR_FIT_SIGMA = 4.0


@dataclasses.dataclass
class _Series:
    """The values of one quantity in those filters that tell something about it."""

    index: list  # which of the results
    values: np.ndarray
    order: int
    exact: bool  # held in every fit: the polynomial passes through, without error
    note: str = ""


def fit_psf_wavelength(results, *, fwhm_order=1, beta_order=0):
    """
    Fit FWHM and beta of the filters of one exposure against wavelength.

    Parameters
    ----------
    results : iterable of `~muse_imphot.results.FittedPhotometry`
        The results of one exposure, with their pivot wavelengths. Failed ones are left out.
    fwhm_order, beta_order : int, optional
        Orders of the polynomials. An order is lowered where there are too few filters for it,
        which the ``notes`` of the answer then say.

    Returns
    -------
    `PsfWavelength`
        With the covariance that follows from the errors of the results, correlations between
        FWHM and beta of the same filter included. A quantity that was held in every fit is
        reproduced without error.

    Raises
    ------
    `~muse_imphot.exceptions.FitError`
        If no result has a PSF with errors and a pivot wavelength.
    ValueError
        If the results belong to several exposures.
    """
    results = list(results)
    exposures = sorted({result.exposure for result in results})
    if len(exposures) > 1:
        raise ValueError(f"results must be of one exposure, got {', '.join(exposures)}.")
    usable = [result for result in results if not result.failed and np.isfinite(result.pivot)]
    if not usable:
        raise FitError(
            f"{exposures[0] if exposures else 'no exposure'}: there is no result with a PSF and a "
            "pivot wavelength, from which FWHM(wavelength) could be fitted."
        )
    reduced = PsfWavelength(fwhm_coefficients=[0], beta_coefficients=[0]).reduced_wavelength(
        [result.pivot for result in usable]
    )
    series = [
        _select(usable, reduced, name, order)
        for name, order in zip(_QUANTITIES, (fwhm_order, beta_order), strict=True)
    ]
    coefficients, covariance, chi2, dof = _generalised_least_squares(usable, reduced, series)
    psf = PsfWavelength(
        exposure=usable[0].exposure,
        fwhm_coefficients=coefficients[: series[0].order + 1],
        beta_coefficients=coefficients[series[0].order + 1 :],
        covariance=covariance,
        filters=tuple(result.filter for result in usable),
        wave_range=(min(r.pivot for r in usable), max(r.pivot for r in usable)),
        chi2=chi2,
        dof=dof,
        notes=_notes(series, chi2, dof),
    )
    for note in psf.notes:
        log.warning("%s: %s", psf.exposure, note)
    return psf


def _notes(series, chi2, dof):
    notes = [item.note for item in series if item.note]
    if dof and chi2 > dof + _POOR_FIT_SIGMA * math.sqrt(2 * dof):
        notes.append(
            f"the filters scatter about the polynomials more than their errors allow "
            f"(chi-square {chi2:.1f} for {dof} degrees of freedom)"
        )
    return tuple(notes)


def _select(results, reduced, name, order):
    """Choose the results that constrain a quantity, and the order that they allow."""
    if order < 0:
        raise ValueError(f"{name}_order must not be negative, got {order}.")
    items = [getattr(result, name) for result in results]
    index = [
        i
        for i, item in enumerate(items)
        if np.isfinite(item.value) and not item.fixed and item.stdev > 0
    ]
    exact = not index
    if exact:
        index = [i for i, item in enumerate(items) if np.isfinite(item.value) and item.fixed]
    if not index:
        raise FitError(
            f"{results[0].exposure}: no filter has a {name} with an error; "
            f"its polynomial cannot be fitted."
        )
    values = np.array([items[i].value for i in index])
    # Filters at the same wavelength do not help to find a slope.
    distinct = len(np.unique(np.round(reduced[index], 6)))
    allowed = min(order, distinct - 1)
    if exact and np.ptp(values) == 0:
        allowed = 0
    note = ""
    if allowed < order and not exact:
        note = (
            f"the order of {name}(wavelength) was lowered from {order} to {allowed}, "
            f"because {distinct} filter{'s' if distinct > 1 else ''} cannot support more"
        )
    return _Series(index, values, allowed, exact, note)


def _generalised_least_squares(results, reduced, series):
    """
    Fit both polynomials at once.

    Returns
    -------
    coefficients : 1D `~numpy.ndarray`
        Those of the first quantity, then those of the second.
    covariance : 2D `~numpy.ndarray`
        Their covariance.
    chi2 : float
        Chi-square.
    dof : int
        Degrees of freedom.
    """
    designs = [np.vander(reduced[item.index], item.order + 1) for item in series]
    coefficients = [
        np.linalg.lstsq(design, item.values, rcond=None)[0]
        for design, item in zip(designs, series, strict=True)
    ]
    sizes = [design.shape[1] for design in designs]
    covariance = np.zeros((sum(sizes), sum(sizes)))
    free = [k for k, item in enumerate(series) if not item.exact]
    if not free:
        return np.concatenate(coefficients), covariance, 0.0, 0
    root = np.linalg.cholesky(_data_covariance(results, series, free))
    design = np.zeros((len(root), sum(sizes[k] for k in free)))
    row = column = 0
    for k in free:
        rows, columns = designs[k].shape
        design[row : row + rows, column : column + columns] = designs[k]
        row, column = row + rows, column + columns
    white = np.linalg.solve(root, design)
    target = np.linalg.solve(root, np.concatenate([series[k].values for k in free]))
    solution = np.linalg.lstsq(white, target, rcond=None)[0]
    where = np.concatenate([np.arange(sizes[k]) + sum(sizes[:k]) for k in free])
    inverse = np.linalg.inv(white.T @ white)
    covariance[np.ix_(where, where)] = (inverse + inverse.T) / 2
    joined = np.concatenate(coefficients)
    joined[where] = solution
    chi2 = float(np.sum((target - white @ solution) ** 2))
    return joined, covariance, chi2, len(target) - len(solution)


def _data_covariance(results, series, free):
    """Return the covariance of the values; those of one result are correlated."""
    labels = [(i, _QUANTITIES[k]) for k in free for i in series[k].index]
    blocks = {i: results[i].covariance_of(*_QUANTITIES) for i, _ in labels}
    matrix = np.zeros((len(labels), len(labels)))
    for row, (i, first) in enumerate(labels):
        for column, (j, second) in enumerate(labels):
            if i == j:
                place = _QUANTITIES.index(first), _QUANTITIES.index(second)
                matrix[row, column] = blocks[i][place]
    return matrix


def psf_table(psfs, *, meta=None):
    """
    Collect the PSF of several exposures in a table.

    Parameters
    ----------
    psfs : iterable of `PsfWavelength`
        One for each exposure.
    meta : dict, optional
        Provenance: what goes into ``table.meta["provenance"]``.

    Returns
    -------
    `~astropy.table.QTable`
        One row per exposure. ``fwhm_c0``, ``fwhm_c1``, ... and ``beta_c0``, ... are the
        coefficients of the powers 0, 1, ... of the reduced wavelength, each with its ``_err``;
        zero where an exposure has a lower order. ``covariance`` holds the full matrix in the
        order of these columns.
    """
    psfs = list(psfs)
    sizes = [
        max((getattr(psf, f"{name}_coefficients").size for psf in psfs), default=1)
        for name in _QUANTITIES
    ]
    labels = [f"{name}_c{i}" for name, n in zip(_QUANTITIES, sizes, strict=True) for i in range(n)]
    padded = [_padded(psf, sizes) for psf in psfs]
    values = np.array([item[0] for item in padded]).reshape(len(psfs), len(labels))
    matrices = np.array([item[1] for item in padded]).reshape(len(psfs), len(labels), len(labels))
    table = QTable(
        meta={
            "package": f"muse_imphot {__version__}",
            "argument": "l = (wavelength - lb1) / (lb2 - lb1) - 0.5",
            "covariance": labels,
            "provenance": plain(meta or {}),
        }
    )
    table["exposure"] = np.array([clean(psf.exposure) for psf in psfs], dtype=str)
    for k, name in enumerate(("lb1", "lb2")):
        table[name] = [float(psf.reference[k]) for psf in psfs] * u.AA
    for column, label in enumerate(labels):
        unit = u.arcsec if label.startswith("fwhm") else u.dimensionless_unscaled
        errors = np.sqrt(matrices[:, column, column])
        for name, array in ((label, values[:, column]), (f"{label}_err", errors)):
            table[name] = u.Quantity(array, unit) if unit is u.arcsec else array
    table["chi2"] = np.array([psf.chi2 for psf in psfs], dtype=float)
    table["dof"] = np.array([psf.dof for psf in psfs], dtype=int)
    for k, name in enumerate(("wave_min", "wave_max")):
        table[name] = [float(psf.wave_range[k]) for psf in psfs] * u.AA
    table["filters"] = np.array(["|".join(psf.filters) for psf in psfs], dtype=str)
    table["notes"] = np.array(["; ".join(psf.notes) for psf in psfs], dtype=str)
    if psfs:  # a matrix column without rows cannot be read back
        table["covariance"] = matrices
    return table


def _padded(psf, sizes):
    """Return coefficients and covariance by rising power, with zeros for higher ones."""
    values, where = np.zeros(sum(sizes)), []
    for name, start in zip(_QUANTITIES, (0, sizes[0]), strict=True):
        coefficients = getattr(psf, f"{name}_coefficients")
        powers = start + np.arange(coefficients.size)[::-1]
        values[powers] = coefficients
        where.extend(powers)
    matrix = np.zeros((sum(sizes), sum(sizes)))
    matrix[np.ix_(where, where)] = psf.covariance
    return values, matrix


def write_psf(psfs, path, *, overwrite=False, meta=None):
    """
    Write the PSF of several exposures as an ECSV table.

    Parameters
    ----------
    psfs : iterable of `PsfWavelength`
        One for each exposure.
    path : path-like
        The file.
    overwrite : bool, optional
        Whether an existing file may be replaced.
    meta : dict, optional
        Provenance for the header of the table.

    Returns
    -------
    `~astropy.table.QTable`
        The table that was written; see `psf_table`.
    """
    table = psf_table(psfs, meta=meta)
    write_table(table, path, overwrite=overwrite)
    return table


def read_psf(path):
    """
    Read the PSF of several exposures back.

    Parameters
    ----------
    path : path-like
        A file that `write_psf` wrote.

    Returns
    -------
    list of `PsfWavelength`
        One for each row.

    Raises
    ------
    `~muse_imphot.exceptions.InputFileError`
        If the file cannot be read, or is another table.
    """
    table = read_table(path)
    missing = [name for name in _NEEDED if name not in table.colnames]
    # A table of no exposure has no covariance.
    if missing and (len(table) or missing != ["covariance"]):
        raise InputFileError(
            path,
            f"is not a table of PSF coefficients: it lacks the column(s) {', '.join(missing)}; "
            "such a table is the psf.ecsv of a run",
        )
    try:
        labels = list(table.meta["covariance"])
        return [_from_row(row, labels) for row in table]
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        raise InputFileError(path, f"is not a table of PSF coefficients ({err!r})") from err


def _from_row(row, labels):
    """Turn a row of the table into an object."""
    values = np.array([u.Quantity(row[label]).value for label in labels])
    matrix = np.asarray(row["covariance"], dtype=float)
    order, coefficients = [], {}
    for name in _QUANTITIES:
        own = [i for i, label in enumerate(labels) if label.startswith(f"{name}_c")]
        # A power without value and error was not part of the polynomial; power 0 always is.
        while len(own) > 1 and values[own[-1]] == 0 and not matrix[own[-1]].any():
            own.pop()
        order += own[::-1]
        coefficients[f"{name}_coefficients"] = values[own[::-1]]
    return PsfWavelength(
        exposure=str(row["exposure"]),
        covariance=matrix[np.ix_(order, order)],
        reference=(row["lb1"].to_value(u.AA), row["lb2"].to_value(u.AA)),
        filters=tuple(filter(None, str(row["filters"]).split("|"))),
        wave_range=(row["wave_min"].to_value(u.AA), row["wave_max"].to_value(u.AA)),
        chi2=float(row["chi2"]),
        dof=int(row["dof"]),
        notes=tuple(filter(None, str(row["notes"]).split("; "))),
        **coefficients,
    )
