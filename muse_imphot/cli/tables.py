# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Results as text for a terminal, and as JSON."""

import json
import math

__all__ = ["block_lines", "json_text", "results_lines", "summary_lines"]

_COLUMNS = ("fwhm", "beta", "scale", "dx", "dy")
_HEADS = {"rotation": "rotation [deg]", "bg_x": "bg_x [per arcsec]", "bg_y": "bg_y [per arcsec]"}
_PARAMETERS = ("scale", "bg", "dx", "dy", "dra", "ddec", "fwhm", "beta")


def results_lines(results):
    """
    Return one line per result, below a header.

    Parameters
    ----------
    results : list of `~muse_imphot.FittedPhotometry`
        The results.

    Returns
    -------
    list of str
        Values with their errors, also those of terms beyond the usual ones; what failed has its
        reason on its line.
    """
    head = ["name", "filter", "fwhm [arcsec]", "beta", "scale", "dx [arcsec]", "dy [arcsec]"]
    several = len({result.method for result in results}) > 1
    head[2:2] = ["method"] if several else []
    further = list(dict.fromkeys(name for result in results for name in result.extra))
    rows = [[*head, *(_HEADS.get(name, name) for name in further), "rchi", "flags"]]
    for result in results:
        cells = [result.name, result.filter, *([result.method] if several else [])]
        if not result.failed:
            cells += [str(getattr(result, name)) for name in _COLUMNS]
            cells += [str(result.extra.get(name, "")) for name in further]
            cells += [f"{result.rchi:.3g}", str(result.flags)]
        rows.append(cells)
    lines = _aligned(rows)
    for i, result in enumerate(results, start=1):
        if result.failed:
            lines[i] += f"  failed: {result.meta['reason']}"
    return lines


def summary_lines(results):
    """
    Return one line per result in imphot's columns, below its header.

    Parameters
    ----------
    results : list of `~muse_imphot.FittedPhotometry`
        The results.

    Returns
    -------
    list of str
        What failed is a comment with the reason.
    """
    lines, header = [], True
    for result in results:
        if result.failed:
            lines.append(f"# {result.name}: failed: {result.meta['reason']}")
        else:
            lines += result.summary(header=header).splitlines()
            header = False
    return lines


def block_lines(result):
    """
    Return a result as a small table, one line per parameter.

    Parameters
    ----------
    result : `~muse_imphot.FittedPhotometry`
        The result.

    Returns
    -------
    list of str
    """
    from ..results.summaries import missing_lines, outlier_lines, term_unit

    title = f"{result.name}  {result.filter}  {result.method}"
    if result.failed:
        return [title, f"  failed: {result.meta['reason']}"]
    rows = []
    items = {name: getattr(result, name) for name in (*_PARAMETERS, "fwhm_optical")}
    for name, item in {**items, **result.extra}.items():
        if math.isnan(item.value):
            continue
        value, _, error = str(item).partition(" ")
        rows.append([f"  {name}", value, error, term_unit(name, result)])
    lines = _aligned(rows, right=(1,))
    lines.append(
        f"  reduced chi2 {result.rchi:.4g}, rms {result.rms_error:.4g}, {result.n_pixels} pixels"
    )
    lines += [f"  left out: {text}" for text in outlier_lines(result)]
    lines += [f"  {' '.join(text.split())}" for text in missing_lines(result)]
    return [title, *lines, *(f"  flag {text}" for text in result.flags.describe())]


def _aligned(rows, right=()):
    """Return the rows as lines with columns one below the other."""
    widths = {}
    for row in rows:
        for i, cell in enumerate(row):
            widths[i] = max(widths.get(i, 0), len(cell))
    lines = []
    for row in rows:
        cells = [
            cell.rjust(widths[i]) if i in right else cell.ljust(widths[i])
            for i, cell in enumerate(row)
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def json_text(results):
    """
    Return results as JSON.

    Parameters
    ----------
    results : list of `~muse_imphot.FittedPhotometry`
        The results.

    Returns
    -------
    str
        A list of objects with the columns of the table of results; numbers that do not exist are
        null. ``flags`` is a list of names, and ``reason`` says why a fit failed.
    """
    return json.dumps([_json_object(result) for result in results], indent=2, allow_nan=False)


def _json_object(result):
    row, found = {}, result.to_row()
    for name, item in result.extra.items():
        found |= {name: item.value, f"{name}_err": item.stdev}
    for key, value in found.items():
        row[key] = (float(value) if math.isfinite(value) else None) if _is_number(value) else value
    row["flags"] = result.flags.names()
    row["fixed"] = [name for name in _PARAMETERS if getattr(result, name).fixed]
    row["bg_unit"] = None if result.unit is None else str(result.unit)
    row["n_pixels"] = int(result.n_pixels)
    if result.failed:
        row["reason"] = result.meta["reason"]
    return row


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)
