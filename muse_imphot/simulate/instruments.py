# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Headers, filters and noise of simulated images."""

from dataclasses import dataclass
from functools import cached_property
from importlib.resources import as_file, files

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from scipy.ndimage import convolve

from ..exceptions import BandpassError, UserError
from .scene import Scene

__all__ = [
    "FilterCurve",
    "air_to_vacuum",
    "field_scene",
    "hst_header",
    "image_wcs",
    "muse_headers",
    "noise_image",
    "random_seeds",
    "sky_shift",
]

# Pixel size of MUSE (wide field) in arcsec.
MUSE_PIXEL = 0.2
# How BUNIT of a MUSE file reads; the unit of all fluxes here.
MUSE_BUNIT = "10**(-20)*erg/s/cm**2/Angstrom"

# Planck's constant times the speed of light (erg Angstrom), and the area of the HST mirror (cm2).
_HC = 1.9864458571e-8
_HST_AREA = 45238.93416

# Sources per square arcsec if nothing else is asked for.
_GALAXIES, _STARS = 90 / 3600, 5 / 3600

# The centre of the HST image is that many HST pixels away from that of the MUSE field, so that
# nothing depends on a symmetry between the two grids.
_HST_PHASE = (0.37, -0.21)


@dataclass(frozen=True)
class FilterCurve:
    """
    The throughput of an HST filter.

    Parameters
    ----------
    name : str
        The filter.
    wavelength : `~numpy.ndarray`, shape (n,)
        Vacuum wavelengths in Angstrom, finely spaced.
    throughput : `~numpy.ndarray`, shape (n,)
        Total throughput.
    """

    name: str
    wavelength: np.ndarray
    throughput: np.ndarray

    @classmethod
    def load(cls, name):
        """
        Return one of the ACS/WFC curves that come with the package.

        Parameters
        ----------
        name : str
            The filter, such as "F606W".

        Returns
        -------
        FilterCurve
            The curve.

        Raises
        ------
        BandpassError
            If there is no such curve.
        """
        folder = files("muse_imphot") / "data" / "filters"
        resource = folder / f"acs_wfc_{name.lower()}.ecsv"
        if not resource.is_file():
            names = sorted(path.name for path in folder.iterdir())
            known = [name[8:-5].upper() for name in names if name.startswith("acs_wfc_")]
            raise BandpassError(
                f"there is no curve of the ACS/WFC filter {name!r} to simulate it; choose from "
                f"{', '.join(known)}"
            )
        with as_file(resource) as path:
            table = Table.read(path, format="ascii.ecsv")
        knots, values = np.asarray(table["wavelength"]), np.asarray(table["throughput"])
        wavelength = np.union1d(knots, np.arange(knots[0], knots[-1], 0.5))
        return cls(name.upper(), wavelength, np.interp(wavelength, knots, values))

    @cached_property
    def _total(self):
        """Integral of throughput times wavelength."""
        return np.trapezoid(self.throughput * self.wavelength, self.wavelength)

    @property
    def photflam(self):
        """Flux density of a source that gives 1 electron/s (erg/s/cm2/Angstrom)."""
        return _HC / (_HST_AREA * self._total)

    @property
    def pivot(self):
        """Pivot wavelength in Angstrom."""
        return np.sqrt(
            self._total / np.trapezoid(self.throughput / self.wavelength, self.wavelength)
        )

    def mean(self, spectrum):
        """
        Return the mean of a spectrum, as photons are counted.

        Parameters
        ----------
        spectrum : callable
            Function of an array of wavelengths; the last axis of what it returns is wavelength.

        Returns
        -------
        float or `~numpy.ndarray`
            The integral of spectrum times throughput times wavelength, over that of the latter two.
        """
        weight = self.throughput * self.wavelength
        return np.trapezoid(spectrum(self.wavelength) * weight, self.wavelength) / self._total

    def channel_weights(self, edges):
        """
        Return how much of the curve lies in each channel of a cube.

        Parameters
        ----------
        edges : `~numpy.ndarray`, shape (n + 1,)
            Edges of the channels, vacuum Angstrom.

        Returns
        -------
        `~numpy.ndarray`, shape (n,)
            Parts of the integral of throughput times wavelength. Their sum is the part of the
            curve that the cube covers.
        """
        weight = self.throughput * self.wavelength
        steps = np.diff(self.wavelength) * (weight[1:] + weight[:-1]) / 2
        total = np.concatenate([[0.0], np.cumsum(steps)])
        return np.diff(np.interp(edges, self.wavelength, total)) / self._total


