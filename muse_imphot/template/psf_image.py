# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The PSF of an HST image, given as an image, in the axes of MUSE.

The transform of a PSF image is smooth, because the image is small. It is computed on a fine grid of
frequencies (zero padding), in the axes of the PSF image, and interpolated where the turned
frequencies of the MUSE image fall.
"""

from functools import cached_property

import numpy as np
from astropy import units as u
from astropy.wcs.utils import pixel_to_pixel
from scipy import fft, ndimage

from ..exceptions import GeometryError, UserError
from .geometry import pixel_scales
from .psf import closest_moffat
from .psf_checks import checked_image, checked_position, positive, turning_matrix

__all__ = ["ImagePSF", "frame_matrix"]

# Zero padding, in units of the size of the PSF image: cubic splines through the transform then err
# by 2e-4 of the flux at the very edge of the image, and far less of that in the core. Images
# larger than some arcsec have next to no flux at their edges, and need less.
_PADDING = (2.5, 5.0)
_PADDED_SIZE = 20.0

# Nodes beyond the highest frequency wanted, where the splines end.
_SPARE = 10

# Tables reach to a multiple of this frequency (cycles/arcsec), so that few are ever made.
_STEP = 4.0

# The centre is where the phase is zero, on the average over these frequencies (cycles/arcsec),
# those that MUSE sees.
_CENTRE_BAND = 2.5

# The Moffat that is closest to the image is so over these frequencies (cycles/arcsec).
_MOFFAT_BAND = 5.0

_N_ANGLES = 72

# Wings are joined to the outskirts of a PSF image, which begin here, in units of its half width.
_JOIN = 0.7


class ImagePSF:
    """
    The PSF of an HST image, given as an image.

    It takes the place of a Moffat (`HstPSF`) in a `Template`. The image is normalised to a flux of
    1 and centred, and otherwise taken as it is: no background is subtracted, and no wings are
    added. A pedestal makes the PSF too broad, hence that of MUSE too narrow. Wings that the image
    cuts off are missed in the fit: an image of 3 arcsec of the usual Moffat, which holds 98 per
    cent of its flux, makes the FWHM of MUSE up to 14 mas too large, and beta 0.15. `with_wings`
    puts them back.

    Parameters
    ----------
    data : 2D array_like
        The PSF, in the pixel frame of the HST image (or in pixels parallel to those), with all that
        the light went through: optics, charge diffusion, and the pixel.
    pixel_scale : float or `~astropy.units.Quantity`
        Size of its pixels (arcsec).
    rotation : float or 2D array_like, optional
        How its axes lie in the MUSE image: the angle (degrees) from +x of MUSE to +x of the PSF
        image, towards +y; or the matrix that turns (x, y) of the PSF image into (x, y) of MUSE,
        which can mirror, too. `frame_matrix` makes it from the coordinates of both images.
    centre : tuple of float, optional
        The position (x, y) of the star in ``data`` (0-based pixels). If not given it is found: the
        point about which the PSF is most symmetric at the resolution of MUSE, so that the PSF
        causes no shift.
    pixel : float or `~astropy.units.Quantity`, optional
        Size of a square (arcsec) over which the PSF is to be averaged besides: the HST pixel, if
        ``data`` is a model of the optics with finer sampling that does not include it.
    taper : float, optional
        Part of the image, on every side, over which it falls smoothly to zero: 0 to 0.5.
    flux_fraction : float, optional
        Part of the flux of a star that the image holds. The rest is taken to be so extended that
        it matters as a background only; without it the flux scale would be too high.

    Raises
    ------
    UserError
        If the image is no PSF, or if an option makes no sense.

    Notes
    -----
    Frequencies that the pixels of ``data`` cannot carry have a transform of zero; the fit leaves
    them out.
    """

    def __init__(
        self,
        data,
        pixel_scale,
        *,
        rotation=0.0,
        centre=None,
        pixel=0.0,
        taper=0.0,
        flux_fraction=1.0,
    ):
        self.pixel_scale = positive("pixel_scale", pixel_scale, "arcsec", u.arcsec)
        self.pixel = positive("pixel", pixel, "arcsec", u.arcsec, zero=True)
        taper = positive("taper", taper, "part of the image", zero=True, largest=0.5)
        self.flux_fraction = positive("flux_fraction", flux_fraction, "part", largest=1.0)
        self.matrix = turning_matrix(rotation)
        self.data = _normalised(checked_image(data), taper)
        self.data.flags.writeable = False
        if centre is None:
            centre = self._find_centre()
        self.centre = checked_position(centre, self.data.shape)
        self._table = None

    def __repr__(self):
        ny, nx = self.data.shape
        return f"<ImagePSF: {nx} x {ny} pixels of {self.pixel_scale:g} arcsec>"

    def __eq__(self, other):
        if not isinstance(other, ImagePSF):
            return NotImplemented
        same = all(getattr(self, name) == getattr(other, name) for name in _NUMBERS)
        return (
            same
            and np.array_equal(self.matrix, other.matrix)
            and np.array_equal(self.data, other.data)
        )

    __hash__ = None

    def __getstate__(self):
        # The table is large, and soon made again.
        return {k: v for k, v in self.__dict__.items() if k != "moffat"} | {"_table": None}

    def turned(self, matrix):
        """
        The PSF in other axes.

        Parameters
        ----------
        matrix : float or 2D array_like
            What turns the present axes into the new ones: an angle or a matrix, as for
            ``rotation``.

        Returns
        -------
        psf : `ImagePSF`
        """
        turned = object.__new__(ImagePSF)
        turned.__dict__.update(self.__dict__)
        turned.matrix = turning_matrix(matrix) @ self.matrix
        return turned

    def with_wings(self, exponent=3.2, radius=8.0):
        """
        The PSF, continued beyond its image by a power law.

        Images of a few arcsec miss some per cent of the flux. The wings join where the image ends:
        they replace its corners, and have the mean brightness of its outskirts, which therefore
        must hold the light of the PSF alone, and no background.

        Parameters
        ----------
        exponent : float, optional
            The brightness falls with this power of the radius: twice the ``beta`` of a Moffat.
        radius : float or `~astropy.units.Quantity`, optional
            How far the image is continued (arcsec). What lies beyond is accounted for in the
            ``flux_fraction``.

        Returns
        -------
        psf : `ImagePSF`

        Raises
        ------
        UserError
            If the exponent is not above 2, or if the outskirts of the image are not positive.
        """
        exponent = positive("exponent", exponent, "of the wings")
        radius = positive("radius", radius, "arcsec", u.arcsec)
        if not exponent > 2:
            raise UserError(
                f"HST PSF: wings with an exponent of {exponent:g} hold an infinite flux; it must "
                "be above 2"
            )
        data, centre, fraction = _with_wings(self, exponent, radius)
        return ImagePSF(
            data,
            self.pixel_scale,
            rotation=self.matrix,
            centre=centre,
            pixel=self.pixel,
            flux_fraction=fraction,
        )

    def transform(self, fy, fx):
        """
        The transform of the PSF.

        Parameters
        ----------
        fy, fx : array_like
            Frequencies along the axes of the MUSE image (cycles/arcsec).

        Returns
        -------
        transform : complex `~numpy.ndarray`
            Its imaginary part is due to the asymmetry of the PSF.
        """
        fy, fx = np.broadcast_arrays(np.asarray(fy, dtype=float), np.asarray(fx, dtype=float))
        shape = fy.shape
        fy, fx = np.atleast_1d(fy, fx)
        # What is turned in the image is turned alike in the Fourier plane; the transposed matrix
        # takes frequencies back to the axes of the PSF image.
        (xx, xy), (yx, yy) = self.matrix
        own_x, own_y = xx * fx + yx * fy, xy * fx + yy * fy
        transform = self._interpolate(own_y, own_x)
        if self.pixel:
            transform *= np.sinc(self.pixel * own_y) * np.sinc(self.pixel * own_x)
        return transform.reshape(shape)

    def radial_transform(self, frequency):
        """
        The transform of the PSF, averaged over all directions.

        Parameters
        ----------
        frequency : array_like
            Radial frequency (cycles/arcsec).

        Returns
        -------
        transform : `~numpy.ndarray`
        """
        frequency = np.asarray(frequency, dtype=float)
        # Half a circle: the other half has the complex conjugates.
        angle = np.pi * np.arange(_N_ANGLES) / _N_ANGLES
        transform = self.transform(
            frequency[..., None] * np.sin(angle), frequency[..., None] * np.cos(angle)
        )
        return transform.real.mean(axis=-1)

    @cached_property
    def moffat(self):
        """The Moffat (`HstPSF`) that is closest to the PSF at the frequencies that MUSE sees."""
        return self._moffat_fit[0]

    @property
    def fwhm(self):
        """FWHM of the Moffat that is closest (arcsec)."""
        return self.moffat.fwhm

    @property
    def beta(self):
        """Exponent of the Moffat that is closest."""
        return self.moffat.beta

    @property
    def _moffat_fit(self):
        """The closest Moffat, and the factor of its transform."""
        lowest = 1.0 / (min(self.data.shape) * self.pixel_scale)
        highest = min(_MOFFAT_BAND, 0.45 / self.pixel_scale)
        frequency = np.linspace(min(lowest, 0.2 * highest), highest, 100)
        return closest_moffat(frequency, self.radial_transform(frequency))

    def _find_centre(self):
        """Return the position about which the PSF is most symmetric."""
        smooth = ndimage.gaussian_filter(self.data, max(0.05 / self.pixel_scale, 0.7))
        y, x = (int(i) for i in np.unravel_index(np.argmax(smooth), smooth.shape))
        centre = np.array([x, y], dtype=float)
        f, table = _frequency_table(self.data, self.pixel_scale, _CENTRE_BAND)
        inside = np.hypot(f[0][:, None], f[1]) <= min(_CENTRE_BAND, 0.5 / self.pixel_scale)
        waves = 2.0 * np.pi * np.stack(np.broadcast_arrays(f[1], f[0][:, None]))[:, inside]
        table = table[inside]
        weight = np.abs(table) ** 2
        normal = (weight * waves) @ waves.T
        for _ in range(20):
            phase = np.angle(table * np.exp(1j * (centre * self.pixel_scale) @ waves))
            step = np.linalg.solve(normal, (weight * phase) @ waves.T) / self.pixel_scale
            centre -= step
            if np.abs(step).max() < 1e-9:
                break
        return centre

    def _interpolate(self, fy, fx):
        """Return the transform at frequencies along the axes of the PSF image."""
        nyquist = 0.5 / self.pixel_scale
        inside = (np.abs(fy) <= nyquist) & (np.abs(fx) <= nyquist)
        highest = max(float(np.abs(f[inside]).max(initial=0.0)) for f in (fy, fx))
        first, step, real, imaginary = self._splines(highest)
        at = np.stack([(fy - first[0]) / step[0], (fx - first[1]) / step[1]])
        transform = np.empty(fy.shape, dtype=complex)
        transform.real, transform.imag = (
            ndimage.map_coordinates(table, at, order=3, prefilter=False)
            for table in (real, imaginary)
        )
        transform[~inside] = 0.0
        return transform

    def _splines(self, highest):
        """Return the coefficients of splines through the transform, up to a frequency."""
        if self._table is None or self._table[0] < highest:
            limit = _STEP * np.ceil(max(highest, 1e-3) / _STEP)
            f, table = _frequency_table(self.data, self.pixel_scale, limit)
            x, y = self.centre
            for axis, position in ((0, y), (1, x)):
                turn = np.exp(2j * np.pi * f[axis] * self.pixel_scale * position)
                table *= np.expand_dims(turn, 1 - axis)
            table *= self.flux_fraction
            first, step = [g[0] for g in f], [g[1] - g[0] for g in f]
            splines = [ndimage.spline_filter(part, order=3) for part in (table.real, table.imag)]
            self._table = (limit, first, step, *splines)
        return self._table[1:]


_NUMBERS = ("pixel_scale", "centre", "pixel", "flux_fraction")


def frame_matrix(hst, muse):
    """
    The matrix that turns the pixel frame of an HST image into that of a MUSE image.

    Parameters
    ----------
    hst, muse : `~astropy.nddata.CCDData` or `Template`
        The images: their WCS is used, at the centre of the MUSE image.

    Returns
    -------
    matrix : 2D `~numpy.ndarray`
        It turns (x, y) of HST into (x, y) of MUSE, both in arcsec: a rotation, with a mirror where
        one is between the images, and the distortion where pixels are not square.

    Raises
    ------
    GeometryError
        If the images are not of the same part of the sky.
    """
    ny, nx = muse.shape
    x, y = (float(v) for v in pixel_to_pixel(muse.wcs, hst.wcs, (nx - 1) / 2.0, (ny - 1) / 2.0))
    step = 10.0
    x = x + step * np.array([1.0, -1.0, 0.0, 0.0])
    y = y + step * np.array([0.0, 0.0, 1.0, -1.0])
    muse_x, muse_y = pixel_to_pixel(hst.wcs, muse.wcs, x, y)
    scale_y, scale_x = pixel_scales(muse.wcs, muse.shape)
    # Rows: the movement along x and y of MUSE; columns: for a step along x and y of HST.
    matrix = np.array([s * (v[::2] - v[1::2]) for s, v in ((scale_x, muse_x), (scale_y, muse_y))])
    size = np.linalg.det(matrix) if np.isfinite(matrix).all() else 0.0
    if size == 0:
        raise GeometryError(
            "the HST image and the MUSE image are not of the same part of the sky, so that the "
            "HST PSF cannot be turned into the axes of MUSE"
        )
    return matrix / np.sqrt(abs(size))


def _frequency_table(data, pixel_scale, limit):
    """
    Return the transform of an image, referred to its first pixel, on a grid of frequencies.

    The grid is symmetric about zero, and extends a little beyond ``limit`` along each axis.
    """
    sizes, frequencies, indices = [], [], []
    for n in data.shape:
        padding = np.clip(_PADDED_SIZE / (n * pixel_scale), *_PADDING)
        size = fft.next_fast_len(int(np.ceil(padding * n)))
        sizes.append(size)
        top = int(np.ceil(min(limit * pixel_scale, 0.5) * size)) + _SPARE
        index = np.arange(-top, top + 1)
        frequencies.append(index / (size * pixel_scale))
        # The transform of pixels repeats itself.
        indices.append(index % size)
    rows = fft.fft(data, n=sizes[1], axis=1)[:, indices[1]]
    table = fft.fft(rows, n=sizes[0], axis=0)[indices[0]]
    return frequencies, table


def _with_wings(psf, exponent, radius):
    """Return a PSF image with power-law wings, the centre in it, and its part of the flux."""
    x, y = psf.centre
    ny, nx = psf.data.shape
    edge = min(x, y, nx - 1 - x, ny - 1 - y) + 0.5
    # The same number of pixels on every side, so that the centre moves by a whole number.
    rim = max(int(np.ceil(radius / psf.pixel_scale - edge)), 0)
    data = np.pad(psf.data, rim)
    distance = np.hypot(
        np.arange(ny + 2 * rim)[:, None] - y - rim, np.arange(nx + 2 * rim)[None, :] - x - rim
    )
    law = np.maximum(distance, 0.5) ** -exponent
    ring = (distance > _JOIN * edge) & (distance < edge)
    level = data[ring].sum() / law[ring].sum()
    if not level > 0:
        raise UserError(
            "HST PSF: the outskirts of its image are negative on the average, so that no wings can "
            "be joined to them; correct its background"
        )
    blend = np.clip((distance / edge - _JOIN) / (1.0 - _JOIN), 0.0, 1.0)
    data = (1.0 - blend) * data + blend * level * law
    end = rim + edge
    data[distance > end] = 0.0
    beyond = 2.0 * np.pi * level * end ** (2.0 - exponent) / (exponent - 2.0)
    total = data.sum()
    return data, (x + rim, y + rim), total / (total + beyond)


def _normalised(data, taper):
    """Return an image with tapered edges and a sum of 1."""
    if taper:
        for axis, n in enumerate(data.shape):
            depth = np.minimum(np.arange(n) + 0.5, n - np.arange(n) - 0.5) / (taper * n)
            window = 0.5 * (1.0 - np.cos(np.pi * np.minimum(depth, 1.0)))
            data = data * np.expand_dims(window, 1 - axis)
    return data / data.sum()
