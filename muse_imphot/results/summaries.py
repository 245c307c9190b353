# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Results as plain text: the summary line of imphot, and a report of the whole fit.

Pure functions of a result; nothing here prints.
"""

import itertools
import math
from html import escape

import numpy as np
from astropy.table import Table

__all__ = [
    "fit_report",
    "format_value",
    "html_table",
    "missing_lines",
    "outlier_lines",
    "summary_errors",
    "summary_header",
    "summary_row",
    "term_unit",
]

# (attribute, unit) of the fitted and of the derived values, in the order of the report.
_FITTED = (
    ("scale", ""),
    ("bg", "unit"),
    ("dx", "arcsec"),
    ("dy", "arcsec"),
    ("fwhm", "arcsec"),
    ("beta", ""),
)
_DERIVED = (("dra", "arcsec"), ("ddec", "arcsec"), ("fwhm_optical", "arcsec"))
# The profile of a star in an image: (end of the attribute, unit). Fluxes and backgrounds are in the
# unit of the MUSE image, those in HST too.
_PROFILE = (("fwhm", "arcsec"), ("beta", ""), ("dx", "arcsec"), ("dy", "arcsec"))
_PROFILE += (("bg", "unit"), ("flux", "unit"))
# Units of the terms beyond the usual six; {} is that of the MUSE image.
_EXTRA_UNITS = {"rotation": "deg", "bg_x": "{} per arcsec", "bg_y": "{} per arcsec"}


def summary_header(width):
    """
    Return the three header lines of imphot's summary.

    Parameters
    ----------
    width : int
        The length of the name that stands in the first column.

    Returns
    -------
    str
        Three lines, each with its line end.
    """
    width -= 1
    return (
        f"#{' MUSE ID':<{max(width, 0)}} Method  Flux    FWHM    beta     Flux    x-offset  "
        "y-offset  ra-offset dec-offset  RMS\n"
        f"#{'':>{max(width, 0)}}         scale  arcsec           offset    arcsec    arcsec"
        "    arcsec    arcsec    error\n"
        f"#{'-' * width} ------ ------- ------- ------- --------- --------- --------- "
        "--------- --------- -------\n"
    )


def summary_row(result):
    """
    Return the summary of a result as one line, in imphot's columns.

    Parameters
    ----------
    result : `~muse_imphot.results.FittedPhotometry`
        The result.

    Returns
    -------
    str
        The line, without line end.
    """
    shape = [result.scale, result.fwhm, result.beta]
    offsets = [result.bg, result.dx, result.dy, result.dra, result.ddec]
    return " ".join(
        [f"{result.name} {result.method:>6s}"]
        + [f"{item.value: 7.4f}" for item in shape]
        + [f"{item.value: 9.5f}" for item in offsets]
        + [f"{result.rms_error:7.4f}"]
    )


def summary_errors(result):
    """
    Return the standard deviations of a result as a line that goes below its summary.

    Parameters
    ----------
    result : `~muse_imphot.results.FittedPhotometry`
        The result.

    Returns
    -------
    str
        The line, without line end; ``fixed`` and ``-`` where there is no error.
    """
    shape = [result.scale, result.fwhm, result.beta]
    offsets = [result.bg, result.dx, result.dy, result.dra, result.ddec]
    return " ".join(
        [f"{'':{len(result.name)}} {'+-':>6s}"]
        + [_error_cell(item, 7, 4) for item in shape]
        + [_error_cell(item, 9, 5) for item in offsets]
    )


def _error_cell(item, width, decimals):
    if item.fixed:
        return f"{'fixed':>{width}}"
    return f"{item.stdev:{width}.{decimals}f}" if math.isfinite(item.stdev) else f"{'-':>{width}}"


def format_value(value, stdev, fixed=False):
    """
    Write a value and its error, rounded to two significant digits of the error.

    Parameters
    ----------
    value, stdev : float
        The value and its standard deviation; NaN where unknown.
    fixed : bool, optional
        Whether the value was held; then there is no error to write.

    Returns
    -------
    str
    """
    if fixed:
        return f"{value:.6g} (fixed)"
    if not (math.isfinite(value) and math.isfinite(stdev) and stdev > 0):
        return f"{value:.6g} +- {stdev:.2g}"
    decimals = 1 - math.floor(math.log10(stdev))
    # Rounding may carry the error into the next decade: 0.0999 is written 0.10, not 0.100.
    decimals = 1 - math.floor(math.log10(round(stdev, decimals)))
    if not 0 <= decimals <= 12:
        return f"{value:.6g} +- {stdev:.2g}"
    return f"{value:.{decimals}f} +- {stdev:.{decimals}f}"


def fit_report(result, min_correlation=0.1):
    """
    Describe a fit in full, in the manner of lmfit's reports.

    Parameters
    ----------
    result : `~muse_imphot.results.FittedPhotometry`
        The result.
    min_correlation : float, optional
        The least absolute correlation that is listed.

    Returns
    -------
    str
        Several lines: the model, the statistics, the values with their errors and percentages,
        the correlations, the sources that were left out, and the flags in words.
    """
    lines = ["[[Model]]", f"    {result.model_text}"]
    if psf := result.meta.get("hst_psf"):
        shape = [result.meta.get(name) for name in ("hst_fwhm", "hst_beta")]
        if psf.startswith("Moffat") and None not in shape:
            psf += f" (FWHM {shape[0]:.4g} arcsec, beta {shape[1]:.4g})"
        lines.append(f"    PSF of HST: {psf}")
    lines += _statistics(result)
    lines += _variables("[[Variables]]", result, _FITTED)
    lines += _extra_terms(result)
    lines += _variables("[[Derived]]", result, _DERIVED)
    lines += _stars(result)
    lines += _correlations(result, min_correlation)
    if result.outliers is not None:
        lines += ["[[Sources left out]]", *(f"    {line}" for line in outlier_lines(result))]
    lines += _flags(result)
    return "\n".join(lines)


def _statistics(result):
    rows = (
        ("pixels fitted", result.n_pixels),
        ("variables", len(result.parameter_names)),
        ("model evaluations", result.n_evaluations),
        ("reduced chi-square", f"{result.rchi:.6g}"),
        ("rms of the residual", f"{result.rms_error:.6g}{_unit_text(result.unit)}"),
    )
    return ["[[Fit Statistics]]"] + [f"    {label:<19} = {value}" for label, value in rows]


def _unit_text(unit):
    """Return a unit as the end of a phrase; nothing where there is none."""
    text = "" if unit is None else str(unit)
    return f" {text}" if text else ""


def _variables(title, result, names):
    lines = [title]
    for name, unit in names:
        item = getattr(result, name)
        text = format_value(item.value, item.stdev, item.fixed)
        text += _unit_text(result.unit if unit == "unit" else unit)
        if not item.fixed and item.value and math.isfinite(item.stdev / item.value):
            text += f" ({abs(100 * item.stdev / item.value):.2f}%)"
        if name in result.meta.get("at_bound", ()):
            text += " (at bound)"
        lines.append(f"    {name + ':':<13} {text}")
    return lines


def _stars(result):
    """List the profiles of stars in both images, and the stars."""
    if not hasattr(result, "stars"):
        return []
    lines = []
    for image in ("muse", "hst"):
        names = [(f"{image}_{name}", unit) for name, unit in _PROFILE]
        known = [item for item in names if math.isfinite(getattr(result, item[0]).value)]
        if known:
            lines += _variables(f"[[Profile in {image.upper()}]]", result, known)
    if result.stars is not None and len(result.stars):
        lines += _star_rows(result)
    return lines


def _star_rows(result):
    """List the stars; the unit of the images, which is long, is named once."""
    table, own = Table(result.stars), []
    for name in table.colnames:
        if result.unit is not None and table[name].unit == result.unit and str(result.unit):
            table[name].unit = None
            own.append(name)
    rows = table.pformat(max_lines=-1, max_width=-1)
    title = f"[[Stars]] ({', '.join(own)} in {result.unit})" if own else "[[Stars]]"
    return [title, *(f"    {row.rstrip()}" for row in rows)]


def _extra_terms(result):
    """List the terms beyond the usual ones that were fitted, or that should have been."""
    lines = [
        f"    {name + ':':<13} {format_value(item.value, item.stdev)}"
        + _unit_text(term_unit(name, result))
        for name, item in result.extra.items()
    ]
    lines += [f"    {line}" for line in missing_lines(result)]
    return ["[[Further terms]]", *lines] if lines else []


def term_unit(name, result):
    """
    Say the unit of a parameter of a fit.

    Parameters
    ----------
    name : str
        The parameter.
    result : `~muse_imphot.results.FittedPhotometry`
        The result, because some units are those of the MUSE image.

    Returns
    -------
    str
        Nothing where there is no unit.
    """
    own = "" if result.unit is None else str(result.unit)
    unit = {**_EXTRA_UNITS, **dict(_FITTED), **dict(_DERIVED)}.get(name, "")
    return own if unit == "unit" else unit.format(own).strip()


def missing_lines(result):
    """
    Describe the terms that were held, although the data ask for another value.

    Parameters
    ----------
    result : `~muse_imphot.results.FittedPhotometry`
        The result.

    Returns
    -------
    list of str
        One line per term, with the value that it would have and its significance.
    """
    lines = []
    for name, term in result.meta.get("missing_terms", {}).items():
        held = "held" if name in dict(_FITTED) else "not fitted"
        lines.append(
            f"{name + ':':<13} {held}, but would be {term['estimate']:.4g}"
            f"{_unit_text(term_unit(name, result))} ({term['significance']:+.1f} sigma)"
        )
    return lines


def outlier_lines(result):
    """
    Describe the sources that do not follow the model and were left out.

    Parameters
    ----------
    result : `~muse_imphot.results.FittedPhotometry`
        The result.

    Returns
    -------
    list of str
        One line for each source: where it is, what it does, and how significant that is.
    """
    if result.outliers is None:
        return []
    lines = []
    for row in result.outliers:
        text = (
            f"{row['kind']} at x, y = {row['x']:.0f}, {row['y']:.0f} "
            f"(RA {row['ra'].to_value('deg'):.5f}, Dec {row['dec'].to_value('deg'):+.5f}), "
            f"{row['significance']:.1f} sigma"
        )
        if math.isfinite(row["flux_ratio"]):
            dx, dy = (row[name].to_value("arcsec") for name in ("dx", "dy"))
            text += f": flux ratio {row['flux_ratio']:.2f}, moved by {dx:+.3f}, {dy:+.3f} arcsec"
        else:
            other = "HST" if row["kind"] == "brighter" else "MUSE"
            text += f": no such source in the {other} image"
        lines.append(text)
    return lines


def _correlations(result, least):
    """List the correlations that matter, strongest first."""
    covariance = np.asarray(result.covariance, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        stdev = np.sqrt(np.diag(covariance))
        matrix = covariance / np.outer(stdev, stdev)
    pairs = [
        (float(matrix[i, j]), result.parameter_names[i], result.parameter_names[j])
        for i, j in itertools.combinations(range(len(matrix)), 2)
        if abs(matrix[i, j]) > least
    ]
    pairs.sort(key=lambda pair: -abs(pair[0]))
    title = f"[[Correlations]] (those above {least:g})"
    return [title] + [f"    C({a}, {b}) = {value:+.3f}" for value, a, b in pairs]


def _flags(result):
    lines = ["[[Flags]]"] + [f"    {text}" for text in result.flags.describe() or ["ok"]]
    if reason := result.meta.get("reason"):
        lines.append(f"    reason: {reason}")
    return lines


def html_table(result):
    """
    Show a result as HTML, for notebooks.

    Parameters
    ----------
    result : `~muse_imphot.results.FittedPhotometry`
        The result.

    Returns
    -------
    str
        A table of the values with their errors and units, and the flags in words.
    """
    title = " ".join(str(part) for part in (result.name, result.filter, result.method) if part)
    flags = "".join(f"<li>{escape(text)}</li>" for text in result.flags.describe())
    if reason := result.meta.get("reason"):
        flags += f"<li>reason: {escape(str(reason))}</li>"
    return (
        f"<div><b>{escape(type(result).__name__)}</b> {escape(title)}"
        f"{'' if result.failed else _html_values(result)}"
        f"{f'<ul>{flags}</ul>' if flags else '<p>no flags</p>'}</div>"
    )


def _html_values(result):
    """Return the values with their errors and units as a table of HTML."""
    own = _unit_text(result.unit).strip()
    items = [(name, getattr(result, name), unit) for name, unit in (*_FITTED, *_DERIVED)]
    items += [(name, item, term_unit(name, result)) for name, item in result.extra.items()]
    rows = []
    for name, item, unit in items:
        value, _, error = format_value(item.value, item.stdev).partition(" +- ")
        value, error = (f"{item.value:.6g}", "fixed") if item.fixed else (value, error)
        rows.append((name, value, error, own if unit == "unit" else unit))
    rows.append(("rms", f"{result.rms_error:.4g}", "", own))
    rows.append(("reduced chi-square", f"{result.rchi:.4g}", "", ""))
    cells = ("".join(f"<td>{escape(text)}</td>" for text in row) for row in rows)
    return (
        "<table><thead><tr><th>parameter</th><th>value</th><th>error</th><th>unit</th></tr></thead>"
        f"<tbody>{''.join(f'<tr>{row}</tr>' for row in cells)}</tbody></table>"
    )
