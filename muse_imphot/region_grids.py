# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Draw regions on the pixels of an image.

Membership is decided for the centre of each pixel. Regions in sky coordinates are compared in a
tangent plane with the north of their coordinate system up and its east to the left, so that
rotated, mirrored and distorted images are treated alike.
"""

import logging

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales, wcs_to_celestial_frame

from .exceptions import MaskError

__all__ = ["RegionPainter"]

log = logging.getLogger(__name__)

# How the mapping from pixels to the plane is described: polynomials of this degree in each axis,
# fitted at so many positions along each axis, up to so many pixels beyond the image, if they
# reproduce it to this fraction of a pixel.
_DEGREE, _NODES, _REACH, _ACCURACY = 3, 12, 100.0, 1e-5
# Within so many degrees of where it touches the sky the scale of a plane is the same to 1e-5.
_FLAT = 0.2


class RegionPainter:
    """
    Regions that are ready to be drawn on an image, again and again at different offsets.

    Parameters
    ----------
    regions : `~muse_imphot.ds9regions.Ds9Regions`
        The regions.
    shape : tuple of int
        Shape of the image, (ny, nx).
    wcs : `~astropy.wcs.WCS` or `None`
        Celestial WCS of the image; needed for regions in sky coordinates.
    header : `~astropy.io.fits.Header` or `None`, optional
        Where ``LTV1`` and the like tell how ``physical`` pixels differ from those of the image.

    Raises
    ------
    `~muse_imphot.exceptions.MaskError`
        If the coordinates of a region cannot be turned into those of the image.
    """

    def __init__(self, regions, shape, wcs, *, header=None):
        self._shape = shape
        self._source = regions.source
        self._painted = False
        systems = {}
        self._shapes = []  # (region, its coordinate system, its parts there)
        for region in regions:
            if region.frame not in systems:
                systems[region.frame] = _make_system(region, shape, wcs, header)
            system = systems[region.frame]
            placed = [system.place(part) for part in region.parts]
            self._shapes.append((region, system, [part for part in placed if part is not None]))

    def paint(self, offset=(0.0, 0.0)):
        """
        Draw the regions.

        Parameters
        ----------
        offset : tuple of float, optional
            How far (dx, dy) the sky of the image is displaced, in pixels. Regions in sky
            coordinates move by it; those in pixels stay.

        Returns
        -------
        excluded, included : 2D `~numpy.ndarray` of bool or `None`
            Pixels inside an excluded region, and those inside an included one; None where there
            is no region of the kind.
        """
        drawn = {True: None, False: None}
        grids = {}
        for region, system, parts in self._shapes:
            if region.frame not in grids:
                grids[region.frame] = _Grid(*system.coordinates(offset))
            if drawn[region.include] is None:
                drawn[region.include] = np.zeros(self._shape, dtype=bool)
            count = _paint(parts, grids[region.frame], drawn[region.include])
            level = logging.DEBUG if count or self._painted else logging.INFO
            text = f"covers {count} pixels" if count else "covers no pixel"
            log.log(level, "%s, line %d: %s %s", self._source, region.line, region, text)
        # Said once, not again for each offset.
        self._painted = True
        return drawn[False], drawn[True]


def _paint(parts, grid, image):
    """Set the pixels of an image that lie in any of the shapes; return their number."""
    from regions import PixCoord

    count = 0
    for part in parts:
        try:
            window = grid.window(part.bounding_box)
        except (ValueError, OverflowError):
            continue  # on the other side of the sky, where the plane has no coordinates
        x, y = grid.x[window], grid.y[window]
        if x.size:
            hit = part.contains(PixCoord(x, y))
            image[window] |= hit
            count += np.count_nonzero(hit)
    return count


class _Grid:
    """
    The pixel centres of an image in the coordinates in which shapes are given.

    Parameters
    ----------
    x, y : 2D `~numpy.ndarray`
        Those coordinates for each pixel.
    """

    def __init__(self, x, y):
        self.x, self.y = x, y
        # An affine fit to a few pixels takes boxes back to the pixels; its error is the margin.
        rows, columns = (np.linspace(0, n - 1, min(n, _NODES)).astype(int) for n in x.shape)
        pixels = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2).astype(float)
        chosen = np.ix_(rows, columns)
        target = np.stack([x[chosen].ravel(), y[chosen].ravel()], axis=1)
        self._centre = target.mean(axis=0)
        design = np.column_stack([target - self._centre, np.ones(len(target))])
        self._affine = np.linalg.lstsq(design, pixels, rcond=None)[0]
        self._margin = 1 + 2 * np.abs(design @ self._affine - pixels).max()

    def window(self, box):
        """Return the slices of the pixels that a bounding box may cover."""
        corners = np.array(
            [(x, y) for x in (box.ixmin - 1, box.ixmax) for y in (box.iymin - 1, box.iymax)], float
        )
        corners = np.column_stack([corners - self._centre, np.ones(4)]) @ self._affine
        slices = []
        for axis, size in ((1, self.x.shape[0]), (0, self.x.shape[1])):
            low = np.floor(corners[:, axis].min() - self._margin)
            high = np.ceil(corners[:, axis].max() + self._margin) + 1
            slices.append(slice(int(np.clip(low, 0, size)), int(np.clip(high, 0, size))))
        return tuple(slices)


def _make_system(region, shape, wcs, header):
    """Return the coordinate system of a region."""
    if region.on_sky:
        return _SkySystem(region, shape, wcs)
    if region.frame == "physical":
        return _PhysicalSystem(shape, header)
    return _ImageSystem(shape)


class _ImageSystem:
    """The pixels of the image, counted from 0."""

    def __init__(self, shape):
        self._y, self._x = np.indices(shape, dtype=float)

    def place(self, part):
        """Return a shape in these coordinates."""
        return part

    def coordinates(self, offset):
        """Return x and y of the pixels; these do not move with the sky."""
        del offset
        return self._x, self._y


class _PhysicalSystem(_ImageSystem):
    """The pixels of the original detector: ``image = LTM physical + LTV``, counted from 1."""

    def __init__(self, shape, header):
        super().__init__(shape)
        header = {} if header is None else header
        try:
            matrix = [
                [float(header.get(f"LTM{i}_{j}", float(i == j))) for j in (1, 2)] for i in (1, 2)
            ]
            shift = [float(header.get(f"LTV{i}", 0.0)) for i in (1, 2)]
            inverse = np.linalg.inv(matrix)
        except (TypeError, ValueError, np.linalg.LinAlgError) as err:
            raise MaskError(
                "regions in physical pixels need usable LTM and LTV keywords in the header of the "
                f"image ({err}); save the regions as fk5 or image."
            ) from err
        image = np.stack([self._x + 1 - shift[0], self._y + 1 - shift[1]])
        self._x, self._y = np.tensordot(inverse, image, axes=1) - 1


class _SkySystem:
    """
    A plane that touches the sky at the image centre, in the coordinates of a region.

    Position angles count from the north of the region's own system. The plane is therefore made
    of the plain numbers of that system, labelled ICRS, whatever it is.
    """

    def __init__(self, region, shape, wcs):
        if wcs is None or not wcs.has_celestial:
            raise MaskError(
                "regions in sky coordinates need an image with a celestial WCS; "
                "save the regions in image coordinates."
            )
        self._wcs, self._shape = wcs, shape
        self._frame = _position(region.parts[0])[1].frame.replicate_without_data()
        self._same = wcs_to_celestial_frame(wcs).is_equivalent_frame(self._frame)
        plane = WCS(naxis=2)
        plane.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        centre = np.array([[(size - 1) / 2 for size in shape[::-1]]])
        plane.wcs.crval = self._numbers(centre)[0]
        self._scale = proj_plane_pixel_scales(wcs)[0]
        plane.wcs.cdelt = self._scale * np.array([-1.0, 1.0])
        plane.wcs.radesys = "ICRS"
        plane.wcs.set()
        self._plane = plane
        self._nodes, self._polynomials = self._fit_polynomials()

    def _fit_polynomials(self):
        """
        Describe the plane coordinates by polynomials of the pixels, if they are good enough.

        Returns
        -------
        scaling : tuple of 1D `~numpy.ndarray`
            Centre and half-size (x, y) of the pixels to which the polynomials apply.
        polynomials : list of 2D `~numpy.ndarray` or `None`
            The coefficients for x and y; None where distortions need more.
        """
        size = np.array(self._shape[::-1])
        centre, half = (size - 1) / 2, size / 2 + _REACH
        nodes = np.linspace(-1, 1, _NODES)
        u, v = (axis.ravel() for axis in np.meshgrid(nodes, nodes, indexing="ij"))
        pixels = centre + half * np.stack([u, v], axis=1)
        target = self._plane.wcs_world2pix(self._numbers(pixels), 0)
        design = np.polynomial.polynomial.polyvander2d(u, v, [_DEGREE, _DEGREE])
        solution = np.linalg.lstsq(design, target, rcond=None)[0]
        if not np.abs(design @ solution - target).max() < _ACCURACY:
            return (centre, half), None
        return (centre, half), [c.reshape(_DEGREE + 1, _DEGREE + 1) for c in solution.T]

    def _numbers(self, pixels):
        """Return longitude and latitude, in degrees, of pixels given as (x, y)."""
        wcs = self._wcs
        world = wcs.all_pix2world(pixels, 0)[:, [wcs.wcs.lng, wcs.wcs.lat]]
        if self._same:
            return world
        sky = SkyCoord(*world.T, unit="deg", frame=wcs_to_celestial_frame(wcs))
        sky = sky.transform_to(self._frame).spherical
        return np.stack([sky.lon.deg, sky.lat.deg], axis=1)

    def place(self, part):
        """Return a shape in the plane; None on the other side of the sky."""
        name, value = _position(part)
        longitude, latitude = value.data.lon, value.data.lat
        if type(part).__name__ == "CircleSkyRegion":
            placed = self._place_circle(part, longitude.deg, latitude.deg)
            if placed is not None:
                return placed
        numbers = SkyCoord(longitude, latitude, frame="icrs")
        try:
            return part.copy(**{name: numbers}).to_pixel(self._plane)
        except ValueError:
            # regions 0.13 refuses a position that has no pixel coordinates; before, it was NaN.
            return None

    def _place_circle(self, part, longitude, latitude):
        """
        Return a small circle not far away in the plane, else None.

        It stays a circle there, to 1e-5 of its radius. This takes a tenth of the time, for files
        that list all sources of a survey.
        """
        from regions import CirclePixelRegion, PixCoord

        x, y = self._plane.wcs_world2pix(longitude, latitude, 0)
        radius = part.radius.to_value("deg") / self._scale
        if not np.hypot(x, y) + radius < _FLAT / self._scale:
            return None
        return CirclePixelRegion(PixCoord(float(x), float(y)), radius)

    def coordinates(self, offset):
        """Return x and y, in the plane, of what the pixels show when the sky is displaced."""
        x, y = (np.arange(n) - d for n, d in zip(self._shape[::-1], offset, strict=True))
        (x0, y0), (half_x, half_y) = self._nodes
        if self._polynomials is not None and max(map(abs, offset)) <= _REACH:
            u, v = (y - y0) / half_y, (x - x0) / half_x
            return [np.polynomial.polynomial.polygrid2d(u, v, c.T) for c in self._polynomials]
        pixels = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
        return self._plane.wcs_world2pix(self._numbers(pixels), 0).T.reshape(2, *self._shape)


def _position(part):
    """Return the name and the value of what places a region: its centre or its corners."""
    name = "center" if hasattr(part, "center") else "vertices"
    return name, getattr(part, name)
