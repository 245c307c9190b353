# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Which pixels a fit may use: ds9 regions, star circles, masks of the user, faint pixels.

Regions in sky coordinates belong to the HST frame, whose coordinates are trusted: when MUSE is
found to be off by some pixels, they move along. Masks in MUSE pixels stay.
"""

import dataclasses
import math
import os

import numpy as np
from scipy import ndimage

from .ds9regions import Ds9Regions
from .exceptions import HeaderError, MaskError
from .io import celestial_wcs, open_fits
from .io.fits_files import read_pixels
from .region_grids import RegionPainter

__all__ = ["MaskMaker", "PixelMask", "faint_pixels", "pixel_mask"]

_INSIDE = "inside an excluded region"
_OUTSIDE = "outside every included region"
_EXTRA = "extra mask"


@dataclasses.dataclass(frozen=True, eq=False)
class PixelMask:
    """
    The pixels that are left out of a fit, and why.

    Parameters
    ----------
    excluded : 2D `~numpy.ndarray` of bool
        True where a pixel is left out, shape (ny, nx).
    reasons : dict
        Reason in words to a bool array of the same shape.
    """

    excluded: np.ndarray
    reasons: dict = dataclasses.field(default_factory=dict)

    def describe(self):
        """
        Say how many pixels each reason leaves out.

        Returns
        -------
        list of str
            One line for each reason.
        """
        return [
            f"{name}: {np.count_nonzero(array)} of {array.size} pixels ({100 * array.mean():.1f} %)"
            for name, array in self.reasons.items()
        ]


def pixel_mask(
    shape,
    wcs=None,
    *,
    regions=None,
    star=None,
    extramask=None,
    offset=(0.0, 0.0),
    header=None,
):
    """
    Combine everything that leaves pixels of an image out of a fit.

    A pixel is good when it is outside every excluded region and, if there are included regions,
    inside one of them. Use a `MaskMaker` for several offsets of the same image.

    Parameters
    ----------
    shape : tuple of int
        Shape of the image, (ny, nx).
    wcs : `~astropy.wcs.WCS`, optional
        Celestial WCS of the image; needed for regions in sky coordinates.
    regions : str, path-like, iterable of str or `~muse_imphot.ds9regions.Ds9Regions`, optional
        `None`, ``"none"`` or ``""``: all pixels. ``"star"``: only the circle of ``star``.
        ``"notstar"``: all but this circle. Otherwise a ds9 region file, or its lines.
    star : tuple of float, optional
        Right ascension and declination (ICRS, degrees) and radius (arcsec) of a circle.
    extramask : array-like, `~astropy.nddata.NDData` or path-like, optional
        Mask on the grid of the image: 0 for good pixels. A FITS file holds it in its extension
        ``DATA``, or in its first image.
    offset : tuple of float, optional
        How far (dx, dy) the sky of the image is displaced, in pixels. Regions in sky coordinates
        move by it; those in pixels stay.
    header : `~astropy.io.fits.Header`, optional
        Where ``LTV1`` and the like tell how ``physical`` pixels differ from those of the image.

    Returns
    -------
    `PixelMask`

    Raises
    ------
    `~muse_imphot.exceptions.MaskError`
        If regions or masks cannot be used, or leave no pixel.
    `~muse_imphot.exceptions.InputFileError`
        If the file of the extra mask is absent, not FITS, or damaged.
    """
    maker = MaskMaker(shape, wcs, regions=regions, star=star, extramask=extramask, header=header)
    return maker.at(offset)


class MaskMaker:
    """
    The masks of one image for any offset; files are read once, regions placed once.

    Parameters
    ----------
    shape, wcs, regions, star, extramask, header
        As in `pixel_mask`, which also lists the errors.
    """

    def __init__(self, shape, wcs=None, *, regions=None, star=None, extramask=None, header=None):
        self._shape = tuple(int(size) for size in shape)
        shapes = _find_regions(regions, star)
        self._painter = None
        if shapes is not None:
            self._painter = RegionPainter(shapes, self._shape, wcs, header=header)
        self._extra = None
        if not _is_none(extramask):
            self._extra = _read_extramask(extramask, self._shape, wcs)

    def at(self, offset=(0.0, 0.0)):
        """
        Return the mask for an offset.

        Parameters
        ----------
        offset : tuple of float, optional
            How far (dx, dy) the sky of the image is displaced, in pixels.

        Returns
        -------
        `PixelMask`

        Raises
        ------
        `~muse_imphot.exceptions.MaskError`
            If no pixel is left.
        """
        reasons = {}
        if self._painter is not None:
            inside, included = self._painter.paint(offset)
            if inside is not None:
                reasons[_INSIDE] = inside
            if included is not None:
                reasons[_OUTSIDE] = ~included
        if self._extra is not None:
            reasons[_EXTRA] = self._extra
        excluded = np.zeros(self._shape, dtype=bool)
        for array in reasons.values():
            excluded |= array
        mask = PixelMask(excluded, reasons)
        if excluded.all():
            raise MaskError(
                f"no pixel is left to fit: {'; '.join(mask.describe())}. "
                "Check that the regions lie on the image and that masks have 0 for good pixels."
            )
        return mask


def _is_none(value):
    """Whether an option means "nothing": None, "none" or an empty string."""
    return value is None or (isinstance(value, str) and value.strip().lower() in ("", "none"))


def _find_regions(regions, star):
    """Return the `Ds9Regions` that an option stands for, or None for all pixels."""
    if _is_none(regions):
        return None
    if isinstance(regions, str) and regions in ("star", "notstar"):
        if star is None:
            return None
        sign = "-" if regions == "notstar" else ""
        ra, dec, radius = _check_star(star)
        return Ds9Regions([f'icrs; {sign}circle({ra!r},{dec!r},{radius!r}")'])
    return regions if isinstance(regions, Ds9Regions) else Ds9Regions(regions)


def _check_star(star):
    """Return a star circle as three floats, or say what is wrong with it."""
    try:
        ra, dec, radius = (float(value) for value in star)
    except (TypeError, ValueError):
        ra = dec = radius = math.nan
    if not (math.isfinite(ra) and abs(dec) <= 90 and 0 < radius < math.inf):
        raise MaskError(
            f"star: found {star!r}; needed are right ascension and declination in degrees and a "
            "positive radius in arcsec."
        )
    return ra, dec, radius


def _read_extramask(extramask, shape, wcs):
    """Return a mask of the user as a bool array."""
    if isinstance(extramask, str | os.PathLike):
        label, (data, mask_wcs) = str(extramask), _open_mask(extramask)
    elif isinstance(extramask, np.ndarray | list | tuple):
        label, data, mask_wcs = "extramask", extramask, None
    else:
        label, mask_wcs = "extramask", getattr(extramask, "wcs", None)
        data = getattr(extramask, "data", extramask)
        if getattr(extramask, "mask", None) is not None:
            data = np.ma.getdata(data).astype(bool) | extramask.mask
    data = np.ma.filled(data, 1) if isinstance(data, np.ma.MaskedArray) else np.asarray(data)
    if data.shape != shape:
        raise MaskError(
            f"{label}: has the shape {data.shape}, the image has {shape}; "
            "the mask must be on the pixels of the image."
        )
    if data.dtype.kind not in "biuf":
        raise MaskError(f"{label}: holds {data.dtype} values; needed are 0 (good) and 1 (bad).")
    _check_same_sky(label, mask_wcs, wcs, shape)
    return data != 0


def _open_mask(path):
    """Return the data and the WCS of a mask file."""
    with open_fits(path) as hdus:
        images = [hdu for hdu in hdus if hdu.is_image and len(hdu.shape) == 2]
        if not images:
            raise MaskError(f"{path}: holds no 2-D image to use as a mask.")
        hdu = next((hdu for hdu in images if hdu.name == "DATA"), images[0])
        data = read_pixels(hdu, path)
        try:
            return data, celestial_wcs(hdu.header, path, hdul=hdus)
        except HeaderError:
            return data, None  # a mask need not know where it is on the sky


def _check_same_sky(label, mask_wcs, wcs, shape):
    """Refuse a mask whose own WCS says that it belongs to other pixels."""
    if not all(getattr(item, "has_celestial", False) for item in (mask_wcs, wcs)):
        return
    corners = np.array([(x, y) for x in (0, shape[1] - 1) for y in (0, shape[0] - 1)], float)
    sky = wcs.pixel_to_world(*corners.T)
    distance = np.hypot(*(np.array(mask_wcs.world_to_pixel(sky)) - corners.T)).max()
    if not distance < 0.5:
        raise MaskError(
            f"{label}: its WCS is up to {distance:.1f} pixels off that of the image; "
            "the mask must be on the pixels of the image."
        )


def faint_pixels(data, mask=None):
    """
    Find the pixels without bright sources, as imphot's ``--segment`` does.

    Parameters
    ----------
    data : 2D array-like
        The image, shape (ny, nx).
    mask : 2D array-like of bool, optional
        True where a pixel is bad.

    Returns
    -------
    2D `~numpy.ndarray` of bool
        True for the faint part, about half of the image: pixels below the median of the image
        after small features have been taken off by a morphological opening.
    """
    data = np.array(data, dtype=float)
    bad = ~np.isfinite(data)
    if mask is not None:
        bad |= np.asarray(mask, dtype=bool)
    data[bad] = 0
    cross = ndimage.generate_binary_structure(2, 1)
    smooth = ndimage.grey_opening(data, footprint=cross)
    smooth = ndimage.grey_dilation(smooth, footprint=cross)
    return ndimage.binary_erosion(smooth < np.median(smooth), structure=cross)
