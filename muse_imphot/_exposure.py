# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
One exposure of a run: its images, templates, fits and figures.

It is the task that worker processes are given. An exception concerns one filter only; it becomes a
result that says why there is no fit.
"""

import dataclasses
import logging
import os
from pathlib import Path

from ._methods import IMAGE, STARS, fit_stars
from ._outputs import make_folder, safe_name
from .bandpass import HstFilterInfo, load_bandpass
from .exceptions import HeaderError, InputFileError, UserError
from .io import open_cube, read_hst_image, read_muse_image, source_name, write_muse_image
from .photometry import TemplateSource, fit_image_photometry
from .results import failed_result
from .template import measure_hst_psf, write_template
from .wideband import wideband_images

__all__ = [
    "ExposureTask",
    "HstImage",
    "OutputPaths",
    "draw",
    "field_of",
    "label_of",
    "measure_psf",
    "process_exposure",
    "wideband_or_errors",
]

log = logging.getLogger(__name__)

# The stars of which the PSF of HST is measured are looked for this far around the field (arcsec):
# in the field first, and further out only if it holds too few.
_STARS_WITHIN = (22.0, 60.0)

# The further figures of the fit of an image: functions of `muse_imphot.plots`, and what the names
# of their files end in. That of the covariance needs no images: the report draws it from results.
DETAILS = {"plot_radial": "radial", "plot_fourier": "fourier", "plot_residuals": "residuals"}


@dataclasses.dataclass(frozen=True)
class HstImage:
    """
    An HST image and what its header says.

    Parameters
    ----------
    source : path-like or `~astropy.nddata.CCDData`
        The image.
    filter : str
        The filter, for instance ``"F606W"``.
    info : `~muse_imphot.HstFilterInfo`
        Filter and zero point.
    curve : str, path-like or `~synphot.spectrum.SpectralElement`
        What `~muse_imphot.bandpass.load_bandpass` makes the bandpass from.
    psf : `~muse_imphot.template.ImagePSF`, optional
        Its PSF, if that was measured from its stars.
    """

    source: object
    filter: str
    info: HstFilterInfo
    curve: object
    psf: object = None


@dataclasses.dataclass(frozen=True)
class OutputPaths:
    """
    Where everything goes.

    Parameters
    ----------
    folder : `~pathlib.Path`
        The folder of the output.
    """

    folder: Path

    @property
    def results(self):
        """The table of results."""
        return self.folder / "results.ecsv"

    @property
    def psf(self):
        """The table of PSF polynomials."""
        return self.folder / "psf.ecsv"

    @property
    def report(self):
        """The report."""
        return self.folder / "report.html"

    def image(self, name, filter):
        """Return the wideband image of an exposure."""
        return self.folder / "images" / f"{name}_{safe_name(filter)}.fits"

    def template(self, name, filter):
        """Return the HST image on the grid of an exposure."""
        return self.folder / "templates" / f"hst_{safe_name(filter)}_for_{name}.fits"

    def figure(self, name, filter, method=IMAGE):
        """Return the figure of a fit."""
        kind = "star_fit" if method == STARS else "image_fit"
        return self.folder / "figures" / f"{name}_{safe_name(filter)}_{kind}.png"

    def detail(self, name, filter, kind):
        """Return one of the further figures of a fit of an image, which are in `DETAILS`."""
        return self.folder / "figures" / f"{name}_{safe_name(filter)}_{kind}.png"

    def psf_figure(self, name):
        """Return the figure of the PSF of an exposure against wavelength."""
        return self.folder / "figures" / f"{name}_psf.png"

    def all(self, names, filters, *, figures=True, details=False, methods=(IMAGE,)):
        """Return every file that exposures and filters may lead to."""
        pairs = [(name, filter) for name in names for filter in filters]
        files = [kind(*pair) for pair in pairs for kind in (self.image, self.template)]
        if figures:
            files += [self.figure(*pair, method) for pair in pairs for method in methods]
            kinds = DETAILS.values() if details else ()
            files += [self.detail(*pair, kind) for pair in pairs for kind in kinds]
            exposures = [*names, *(exposure_of(*pair) for pair in pairs)]
            files += [self.psf_figure(name) for name in dict.fromkeys(exposures)]
        return [self.results, self.psf, self.report, *files]


@dataclasses.dataclass(frozen=True, eq=False)
class ExposureTask:
    """
    An exposure with all that is needed to work on it, in this process or another.

    Parameters
    ----------
    source : path-like or `~astropy.nddata.CCDData`
        A MUSE cube, or a MUSE image.
    name : str
        Its name, unique within the run.
    hst : tuple of `HstImage`
        The HST images.
    paths : `OutputPaths`
        Where the files go; older ones are replaced.
    figures : bool
        Whether to draw figures.
    wideband, fit : dict
        Options of `~muse_imphot.wideband.wideband_images` and
        `~muse_imphot.fit_image_photometry`.
    methods : tuple of str, optional
        ``"image"``, ``"stars"`` or both.
    stars : dict, optional
        The stars: ``stars`` and ``gaia`` of `~muse_imphot.fit_star_photometry`.
    details : bool, optional
        Whether to draw the figures of `DETAILS`, too.
    """

    source: object
    name: str
    hst: tuple
    paths: OutputPaths
    figures: bool
    wideband: dict
    fit: dict
    methods: tuple = (IMAGE,)
    stars: dict = dataclasses.field(default_factory=dict)
    details: bool = False


def exposure_of(name, filter):
    """Return the exposure that an image belongs to, from its name: that without the filter."""
    return name.removesuffix(f"_{filter}").removeprefix(f"{filter}_")


def label_of(source):
    """Return what messages call a file or an image."""
    return str(source) if isinstance(source, str | os.PathLike) else source_name(source)


def process_exposure(task, progress=None):
    """
    Make the images, templates, fits and figures of one exposure.

    Parameters
    ----------
    task : `ExposureTask`
        The exposure.
    progress : callable, optional
        Called as ``progress(done, total)`` while the cube is read.

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
            curves = {hst.filter: load_bandpass(hst.curve) for hst in task.hst}
            with cube:
                images = wideband_or_errors(cube, curves, progress=progress, **task.wideband)
            found = [_process_filter(task, hst, images[hst.filter]) for hst in task.hst]
            return [result for results in found for result in results]
    return _process_image(task)


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
            path = _in_folder(task.paths.image(task.name, hst.filter))
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
    path = _in_folder(task.paths.template(task.name, hst.filter))
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


