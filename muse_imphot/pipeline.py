# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The main job: from MUSE cubes and HST images to results, PSF against wavelength, and a report.

Each exposure is a task of its own: its wideband images are made in one pass over the cube, then
each is compared with the HST image of its filter. What fails keeps its row in the table, with the
reason, and the rest goes on.
"""

import dataclasses
import importlib.util
import inspect
import logging
import os
import time
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

from . import __version__
from ._exposure import ExposureTask, HstImage, OutputPaths, draw, label_of, process_exposure
from ._outputs import check_outputs, make_folder, sole_writer, unique_inputs
from .bandpass import HstFilterInfo, load_bandpass
from .batch import iterate, worker_count
from .ds9regions import Ds9Regions
from .exceptions import HeaderError, InputFileError, UserError
from .io import source_name
from .photometry import fit_image_photometry
from .psf_wavelength import fit_psf_wavelength, write_psf
from .results import failed_result, write_results
from .template_source import refuse_both

__all__ = ["RunSummary", "identify_filters", "run"]

log = logging.getLogger(__name__)

# The table is written again this often (seconds) while exposures come in, so that a machine that
# goes down takes little with it.
_SAVE_EVERY = 10.0

# About this part of the time that an exposure takes passes while its cube is read.
_READING = 0.6

# Arguments of the fit that are set here, for each image, or that a run has in another form.
_OWN_ARGUMENTS = (
    *("hst", "muse", "name", "overwrite", "hardcopy", "title", "save", "fig", "display", "nowait"),
    *("apply", "resample"),
)


@dataclasses.dataclass
class RunSummary:
    """
    What a run has led to.

    Parameters
    ----------
    results : list of `~muse_imphot.FittedImagePhotometry`
        One per exposure and filter, in the order of the input, failed ones included.
    psf : list of `~muse_imphot.psf_wavelength.PsfWavelength`
        One per exposure with at least one fit.
    folder : `~pathlib.Path`
        The folder of the output.
    paths : dict
        What was written: ``"results"``, ``"psf"`` and ``"report"`` (paths; absent if not written),
        ``"images"``, ``"templates"`` and ``"figures"`` (lists of paths).
    """

    results: list
    psf: list
    folder: Path
    paths: dict

    @property
    def n_failed(self):
        """How many results have no fit."""
        return sum(result.failed for result in self.results)

    @property
    def reasons(self):
        """Why: a dict from (exposure, filter) to the reason."""
        return {
            (result.exposure, result.filter): result.meta["reason"]
            for result in self.results
            if result.failed
        }


def run(
    cubes,
    hst,
    output,
    *,
    curves=None,
    min_coverage=0.5,
    photon_weighted=True,
    fwhm_order=1,
    beta_order=0,
    jobs=1,
    executor=None,
    overwrite=False,
    figures=True,
    progress=None,
    **fit_options,
):
    """
    Measure PSF, flux calibration and pointing of MUSE exposures against HST images.

    Parameters
    ----------
    cubes : list of path-like or `~astropy.nddata.CCDData`
        MUSE cubes, or MUSE images. The filter of an image is that of the keyword ``IMPFILT`` in its
        header, or of the only HST image, or the one that its name contains.
    hst : list of path-like or `~astropy.nddata.CCDData`
        HST images, each in another filter.
    output : path-like
        Folder for the output; it is made if it is absent.
    curves : dict, optional
        Filter to curve (see `~muse_imphot.bandpass.load_bandpass`), where the curves that come with
        the package will not do.
    min_coverage : float, optional
        The least fraction of a filter curve that a cube must cover.
    photon_weighted : bool, optional
        Whether channels are weighted by throughput times wavelength, or by the throughput alone.
    fwhm_order, beta_order : int, optional
        Orders of the polynomials of the PSF in wavelength.
    jobs : int, optional
        How many exposures to work on at a time, each in a process of its own; 0 for one per
        processor. A script needs ``if __name__ == "__main__":`` for more than one.
    executor : `concurrent.futures.Executor`, optional
        An executor to use instead.
    overwrite : bool, optional
        Whether files that exist may be replaced.
    figures : bool, optional
        Whether to draw the figures; they need matplotlib.
    progress : callable, optional
        Called as ``progress(done, total)``, in exposures; ``done`` may have a fraction.
    **fit_options
        Options of `~muse_imphot.fit_image_photometry`, such as ``fix_beta`` or ``regions``.

    Returns
    -------
    `RunSummary`

    Raises
    ------
    UserError
        If an HST image, an option or the output cannot be used: before any work is done. What goes
        wrong with an exposure later is noted in its row of the table.
    """
    _check_fit_options(**fit_options)
    cubes = _as_list(cubes)
    exposures = _name_exposures(cubes)
    hst = _with_curves(identify_filters(_as_list(hst)), curves)
    jobs = worker_count(jobs, len(exposures))
    figures = figures and _can_draw()
    paths = OutputPaths(make_folder(output))
    planned = paths.all([name for _, name in exposures], [image.filter for image in hst], figures)
    inputs = [*cubes, *(image.source for image in hst)]
    inputs += [fit_options.get(key) for key in ("regions", "extramask")]
    inputs += _psf_files(fit_options.get("hst_psf"))
    wideband = {"min_coverage": min_coverage, "photon_weighted": photon_weighted}
    tasks = [
        ExposureTask(source, name, tuple(hst), paths, figures, wideband, fit_options)
        for source, name in exposures
    ]
    # That one filter shows no trend needs no saying; that a filter failed does.
    orders = tuple(min(order, len(hst) - 1) for order in (fwhm_order, beta_order))
    record = _Record(paths, _provenance(tasks, hst), orders, figures)
    with sole_writer(paths.folder):
        check_outputs(planned, inputs=inputs, overwrite=overwrite)
        try:
            _work(tasks, record, jobs=jobs, executor=executor, progress=progress)
        except BaseException:  # interrupted, most likely: what is finished is kept
            record.save()
            raise
        return record.finish()


def identify_filters(sources):
    """
    Find out the filter of each HST image.

    Parameters
    ----------
    sources : list of path-like or `~astropy.nddata.CCDData`
        HST images.

    Returns
    -------
    dict
        Filter to ``(source, info)``, with the `~muse_imphot.HstFilterInfo`.

    Raises
    ------
    UserError
        If a header does not tell, or if two images have the same filter.
    """
    if not sources:
        raise UserError("no HST image is given; at least one is needed")
    found = {}
    for source in sources:
        info = HstFilterInfo(source)
        name = info.filter_name
        if name in found:
            raise HeaderError(
                f"{label_of(source)} and {label_of(found[name][0])} are both in {name}; give one "
                "HST image for each filter"
            )
        found[name] = (source, info)
    return found


def _with_curves(found, curves):
    """Return an `HstImage` for each filter; each curve is tried, before the first cube is read."""
    curves = {str(name).upper(): curve for name, curve in (curves or {}).items()}
    images = []
    for name, (source, info) in found.items():
        curve = curves.pop(name, None) or f"{info.instrument} {name}".strip()
        load_bandpass(curve)
        images.append(HstImage(source, name, info, curve))
    if curves:
        raise UserError(
            f"a curve is given for {', '.join(curves)}, but the HST images are in "
            f"{', '.join(found)}"
        )
    return images


def _as_list(sources):
    """Return the inputs as a list; a single one need not be in a list."""
    single = isinstance(sources, str | os.PathLike) or hasattr(sources, "wcs")
    return [sources] if single else list(sources)


def _check_fit_options(*, regions=None, extramask=None, **others):
    """Refuse options that the fit does not have, and masks that do not exist, before the work."""
    options = {"regions": regions, "extramask": extramask, **others}
    known = set(inspect.signature(fit_image_photometry).parameters) - set(_OWN_ARGUMENTS)
    unknown = sorted(set(options) - known)
    if unknown:
        raise TypeError(f"run() has no option {', '.join(unknown)}; the fit has {sorted(known)}")
    if isinstance(regions, os.PathLike) or regions not in (None, "", "none", "star", "notstar"):
        Ds9Regions(regions)
    if isinstance(extramask, os.PathLike | str) and not os.path.exists(extramask):
        if extramask not in ("", "none"):
            raise InputFileError(extramask, "no such file; it is given as extramask")
    refuse_both(*(others.get(name) for name in ("hst_psf", "hst_fwhm", "hst_beta")))
    for file in _psf_files(others.get("hst_psf")):
        if not os.path.exists(file):
            raise InputFileError(file, "no such file; it is given as hst_psf")


def _psf_files(psf):
    """Return the files among the PSFs of HST images."""
    given = psf.values() if isinstance(psf, Mapping) else [psf]
    return [
        item
        for item in given
        if isinstance(item, os.PathLike)
        or (isinstance(item, str) and item.strip().lower() != "stars")
    ]


def _name_exposures(cubes):
    """Return (source, name) of each exposure; there must be something to work on."""
    if not cubes:
        raise UserError("no MUSE cube or image is given; at least one is needed")
    files = [source for source in cubes if isinstance(source, str | os.PathLike)]
    # Single files may be absent, and their rows will say so; not all of them.
    if len(files) == len(cubes) and not any(os.path.exists(file) for file in files):
        raise InputFileError(files[0], "no such file")
    return unique_inputs(cubes, [source_name(cube) for cube in cubes])


def _can_draw():
    """Say once that figures are impossible, rather than for each exposure."""
    if importlib.util.find_spec("matplotlib") is not None:
        return True
    log.warning(
        "figures are left out: they need matplotlib, which is not installed; install it with: "
        "python -m pip install 'muse_imphot[plot]'"
    )
    return False


def _provenance(tasks, hst):
    return {
        "muse_imphot": __version__,
        "muse": {task.name: label_of(task.source) for task in tasks},
        "hst": {image.filter: label_of(image.source) for image in hst},
        "curves": {image.filter: str(image.curve) for image in hst},
        "wideband": dict(tasks[0].wideband),
        "fit": {key: str(value) for key, value in tasks[0].fit.items()},
    }


def _work(tasks, record, *, jobs, executor, progress):
    """Work on all exposures, and record what becomes of them."""
    report = progress or (lambda done, total: None)
    inline = executor is None and jobs == 1
    function = partial(_inline, tasks=tasks, report=report) if inline else process_exposure
    report(0, len(tasks))
    with closing(iterate(function, tasks, jobs=jobs, executor=executor)) as outcomes:
        for outcome in outcomes:
            if outcome.error is None:
                record.add(outcome.value)
            else:
                record.add(_all_failed(tasks[outcome.index], outcome.error))
            report(outcome.index + 1, len(tasks))


def _inline(task, *, tasks, report):
    """Work on an exposure in this process, and report how far it is."""
    number = tasks.index(task)

    def within(done, total):
        report(number + _READING * done / total, len(tasks))

    return process_exposure(task, progress=within)


def _all_failed(task, error):
    """Return the results of an exposure of which nothing could be used."""
    reason = error
    if not isinstance(error, UserError):
        log.debug("%s: %s", task.name, error)
        reason = f"unexpected {error.message}"
    return [failed_result(task.name, hst.filter, reason) for hst in task.hst]


class _Record:
    """What a run has led to so far, and the files that hold it."""

    def __init__(self, paths, provenance, orders, figures):
        self.paths = paths
        self.provenance = provenance
        self.orders = orders
        self.figures = figures
        self.results = []
        self.saved = time.monotonic()

    def add(self, results):
        """Add the results of an exposure."""
        for result in results:
            outcome = f"failed: {result.meta['reason']}" if result.failed else "fitted"
            log.info("%s %s: %s", result.name, result.filter, outcome)
        self.results += results
        if time.monotonic() - self.saved > _SAVE_EVERY:
            self.save()

    def save(self):
        """Write the table of what is there."""
        if self.results:
            # Whether an older table may be replaced was settled before the work.
            write_results(self.results, self.paths.results, overwrite=True, meta=self.provenance)
            self.saved = time.monotonic()

    def finish(self):
        """Fit the PSF against wavelength, write tables and report, and sum up."""
        self.save()
        psf = _fit_psf(self.results, self.orders)
        written = {"results": self.paths.results}
        if psf:
            write_psf(psf, self.paths.psf, overwrite=True)
            written["psf"] = self.paths.psf
        drawn = self._draw(psf) if self.figures else {}
        if _write_report(self.paths.report, self.results, psf, drawn, self.provenance):
            written["report"] = self.paths.report
        pairs = [(result.name, result.filter) for result in self.results]
        for key, kind in (("images", self.paths.image), ("templates", self.paths.template)):
            written[key] = [path for pair in pairs if (path := kind(*pair)).exists()]
        written["figures"] = list(drawn.values())
        return RunSummary(self.results, psf, self.paths.folder, written)

    def _draw(self, psf):
        """Draw what needs all results; return all figures by (name, filter)."""
        fits = [result for result in self.results if not result.failed]
        figures = {(r.name, r.filter): self.paths.figure(r.name, r.filter) for r in fits}
        figures = {key: path for key, path in figures.items() if path.exists()}
        for item in psf:
            path = self.paths.psf_figure(item.exposure)
            own = [result for result in fits if result.exposure == item.exposure]
            if draw("plot_psf_wavelength", path, item, own):
                figures[item.exposure, "PSF"] = path
        return figures


def _fit_psf(results, orders):
    """Return FWHM(lambda) and beta(lambda) of every exposure that has a fit."""
    psf = []
    for exposure in dict.fromkeys(result.exposure for result in results):
        own = [r for r in results if r.exposure == exposure and not r.failed]
        if not own:
            continue
        try:
            psf.append(fit_psf_wavelength(own, fwhm_order=orders[0], beta_order=orders[1]))
        except UserError as exc:
            log.warning("%s: no PSF against wavelength: %s", exposure, exc)
    return psf


def _write_report(path, results, psf, figures, provenance):
    """Write the report; what is wrong with it costs no result."""
    from .report import write_report

    title = "MUSE exposures measured against HST"
    options = {"psf": psf, "figures": figures, "provenance": provenance, "overwrite": True}
    try:
        write_report(path, results, title=title, **options)
    except UserError:
        raise
    except Exception as exc:
        log.error("%s: the report could not be written: %s", path, exc)
        log.debug("%s", path, exc_info=exc)
        return False
    return True
