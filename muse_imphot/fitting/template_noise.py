# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The bias that the noise of the template would cause, taken out of the objective.

Least squares takes the template for the truth. Its noise, seen through the trial PSF, adds to the
residual by an amount that depends on the parameters, and the minimum moves to where that amount is
smaller: a lower scale and a broader PSF. The amount is known on the average, and is subtracted.
"""

from dataclasses import dataclass

import numpy as np
from scipy import fft, special

from ..models.moffat import moffat_transform_derivatives

__all__ = ["SeenTemplateNoise", "TemplateNoiseCorrection"]

_RADIAN = np.pi / 180.0

_N_FREQUENCIES = 300

# Part of the response of the template below which its spectrum is not used, so that neither is its
# noise; see `~muse_imphot.models.ConvolvedTemplate`.
_MIN_RESPONSE = 0.02

# The noise is correlated over about so many FWHM of the PSF.
_REACH_FWHM = 3.0


class TemplateNoiseCorrection:
    r"""
    Expected products of the noise in the model and in its derivatives.

    Parameters
    ----------
    template : `~muse_imphot.Template`
        The template, with its noise.
    weight : 2D `~numpy.ndarray`
        Weights of the pixels (inverse variances, zero where a pixel is not fitted).
    positions : tuple of 2D `~numpy.ndarray`
        Distances of the pixels from the centre along x and y (arcsec).

    Notes
    -----
    With :math:`\kappa` the transform by which the sky becomes the model, and :math:`S` the power
    spectrum of the noise of the template, the noise of the derivatives :math:`j_a` of the model
    contributes

    .. math:: N_{ab} = \sum_x w(x) \int \partial_a \kappa \, \overline{\partial_b \kappa}
              \, S \, d^2 f

    to the normal matrix, and :math:`s^2 N_{ss}` (:math:`s` being the scale) to chi-square. Both are
    subtracted. The average of :math:`\chi^2 - s^2 N_{ss}` is least at the true parameters (Fuller
    1987, Measurement Error Models, section 1.2, for the linear case).
    """

    def __init__(self, template, weight, positions):
        limit = template.low_pass.stop
        self._frequency = np.linspace(0.0, limit, _N_FREQUENCIES + 1)[1:]
        step = limit / _N_FREQUENCIES
        response = np.abs(template.psf.radial_transform(self._frequency))
        usable = response * template.low_pass(self._frequency) > _MIN_RESPONSE
        density = template.noise.power(self._frequency) / response**2
        self._density = np.where(usable, 2.0 * np.pi * self._frequency * step * density, 0.0)
        self._rings = 2.0 * np.pi * self._frequency * step
        self._pixel_scale = template.pixel_scale
        self._moments = _Moments.of(weight, positions)
        self._square_moments = _Moments.of(weight**2, positions)

    @property
    def weight(self):
        """Sum of the weights."""
        return self._moments.total

    def variance(self, fwhm, beta):
        """
        Variance of a pixel of the convolved template, for a scale of 1.

        Parameters
        ----------
        fwhm, beta : float
            The PSF.

        Returns
        -------
        variance : float
        """
        psf = moffat_transform_derivatives(self._frequency, fwhm, beta)[0]
        return float((psf**2) @ self._density)

    def normal(self, model):
        """
        What the noise contributes to the normal matrix.

        Parameters
        ----------
        model : `~muse_imphot.models.TemplateImage2D`
            The model at the point of interest.

        Returns
        -------
        matrix : 2D `~numpy.ndarray`
            For all the parameters of the model, in their order.
        """
        terms = self._radial_terms(model)
        return _matrix(model, terms, self._density, self._moments, 1.0)

    def _radial_terms(self, model):
        """Return the transform of the PSF and its derivatives at the frequencies, by name."""
        p = dict(zip(model.param_names, model.parameters))
        terms = moffat_transform_derivatives(self._frequency, p["fwhm"], p["beta"])
        terms = dict(zip(("scale", "fwhm", "beta"), terms))
        terms["shape"] = 0.5 * p["fwhm"] * terms["fwhm"]
        terms["slope"] = 2.0 * np.pi * self._frequency * terms["scale"]
        return terms

    def seen(self, model, free):
        """
        The noise of the template as it appears in the fitted image.

        Parameters
        ----------
        model : `~muse_imphot.models.TemplateImage2D`
            The fitted model.
        free : sequence of str
            The parameters that were fitted.

        Returns
        -------
        noise : `SeenTemplateNoise`
        """
        terms = self._radial_terms(model)
        through = (float(model.scale.value) * terms["scale"]) ** 2
        density = through * self._density**2 / (self._rings * np.prod(self._pixel_scale))
        matrix = _matrix(model, terms, density, self._square_moments, -1.0)
        rows = [model.param_names.index(name) for name in free]
        return SeenTemplateNoise(
            frequency=self._frequency,
            density=through * self._density,
            rings=self._rings,
            pixel_scale=self._pixel_scale,
            reach=int(np.ceil(_REACH_FWHM * model.fwhm.value / min(self._pixel_scale))),
            quadratic=matrix[np.ix_(rows, rows)],
        )


@dataclass(frozen=True)
class SeenTemplateNoise:
    r"""
    The noise of the template as it appears in a fitted image, through the PSF of that image.

    Attributes
    ----------
    frequency : 1D `~numpy.ndarray`
        Radial frequencies (cycles/arcsec).
    density : 1D `~numpy.ndarray`
        Variance of a pixel from each of them.
    rings : 1D `~numpy.ndarray`
        The part of the plane that each of them stands for.
    pixel_scale : tuple of float
        Pixel size along y and x (arcsec).
    reach : int
        Pixels over which it is correlated.
    quadratic : 2D `~numpy.ndarray`
        What its square adds to the covariance of the gradient, for the parameters that were fitted.

    Notes
    -----
    Let :math:`\eta` be this noise, :math:`N_a` that of the derivative :math:`j_a` of the model,
    and :math:`n` the noise of the image. At the true parameters the gradient of the objective is

    .. math:: g_a = \sum_x w \, (j_a + N_a) (n - \eta) + \langle \sum_x w N_a \eta \rangle ,

    the last term being what `TemplateNoiseCorrection` puts right. The three parts of it that vary,
    :math:`\sum w j_a (n - \eta)`, :math:`\sum w N_a n` and :math:`\sum w N_a \eta` less its mean,
    are not correlated with each other, because odd moments of normal noise vanish. With C for
    covariances, and those of a product of normal noises after Isserlis (1918, Biometrika 12, 134),

    .. math:: \langle g_a g_b \rangle = \sum_{xy} w w' [ j_a j_b' + C_{N_a N_b} ] \,
              [C_n + C_\eta] + \sum_{xy} w w' \, C_{N_a \eta} \, C_{\eta N_b} .

    The first sum is what the derivatives as they come, with their noise, give on the average. The
    second is ``quadratic``. Where weights change little over the PSF it is

    .. math:: \frac{\sum_x w^2}{A} \int \partial_a \kappa \, \partial_b \kappa \,
              (s \, \kappa \, S)^2 \, d^2 f

    with the pixel area A and the symbols of `TemplateNoiseCorrection`. It is negative for the
    offsets, whose :math:`\partial \kappa` is imaginary: there the squared noise cancels.
    """

    frequency: np.ndarray
    density: np.ndarray
    rings: np.ndarray
    pixel_scale: tuple
    reach: int
    quadratic: np.ndarray

    @property
    def level(self):
        """Sum of the covariance over all lags: the power of the slowest fluctuations."""
        return float(self.density[0] / (self.rings[0] * np.prod(self.pixel_scale)))

    def covariance(self, lags):
        """
        The covariance of the pixels.

        Parameters
        ----------
        lags : 1D `~numpy.ndarray`
            Lags along either axis (pixels).

        Returns
        -------
        covariance : 2D `~numpy.ndarray`
            For all pairs of lags along y and x.
        """
        y, x = (lags * s for s in self.pixel_scale)
        length, place = np.unique(np.hypot(y[:, None], x[None, :]), return_inverse=True)
        waves = special.j0(2.0 * np.pi * length[:, None] * self.frequency)
        return (waves @ self.density)[place].reshape(len(y), len(x))

    def power(self, shape):
        """
        The power spectrum on the half plane of a real transform.

        Parameters
        ----------
        shape : tuple of int
            Shape of the transformed array.

        Returns
        -------
        power : 2D `~numpy.ndarray`
            Its mean over the whole plane is the variance of a pixel.
        """
        scale_y, scale_x = self.pixel_scale
        fy = fft.fftfreq(shape[0], scale_y)
        fx = fft.rfftfreq(shape[1], scale_x)
        density = self.density / (self.rings * scale_y * scale_x)
        return np.interp(np.hypot(fy[:, None], fx), self.frequency, density, right=0.0)


@dataclass(frozen=True)
class _Moments:
    """Weighted sums over the pixels, of powers of their distance from the centre."""

    total: float
    u: float
    v: float
    r2: float

    @classmethod
    def of(cls, weight, positions):
        u, v = positions
        if np.ndim(u) < 2:
            total = float(weight.sum())
            return cls(total, total * u, total * v, total * (u**2 + v**2))
        # The distances are those of rows and columns.
        u, v = u[0], v[:, 0]
        along_x, along_y = weight.sum(axis=0), weight.sum(axis=1)
        r2 = along_x @ u**2 + along_y @ v**2
        return cls(*map(float, (along_x.sum(), along_x @ u, along_y @ v, r2)))


def _matrix(model, radial, density, moments, odd):
    """
    Return the sums over the pixels of products of the noise in the derivatives of the model.

    ``radial`` are functions of the frequency, ``density`` is what their products are to be
    multiplied with before they are summed. ``odd`` is the sign with which derivatives along x and
    y count, whose transforms are imaginary and odd.
    """
    names = model.param_names
    scale = float(model.parameters[names.index("scale")])
    matrix = np.zeros((len(names), len(names)))

    def put(first, second, value):
        i, j = names.index(first), names.index(second)
        matrix[i, j] = matrix[j, i] = value

    size = {"scale": 1.0, "fwhm": scale, "beta": scale}
    for first in size:
        for second in size:
            product = (radial[first] * radial[second]) @ density
            put(first, second, moments.total * size[first] * size[second] * product)
    # Over a circle the square of a cosine averages to one half.
    shape = 0.5 * scale**2 * (radial["shape"] ** 2 @ density)
    for name in ("e1", "e2"):
        put(name, name, moments.total * shape)
    slope = odd * 0.5 * scale**2 * (radial["slope"] ** 2 @ density)
    for name in ("dx", "dy"):
        put(name, name, moments.total * slope)
    put("rotation", "rotation", _RADIAN**2 * moments.r2 * slope)
    put("magnification", "magnification", moments.r2 * slope)
    put("rotation", "dx", -_RADIAN * moments.v * slope)
    put("rotation", "dy", _RADIAN * moments.u * slope)
    put("magnification", "dx", moments.u * slope)
    put("magnification", "dy", moments.v * slope)
    return matrix
