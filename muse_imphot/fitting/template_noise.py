# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The bias that the noise of the template would cause, taken out of the objective.

Least squares takes the template for the truth. Its noise, seen through the trial PSF, adds to the
residual by an amount that depends on the parameters, and the minimum moves to where that amount is
smaller: a lower scale and a broader PSF. The amount is known on the average, and is subtracted.
"""

import numpy as np

from ..models.moffat import moffat_transform_derivatives

__all__ = ["TemplateNoiseCorrection"]

_RADIAN = np.pi / 180.0

# Part of the response of the template below which its spectrum is not used, so that neither is its
# noise; see `~muse_imphot.models.ConvolvedTemplate`.
_N_FREQUENCIES = 300


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
        usable = response * template.low_pass(self._frequency) > 0.02
        density = template.noise.power(self._frequency) / response**2
        self._density = np.where(usable, 2.0 * np.pi * self._frequency * step * density, 0.0)
        u, v = positions
        self.weight = float(weight.sum())
        self._mean_u = float((weight * u).sum())
        self._mean_v = float((weight * v).sum())
        self._mean_r2 = float((weight * (u**2 + v**2)).sum())

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
        names = model.param_names
        p = dict(zip(names, model.parameters))
        terms = moffat_transform_derivatives(self._frequency, p["fwhm"], p["beta"])
        radial = dict(zip(("scale", "fwhm", "beta"), terms))
        matrix = np.zeros((len(names), len(names)))

        def put(first, second, value):
            i, j = names.index(first), names.index(second)
            matrix[i, j] = matrix[j, i] = value

        scale = p["scale"]
        size = {"scale": 1.0, "fwhm": scale, "beta": scale}
        for first in radial:
            for second in radial:
                product = (radial[first] * radial[second]) @ self._density
                put(first, second, self.weight * size[first] * size[second] * product)
        # Over a circle the square of a cosine averages to one half.
        shape = (0.5 * scale * p["fwhm"] * radial["fwhm"]) ** 2 @ self._density
        for name in ("e1", "e2"):
            put(name, name, self.weight * 0.5 * shape)
        slope = (2.0 * np.pi * self._frequency * radial["scale"]) ** 2 @ self._density
        slope *= 0.5 * scale**2
        for name in ("dx", "dy"):
            put(name, name, self.weight * slope)
        put("rotation", "rotation", _RADIAN**2 * self._mean_r2 * slope)
        put("magnification", "magnification", self._mean_r2 * slope)
        put("rotation", "dx", -_RADIAN * self._mean_v * slope)
        put("rotation", "dy", _RADIAN * self._mean_u * slope)
        put("magnification", "dx", self._mean_u * slope)
        put("magnification", "dy", self._mean_v * slope)
        return matrix
