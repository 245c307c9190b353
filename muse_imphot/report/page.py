# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The report as a file: its frame, and the results in whatever form they come."""

import base64
import datetime
import hashlib
import string
from html import escape
from importlib import resources
from pathlib import Path

from .. import __version__
from ..plots.words import verdict
from ..results import results_from_table
from .gallery import Gallery
from .sections import sections

__all__ = ["write_report"]


def write_report(
    path,
    results,
    *,
    title,
    psf=None,
    figures=None,
    provenance=None,
    overwrite=False,
    embed_limit=14e6,
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
        a PNG, SVG or JPEG file; ``(name, filter, "stars")`` to that of a fit of stars,
        ``(name, filter, function)`` to a further figure of the fit by that function of
        `muse_imphot.plots`, for instance ``"plot_radial"``, and ``(exposure, "PSF")`` to that of
        the PSF against wavelength. What is left out is drawn where the result has its images and
        matplotlib is installed.
    provenance : dict, optional
        What the results were made from and with; may hold dicts and lists.
    overwrite : bool, optional
        Replace a file that exists.
    embed_limit : float, optional
        The total size of figures (bytes) that become part of the file, which is a third larger in
        the end. Figures of many results are made smaller, and if that does not do, those of
        results without flags are linked instead.

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
    results = results_from_table(results) if hasattr(results, "colnames") else list(results)
    psf = list(psf or ())
    gallery = Gallery(figures or {}, results, path.parent, limit=embed_limit)
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
    folder = resources.files("muse_imphot").joinpath("data/report")
    page, script = (folder.joinpath(f"report.{kind}").read_text("utf-8") for kind in ("html", "js"))
    # The page allows this script alone: whatever else might get into it does not run.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    links = [("results", "Results")] if results else []
    links += [("psf", "PSF against wavelength")] if psf else []
    if any(verdict(result) != "good" for result in results):
        links += [("attention", "What needs a look")]
    links += [("exposures", "Exposures")] if results else []
    links += [("reading", "How to read it"), ("provenance", "Provenance")]
    now = datetime.datetime.now(datetime.UTC)
    fields = {
        "title": escape(" ".join(str(title).split())),
        "version": escape(__version__),
        "created": now.strftime("%Y-%m-%d %H:%M UTC"),
        "script": script,
        "script_hash": f"sha256-{digest}",
        "navigation": "".join(f'<a href="#{anchor}">{text}</a>' for anchor, text in links),
    }
    return tuple(string.Template(part).substitute(fields) for part in page.split("$content"))
