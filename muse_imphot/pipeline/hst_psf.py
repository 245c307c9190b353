# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The PSF of HST images, measured from their stars in and around the fields of a run.
"""

import dataclasses
import logging
import os
from collections.abc import Mapping

from ..exceptions import InputFileError, UserError
from ..io import open_cube, read_hst_image, read_muse_image
from ..template import measure_hst_psf
from .tasks import label_of

__all__ = ["field_of", "measure_psf", "with_measured_psf"]

log = logging.getLogger(__name__)

# The stars of which the PSF of HST is measured are looked for this far around the field (arcsec):
# in the field first, and further out only if it holds too few.
_STARS_WITHIN = (22.0, 60.0)


def with_measured_psf(tasks, earlier):
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
