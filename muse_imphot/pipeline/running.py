# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The run itself: exposure after exposure, in this process or in others, with a record of each.
"""

import logging
import platform
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version

from .. import __version__
from .._outputs import check_outputs, make_folder, sole_writer
from ..batch import iterate, worker_count
from ..exceptions import UserError
from ..results import failed_result
from .exposure import process_exposure
from .hst_psf import with_measured_psf
from .planning import plan_run
from .record import RunRecord
from .resume import checksum, earlier_results, fingerprint, stamp
from .tasks import label_of

__all__ = ["run"]

log = logging.getLogger(__name__)

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
        check_outputs(
            plan.files,
            inputs=plan.inputs,
            overwrite=overwrite or resume,
            instead="go on with that run (--resume, resume=True)",
        )
        earlier = earlier_results(tasks, plan.paths) if resume else {}
        provenance = {**_provenance(tasks, plan.hst), "orders": list(orders)}
        record = RunRecord(plan.paths, provenance, orders, tasks[0].figures, earlier)
        tasks = with_measured_psf(tasks, earlier)
        try:
            _work(tasks, record, earlier, jobs=jobs, executor=executor, progress=progress)
        except BaseException:  # interrupted, most likely: what is finished is kept
            record.save()
            raise
        return record.finish(skipped=list(earlier))


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
                record.take_over(earlier[task.name])
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
    return process_exposure(task, progress=lambda part: report(number + part, len(tasks)))


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
