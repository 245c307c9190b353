# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The fit of MUSE images against one HST image, as `fit` and imphot's `fit_photometry` do it.

The process that fits an image also writes what belongs to it, because the images are at hand there.
Commands import this module when they are executed, not to print their help.
"""

import dataclasses
from contextlib import closing, suppress

from .._methods import METHODS, STARS
from ..products import Products

__all__ = ["FitTask", "Products", "filter_of", "finish_fits", "fit_all", "fit_one"]


@dataclasses.dataclass(frozen=True, eq=False)
class FitTask:
    """
    The fit of one MUSE image.

    Parameters
    ----------
    hst, muse : str
        The files.
    name : str
        Name of the result.
    options : dict
        Options of `~muse_imphot.fit_image_photometry`.
    products : `~muse_imphot.products.Products`, optional
        What to write and to show of the fit of the image.
    stars : dict, optional
        ``method``: "image", "star" or "both"; and ``stars`` and ``gaia`` of
        `~muse_imphot.fit_star_photometry`.
    star_products : `~muse_imphot.products.Products`, optional
        What to write and to show of the fit of stars.
    psf : `~muse_imphot.template.ImagePSF`, optional
        The PSF of the HST image, if it was measured from its stars for all images.
    """

    hst: str
    muse: str
    name: str
    options: dict
    products: Products = Products()
    stars: dict = dataclasses.field(default_factory=dict)
    star_products: Products = Products()
    psf: object = None

    @property
    def methods(self):
        """The methods of the fit, as the column of the table calls them."""
        return METHODS[self.stars.get("method", "image")]

    def paths(self):
        """Name the files that are written."""
        return [*self.products.paths(), *self.star_products.paths()]


def filter_of(hst):
    """Return the filter of an HST image, or nothing where that is unknown."""
    import warnings

    from ..bandpass import HstFilterInfo
    from ..exceptions import ImphotWarning, UserError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImphotWarning)  # the fit says it
            return HstFilterInfo(hst).filter_name
    except UserError:
        return ""


def fit_all(tasks, *, jobs=1, progress=None, each=None, interrupted=None):
    """
    Fit all images.

    Parameters
    ----------
    tasks : list of `FitTask`
        What to fit.
    jobs : int, optional
        How many processes.
    progress : callable, optional
        Called as ``progress(done, total)``.
    each : callable, optional
        Called with each result, in the order of the tasks.
    interrupted : callable, optional
        Called with the results that there are if the user interrupts the fits.

    Returns
    -------
    list of `~muse_imphot.FittedPhotometry`
        Those that failed have no values.
    """
    from ..batch import iterate
    from ..exceptions import UserError

    results = []
    if progress is not None:
        progress(0, len(tasks))
    tasks = _with_measured_psf(tasks)
    try:
        with closing(iterate(fit_one, tasks, jobs=jobs)) as outcomes:
            for outcome in outcomes:
                own = _results(tasks[outcome.index], outcome)
                results += own
                if progress is not None:
                    progress(outcome.index + 1, len(tasks))
                for result in own if each is not None else ():
                    each(result)
    except KeyboardInterrupt:
        if results and interrupted is not None:
            with suppress(UserError):
                interrupted(results)
        raise
    return results


def _results(task, outcome):
    """Return the results of an image, also where there are none."""
    if outcome.error is None:
        return outcome.value
    return [_failed(task, outcome.error, method) for method in task.methods]


def _with_measured_psf(tasks):
    """Return the tasks with the PSF of HST, if it is to be measured from stars: once for all."""
    from ..exceptions import UserError
    from ..pipeline.hst_psf import measure_psf
    from ..template import is_template_file

    first = tasks[0]
    wanted = first.options.get("hst_psf")
    if isinstance(wanted, dict):
        wanted = wanted.get(filter_of(first.hst).upper())
    if len(tasks) == 1 or not isinstance(wanted, str) or wanted.lower() != "stars":
        return tasks
    try:
        if is_template_file(first.hst):
            return tasks
        images = [task.muse for task in tasks]
        psf = measure_psf(first.hst, images, unit=first.options.get("hst_unit"))
    except UserError:  # each image says so for itself
        return tasks
    return [dataclasses.replace(task, psf=psf) for task in tasks]


def _failed(task, error, method):
    import logging

    from ..exceptions import UserError
    from ..results import failed_result

    reason = error
    if not isinstance(error, UserError):
        logging.getLogger("muse_imphot.cli").debug("%s: %s", task.name, error)
        reason = f"unexpected {getattr(error, 'message', error)}"
    return failed_result(task.name, filter_of(task.hst), reason, method=method)


def fit_one(task):
    """
    Fit one image, and write what is wanted.

    Parameters
    ----------
    task : `FitTask`
        What to do.

    Returns
    -------
    list of `~muse_imphot.FittedPhotometry`
        One per method. Of two methods, one may fail alone.
    """
    from ..exceptions import UserError
    from ..io import read_muse_image

    image = read_muse_image(task.muse)
    results = []
    for method in task.methods:
        try:
            results.append((_fit_stars if method == STARS else _fit_image)(task, image))
        except UserError as exc:
            if len(task.methods) == 1:
                raise
            results.append(_failed(task, exc, method))
    return results


def _fit_image(task, image):
    from ..photometry import fit_image_photometry

    result = fit_image_photometry(task.hst, image, name=task.name, **_options(task))
    _note_psf(task, result)
    task.products.write(result, image)
    result.images = None  # they are large, and in the files
    return result


def _fit_stars(task, image):
    from ..star_photometry.by_method import fit_stars

    options = {**_options(task), **task.stars, "name": task.name}
    result = fit_stars(task.hst, image, task.methods, **options)
    _note_psf(task, result)
    task.star_products.write(result, image)
    result.images = result.stamps = None
    return result


def _options(task):
    """Return the options of the fit, with the PSF of HST that was measured beforehand."""
    return task.options if task.psf is None else {**task.options, "hst_psf": task.psf}


def _note_psf(task, result):
    if task.psf is not None:
        result.meta["hst_psf"] = "image, from the stars of the HST image"


def finish_fits(results, *, ecsv=None, overwrite=False, meta=None):
    """
    Write the table, and say what failed.

    Parameters
    ----------
    results : list of `~muse_imphot.FittedPhotometry`
        The results.
    ecsv : str, optional
        File of the table.
    overwrite : bool, optional
        Whether it may be replaced.
    meta : dict, optional
        Provenance.

    Returns
    -------
    int
        The exit code.

    Raises
    ------
    FitError
        If nothing could be fitted.
    """
    import logging

    from ..exceptions import FitError
    from ..results import write_results
    from .messages import FAILED

    if ecsv:
        write_results(results, ecsv, full=True, overwrite=overwrite, meta=meta)
    failed = [result for result in results if result.failed]
    if failed and len(failed) == len(results):
        n_images = len({result.name for result in failed})
        more = f" ({n_images} images)" if n_images > 1 else ""
        raise FitError(f"nothing could be fitted{more}: {failed[0].meta['reason']}")
    for result in failed:
        reason = result.meta["reason"]
        text = reason if result.name in reason else f"{result.name}: {reason}"
        logging.getLogger("muse_imphot.cli").error("%s", text)
    return FAILED if failed else 0
