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
import platform
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

from . import __version__
from ._exposure import ExposureTask, HstImage, OutputPaths, label_of, measure_psf, process_exposure
from ._methods import IMAGE, check_stars, parse_method
from ._outputs import check_outputs, make_folder, sole_writer, unique_inputs
from ._resume import checksum, earlier_results, fingerprint, stamp
from ._run_record import RunRecord, RunSummary, remake_report
from .bandpass import HstFilterInfo, load_bandpass
from .batch import iterate, worker_count
from .ds9regions import Ds9Regions
from .exceptions import HeaderError, InputFileError, UserError
from .io import source_name
from .photometry import fit_image_photometry
from .results import failed_result
from .sky_noise import check_noise_factor
from .template_source import refuse_both

__all__ = ["RunPlan", "RunSummary", "identify_filters", "plan_run", "remake_report", "run"]

log = logging.getLogger(__name__)

# About this part of the time that an exposure takes passes while its cube is read.
_READING = 0.6

# Runs of at most so many fits draw the further figures of each (half a second a fit).
_FEW_FITS = 8

# Arguments of the fit that are set here, for each image, or that a run has in another form.
_OWN_ARGUMENTS = (
    *("hst", "muse", "name", "overwrite", "hardcopy", "title", "save", "fig", "display", "nowait"),
    *("apply", "resample"),
)


