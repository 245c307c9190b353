# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
HST images on the MUSE grid and in the unit of MUSE, step by step, as scripts for imphot do it.

The fits need none of this: they take HST images as they are, and know more of them than an image on
the MUSE pixels can hold.
"""

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData
from astropy.wcs.utils import pixel_to_pixel

from .bandpass import HstFilterInfo
from .exceptions import UserError
from .io import pixel_scale, read_hst_image, read_muse_image
from .io.nddata import is_path
from .template import make_template
from .template.on_grid import window_cards
from .template.regrid import FLUX_DENSITY

__all__ = ["image_grids_aligned", "regrid_hst_like_muse", "rescale_hst_like_muse"]

_RATES = (u.electron / u.s, u.ct / u.s)


def regrid_hst_like_muse(hst, muse, inplace=True):
    """
    Bring an HST image onto the pixels of a MUSE image.

    Parameters
    ----------
    hst : path-like, `~astropy.nddata.CCDData` or MPDAF image
        The HST image.
    muse : path-like, `~astropy.nddata.CCDData` or MPDAF image
        The MUSE image.
    inplace : bool, optional
        Whether to change ``hst``, if it is a `~astropy.nddata.CCDData`, besides returning it.
        Files and MPDAF images are never changed.

    Returns
    -------
    image : `~astropy.nddata.CCDData`
        In the unit that the HST image had, per MUSE pixel; masked where HST did not observe. A
        smooth window, which is noted in the header, takes the ringing off sharp sources; there is
        nothing left of the sky around the MUSE field.

    Raises
    ------
    UserError
        Of one of its kinds, if a file cannot be used, or if the images do not overlap.

    See Also
    --------
    rescale_hst_like_muse : to the unit of the MUSE image.
    muse_imphot.template.make_template : a template for fits, which keeps more of the HST image.
    """
    target = _target(hst, inplace)
    muse = read_muse_image(muse)
    image = _read(hst, muse)
    template = make_template(image, muse, max_offset=0.0)
    regridded = template.on_muse_grid()
    factor = _to_muse_unit(image, muse)
    meta = image.meta.copy()
    meta.update(regridded.meta)
    meta.extend(window_cards(template.grid_window), update=True)
    data = regridded.data / factor
    return _deliver(
        target, CCDData(data, unit=image.unit, mask=regridded.mask, wcs=muse.wcs, meta=meta)
    )


def rescale_hst_like_muse(hst, muse, inplace=True):
    """
    Convert the values of an HST image into the unit of a MUSE image.

    Parameters
    ----------
    hst : path-like, `~astropy.nddata.CCDData` or MPDAF image
        The HST image; its pixels may be any.
    muse : path-like, `~astropy.nddata.CCDData` or MPDAF image
        The MUSE image.
    inplace : bool, optional
        As for `regrid_hst_like_muse`.

    Returns
    -------
    image : `~astropy.nddata.CCDData`
        Count rates are multiplied by PHOTFLAM of the header, or by that of the filter.

    Raises
    ------
    UserError
        Of one of its kinds, if a file cannot be used, or if there is no way from one unit to the
        other.
    """
    target = _target(hst, inplace)
    muse = read_muse_image(muse)
    image = _read(hst)
    data = image.data * _to_muse_unit(image, muse)
    meta = image.meta.copy()
    meta["BUNIT"] = muse.unit.to_string("fits")
    return _deliver(
        target, CCDData(data, unit=muse.unit, mask=image.mask, wcs=image.wcs, meta=meta)
    )


def image_grids_aligned(im1, im2, tolerance=0.01):
    """
    Whether two images have the same number of pixels, at the same places on the sky.

    Parameters
    ----------
    im1, im2 : path-like, `~astropy.nddata.CCDData` or MPDAF image
        The images.
    tolerance : float, optional
        Largest distance (arcsec) between corresponding corners.

    Returns
    -------
    aligned : bool

    Notes
    -----
    All four corners are compared, so that rotations and scales count as well as shifts.
    """
    first, second = (_any_image(image) for image in (im1, im2))
    if first.shape != second.shape:
        return False
    ny, nx = first.shape
    x, y = np.array([0.0, nx - 1, 0.0, nx - 1]), np.array([0.0, 0.0, ny - 1, ny - 1])
    other_x, other_y = pixel_to_pixel(first.wcs, second.wcs, x, y)
    distance = np.hypot(other_x - x, other_y - y) * pixel_scale(second.wcs)
    return bool(np.all(distance <= tolerance))


def _any_image(source):
    """Read an image of either telescope."""
    try:
        return read_muse_image(source)
    except UserError:
        return read_hst_image(source)


def _read(hst, muse=None):
    """Read an HST image, as much of it as a MUSE image needs."""
    around = None if muse is None else (muse.wcs, muse.shape, 10.0)
    return read_hst_image(hst, around=around)


def _to_muse_unit(hst, muse):
    """Return the factor from values of an HST image to those of MUSE, for the same pixels."""
    if hst.unit in _RATES:
        return (HstFilterInfo(hst).photflam * FLUX_DENSITY).to_value(muse.unit)
    return hst.unit.to(muse.unit)


def _target(hst, inplace):
    """Return what is to be changed, None if nothing can be."""
    return hst if inplace and not is_path(hst) and isinstance(hst, CCDData) else None


def _deliver(target, image):
    """Return an image, in place of another one if there is one."""
    if target is None:
        return image
    target.uncertainty = None
    target.data, target.mask, target.unit = image.data, image.mask, image.unit
    target.wcs = None  # a WCS cannot be replaced by another one directly
    target.wcs = image.wcs
    target.meta.clear()
    target.meta.update(image.meta)
    return target