def air_to_vacuum(wavelength):
    """
    Return the vacuum wavelengths of wavelengths in air (Morton 2000, ApJS 130, 403).

    Parameters
    ----------
    wavelength : `~numpy.ndarray`
        Wavelengths in standard air, in Angstrom.

    Returns
    -------
    `~numpy.ndarray`
        Wavelengths in vacuum, in Angstrom.
    """
    vacuum = np.asarray(wavelength, dtype=float)
    for _ in range(3):
        s2 = (1e4 / vacuum) ** 2
        index = 1 + 8.34254e-5 + 2.406147e-2 / (130 - s2) + 1.5998e-4 / (38.9 - s2)
        vacuum = wavelength * index
    return vacuum


def _celestial_cards(frame, centre, pixel, angle, flip):
    """Return the cards of a tangential projection whose reference pixel is still to be set."""
    sky = SkyCoord(*centre, unit="deg").transform_to(frame)
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    east = -1 if not flip else 1
    header = fits.Header()
    header["WCSAXES"] = 2
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    header["CUNIT1"], header["CUNIT2"] = "deg", "deg"
    header["CRVAL1"], header["CRVAL2"] = sky.spherical.lon.deg, sky.spherical.lat.deg
    header["CRPIX1"], header["CRPIX2"] = 0.0, 0.0
    header["CD1_1"], header["CD1_2"] = east * cosine * pixel / 3600, sine * pixel / 3600
    header["CD2_1"], header["CD2_2"] = -east * sine * pixel / 3600, cosine * pixel / 3600
    header["RADESYS"] = frame.upper()
    if frame == "fk5":
        header["EQUINOX"] = 2000.0
    return header


def image_wcs(header):
    """
    Return the celestial coordinates of a simulated image.

    Parameters
    ----------
    header : `~astropy.io.fits.Header`
        The header of the image.

    Returns
    -------
    `~astropy.wcs.WCS`
        The coordinates, without the dates that astropy would warn of.
    """
    cards = header.copy()
    for key in ("DATE-OBS", "MJD-OBS"):
        cards.remove(key, ignore_missing=True)
    return WCS(cards)


def muse_headers(options):
    """
    Return two headers of the MUSE field: as it is written, and as it ought to be.

    Parameters
    ----------
    options : FieldOptions
        The field.

    Returns
    -------
    written, true : `~astropy.io.fits.Header`
        They differ in CRPIX by the pointing error.
    """
    header = _celestial_cards(
        options.muse_frame, options.centre, MUSE_PIXEL, options.muse_rotation, options.muse_flip
    )
    general = {"ORIGIN": "ESO-PARANAL", "TELESCOP": "ESO-VLT-U4", "INSTRUME": "MUSE"}
    general |= {"OBJECT": "simulated field", "EXPTIME": 900.0}
    general |= {"DATE-OBS": "2018-01-15T02:00:00.000", "MJD-OBS": 58133.08333333}
    header.update(general)
    header["BUNIT"] = MUSE_BUNIT
    header["CRPIX1"], header["CRPIX2"] = (options.shape[1] + 1) / 2, (options.shape[0] + 1) / 2
    true = header.copy()
    true["CRPIX1"] += options.dx / MUSE_PIXEL
    true["CRPIX2"] += options.dy / MUSE_PIXEL
    return header, true


def hst_header(options, curve):
    """
    Return the header of an HST image that covers the MUSE field and its margin.

    Parameters
    ----------
    options : FieldOptions
        The field.
    curve : FilterCurve
        The filter.

    Returns
    -------
    header : `~astropy.io.fits.Header`
        The header.
    shape : tuple of int
        The shape (ny, nx) of the image.
    """
    field = SkyCoord(*options.centre, unit="deg")
    tangent = field.spherical_offsets_by(*(offset * u.arcmin for offset in options.tangent_offset))
    header = _celestial_cards(
        options.hst_frame,
        (tangent.ra.deg, tangent.dec.deg),
        options.hst_pixel,
        options.hst_rotation,
        options.hst_flip,
    )
    # The reference pixel is zero so far: what comes out are pixels counted from the tangent point.
    plane = image_wcs(header)
    ny, nx = options.shape
    # Where MUSE was meant to point, so that exposures with other errors share the HST image.
    corners = image_wcs(muse_headers(options)[0]).pixel_to_world(
        [-0.5, nx - 0.5, -0.5, nx - 0.5], [-0.5, -0.5, ny - 0.5, ny - 0.5]
    )
    middle = plane.world_to_pixel(field)
    extent = [abs(c - m).max() for c, m in zip(plane.world_to_pixel(corners), middle, strict=True)]
    size = [int(np.ceil(2 * (e + options.hst_margin / options.hst_pixel))) for e in extent]
    for axis in (0, 1):
        # Pixel positions of `middle` count from -1, the zero of CRPIX.
        header[f"CRPIX{axis + 1}"] = (size[axis] - 1) / 2 + _HST_PHASE[axis] - float(middle[axis])
    header.update({"TELESCOP": "HST", "INSTRUME": "ACS", "DETECTOR": "WFC"})
    header.update({"FILTER1": "CLEAR1L", "FILTER2": curve.name, "EXPTIME": 12000.0})
    header.update({"DATE-OBS": "2004-02-20", "BUNIT": "ELECTRONS/S", "OBJECT": "simulated field"})
    header["PHOTFLAM"] = (curve.photflam, "erg/s/cm2/Angstrom of 1 electron/s")
    header["PHOTPLAM"] = (curve.pivot, "pivot wavelength (Angstrom)")
    header["PHOTMODE"] = f"ACS WFC1 {curve.name}"
    return header, (size[1], size[0])