def run(
    cubes,
    hst,
    output,
    *,
    method="image",
    stars=None,
    gaia=None,
    curves=None,
    min_coverage=0.5,
    photon_weighted=True,
    noise_factor=None,
    fwhm_order=1,
    beta_order=0,
    jobs=1,
    executor=None,
    overwrite=False,
    resume=False,
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
    method : {"image", "star", "both"}, optional
        What to fit: the whole image, stars, or one after the other, with a row for each.
    stars, gaia : optional
        The stars, and Gaia sources with their motions; see `~muse_imphot.fit_star_photometry`.
    curves : dict, optional
        Filter to curve (see `~muse_imphot.bandpass.load_bandpass`), where the curves that come with
        the package will not do.
    min_coverage : float, optional
        The least fraction of a filter curve that a cube must cover.
    photon_weighted : bool, optional
        Whether channels are weighted by throughput times wavelength, or by the throughput alone.
    noise_factor : float or "measure", optional
        By how much the noise is larger than the variance of the cubes says; see
        `~muse_imphot.wideband.wideband_images`.
    fwhm_order, beta_order : int, optional
        Orders of the polynomials of the PSF in wavelength.
    jobs : int, optional
        How many exposures to work on at a time, each in a process of its own; 0 for one per
        processor. A script needs ``if __name__ == "__main__":`` for more than one.
    executor : `concurrent.futures.Executor`, optional
        An executor to use instead.
    overwrite : bool, optional
        Whether files that exist may be replaced.
    resume : bool, optional
        Whether to go on with an earlier run into the same folder: exposures whose results are
        there, made of the same files with the same options, keep them. Failed ones are tried again.
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
    plan = plan_run(
        cubes, hst, output, method=method, stars=stars, gaia=gaia, curves=curves,
        min_coverage=min_coverage, photon_weighted=photon_weighted, noise_factor=noise_factor,
        figures=figures, **fit_options,
    )  # fmt: skip
    tasks, n_filters = plan.tasks, len(plan.hst)
    jobs = worker_count(jobs, len(tasks))
    # That one filter shows no trend needs no saying; that a filter failed does.
    orders = tuple(min(order, n_filters - 1) for order in (fwhm_order, beta_order))
    make_folder(plan.paths.folder)
    with sole_writer(plan.paths.folder):
        check_outputs(plan.files, inputs=plan.inputs, overwrite=overwrite or resume)
        earlier = earlier_results(tasks, plan.paths) if resume else {}
        provenance = {**_provenance(tasks, plan.hst), "orders": list(orders)}
        record = RunRecord(plan.paths, provenance, orders, tasks[0].figures, earlier)
        tasks = _with_measured_psf(tasks, earlier)
        try:
            _work(tasks, record, earlier, jobs=jobs, executor=executor, progress=progress)
        except BaseException:  # interrupted, most likely: what is finished is kept
            record.save()
            raise
        return record.finish(skipped=list(earlier))


@dataclasses.dataclass(frozen=True, eq=False)
class RunPlan:
    """
    What a run is going to do.

    Parameters
    ----------
    tasks : list of `~muse_imphot._exposure.ExposureTask`
        The exposures.
    hst : list of `~muse_imphot._exposure.HstImage`
        The HST images.
    paths : `~muse_imphot._exposure.OutputPaths`
        Where the files go.
    files : list of `~pathlib.Path`
        All files that may be written.
    inputs : list
        What is read.
    """

    tasks: list
    hst: list
    paths: OutputPaths
    files: list
    inputs: list


def plan_run(
    cubes, hst, output, *, method="image", stars=None, gaia=None, curves=None, min_coverage=0.5,
    photon_weighted=True, noise_factor=None, figures=True, **fit_options,
):  # fmt: skip
    """
    Check what is given to a run, and say what it is going to do; nothing is written.

    Parameters
    ----------
    cubes, hst, output, method, stars, gaia, curves, min_coverage, photon_weighted, noise_factor
        As for `run`.
    figures : bool, optional
        As for `run`.
    **fit_options
        Options of `~muse_imphot.fit_image_photometry`.

    Returns
    -------
    RunPlan

    Raises
    ------
    UserError
        If an HST image or an option cannot be used.
    """
    methods = parse_method(method)
    check_stars(methods, stars=stars, gaia=gaia, star=fit_options.get("star"))
    _check_fit_options(**fit_options)
    given = {"stars": stars, "gaia": gaia}
    _check_files(given, but=("detect",))
    cubes = _as_list(cubes)
    exposures = _name_exposures(cubes)
    hst = _with_curves(identify_filters(_as_list(hst)), curves)
    figures = figures and _can_draw()
    paths = OutputPaths(Path(output))
    names, filters = [name for _, name in exposures], [image.filter for image in hst]
    inputs = [*cubes, *(image.source for image in hst), stars, gaia]
    inputs += [fit_options.get(key) for key in ("regions", "extramask")]
    inputs += _psf_files(fit_options.get("hst_psf"))
    check_noise_factor(noise_factor)
    wideband = {
        "min_coverage": min_coverage,
        "photon_weighted": photon_weighted,
        "noise_factor": noise_factor,
    }
    stars = {key: value for key, value in given.items() if value is not None}
    n_fits = len(exposures) * len(hst) * len(methods)
    details = figures and IMAGE in methods and n_fits <= _FEW_FITS
    options = (tuple(hst), paths, figures, wideband, fit_options, methods, stars, details)
    tasks = [ExposureTask(source, name, *options) for source, name in exposures]
    files = paths.all(names, filters, figures=figures, details=details, methods=methods)
    return RunPlan(tasks, hst, paths, files, inputs)


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
    _check_files({"extramask": extramask}, but=("", "none"))
    refuse_both(*(others.get(name) for name in ("hst_psf", "hst_fwhm", "hst_beta")))
    for file in _psf_files(others.get("hst_psf")):
        _check_files({"hst_psf": file})


def _check_files(files, but=()):
    """Refuse files that do not exist; ``but`` are words that are no files."""
    for name, file in files.items():
        if isinstance(file, os.PathLike | str) and file not in but and not os.path.exists(file):
            raise InputFileError(file, f"no such file; it is given as {name}")


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
    first = tasks[0]
    return {
        "muse_imphot": __version__,
        "versions": _versions(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "muse": {task.name: label_of(task.source) for task in tasks},
        "hst": {image.filter: label_of(image.source) for image in hst},
        "curves": {image.filter: str(image.curve) for image in hst},
        "methods": list(first.methods),
        "stars": {key: label_of(value) for key, value in first.stars.items()},
        "wideband": dict(first.wideband),
        "fit": {key: str(value) for key, value in first.fit.items()},
        "files": {task.name: stamp(task.source) for task in tasks},
        "checksums": {
            label_of(source): checksum(source)
            for source in [*(task.source for task in tasks), *(image.source for image in hst)]
        },
        "fingerprints": {task.name: fingerprint(task) for task in tasks},
    }


def _versions():
    """Return the versions of what numbers depend on."""
    packages = {name: version(name) for name in ("numpy", "scipy", "astropy")}
    return {"python": platform.python_version(), **packages}


def _with_measured_psf(tasks, earlier):
    """
    Return the tasks with the PSFs of HST that are to be measured from stars.

    They are properties of the HST images, and the same for all exposures.
    """
    wanted = tasks[0].fit.get("hst_psf")
    new = [task for task in tasks if task.name not in earlier]
    images = []
    for image in tasks[0].hst if new else ():
        if _psf_for(wanted, image.filter) == "stars":
            sources = [task.source for task in new]
            psf = measure_psf(image.source, sources, unit=tasks[0].fit.get("hst_unit"))
            log.info("%s: its PSF is measured from its stars: %r", label_of(image.source), psf)
            image = dataclasses.replace(image, psf=psf)
        images.append(image)
    if all(image.psf is None for image in images):
        return tasks
    return [dataclasses.replace(task, hst=tuple(images)) for task in tasks]


def _psf_for(given, filter):
    """Return what is given as PSF of HST for a filter, words in small letters."""
    if isinstance(given, Mapping):
        named = {str(key).strip().upper(): value for key, value in given.items()}
        given = named.get(filter.upper())
    return given.strip().lower() if isinstance(given, str) else given


def _work(tasks, record, earlier, *, jobs, executor, progress):
    """Work on all exposures but those of an earlier run, and record what becomes of them."""
    report = progress or (lambda done, total: None)
    todo = [task for task in tasks if task.name not in earlier]
    inline = executor is None and jobs == 1
    function = partial(_inline, tasks=todo, report=report) if inline else process_exposure
    report(0, len(todo))
    with closing(iterate(function, todo, jobs=jobs, executor=executor)) as outcomes:
        for task in tasks:
            if task.name in earlier:
                record.add(earlier[task.name])
                continue
            outcome = next(outcomes)
            if outcome.error is None:
                record.add(outcome.value)
            else:
                record.add(_all_failed(task, outcome.error))
            report(outcome.index + 1, len(todo))


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
    return [
        failed_result(task.name, hst.filter, reason, method=method)
        for hst in task.hst
        for method in task.methods
    ]
