# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
One exposure of a run: its images, templates, fits and figures.

It is the task that worker processes are given. An exception concerns one filter only; it becomes a
result that says why there is no fit.
"""

import logging
import os

from .._methods import IMAGE, STARS
from ..bandpass import load_bandpass
from ..exceptions import HeaderError, InputFileError, UserError
from ..io import open_cube, read_muse_image, write_muse_image
from ..photometry import TemplateSource, fit_image_photometry
from ..results import failed_result
from ..star_photometry.by_method import fit_stars
from ..template import write_template
from ..wideband import wideband_images
from .drawing import DETAILS, draw, in_folder
from .tasks import exposure_of, label_of

__all__ = ["process_exposure", "wideband_or_errors"]

log = logging.getLogger(__name__)


def process_exposure(task, progress=None):
    """
    Make the images, templates, fits and figures of one exposure.

    Parameters
    ----------
    task : `ExposureTask`
        The exposure.
    progress : callable, optional
        Called as ``progress(part)`` with the part of the work that is done. To read the cube is
        taken to be as much work as the images of one filter are.

    Returns
    -------
    list of `~muse_imphot.FittedPhotometry`
        One per filter and method, without the images behind the fits.
    """
    if isinstance(task.source, str | os.PathLike):
        try:
            cube = open_cube(task.source)
        except InputFileError:  # it is an image, or what is wrong with it is found again
            pass
        else:
            return _process_cube(task, cube, progress or (lambda part: None))
    return _process_image(task)


def _process_cube(task, cube, progress):
    """Make the images of a cube, and fit them."""
    step = 1.0 / (1 + len(task.hst))
    curves = {hst.filter: load_bandpass(hst.curve) for hst in task.hst}
    with cube:
        images = wideband_or_errors(
            cube,
            curves,
            progress=lambda done, total: progress(step * done / total),
            **task.wideband,
        )
    results = []
    for number, hst in enumerate(task.hst):
        progress(step * (1 + number))
        results += _process_filter(task, hst, images[hst.filter])
    return results


def wideband_or_errors(cube, curves, **options):
    """
    Make the images of a cube through filters, of which some may be unusable.

    Parameters
    ----------
    cube : `~muse_imphot.io.MuseCube`
        The cube.
    curves : dict
        Filter to `~synphot.spectrum.SpectralElement`.
    **options
        Options of `~muse_imphot.wideband.wideband_images`.

    Returns
    -------
    dict
        Filter to image, or to the `UserError` that says why there is none.
    """
    try:
        return wideband_images(cube, curves, **options)
    except UserError as exc:
        if len(curves) == 1:
            return dict.fromkeys(curves, exc)
    images = {}
    for name, curve in curves.items():
        images.update(wideband_or_errors(cube, {name: curve}, **options))
    return images


def _process_image(task):
    """Fit a MUSE image that was given in place of a cube."""
    image = read_muse_image(task.source)
    try:
        hst = _hst_for_image(task, image)
    except HeaderError as exc:
        return _failures(task, str(image.meta.get("IMPFILT", "")), exc)
    exposure = exposure_of(task.name, hst.filter)
    return _process_filter(task, hst, image, exposure=exposure, write=False)


def _hst_for_image(task, image):
    """Return the HST image of the filter of a MUSE image."""
    by_filter = {hst.filter: hst for hst in task.hst}
    own = str(image.meta.get("IMPFILT", "")).strip()
    if own:
        if own in by_filter:
            return by_filter[own]
        raise HeaderError(
            f"{label_of(task.source)}: is in {own} (IMPFILT), but the HST images are in "
            f"{', '.join(by_filter)}"
        )
    if len(by_filter) == 1:
        return task.hst[0]
    named = [hst for name, hst in by_filter.items() if name.lower() in task.name.lower()]
    if len(named) == 1:
        log.info("%s: taken to be in %s, after its name", task.name, named[0].filter)
        return named[0]
    raise HeaderError(
        f"{label_of(task.source)}: its filter is unknown; set IMPFILT in its header to one of "
        f"{', '.join(by_filter)}, or give a single HST image"
    )


def _process_filter(task, hst, image, *, exposure=None, write=True):
    """Fit the image of one filter by each method; what goes wrong becomes a failed result."""
    try:
        if isinstance(image, UserError):
            raise image
        if write:
            path = in_folder(task.paths.image(task.name, hst.filter))
            write_muse_image(image, path, overwrite=True)
    except Exception as exc:  # noqa: BLE001 - the other filters go on
        return _failures(task, hst.filter, exc, exposure)
    fits = {IMAGE: _fit_image, STARS: _fit_stars}
    results = []
    for method in task.methods:
        try:
            result = fits[method](task, hst, image)
        except Exception as exc:  # noqa: BLE001 - the other methods and filters go on
            result = _failure(task, hst.filter, exc, exposure, method)
        result.exposure = exposure or task.name
        results.append(result)
    return results


def _fit_image(task, hst, image):
    """Fit an image with the HST image as template, and draw it."""
    source = _source(task, hst, image)
    path = in_folder(task.paths.template(task.name, hst.filter))
    write_template(source.make(), path, overwrite=True)
    result = fit_image_photometry(source, image, name=task.name, **task.fit)
    if hst.psf is not None:
        result.meta["hst_psf"] = "image, from the stars of the HST image"
    if task.figures:
        draw("plot_image_fit", task.paths.figure(task.name, hst.filter), result)
    if task.details:
        for function, kind in DETAILS.items():
            draw(function, task.paths.detail(task.name, hst.filter, kind), result)
    result.images = None  # they are large, and in the figure
    return result


def _fit_stars(task, hst, image):
    """Fit stars in both images, and draw them."""
    options = {**task.fit, **task.stars, "name": task.name, "filter_info": hst.info}
    if hst.psf is not None:
        options["hst_psf"] = hst.psf
    result = fit_stars(hst.source, image, task.methods, **options)
    if task.figures:
        draw("plot_star_fit", task.paths.figure(task.name, hst.filter, STARS), result)
    result.images = result.stamps = None
    return result


def _source(task, hst, image):
    """Return where the template of an image comes from, with the HST PSF that was asked for."""
    fit = task.fit
    offsets = (fit.get(key) for key in ("init_dx", "init_dy", "fix_dx", "fix_dy"))
    largest = max([fit.get("max_offset", 12.0), *(abs(_arcsec(v)) for v in offsets if v)])
    names = ("hst_unit", "hst_weight", "hst_psf", "hst_fwhm", "hst_beta")
    given = {key: fit.get(key) for key in names}
    if hst.psf is not None:
        given["hst_psf"] = hst.psf
    return TemplateSource(
        hst.source, image, max_offset=largest, filter_info=hst.info, **given,
    )  # fmt: skip


def _arcsec(value):
    return float(value.to_value("arcsec")) if hasattr(value, "to_value") else float(value)


def _failures(task, filter, exc, exposure=None):
    """Return the results that stand for a failure of all methods."""
    return [_failure(task, filter, exc, exposure, method) for method in task.methods]


def _failure(task, filter, exc, exposure, method):
    """Return the result that stands for a failure."""
    reason = exc
    if not isinstance(exc, UserError):
        log.debug("%s %s: unforeseen", task.name, filter, exc_info=exc)
        reason = f"unexpected {type(exc).__name__}: {exc}"
    return failed_result(task.name, filter, reason, exposure=exposure, method=method)
