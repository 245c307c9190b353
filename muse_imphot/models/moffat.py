# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The Moffat profile: its image, its exact Fourier transform, and the astropy model.

The profile is written in its full width at half maximum rather than in its core radius, because
the former is far less correlated with ``beta`` and is what observers quote.
"""

import numpy as np
from astropy import units as u
from astropy.modeling import Fittable2DModel, Parameter
from scipy import special

__all__ = [
    "BETA_BOUNDS",
    "FWHM_BOUNDS",
    "MoffatPSF2D",
    "core_radius",
    "moffat_transform",
    "moffat_transform_derivatives",
    "moffat_transform_slope",
]

# Below beta = 1 the flux of the profile diverges; above 50 it is a Gaussian to 1e-2 of the wings,
# and the data cannot tell one value from the next.
BETA_BOUNDS = (1.02, 50.0)
FWHM_BOUNDS = (0.05, 5.0)

# Relative step of the numerical derivative in beta, for which no closed form exists (it is the
# derivative of a Bessel function in its order). A central difference with this step is good to
# about 1e-9.
_BETA_STEP = 1e-4


def core_radius(fwhm, beta):
    """
    The core radius ``alpha`` of a Moffat profile.

    Parameters
    ----------
    fwhm : float or array_like
        Full width at half maximum.
    beta : float or array_like
        Exponent of the profile ``(1 + r^2 / alpha^2)^-beta``.

    Returns
    -------
    alpha : float or `~numpy.ndarray`
        The core radius, in the unit of ``fwhm``.
    """
    # expm1 keeps the digits for large beta, where 2^(1/beta) approaches 1.
    return fwhm / (2.0 * np.sqrt(np.expm1(np.log(2.0) / beta)))


def _matern(x, nu):
    """Return ``2 / Gamma(nu) (x/2)^nu K_nu(x)``, which is 1 at ``x = 0``, for real ``x >= 0``."""
    result = np.ones_like(x)
    inside = x > 0
    xi = x[inside]
    # In logarithms, because Gamma(nu) and K_nu overflow for large nu long before their ratio does.
    log_value = nu * np.log(xi / 2.0) + np.log(special.kve(nu, xi)) - xi
    value = np.exp(log_value - special.gammaln(nu) + np.log(2.0))
    # Where K_nu itself overflows, x is so much smaller than nu that a series will do.
    overflow = ~np.isfinite(value)
    value[overflow] = np.exp(_log_series(xi[overflow], nu)[0])
    result[inside] = value
    return result


def _log_series(x, nu):
    """Return the logarithm of `_matern` for ``x`` well below ``nu``, and ``x`` times its slope.

    Both are the first terms of their series in ``x^2``, which is what is left of the ratio of the
    Bessel function and the Gamma function for large ``nu``.
    """
    one, two = x**2 / (4.0 * (nu - 1.0)), x**4 / (32.0 * (nu - 1.0) ** 2 * (nu - 2.0))
    return two - one, 4.0 * two - 2.0 * one


def _matern_slope(x, nu):
    """Return ``x`` times the derivative in ``x`` of `_matern`."""
    # d/dx [x^nu K_nu(x)] = -x^nu K_{nu-1}(x)
    result = np.zeros_like(x)
    inside = x > 0
    xi = x[inside]
    log_value = nu * np.log(xi / 2.0) + np.log(special.kve(nu - 1.0, xi)) - xi
    value = xi * np.exp(log_value - special.gammaln(nu) + np.log(2.0))
    overflow = ~np.isfinite(value)
    log_value, slope = _log_series(xi[overflow], nu)
    value[overflow] = -np.exp(log_value) * slope
    result[inside] = -value
    return result


def moffat_transform(frequency, fwhm, beta):
    r"""
    The Fourier transform of a Moffat profile of unit flux.

    Parameters
    ----------
    frequency : array_like
        Radial spatial frequencies, in cycles per unit of ``fwhm``.
    fwhm : float
        Full width at half maximum.
    beta : float
        Exponent of the profile; larger than 1.

    Returns
    -------
    transform : `~numpy.ndarray`
        Real and positive, 1 at zero frequency, of the shape of ``frequency``.

    Notes
    -----
    .. math::

        \hat P(f) = \frac{2}{\Gamma(\nu)} \left(\frac{x}{2}\right)^\nu K_\nu(x), \qquad
        \nu = \beta - 1, \quad x = 2 \pi f \alpha,

    where :math:`\alpha` is the core radius and :math:`K_\nu` the modified Bessel function of the
    second kind. It is the Hankel transform of :math:`(1 + r^2/\alpha^2)^{-\beta}` (Gradshteyn &
    Ryzhik, Table of Integrals, 6.565.4), the form known in statistics as the Matern covariance.
    """
    frequency = np.asarray(frequency, dtype=float)
    return _matern(2.0 * np.pi * core_radius(fwhm, beta) * frequency, beta - 1.0)


def moffat_transform_slope(frequency, fwhm, beta):
    """
    The transform of a Moffat profile with its derivative in ``fwhm``, which is exact.

    Parameters
    ----------
    frequency, fwhm, beta
        As for `moffat_transform`.

    Returns
    -------
    transform, d_fwhm : `~numpy.ndarray`
        Each of the shape of ``frequency``.
    """
    x = 2.0 * np.pi * core_radius(fwhm, beta) * np.asarray(frequency, dtype=float)
    return _matern(x, beta - 1.0), _matern_slope(x, beta - 1.0) / fwhm


def moffat_transform_derivatives(frequency, fwhm, beta):
    """
    The transform of a Moffat profile with its derivatives in ``fwhm`` and ``beta``.

    Parameters
    ----------
    frequency, fwhm, beta
        As for `moffat_transform`.

    Returns
    -------
    transform, d_fwhm, d_beta : `~numpy.ndarray`
        Each of the shape of ``frequency``. The derivative in ``fwhm`` is exact; the one in
        ``beta``, for which no closed form exists, is a central difference good to about 1e-9.
    """
    transform, d_fwhm = moffat_transform_slope(frequency, fwhm, beta)
    step = _BETA_STEP * min(beta, beta - 1.0)
    upper = moffat_transform(frequency, fwhm, beta + step)
    lower = moffat_transform(frequency, fwhm, beta - step)
    return transform, d_fwhm, (upper - lower) / (2.0 * step)


class MoffatPSF2D(Fittable2DModel):
    r"""
    A circular Moffat PSF of given flux.

    Parameters
    ----------
    flux : float or `~astropy.units.Quantity`
        Total flux. The value of the model is the flux per unit area of ``x`` and ``y``; where
        these are in pixels it is the flux per pixel.
    x_0, y_0 : float or `~astropy.units.Quantity`
        Position of the centre.
    fwhm : float or `~astropy.units.Quantity`
        Full width at half maximum, in the unit of ``x`` and ``y``.
    beta : float
        Exponent; larger than 1.

    Notes
    -----
    .. math::

        f(r) = F \, \frac{\beta - 1}{\pi \alpha^2}
               \left(1 + \frac{r^2}{\alpha^2}\right)^{-\beta}, \qquad
        \alpha = \frac{\mathrm{FWHM}}{2 \sqrt{2^{1/\beta} - 1}}

    The profile is sampled, not integrated over pixels: it stands for the PSF that includes the
    pixel, which is the convention of the FWHM throughout the package.

    Examples
    --------
    >>> from muse_imphot.models import MoffatPSF2D
    >>> psf = MoffatPSF2D(flux=1.0, fwhm=3.2, beta=2.5)
    >>> float(round(psf(1.6, 0.0) / psf(0.0, 0.0), 6))
    0.5
    """

    flux = Parameter(default=1.0, description="Total flux")
    x_0 = Parameter(default=0.0, description="Centre along x")
    y_0 = Parameter(default=0.0, description="Centre along y")
    fwhm = Parameter(default=1.0, bounds=(1e-6, None), description="Full width at half maximum")
    beta = Parameter(default=2.5, bounds=BETA_BOUNDS, description="Moffat exponent")

    @staticmethod
    def evaluate(x, y, flux, x_0, y_0, fwhm, beta):
        """Evaluate the profile at ``x``, ``y``."""
        alpha2 = core_radius(fwhm, beta) ** 2
        base = 1.0 + ((x - x_0) ** 2 + (y - y_0) ** 2) / alpha2
        if isinstance(base, u.Quantity):
            base = base.to_value(u.dimensionless_unscaled)
        return flux * (beta - 1.0) / (np.pi * alpha2) * base ** (-beta)

    @staticmethod
    def fit_deriv(x, y, flux, x_0, y_0, fwhm, beta):
        """Derivatives of the profile in each parameter, in the order of the parameters."""
        alpha2 = core_radius(fwhm, beta) ** 2
        dx, dy = x - x_0, y - y_0
        r2 = (dx**2 + dy**2) / alpha2
        base = 1.0 + r2
        unit_flux = (beta - 1.0) / (np.pi * alpha2) * base ** (-beta)
        value = flux * unit_flux
        d_x0 = value * 2.0 * beta * dx / (alpha2 * base)
        d_y0 = value * 2.0 * beta * dy / (alpha2 * base)
        # d ln f / d ln alpha, from the normalisation (-2) and from the profile.
        dln_alpha = -2.0 + 2.0 * beta * r2 / base
        d_fwhm = value * dln_alpha / fwhm
        # ln alpha = ln fwhm - ln 2 - 0.5 ln(2^(1/beta) - 1)
        root = np.exp(np.log(2.0) / beta)
        dlnalpha_dbeta = 0.5 * np.log(2.0) / beta**2 * root / (root - 1.0)
        d_beta = value * (1.0 / (beta - 1.0) - np.log(base) + dln_alpha * dlnalpha_dbeta)
        return [unit_flux, d_x0, d_y0, d_fwhm, d_beta]

    def transform(self, frequency):
        """
        The Fourier transform of the profile, flux included.

        Parameters
        ----------
        frequency : array_like
            Radial frequencies, in cycles per unit of ``fwhm``.

        Returns
        -------
        transform : `~numpy.ndarray`
        """
        return self.flux.value * moffat_transform(frequency, self.fwhm.value, self.beta.value)

    @property
    def input_units(self):
        """The unit of ``x`` and ``y``: that of the centre, or None."""
        if self.x_0.input_unit is None:
            return None
        return {"x": self.x_0.input_unit, "y": self.y_0.input_unit}

    def _parameter_units_for_data_units(self, inputs_unit, outputs_unit):
        length = inputs_unit["x"]
        return {
            "x_0": length,
            "y_0": length,
            "fwhm": length,
            "flux": outputs_unit["z"] * length**2,
        }