def _in_folder(path):
    """Return the path when there is a folder for it."""
    make_folder(path.parent)
    return path


def _source(task, hst, image):
    """Return where the template of an image comes from, with the HST PSF that was asked for."""
    fit = task.fit
    offsets = (fit.get(key) for key in ("init_dx", "init_dy", "fix_dx", "fix_dy"))
    largest = max([fit.get("max_offset", 12.0), *(abs(_arcsec(v)) for v in offsets if v)])
    given = {key: fit.get(key) for key in ("hst_unit", "hst_psf", "hst_fwhm", "hst_beta")}
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


def field_of(source):
    """
    Return where a MUSE cube or image is, from its header if it is a cube.

    Parameters
    ----------
    source : path-like or `~astropy.nddata.CCDData`
        The cube or image.

    Returns
    -------
    wcs : `~astropy.wcs.WCS`
        The celestial WCS.
    shape : tuple of int
        The shape (ny, nx).

    Raises
    ------
    UserError
        If it cannot be used.
    """
    if isinstance(source, str | os.PathLike):
        try:
            with open_cube(source) as cube:
                return cube.wcs, cube.shape[1:]
        except InputFileError:  # it is an image, or what is wrong with it is found again
            pass
    image = read_muse_image(source)
    return image.wcs, image.data.shape


def measure_psf(hst, sources, *, unit=None):
    """
    Measure the PSF of an HST image from the stars in and around the first field that has enough.

    Parameters
    ----------
    hst : path-like or `~astropy.nddata.CCDData`
        The HST image.
    sources : list
        MUSE cubes or images: the fields.
    unit : optional
        Unit of the HST image, where its header does not say it.

    Returns
    -------
    psf : `~muse_imphot.template.ImagePSF`

    Raises
    ------
    UserError
        If no field has stars enough; the reason is that of the first field.
    """
    first = None
    for source in sources:
        try:
            wcs, shape = field_of(source)
            return _measure_around(hst, wcs, shape, unit)
        except UserError as exc:
            log.info("%s: no PSF of HST from its stars: %s", label_of(source), exc)
            first = first or exc
    raise first


def _measure_around(hst, wcs, shape, unit):
    """Measure the PSF from the stars of a field, or else of its surroundings."""
    near, far = _STARS_WITHIN
    image = read_hst_image(hst, around=(wcs, shape, near), unit=unit)
    try:
        return measure_hst_psf(image)
    except UserError as exc:
        log.info("%s; stars around the field are tried", exc)
    return measure_hst_psf(read_hst_image(hst, around=(wcs, shape, far), unit=unit))


def draw(function, path, *args):
    """Draw and save a figure; a figure that fails costs no result."""
    from . import plots

    try:
        figure = getattr(plots, function)(*args)
        plots.save_figure(figure, _in_folder(path), overwrite=True)
    except Exception as exc:
        log.warning("%s: the figure could not be drawn: %s", path, exc)
        log.debug("%s", path, exc_info=exc)
        return False
    return True
