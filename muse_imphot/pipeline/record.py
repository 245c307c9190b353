# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What a run has led to, and the files that hold it: tables, figures of the whole, report.

`remake_report` does the last part again from the files of an earlier run.
"""

import dataclasses
import logging
import time
from pathlib import Path

from ..exceptions import InputFileError, UserError
from ..psf_wavelength import fit_psf_wavelength, read_psf, write_psf
from ..results import read_result_list, read_results, write_results
from .drawing import DETAILS, draw
from .tasks import OutputPaths

__all__ = ["RunRecord", "RunSummary", "remake_report"]

log = logging.getLogger(__name__)

# The table is written again after this time (seconds) while exposures come in, so that a machine
# that goes down takes little with it; and not so often that writing takes more than this part.
_SAVE_EVERY, _SAVE_PART = 10.0, 0.05

_TITLE = "MUSE exposures measured against HST"


@dataclasses.dataclass
class RunSummary:
    """
    What a run has led to.

    Parameters
    ----------
    results : list of `~muse_imphot.FittedPhotometry`
        One per exposure, filter and method, in the order of the input, failed ones included.
    psf : list of `~muse_imphot.psf_wavelength.PsfWavelength`
        One per exposure with at least one fit.
    folder : `~pathlib.Path`
        The folder of the output.
    paths : dict
        What was written: ``"results"``, ``"psf"`` and ``"report"`` (paths; absent if not written),
        ``"images"``, ``"templates"`` and ``"figures"`` (lists of paths).
    skipped : list of str
        Exposures whose results are those of an earlier run.
    """

    results: list
    psf: list
    folder: Path
    paths: dict
    skipped: list = dataclasses.field(default_factory=list)

    @property
    def n_failed(self):
        """How many results have no fit."""
        return sum(result.failed for result in self.results)

    @property
    def reasons(self):
        """Why: a dict from (exposure, filter) to the reason."""
        reasons = {}
        for result in self.results:
            if result.failed:
                reasons.setdefault((result.exposure, result.filter), result.meta["reason"])
        return reasons


class RunRecord:
    """
    What a run has led to so far, and the files that hold it.

    Parameters
    ----------
    paths : `~muse_imphot.pipeline.tasks.OutputPaths`
        Where the files are.
    provenance : dict
        What the results are made from and with.
    orders : tuple of int
        Orders of the polynomials of FWHM and beta in wavelength.
    figures : bool
        Whether figures are drawn.
    earlier : dict, optional
        Name of an exposure to its results of an earlier run, which are written even before it is
        their turn to be added.
    """

    def __init__(self, paths, provenance, orders, figures, earlier=None):
        self.paths = paths
        self.provenance = provenance
        self.orders = orders
        self.figures = figures
        self.results = []
        self._earlier = dict(earlier or {})
        self._start = time.monotonic()
        self._next = self._start + _SAVE_EVERY

    def take_over(self, results):
        """Add the results of an exposure that an earlier run had."""
        for result in results:
            self._earlier.pop(result.name, None)
        self.results += results

    def add(self, results):
        """Add the results of an exposure."""
        for result in results:
            outcome = f"failed: {result.meta['reason']}" if result.failed else "fitted"
            log.info("%s %s %s: %s", result.name, result.filter, result.method, outcome)
        self.results += results
        if time.monotonic() > self._next:
            self.save()

    def save(self):
        """Write the table of what is there."""
        results = [*self.results, *(item for own in self._earlier.values() for item in own)]
        if not results:
            return
        start = time.monotonic()
        # Whether an older table may be replaced was settled before the work.
        write_results(results, self.paths.results, full=True, overwrite=True, meta=self.provenance)
        now = time.monotonic()
        self._next = now + max(_SAVE_EVERY, (now - start) / _SAVE_PART)

    def finish(self, skipped=()):
        """Write what needs all results, and sum up."""
        self.provenance["elapsed"] = f"{time.monotonic() - self._start:.1f} s"
        self.save()
        psf = _fit_psf(self.results, self.orders)
        summary = _finish(self.paths, self.results, psf, self.provenance, self.figures, _TITLE)
        summary.skipped = list(skipped)
        return summary


def _finish(paths, results, psf, provenance, figures, title):
    """Write the PSF, its figures and the report, and sum up."""
    written = {"results": paths.results}
    if psf:
        write_psf(psf, paths.psf, overwrite=True)
        written["psf"] = paths.psf
    _draw_psf(paths, psf, results, figures)
    drawn = _figures(paths, psf, results) if figures else None
    if _write_report(paths.report, results, psf, drawn, provenance, title):
        written["report"] = paths.report
    pairs = dict.fromkeys((result.name, result.filter) for result in results)
    for key, kind in (("images", paths.image), ("templates", paths.template)):
        written[key] = [path for pair in pairs if (path := kind(*pair)).exists()]
    written["figures"] = list((drawn or {}).values())
    return RunSummary(results, psf, paths.folder, written)


def _fit_psf(results, orders):
    """Return FWHM(lambda) and beta(lambda) of every exposure that has a fit."""
    psf = []
    for exposure in dict.fromkeys(result.exposure for result in results):
        own = [r for r in results if r.exposure == exposure and not r.failed]
        # Image and stars are two views of one PSF; they must not count twice.
        own = [r for r in own if r.method == "image"] or own
        if not own:
            continue
        try:
            psf.append(fit_psf_wavelength(own, fwhm_order=orders[0], beta_order=orders[1]))
        except UserError as exc:
            log.warning("%s: no PSF against wavelength: %s", exposure, exc)
    return psf


def _draw_psf(paths, psf, results, wanted):
    """Draw the PSF of each exposure against wavelength."""
    for item in psf if wanted else ():
        own = [r for r in results if r.exposure == item.exposure and not r.failed]
        path = paths.psf_figure(item.exposure)
        if not draw("plot_psf_wavelength", path, item, own):
            path.unlink(missing_ok=True)  # an older one would not belong to these results


def _figures(paths, psf, results):
    """Return the figures that exist, as the report wants them."""
    found = {}
    for result in results:
        if not result.failed:
            key = (result.name, result.filter)
            key = key if result.method == "image" else (*key, result.method)
            found[key] = paths.figure(result.name, result.filter, result.method)
            for function, kind in DETAILS.items() if result.method == "image" else ():
                found[*key, function] = paths.detail(result.name, result.filter, kind)
    found.update({(item.exposure, "PSF"): paths.psf_figure(item.exposure) for item in psf})
    return {key: path for key, path in found.items() if path.exists()}


def _write_report(path, results, psf, figures, provenance, title):
    """Write the report, without figures if they are None; what is wrong costs no result."""
    from ..report import write_report

    options = {"psf": psf, "figures": figures, "provenance": provenance, "overwrite": True}
    if figures is None:
        options["embed_limit"] = 0
    try:
        write_report(path, results, title=title, **options)
    except UserError:
        raise
    except Exception as exc:
        log.error("%s: the report could not be written: %s", path, exc)
        log.debug("%s", path, exc_info=exc)
        return False
    return True


def remake_report(folder, *, title=None, figures=True):
    """
    Write what a run writes at its end again, from its table of results.

    Parameters
    ----------
    folder : path-like
        A folder that `~muse_imphot.run` wrote. Its ``psf.ecsv``, ``report.html`` and the figures of
        the PSF against wavelength are replaced; the figures of the fits are taken as they are.
    title : str, optional
        Another title.
    figures : bool, optional
        Whether to draw, and to show, figures.

    Returns
    -------
    RunSummary

    Raises
    ------
    UserError
        If there are no results in the folder, or the report cannot be written.
    """
    paths = OutputPaths(Path(folder))
    if not paths.results.exists():
        raise InputFileError(
            folder, "holds no results.ecsv; name the folder that was given to run with -o"
        )
    results = read_result_list(paths.results)
    provenance = read_results(paths.results).meta.get("provenance", {})
    orders = provenance.get("orders")
    if orders is None:  # of a version that did not keep them
        psf = read_psf(paths.psf) if paths.psf.exists() else []
    else:
        psf = _fit_psf(results, orders)
    summary = _finish(paths, results, psf, provenance, figures, title or _TITLE)
    if "report" not in summary.paths:
        raise UserError(f"{paths.report}: could not be written; --debug shows why")
    return summary
