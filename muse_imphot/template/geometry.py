# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Pixels on the sky: scales, areas, grids, and whether two images meet.
"""

from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.wcs import Sip
from astropy.wcs.utils import pixel_to_pixel

from ..exceptions import GeometryError

__all__ = [
    "Turn",
    "finer_wcs",
    "grid_wcs",
    "image_centre",
    "overlap_error",
    "pixel_area",
    "pixel_scales",
    "same_grid",
    "same_pixels",
]


def same_grid(first, second, tolerance=0.01):
    """
    Whether two images have the same shape and their pixels the same places on the sky.

    Parameters
    ----------
    first, second : `~astropy.nddata.CCDData`
        Images with a celestial WCS.
    tolerance : float, optional
        Largest distance between corresponding pixels, at the corners (pixels).

    Returns
    -------
    aligned : bool
    """
    shape = first.data.shape
    return shape == second.data.shape and same_pixels(first.wcs, second.wcs, shape, tolerance)


def same_pixels(first, second, shape, tolerance=0.01):
    """
    Whether the pixels of two grids have the same places on the sky.

    Parameters
    ----------
    first, second : `~astropy.wcs.WCS`
        Celestial WCS of the grids.
    shape : tuple of int
        Shape of both (ny, nx).
    tolerance : float, optional
        Largest distance between corresponding pixels, at the corners (pixels).

    Returns
    -------
    same : bool
    """
    ny, nx = shape
    x, y = np.array([0.0, nx - 1, 0.0, nx - 1]), np.array([0.0, 0.0, ny - 1, ny - 1])
    x2, y2 = pixel_to_pixel(first, second, x, y)
    return bool(np.all(np.hypot(x2 - x, y2 - y) < tolerance))


def pixel_scales(wcs, shape):
    """
    Return the size of a pixel along y and x at the centre of an image (arcsec).

    For one number that need not be exact there, `~muse_imphot.io.pixel_scale` asks less.
    """
    y, x = (shape[0] - 1) / 2.0, (shape[1] - 1) / 2.0
    corner = wcs.pixel_to_world(np.array([x - 0.5, x - 0.5]), np.array([y - 0.5, y + 0.5]))
    along_y = corner[0].separation(corner[1]).arcsec
    corner = wcs.pixel_to_world(np.array([x - 0.5, x + 0.5]), np.array([y - 0.5, y - 0.5]))
    return float(along_y), float(corner[0].separation(corner[1]).arcsec)


def pixel_area(wcs, x, y):
    """Return the area of the pixel at ``x``, ``y`` (arcsec^2), from its diagonals."""
    corners_x, corners_y = np.array([-5.0, 5.0, 5.0, -5.0]) + x, np.array([-5.0, -5, 5, 5]) + y
    sky = wcs.pixel_to_world(corners_x, corners_y)
    local = sky[0].skyoffset_frame()
    plane = sky.transform_to(local)
    lon, lat = plane.lon.wrap_at(180 * u.deg).arcsec, plane.lat.arcsec
    # Half the cross product of the diagonals; ten pixels wide, so that rounding does not count.
    cross = (lon[2] - lon[0]) * (lat[3] - lat[1]) - (lat[2] - lat[0]) * (lon[3] - lon[1])
    return float(abs(cross) / 200.0)


def image_centre(image):
    """Return the sky position of the centre of an image, ICRS."""
    ny, nx = image.data.shape
    return SkyCoord(image.wcs.pixel_to_world((nx - 1) / 2.0, (ny - 1) / 2.0)).icrs


def overlap_error(hst, muse):
    """Return the error that says where the two images are."""
    first, second = image_centre(hst), image_centre(muse)
    distance = first.separation(second).arcsec
    return GeometryError(
        "the HST and MUSE images do not overlap: HST is centred on "
        f"{first.to_string('hmsdms', precision=1)}, MUSE on "
        f"{second.to_string('hmsdms', precision=1)}, {distance:.1f} arcsec apart"
    )


def finer_wcs(wcs, factor, first=0.0):
    """
    Return the WCS for pixels that are ``factor`` times finer (coarser below 1).

    The first of them has its centre at the pixel ``first`` (0-based, along both axes).
    """
    finer = wcs.deepcopy()
    finer.wcs.crpix = (wcs.wcs.crpix - 1.0 - first) * factor + 1.0
    if finer.wcs.has_cd():
        finer.wcs.cd = wcs.wcs.cd / factor
    else:
        finer.wcs.cdelt = wcs.wcs.cdelt / factor
    if wcs.sip is not None:
        finer.sip = _finer_sip(wcs.sip, finer.wcs.crpix, factor)
    finer.wcs.set()
    return finer


def _finer_sip(sip, crpix, factor):
    """Return SIP polynomials for coordinates that are ``factor`` times larger."""
    def rescale(matrix):
        if matrix is None:
            return None
        power = np.add.outer(np.arange(matrix.shape[0]), np.arange(matrix.shape[1]))
        return matrix * float(factor) ** (1 - power)

    return Sip(*(rescale(m) for m in (sip.a, sip.b, sip.ap, sip.bp)), crpix)


def grid_wcs(wcs, shape, margin, oversample, turn=None):
    """
    Return the WCS of the template grid: larger than the MUSE grid, finer, and perhaps turned.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`
        WCS of the MUSE image.
    shape : tuple of int
        Shape of the MUSE image (ny, nx).
    margin : int
        Margin on every side (MUSE pixels).
    oversample : int
        How many times finer the grid is.
    turn : `Turn`, optional
        Rotation and magnification of the MUSE image relative to the sky, about its centre.

    Returns
    -------
    grid : `~astropy.wcs.WCS`
    """
    grid = wcs.deepcopy()
    crpix = wcs.wcs.crpix
    if turn:
        # A pixel at c + M^-1 (p - c) shows the sky of pixel p of a grid that is not turned.
        matrix = turn.matrix
        centre = (np.array(shape[::-1]) + 1.0) / 2.0
        crpix = centre + np.linalg.solve(matrix, crpix - centre)
        if grid.wcs.has_cd():
            grid.wcs.cd = grid.wcs.cd @ matrix
        else:
            grid.wcs.pc = grid.wcs.get_pc() @ matrix
    # In 0-based pixels, the centre of MUSE pixel i is at q (i + margin) + (q - 1) / 2.
    grid.wcs.crpix = (crpix - 1.0 + margin) * oversample + 0.5 * (oversample - 1) + 1.0
    if grid.wcs.has_cd():
        grid.wcs.cd = grid.wcs.cd / oversample
    else:
        grid.wcs.cdelt = grid.wcs.cdelt / oversample
    if wcs.sip is not None:
        grid.sip = _finer_sip(wcs.sip, grid.wcs.crpix, oversample)
    grid.wcs.set()
    return grid


@dataclass(frozen=True)
class Turn:
    """
    How the MUSE image is turned and stretched relative to its WCS, about its centre.

    Parameters
    ----------
    rotation : float
        Angle from +x towards +y (degrees).
    magnification : float
        Size of features relative to what the WCS says, minus 1.
    """

    rotation: float = 0.0
    magnification: float = 0.0

    def __bool__(self):
        return bool(self.rotation or self.magnification)

    @property
    def matrix(self):
        """The matrix that leads from a pixel to the one at which its sky would be unturned."""
        angle = np.radians(self.rotation)
        cosine, sine = np.cos(angle), np.sin(angle)
        return np.array([[cosine, sine], [-sine, cosine]]) / (1.0 + self.magnification)
