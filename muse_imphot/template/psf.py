# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What a template has been through: the PSF of the HST image and the filter of the regridding.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.interpolate import CubicSpline

from ..exceptions import UserError
from ..models import moffat_transform

__all__ = ["BlackmanWindow", "HstPSF", "LowPass", "closest_moffat"]

# Frequencies at which the transform of a Moffat is computed, and those between which it is linear.
_N_NODES, _N_TABLE = 600, 16384


@dataclass(frozen=True)
class HstPSF:
    """
    The PSF of an HST image, pixel included: a Moffat.

    Parameters
    ----------
    fwhm : float
        Full width at half maximum (arcsec).
    beta : float
        Moffat exponent.

    Raises
    ------
    UserError
        If the FWHM is not positive, or beta not above 1.

    Notes
    -----
    The defaults are those that fit stars of the Hubble Ultra Deep Field at 0.03 arcsec pixels.
    """

    fwhm: float = 0.085
    beta: float = 1.6

    def __post_init__(self):
        if not 0 < self.fwhm < np.inf:
            raise UserError(
                f"HST PSF: the FWHM is {self.fwhm}; a positive number of arcsec is needed"
            )
        if not 1 < self.beta < np.inf:
            raise UserError(f"HST PSF: beta is {self.beta}; a number larger than 1 is needed")

    @property
    def moffat(self):
        """The Moffat itself, as `ImagePSF` gives the one that is closest."""
        return self

    def turned(self, matrix):
        """
        The PSF in other axes: a round one is the same in all of them.

        Parameters
        ----------
        matrix : array_like
            What `frame_matrix` returns.

        Returns
        -------
        psf : `HstPSF`
        """
        return self

    def transform(self, fy, fx):
        """
        The transform of the PSF.

        Parameters
        ----------
        fy, fx : array_like
            Frequencies along the axes of the MUSE image (cycles/arcsec).

        Returns
        -------
        transform : `~numpy.ndarray`
        """
        return self.radial_transform(np.hypot(fy, fx))

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
        limit = max(float(frequency.max(initial=0.0)), 1e-6)
        table, slopes = _radial_table(self.fwhm, self.beta, limit)
        place = np.sqrt(frequency) * (_N_TABLE / np.sqrt(limit))
        index = np.minimum(place.astype(int), _N_TABLE)
        place -= index
        return table.take(index) + place * slopes.take(index)


@lru_cache(maxsize=8)
def _radial_table(fwhm, beta, limit):
    """
    Return the transform of a Moffat at equal steps in the root of the frequency, with the steps.

    Bessel functions are slow, and so are splines at every frequency of a plane. The root of the
    frequency tames the cusp at zero: a spline through some hundred nodes is good to 1e-9 there, and
    straight lines between the values of the table to 2e-9.
    """
    nodes = np.linspace(0.0, 1.0, _N_NODES)
    spline = CubicSpline(nodes, moffat_transform(limit * nodes**2, fwhm, beta))
    table = spline(np.linspace(0.0, 1.0, _N_TABLE + 1))
    return table, np.append(np.diff(table), 0.0)


@dataclass(frozen=True)
class LowPass:
    """
    A radial filter: 1 up to ``start``, 0 from ``stop``, half a cosine between (cycles/arcsec).
    """

    start: float
    stop: float

    def __call__(self, frequency):
        """Return the response at radial frequencies (cycles/arcsec)."""
        ramp = np.clip((frequency - self.start) / (self.stop - self.start), 0.0, 1.0)
        return 0.5 * (1.0 + np.cos(np.pi * ramp))


@dataclass(frozen=True)
class BlackmanWindow:
    """
    A radial Blackman window that is 0 from ``stop`` (cycles/arcsec).

    With its end at the Nyquist frequency of the MUSE pixels, it is the filter of MPDAF's
    ``align_with_image``, hence of the images that imphot regridded.
    """

    stop: float
    start: float = 0.0

    def __call__(self, frequency):
        """Return the response at radial frequencies (cycles/arcsec)."""
        turn = np.pi * np.minimum(np.abs(frequency) / self.stop, 1.0)
        return np.maximum(0.42 + 0.5 * np.cos(turn) + 0.08 * np.cos(2.0 * turn), 0.0)


def closest_moffat(frequency, transform):
    """
    The Moffat whose transform is closest to a given one.

    Parameters
    ----------
    frequency : 1D array_like
        Radial frequencies (cycles/arcsec).
    transform : 1D array_like
        The transform there.

    Returns
    -------
    psf : `HstPSF`
        The Moffat.
    factor : float
        Factor by which its transform is to be multiplied: above 1 if ``transform`` is that of an
        image that misses wings of the PSF.

    Raises
    ------
    UserError
        If no Moffat comes anywhere near.
    """
    from scipy.optimize import least_squares

    frequency = np.asarray(frequency, dtype=float)

    def moffat(parameters):
        return moffat_transform(frequency, np.exp(parameters[0]), 1.0 + np.exp(parameters[1]))

    def factor_of(model):
        return (model @ transform) / (model @ model)

    def difference(parameters):
        model = moffat(parameters)
        return factor_of(model) * model - transform

    bounds = np.log([[0.005, 0.02], [3.0, 49.0]])
    fit = least_squares(difference, np.log([0.1, 0.8]), bounds=bounds, xtol=1e-10, ftol=1e-12)
    factor = factor_of(moffat(fit.x))
    if not (np.isfinite(fit.cost) and factor > 0):
        raise UserError("HST PSF: it is so unlike a PSF that no Moffat comes near it")
    return HstPSF(float(np.exp(fit.x[0])), float(1.0 + np.exp(fit.x[1]))), float(factor)
