# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The PSF as an image, as a curve of growth, and as a model for photometry with photutils.

All of them are exact for the Moffat profile that the fits use: it includes the pixel, so that its
value at the centre of a pixel is the light in that pixel.
"""

import zlib

import numpy as np
from astropy import units as u

from ._numbers import read_number
from .exceptions import UserError
from .models.moffat import MoffatPSF2D, core_radius

__all__ = ["encircled_energy", "energy_radius", "psf_image", "psf_model"]

# Directions over which the light in a circle is averaged for an elliptical PSF; the error of the
# mean falls exponentially with their number.
_DIRECTIONS = 256


def psf_image(fwhm, beta, pixel_scale, shape, *, oversampling=1, e1=0.0, e2=0.0, normalize=True):
    """
    Draw a Moffat PSF.

    Parameters
    ----------
    fwhm : float or `~astropy.units.Quantity`
        Full width at half maximum, pixel included (arcsec).
    beta : float
        Exponent, above 1.
    pixel_scale : float or `~astropy.units.Quantity`
        Size of the pixels of the detector (arcsec).
    shape : int or tuple of int
        Shape of the image, (ny, nx). The PSF is centred: on a pixel if the number is odd.
    oversampling : int, optional
        Number of pixels of the image per pixel of the detector, along each axis. Each value is
        what a detector pixel centred there would see: the pixel is still that of the detector.
    e1, e2 : float, optional
        Ellipticity, see `~muse_imphot.models.TemplateImage2D`.
    normalize : bool, optional
        Make the sum of the image 1. Otherwise the values are parts of the whole light, of which
        the wings beyond the image take some; with oversampling they are divided by its square.

    Returns
    -------
    image : 2D `~numpy.ndarray`
        The PSF, shape (ny, nx).

    Raises
    ------
    UserError
        If a number makes no sense.

    Examples
    --------
    >>> from muse_imphot.psf_images import psf_image
    >>> image = psf_image(fwhm=0.65, beta=2.5, pixel_scale=0.2, shape=25)
    >>> image.shape, float(round(image.sum(), 6)), float(round(image.max(), 4))
    ((25, 25), 1.0, 0.0583)
    """
    fwhm, beta = _profile(fwhm, beta)
    step = read_number("pixel_scale", pixel_scale, u.arcsec, above=0)
    step /= _whole("oversampling", oversampling)
    matrix = _shape_matrix(e1, e2)
    ny, nx = (_whole("shape", n) for n in np.broadcast_to(shape, 2))
    x, y = step * (np.arange(nx) - (nx - 1) / 2), step * (np.arange(ny) - (ny - 1) / 2)[:, None]
    # The root of the form along which the profile is constant takes the place of the radius.
    inverse = np.linalg.inv(matrix)
    radius = np.sqrt(inverse[0, 0] * x**2 + 2 * inverse[0, 1] * x * y + inverse[1, 1] * y**2)
    flux = step**2 / np.sqrt(np.linalg.det(matrix))
    image = MoffatPSF2D.evaluate(radius, 0.0, flux, 0.0, 0.0, fwhm, beta)
    return image / image.sum() if normalize else image


def encircled_energy(fwhm, beta, radius, *, e1=0.0, e2=0.0):
    r"""
    Return the part of the light of a point source that falls within a circle.

    Parameters
    ----------
    fwhm : float or `~astropy.units.Quantity`
        Full width at half maximum of the Moffat PSF (arcsec).
    beta : float
        Exponent, above 1.
    radius : float, array-like or `~astropy.units.Quantity`
        Radius of the circle (arcsec).
    e1, e2 : float, optional
        Ellipticity, see `~muse_imphot.models.TemplateImage2D`.

    Returns
    -------
    energy : float or `~numpy.ndarray`
        From 0 to 1, of the shape of ``radius``.

    Raises
    ------
    UserError
        If a number makes no sense, or a radius is negative.

    Notes
    -----
    For a round PSF it is :math:`1 - (1 + r^2 / \alpha^2)^{1 - \beta}`.

    Examples
    --------
    >>> from muse_imphot.psf_images import encircled_energy
    >>> round(encircled_energy(fwhm=0.65, beta=2.5, radius=1.0), 4)
    0.8762
    """
    fwhm, beta = _profile(fwhm, beta)
    try:
        values = radius.to_value(u.arcsec) if isinstance(radius, u.Quantity) else radius
        values = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as exc:
        raise UserError(f"radius: {radius!r} was given; numbers in arcsec are needed") from exc
    if not np.all(values >= 0):
        raise UserError(f"radius: {radius!r} was given; it must not be negative")
    matrix = _shape_matrix(e1, e2)
    angle = np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS
    along = np.array([np.cos(angle), np.sin(angle)])
    # How much faster the profile falls in each direction than on the average.
    stretch = np.einsum("in,ij,jn->n", along, np.linalg.inv(matrix), along)
    scaled = values[..., None] ** 2 * stretch / core_radius(fwhm, beta) ** 2
    light = -np.expm1((1 - beta) * np.log1p(scaled)) / stretch / np.sqrt(np.linalg.det(matrix))
    energy = light.mean(axis=-1)
    return float(energy) if energy.ndim == 0 else energy


def energy_radius(fwhm, beta, fraction):
    """
    Return the radius of the circle that holds a part of the light of a point source.

    Parameters
    ----------
    fwhm : float or `~astropy.units.Quantity`
        Full width at half maximum of the Moffat PSF (arcsec).
    beta : float
        Exponent, above 1.
    fraction : float or array-like
        The part, from 0 to below 1.

    Returns
    -------
    radius : float or `~numpy.ndarray`
        Arcsec, of the shape of ``fraction``.

    Raises
    ------
    UserError
        If a number makes no sense.

    Examples
    --------
    >>> from muse_imphot.psf_images import energy_radius
    >>> round(energy_radius(fwhm=0.65, beta=2.5, fraction=0.5), 4)
    0.4407
    """
    fwhm, beta = _profile(fwhm, beta)
    part = np.asarray(fraction, dtype=float)
    if not np.all((part >= 0) & (part < 1)):
        raise UserError(f"fraction: {fraction!r} was given; it must be from 0 to below 1")
    radius = core_radius(fwhm, beta) * np.sqrt(np.expm1(np.log1p(-part) / (1 - beta)))
    return float(radius) if radius.ndim == 0 else radius


def psf_model(fwhm, beta, pixel_scale, *, radius=None, oversampling=4, e1=0.0, e2=0.0):
    """
    Make the PSF model that `photutils` fits to stars.

    Parameters
    ----------
    fwhm : float or `~astropy.units.Quantity`
        Full width at half maximum, pixel included (arcsec).
    beta : float
        Exponent, above 1.
    pixel_scale : float or `~astropy.units.Quantity`
        Size of the pixels (arcsec).
    radius : float or `~astropy.units.Quantity`, optional
        Where the model ends (arcsec); by default 20 times ``fwhm``.
    oversampling : int, optional
        Number of values per pixel from which the model interpolates.
    e1, e2 : float, optional
        Ellipticity, see `~muse_imphot.models.TemplateImage2D`.

    Returns
    -------
    model : `photutils.psf.ImagePSF`
        Its parameter ``flux`` is that of the whole source, wings beyond the model included.

    Raises
    ------
    UserError
        If a number makes no sense.

    Examples
    --------
    >>> from photutils.psf import PSFPhotometry
    >>> from muse_imphot.psf_images import psf_model
    >>> photometry = PSFPhotometry(psf_model(0.65, 2.5, 0.2), fit_shape=(11, 11),
    ...                            aperture_radius=4)
    """
    from photutils.psf import ImagePSF

    width = 20 * _profile(fwhm, beta)[0]
    radius = width if radius is None else read_number("radius", radius, u.arcsec, above=0)
    scale = read_number("pixel_scale", pixel_scale, u.arcsec, above=0)
    oversampling = _whole("oversampling", oversampling)
    size = 2 * int(np.ceil(radius / scale * oversampling)) + 1
    options = {"oversampling": oversampling, "e1": e1, "e2": e2, "normalize": False}
    image = psf_image(fwhm, beta, scale, size, **options)
    # In photutils 3.0, groups of stars are fitted with the first PSF of the same class name that
    # was ever used, whatever its image (mended in 3.1): so each PSF has a class of its own.
    name = f"MoffatImagePSF_{zlib.crc32(image.tobytes()):08x}"
    return type(name, (ImagePSF,), {})(image * oversampling**2, oversampling=oversampling)


def _profile(fwhm, beta):
    """Return FWHM and exponent as numbers."""
    return read_number("fwhm", fwhm, u.arcsec, above=0), read_number("beta", beta, above=1)


def _whole(name, value):
    """Return a whole number above 0."""
    if not (isinstance(value, int | np.integer) and value > 0):
        raise UserError(f"{name}: {value!r} was given; whole numbers above 0 are needed")
    return int(value)


def _shape_matrix(e1, e2):
    """Return the second moments of the PSF relative to those of a round one."""
    e1, e2 = read_number("e1", e1), read_number("e2", e2)
    if not np.hypot(e1, e2) < 1:
        raise UserError(f"e1, e2: {e1:g}, {e2:g} was given; the ellipticity must be below 1")
    return np.array([[1 + e1, e2], [e2, 1 - e1]])
