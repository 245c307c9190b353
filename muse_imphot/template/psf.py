# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What a template has been through: the PSF of the HST image and the filter of the regridding.
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from ..models import moffat_transform

__all__ = ["HstPSF", "LowPass"]


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

    Notes
    -----
    The defaults are those that fit stars of the Hubble Ultra Deep Field at 0.03 arcsec pixels.
    """

    fwhm: float = 0.085
    beta: float = 1.6

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
        # Bessel functions are slow; in the square root of the frequency, which tames the cusp at
        # zero, a spline through some hundred nodes is good to 1e-9.
        limit = max(float(frequency.max(initial=0.0)), 1e-6)
        nodes = np.linspace(0.0, 1.0, 600)
        table = moffat_transform(limit * nodes**2, self.fwhm, self.beta)
        return CubicSpline(nodes, table)(np.sqrt(frequency / limit))


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
