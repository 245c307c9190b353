# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The profiles of stars: a Moffat whose shape is fitted, or an image of the PSF, whose shape is given.

A profile tells the brightness per square arcsec of a star of unit flux, and its derivatives, at the
centres of pixels. The pixel of the detector is part of it.
"""

import numpy as np
from scipy import fft, ndimage

from ...models.moffat import BETA_BOUNDS, core_radius

__all__ = ["ImageProfile", "IntegratedMoffat", "MoffatProfile"]

# The narrowest and the widest star (arcsec).
_FWHM_BOUNDS = (0.01, 5.0)
_ELLIPTICITY_BOUNDS = (-0.7, 0.7)

# Points along a side of a pixel at which a profile is taken to integrate it: for a FWHM of 1.5
# pixels the sum errs by 1e-5 of the peak, for 2.5 pixels by 1e-7.
_POINTS = 4

# Nodes between the pixels of a PSF image: cubic splines through so many err by less than 1e-3 of
# its highest frequencies, and by far less of the others.
_FINER = 4


class MoffatProfile:
    """
    A Moffat that includes the pixel, as `~muse_imphot.models.MoffatPSF2D` does.

    The shape is ``fwhm`` (arcsec), ``beta``, and the ellipticity ``e1``, ``e2`` of
    `~muse_imphot.models.TemplateImage2D`.
    """

    names = ("fwhm", "beta", "e1", "e2")
    bounds = (_FWHM_BOUNDS, BETA_BOUNDS, _ELLIPTICITY_BOUNDS, _ELLIPTICITY_BOUNDS)
    #: Distance beyond which the profile is not known (arcsec).
    reach = np.inf

    def evaluate(self, x, y, shape, wanted):
        """
        Evaluate the profile and its derivatives.

        Parameters
        ----------
        x, y : `~numpy.ndarray`
            Positions relative to the star (arcsec).
        shape : sequence of float
            ``fwhm``, ``beta``, ``e1``, ``e2``.
        wanted : sequence of int
            Which parameters of the shape the derivatives are wanted in.

        Returns
        -------
        images : `~numpy.ndarray`
            Profile (arcsec^-2), its derivatives in the position of the star along x and y, and
            those in the shape; shape (3 + len(wanted), ...).
        """
        fwhm, beta, e1, e2 = shape
        alpha2 = core_radius(fwhm, beta) ** 2
        determinant = 1.0 - e1**2 - e2**2
        # (u, v) is the position multiplied by the inverse of ((1 + e1, e2), (e2, 1 - e1)).
        u, v = ((1 - e1) * x - e2 * y) / determinant, ((1 + e1) * y - e2 * x) / determinant
        radius2 = (x * u + y * v) / alpha2
        base = 1.0 + radius2
        logarithm = np.log(base)
        images = np.empty((3 + len(wanted), *base.shape))
        norm = (beta - 1.0) / (np.pi * alpha2 * np.sqrt(determinant))
        value = images[0] = norm * np.exp(-beta * logarithm)
        steep = 2.0 * beta / base
        slope = value * steep / alpha2
        images[1], images[2] = slope * u, slope * v
        width = steep * radius2 - 2.0  # d ln profile / d ln alpha
        for image, which in zip(images[3:], wanted):
            if which == 0:
                image[:] = value * width / fwhm
            elif which == 1:
                # ln alpha = ln fwhm - ln 2 - 0.5 ln(2^(1/beta) - 1)
                root = np.exp(np.log(2.0) / beta)
                rise = 0.5 * np.log(2.0) / beta**2 * root / (root - 1.0)
                image[:] = value * (1.0 / (beta - 1.0) - logarithm + width * rise)
            elif which == 2:
                image[:] = value * e1 / determinant + 0.5 * slope * (u**2 - v**2)
            else:
                image[:] = value * e2 / determinant + slope * u * v
        return images


class IntegratedMoffat(MoffatProfile):
    """
    A Moffat without the pixel, integrated over the pixels.

    Its ``fwhm`` is that without the pixel.

    Parameters
    ----------
    pixel_scale : tuple of float
        Size of a pixel along y and x (arcsec).
    """

    def __init__(self, pixel_scale):
        points, weights = np.polynomial.legendre.leggauss(_POINTS)
        step_y, step_x = (0.5 * scale * points for scale in pixel_scale)
        self._steps = [(x, y) for y in step_y for x in step_x]
        self._weights = 0.25 * np.outer(weights, weights).ravel()

    def evaluate(self, x, y, shape, wanted):
        """Evaluate the profile and its derivatives, as `MoffatProfile.evaluate` does."""
        return sum(
            weight * super(IntegratedMoffat, self).evaluate(x + step_x, y + step_y, shape, wanted)
            for weight, (step_x, step_y) in zip(self._weights, self._steps)
        )


class ImageProfile:
    """
    A PSF that is given by its Fourier transform, and has no shape to fit.

    Parameters
    ----------
    transform : callable
        ``transform(fy, fx)``: the transform at frequencies (cycles/arcsec) along the axes of the
        image in which stars are fitted.
    highest : float
        Frequency from which the transform is zero (cycles/arcsec).
    reach : float
        Largest distance from a star at which the profile is wanted (arcsec).
    extent : float
        How far the PSF extends from its centre (arcsec).
    """

    names = ()
    bounds = ()

    def __init__(self, transform, highest, reach, extent):
        self.reach = reach
        self._step = 0.5 / highest / _FINER
        half = int(np.ceil(reach / self._step)) + 4
        size = fft.next_fast_len(half + int(np.ceil(max(extent, reach) / self._step)) + 8)
        size = max(size, 2 * half + 2)
        fy, fx = fft.fftfreq(size, self._step)[:, None], fft.rfftfreq(size, self._step)
        inside = (np.abs(fy) <= highest) & (fx <= highest)
        fy, fx = np.broadcast_arrays(fy, fx)
        spectrum = np.zeros(inside.shape, dtype=complex)
        spectrum[inside] = transform(fy[inside], fx[inside])
        part = np.ix_(*2 * [np.arange(-half, half + 1) % size])
        self._half = half
        self._tables = []
        for factor in (1.0, -2j * np.pi * fx, -2j * np.pi * fy):
            image = fft.irfft2(factor * spectrum, s=(size, size))[part] / self._step**2
            self._tables.append(ndimage.spline_filter(image, order=3))

    @classmethod
    def of_psf(cls, psf, reach):
        """Return the profile of an `~muse_imphot.template.ImagePSF`, in the axes that it has."""
        extent = 0.75 * max(psf.data.shape) * psf.pixel_scale
        # Turned by any angle, the square of its frequencies is within this.
        highest = np.abs(psf.matrix).sum(axis=1).max() * 0.5 / psf.pixel_scale
        return cls(psf.transform, highest, reach, extent)

    def evaluate(self, x, y, shape, wanted):
        """Evaluate the profile and its derivatives, as `MoffatProfile.evaluate` does."""
        at = np.stack([y / self._step + self._half, x / self._step + self._half])
        return np.stack(
            [ndimage.map_coordinates(t, at, order=3, prefilter=False) for t in self._tables]
        )