def sky_shift(written, true, shape):
    """
    Return the pointing error on the sky, MUSE minus HST, at the centre of the field.

    Parameters
    ----------
    written, true : `~astropy.io.fits.Header`
        The headers of `muse_headers`.
    shape : tuple of int
        Shape (ny, nx) of the field.

    Returns
    -------
    dra, ddec : float
        Differences of the coordinates in arcsec, that of right ascension without cos(dec).
    """
    x, y = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    ra, dec = np.subtract(*(image_wcs(h).pixel_to_world_values(x, y) for h in (written, true)))
    return float((ra + 180) % 360 - 180) * 3600, float(dec) * 3600


def field_scene(seed, options):
    """
    Return a random sky around the MUSE field.

    Parameters
    ----------
    seed : int or `~numpy.random.SeedSequence`
        The seed.
    options : FieldOptions
        The field.

    Returns
    -------
    Scene
        The sky.
    """
    angle = np.radians(options.muse_rotation)
    cosine, sine = abs(np.cos(angle)), abs(np.sin(angle))
    ny, nx = (n * MUSE_PIXEL for n in options.shape)
    margin = options.hst_margin + 2 if options.scene_margin is None else options.scene_margin
    width = np.array([nx * cosine + ny * sine, nx * sine + ny * cosine]) + 2 * margin
    counts = [
        round(density * width.prod()) if number is None else number
        for number, density in ((options.n_galaxies, _GALAXIES), (options.n_stars, _STARS))
    ]
    return Scene.random(
        seed, width=width, n_galaxies=counts[0], n_stars=counts[1], centre=options.centre
    )


def random_seeds(seed, purpose, count):
    """
    Return independent seeds, the same ones whenever they are asked for.

    Parameters
    ----------
    seed : int
        The seed that the user gave.
    purpose : {"scene", "noise"}
        What they are for; sky and noise are independent of each other.
    count : int
        How many.

    Returns
    -------
    list of `~numpy.random.SeedSequence`
        The seeds.

    Raises
    ------
    UserError
        If the seed is not a whole number, or negative.
    """
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise UserError(f"the seed is {seed!r}; it must be a whole number that is not negative")
    return np.random.SeedSequence([int(seed), ("scene", "noise").index(purpose)]).spawn(count)


def noise_image(rng, shape, *, correlation=None, dtype=float):
    """
    Return noise of unit variance.

    Parameters
    ----------
    rng : `~numpy.random.Generator`
        Source of random numbers.
    shape : tuple of int
        Shape of the image, or of a cube whose planes are independent of each other.
    correlation : float or `~numpy.ndarray`, optional
        Kernel with which the noise is convolved; a number is the weight of each of the four
        neighbours.
    dtype : data-type
        Type of the result.

    Returns
    -------
    `~numpy.ndarray`
        The noise.

    Raises
    ------
    UserError
        If the kernel is not two-dimensional.
    """
    noise = rng.standard_normal(shape, dtype=dtype)
    if correlation is None:
        return noise
    kernel = np.asarray(correlation, dtype=float)
    if kernel.ndim == 0:
        kernel = np.array([[0, kernel, 0], [kernel, 1, kernel], [0, kernel, 0]])
    if kernel.ndim != 2 or not np.any(kernel):
        raise UserError(
            f"noise_correlation has shape {kernel.shape}; a number or a two-dimensional kernel "
            "that is not zero is needed"
        )
    kernel = kernel / np.sqrt(np.sum(kernel**2))
    # Wrapped around, so that the noise is the same everywhere.
    return convolve(noise, kernel[(np.newaxis,) * (noise.ndim - 2)], mode="wrap")
