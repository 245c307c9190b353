# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Which pixels a fit may use: ds9 regions, star circles, masks of the user, faint pixels.

Regions in sky coordinates belong to the HST frame, whose coordinates are trusted: when MUSE is
found to be off by some pixels, they move along. Masks in MUSE pixels stay.
"""

import dataclasses
import os

import numpy as np
from astropy.io import fits
from scipy import ndimage

from . import __version__
from .ds9regions import Ds9Regions, star_circle
from .exceptions import HeaderError, MaskError
from .io import atomic_path, celestial_wcs, open_fits
from .io.fits_files import read_pixels
from .region_grids import RegionPainter

__all__ = ["MaskMaker", "PixelMask", "faint_pixels", "pixel_mask", "write_mask", "write_regions"]

_INSIDE = "inside an excluded region"
_OUTSIDE = "outside every included region"
_EXTRA = "extra mask"
_FAINT = "faint in the HST image"
# The bits of a mask in a file.
_BITS = {_INSIDE: 1, _OUTSIDE: 2, _EXTRA: 4, _FAINT: 8}


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

    def bits(self):
        """
        Return the mask with a bit for each reason.

        Returns
        -------
        2D `~numpy.ndarray` of uint8
            0 at good pixels; 1 inside an excluded region, 2 outside every included region, 4 by an
            extra mask, 8 without a source in HST, 16 for any other reason; or the sum of these.
        """
        bits = np.zeros(self.excluded.shape, dtype=np.uint8)
        for reason, array in self.reasons.items():
            bits[array] |= _BITS.get(reason, 16)
        bits[self.excluded & (bits == 0)] = 16
        return bits


def pixel_mask(
    shape,
    wcs=None,
    *,
    regions=None,
    star=None,
    extramask=None,
    faint=None,
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
        ``"notstar"``: all but this circle. ``"udf"``: without the stars and the quasar of the
        Hubble Ultra Deep Field. Otherwise a ds9 region file, or its lines.
    star : tuple of float, optional
        Right ascension and declination (ICRS, degrees) and radius (arcsec) of a circle.
    extramask : array-like, `~astropy.nddata.NDData` or path-like, optional
        Mask on the grid of the image: 0 for good pixels. A FITS file holds it in its extension
        ``DATA``, or in its first image.
    faint : 2D `~numpy.ndarray` of bool, optional
        Pixels that show no source in the HST image, as `faint_pixels` finds them on the grid of
        the image. They move by the offset, rounded to whole pixels.
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
    options = {"extramask": extramask, "faint": faint, "header": header}
    return MaskMaker(shape, wcs, regions=regions, star=star, **options).at(offset)


class MaskMaker:
    """
    The masks of one image for any offset; files are read once, regions placed once.

    Parameters
    ----------
    shape, wcs, regions, star, extramask, faint, header
        As in `pixel_mask`, which also lists the errors.
    """

    def __init__(
        self,
        shape,
        wcs=None,
        *,
        regions=None,
        star=None,
        extramask=None,
        faint=None,
        header=None,
    ):
        self._shape = tuple(int(size) for size in shape)
        shapes = _find_regions(regions, star)
        self._painter = None
        if shapes is not None:
            self._painter = RegionPainter(shapes, self._shape, wcs, header=header)
        self._extra = None
        if not _is_none(extramask):
            self._extra = _read_extramask(extramask, self._shape, wcs)
        self._faint = None if faint is None else np.asarray(faint, dtype=bool)

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
        if self._faint is not None:
            dx, dy = (round(step) for step in offset)
            reasons[_FAINT] = ndimage.shift(self._faint, (dy, dx), order=0)
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
        ra, dec, radius = star_circle(star)
        return Ds9Regions([f'icrs; {sign}circle({ra!r},{dec!r},{radius!r}")'])
    return regions if isinstance(regions, Ds9Regions) else Ds9Regions(regions)


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
        True for the faint part, about half of the good pixels: those below the median of the
        image after small features have been taken off by a morphological opening.
    """
    data = np.array(data, dtype=float)
    bad = ~np.isfinite(data)
    if mask is not None:
        bad |= np.asarray(mask, dtype=bool)
    data[bad] = 0
    cross = ndimage.generate_binary_structure(2, 1)
    smooth = ndimage.grey_opening(data, footprint=cross)
    smooth = ndimage.grey_dilation(smooth, footprint=cross)
    level = np.median(smooth[~bad]) if not bad.all() else 0.0
    return ndimage.binary_erosion(smooth < level, structure=cross) & ~bad


def write_mask(mask, path, wcs=None, *, overwrite=False):
    """
    Write a mask as a FITS file, which can be used as an extra mask again.

    Parameters
    ----------
    mask : `PixelMask`
        The mask.
    path : path-like
        The file. Its extension ``DATA`` holds `PixelMask.bits`; ``MASKBn`` in the header says what
        the bit with the value n means, ``MASKNn`` how many pixels have it.
    wcs : `~astropy.wcs.WCS`, optional
        Coordinates of the image.
    overwrite : bool, optional
        Whether an older file may be replaced.

    Raises
    ------
    `~muse_imphot.exceptions.OutputError`
        If the file cannot be written.
    """
    header = fits.Header() if wcs is None else wcs.to_header(relax=True)
    for reason, array in mask.reasons.items():
        bit = _BITS.get(reason, 16)
        header[f"MASKB{bit}"] = (reason, f"meaning of {bit} in the mask")
        header[f"MASKN{bit}"] = (int(np.count_nonzero(array)), "number of such pixels")
    header["CREATOR"] = f"muse_imphot {__version__}"
    data = fits.ImageHDU(mask.bits(), header=header, name="DATA")
    with atomic_path(path, overwrite=overwrite) as temporary:
        fits.HDUList([fits.PrimaryHDU(), data]).writeto(temporary, checksum=True)


def write_regions(mask, path, *, overwrite=False):
    """
    Write a mask as a ds9 region file: boxes in image coordinates that exclude the same pixels.

    Parameters
    ----------
    mask : `PixelMask`
        The mask.
    path : path-like
        The file.
    overwrite : bool, optional
        Whether an older file may be replaced.

    Raises
    ------
    `~muse_imphot.exceptions.OutputError`
        If the file cannot be written.
    """
    lines = [
        "# Region file format: DS9 version 4.1",
        f"# Made by muse_imphot {__version__}",
        "image",
    ]
    for x, y, width, height in _rectangles(mask.excluded):
        centre = f"{x + (width + 1) / 2:g},{y + (height + 1) / 2:g}"
        lines.append(f"-box({centre},{width},{height},0)")
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="ascii")


def _rectangles(excluded):
    """Yield x, y (of the first pixel, from 0), width and height of boxes that make up a mask."""
    growing = {}  # (first column, end) of the boxes that reach the row before -> first row
    rows = np.pad(excluded, ((0, 1), (1, 1))).astype(np.int8)
    for y, row in enumerate(rows):
        steps = np.diff(row)
        runs = set(zip(np.flatnonzero(steps == 1), np.flatnonzero(steps == -1), strict=True))
        for run in [run for run in growing if run not in runs]:
            first = growing.pop(run)
            yield int(run[0]), first, int(run[1] - run[0]), y - first
        for run in runs:
            growing.setdefault(run, y)
