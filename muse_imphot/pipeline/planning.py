# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What a run is going to do: its exposures, HST images and files, checked before any work is done.
"""

import dataclasses
import inspect
import os
from collections.abc import Mapping
from pathlib import Path

from .._methods import IMAGE, check_stars, parse_method
from .._outputs import unique_inputs
from ..bandpass import HstFilterInfo, load_bandpass
from ..ds9regions import Ds9Regions
from ..exceptions import HeaderError, InputFileError, UserError
from ..io import source_name
from ..photometry import fit_image_photometry
from ..template_source import refuse_both
from ..wideband import check_noise_factor
from .drawing import can_draw
from .tasks import ExposureTask, HstImage, OutputPaths, label_of

__all__ = ["RunPlan", "identify_filters", "plan_run"]

# Runs of at most so many fits draw the further figures of each (half a second a fit).
_FEW_FITS = 8

# Arguments of the fit that are set here, for each image, or that a run has in another form.
_OWN_ARGUMENTS = (
    *("hst", "muse", "name", "overwrite", "hardcopy", "title", "save", "fig", "display", "nowait"),
    *("apply", "resample"),
)


@dataclasses.dataclass(frozen=True, eq=False)
class RunPlan:
    """
    What a run is going to do.

    Parameters
    ----------
    tasks : list of `~muse_imphot.pipeline.tasks.ExposureTask`
        The exposures.
    hst : list of `~muse_imphot.pipeline.tasks.HstImage`
        The HST images.
    paths : `~muse_imphot.pipeline.tasks.OutputPaths`
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
    check_stars(
        methods,
        stars=stars,
        gaia=gaia,
        star=fit_options.get("star"),
        free=fit_options.get("free"),
    )
    _check_fit_options(**fit_options)
    given = {"stars": stars, "gaia": gaia}
    _check_files(given, but=("detect",))
    cubes = _as_list(cubes)
    exposures = _name_exposures(cubes)
    hst = _with_curves(identify_filters(_as_list(hst)), curves)
    check_weights(fit_options.get("hst_weight"), [image.filter for image in hst])
    _check_psfs(fit_options.get("hst_psf"), [image.filter for image in hst])
    figures = figures and can_draw()
    paths = OutputPaths(Path(output))
    names, filters = [name for _, name in exposures], [image.filter for image in hst]
    inputs = [*cubes, *(image.source for image in hst), stars, gaia]
    inputs += [fit_options.get(key) for key in ("regions", "extramask")]
    inputs += _files(fit_options.get("hst_psf")) + _files(fit_options.get("hst_weight"))
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
    for name in ("hst_psf", "hst_weight"):
        for file in _files(others.get(name)):
            _check_files({name: file})


def check_weights(weights, filters):
    """
    Refuse weights of which it is not clear what HST image they are for.

    Parameters
    ----------
    weights : path-like, dict or None
        A file, or filter to file.
    filters : list of str
        Those of the HST images.

    Raises
    ------
    UserError
        If one file is given for several images, or one for an image that is not there.
    """
    if weights is None or (not isinstance(weights, Mapping) and len(filters) == 1):
        return
    if not isinstance(weights, Mapping):
        raise UserError(
            f"hst_weight: one file is given for HST images in {', '.join(filters)}; say which "
            "filter it is for (FILTER=FILE, or a dict)"
        )
    unknown = [name for name in weights if str(name).strip().upper() not in filters]
    if unknown:
        raise UserError(
            f"hst_weight: weights are given for {', '.join(unknown)}, but the HST images are in "
            f"{', '.join(filters)}"
        )


def _check_psfs(psfs, filters):
    """Refuse PSFs by filter that leave an HST image without one: its fits would all fail."""
    if not isinstance(psfs, Mapping):
        return
    known = {str(name).strip().upper() for name in psfs}
    missing = [name for name in filters if name.upper() not in known]
    if missing:
        raise UserError(
            f"hst_psf: PSFs are given for {', '.join(known) or 'no filter'}, and the HST images "
            f"are in {', '.join(filters)}; add that of {', '.join(missing)}"
        )


def _check_files(files, but=()):
    """Refuse files that do not exist; ``but`` are words that are no files."""
    for name, file in files.items():
        if isinstance(file, os.PathLike | str) and file not in but and not os.path.exists(file):
            raise InputFileError(file, f"no such file; it is given as {name}")


def _files(value):
    """Return the files among the PSFs, or the weights, of HST images."""
    given = value.values() if isinstance(value, Mapping) else [value]
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
