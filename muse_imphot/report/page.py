# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The report as a file: its frame, and the results in whatever form they come."""

import datetime
import string
from html import escape
from importlib import resources
from pathlib import Path

import numpy as np

from .. import __version__
from ..results import FitFlags, FittedImagePhotometry, FittedStarPhotometry, FittedValue
from .gallery import Gallery
from .sections import sections

__all__ = ["write_report"]

_ANGLES = ("dx", "dy", "dra", "ddec", "fwhm")


def write_report(
    path,
    results,
    *,
    title,
    psf=None,
    figures=None,
    provenance=None,
    overwrite=False,
    embed_limit=150e6,
):
    """
    Write a report of fits as one self-contained HTML file.

    Parameters
    ----------
    path : path-like
        The file to write.
    results : iterable of `~muse_imphot.results.FittedPhotometry` or `~astropy.table.QTable`
        The results in the order of the report, or the table that `read_results` gives.
    title : str
        The title.
    psf : iterable of `~muse_imphot.psf_wavelength.PsfWavelength`, optional
        The PSF of each exposure against wavelength.
    figures : dict, optional
        ``(name, filter)`` of a result to its figure, a `~matplotlib.figure.Figure` or the path of
        a PNG, SVG or JPEG file; ``(exposure, "PSF")`` to that of the PSF against wavelength. What
        is left out is drawn where the result has its images and matplotlib is installed.
    provenance : dict, optional
        What the results were made from and with; may hold dicts and lists.
    overwrite : bool, optional
        Replace a file that exists.
    embed_limit : float, optional
        The total size of figures (bytes) up to which they become part of the file; those of
        flagged results come first. Beyond it, figures that are files are linked.

    Returns
    -------
    `~pathlib.Path`
        The file.

    Raises
    ------
    OutputError
        If the file exists already and ``overwrite`` is not set, or cannot be written.
    """
    from ..io import atomic_path

    path = Path(path)
    results = _from_table(results) if hasattr(results, "colnames") else list(results)
    psf = list(psf or ())
    gallery = Gallery(figures or {}, results, path.parent, embed_limit)
    head, foot = _frame(title, results, psf)
    with atomic_path(path, overwrite=overwrite) as temporary:
        # Piece by piece: the figures of a campaign need not fit in memory. What a file name holds
        # that is no text (a stray byte) must not end the report.
        with open(temporary, "w", encoding="utf-8", errors="replace") as file:
            file.write(head)
            file.writelines(sections(results, psf, gallery, provenance))
            file.write(foot)
    return path


def _frame(title, results, psf):
    """Return what comes before and after the sections."""
    page = resources.files("muse_imphot").joinpath("data/report/report.html").read_text("utf-8")
    links = [("results", "Results")] if results else []
    links += [("psf", "PSF against wavelength")] if psf else []
    links += [("exposures", "Exposures")] if results else []
    links += [("reading", "How to read it"), ("provenance", "Provenance")]
    now = datetime.datetime.now(datetime.UTC)
    fields = {
        "title": escape(" ".join(str(title).split())),
        "version": escape(__version__),
        "created": now.strftime("%Y-%m-%d %H:%M UTC"),
        "navigation": "".join(f'<a href="#{anchor}">{text}</a>' for anchor, text in links),
    }
    return tuple(string.Template(part).substitute(fields) for part in page.split("$content"))


def _from_table(table):
    """Turn a table of results back into results, as far as the table holds them."""
    meta = table.meta
    keys = ("name", "filter", "method")
    reasons = {
        tuple(str(entry.get(key, "")) for key in keys): str(entry.get("reason", ""))
        for entry in meta.get("failures", ())
    }
    pivots = meta.get("pivots", {})
    found = (reasons.get(tuple(str(row[key]) for key in keys)) for row in table)
    return [_from_row(row, pivots, reason) for row, reason in zip(table, found)]


def _from_row(row, pivots, reason):
    kind = FittedStarPhotometry if str(row["method"]) == "stars" else FittedImagePhotometry
    unit = getattr(row["bg"], "unit", None)
    names = ("scale", "bg", "dx", "dy", "dra", "ddec", "fwhm", "beta")
    values = {
        name: FittedValue(_plain(row[name], name), _plain(row[f"{name}_err"], name))
        for name in names
    }
    return kind(
        name=str(row["name"]),
        exposure=str(row["exposure"]),
        filter=str(row["filter"]),
        method=str(row["method"]),
        rms_error=_plain(row["rms"]),
        rchi=_plain(row["rchi"]),
        flags=FitFlags.from_names(str(row["flags"])),
        unit=unit,
        pivot=float(pivots.get(str(row["filter"]), np.nan)),
        meta={"reason": reason} if reason else {},
        **values,
    )


def _plain(value, name=""):
    """Return a number of a table without its unit: arcsec for angles, else as it is."""
    if name in _ANGLES and hasattr(value, "to_value"):
        return float(value.to_value("arcsec"))
    return float(getattr(value, "value", value))
