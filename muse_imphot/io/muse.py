# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
MUSE images: files of the layout PRIMARY / DATA / STAT / DQ, and images in memory.
"""

import logging
import os

import numpy as np

from ..exceptions import InputFileError
from .coordinates import celestial_wcs
from .fits_files import base_name, find_image, image_shape, open_fits, read_pixels, same_shape_hdu
from .headers import check_flux_density, merged_header, muse_flux_unit, sanitize_card
from .nddata import RawImage, check_real, clean_image, is_path, raw_from_object
from .telescope import looks_like_hst

__all__ = ["clean_object", "read_muse_image"]

log = logging.getLogger(__name__)


def read_muse_image(source):
    """
    Read a MUSE image.

    Parameters
    ----------
    source : path-like, `~astropy.nddata.NDData` or MPDAF image
        A FITS file, in the layout PRIMARY / DATA / STAT / DQ of MUSE and MPDAF or with a single
        image; or an image in memory: a `~astropy.nddata.CCDData` (or NDData) with a WCS, or an
        MPDAF Image.

    Returns
    -------
    image : `~astropy.nddata.CCDData`
        Data, float64, shape (ny, nx), 0 at bad pixels; ``mask``, always present and True at
        pixels that are not finite, have DQ != 0, or a variance that is not finite, zero or
        negative; ``uncertainty``, a variance (1 at bad pixels), or None without STAT; ``unit``,
        a flux density per wavelength; ``wcs``, celestial, of the DATA extension; ``meta``, the
        header of DATA followed by the cards that only the primary header has. Nothing is
        shared with the source.

    Raises
    ------
    InputFileError
        If the file cannot be read, is a cube or an HST image, or has no usable pixel.
    HeaderError
        If there is no celestial WCS, or the unit is not a flux density.

    Warns
    -----
    AssumptionWarning
        If nothing says what the unit is: 1e-20 erg/s/cm2/Angstrom is assumed then.
    """
    if is_path(source):
        return _read_file(os.fspath(source))
    raw = raw_from_object(source, "MUSE")
    _refuse_hst(raw.header, raw.label)
    return clean_object(raw)


def clean_object(raw):
    """
    Make a MUSE image of what an object in memory holds.

    Parameters
    ----------
    raw : `~muse_imphot.io.nddata.RawImage`
        What `~muse_imphot.io.nddata.raw_from_object` found.

    Returns
    -------
    image : `~astropy.nddata.CCDData`
        As `read_muse_image` returns it.
    """
    if raw.unit is None:
        unit = muse_flux_unit(raw.label, raw.header)
    else:
        unit = check_flux_density(raw.unit, raw.label)
    return _finish(raw, unit)


def _read_file(path):
    with open_fits(path) as hdul:
        hdu = find_image(hdul, path, ("DATA", "SCI"), 2)
        header = merged_header(hdu.header, hdul[0].header)
        _refuse_hst(header, path)
        shape = image_shape(hdu, 2)
        _require_image(shape, path)
        wcs = celestial_wcs(hdu.header, path, hdul=hdul)
        unit = muse_flux_unit(path, hdu.header, hdul[0].header)
        raw = RawImage(read_pixels(hdu, path), wcs, header, path)
        stat = same_shape_hdu(hdul, path, "STAT", shape)
        if stat is not None:
            raw.variance = read_pixels(stat, path)
        quality = same_shape_hdu(hdul, path, "DQ", shape)
        if quality is not None:
            raw.bad["with DQ != 0"] = read_pixels(quality, path) != 0
    header["IMPFILE"] = (sanitize_card(base_name(path)), "file that the image came from")
    return _finish(raw, unit)


def _finish(raw, unit):
    if raw.variance is not None:
        check_real(raw.variance, raw.label)
        negative = np.count_nonzero(raw.variance < 0)
        if negative:
            log.warning("%s: %d pixels of negative variance are masked", raw.label, negative)
    return clean_image(raw, unit)


def _refuse_hst(header, label):
    if looks_like_hst(header):
        raise InputFileError(
            label,
            "is an HST image, where a MUSE image is needed; a fit takes the HST image first, "
            "then MUSE images",
        )


def _require_image(shape, path):
    """Raise InputFileError unless the shape is that of an image."""
    if len(shape) == 2:
        return
    if len(shape) == 3:
        raise InputFileError(
            path,
            f"is a cube of shape {shape}, where an image is needed; extract one with: "
            "muse-imphot extract",
        )
    raise InputFileError(path, f"has {len(shape)} axes, shape {shape}; an image of 2 is needed")
