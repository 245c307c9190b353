# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The noise of a MUSE image, measured from the residual of a fit, and what it does to the parameters.

The pixels of a MUSE image are not independent: the cube was drizzled. The variance that comes with
it ignores that, and may be off by a factor. Both are measured here.
"""

from dataclasses import dataclass

import numpy as np
from scipy import fft

__all__ = [
    "NoiseModel",
    "measure_noise",
    "robust_scatter",
    "sandwich_covariance",
    "weighted_products",
]


@dataclass(frozen=True)
class NoiseModel:
    """
    Stationary correlated noise, once the residual is divided by the standard deviation of a pixel.

    Attributes
    ----------
    variance : float
        Variance of the divided residual: 1 if the variance image is right.
    correlation : 2D `~numpy.ndarray`
        Correlation coefficients for lags of -n..n pixels along y and x, 1 at the centre.
    """

    variance: float
    correlation: np.ndarray

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
            Its mean over the whole plane is ``variance``; never negative.
        """
        reach = self.correlation.shape[0] // 2
        kernel = np.zeros(shape)
        lags = np.arange(-reach, reach + 1)
        kernel[np.ix_(lags % shape[0], lags % shape[1])] = self.correlation
        return self.variance * np.maximum(fft.rfft2(kernel).real, 0.0)


def robust_scatter(values):
    """
    Standard deviation from the median absolute deviation.

    Parameters
    ----------
    values : array_like

    Returns
    -------
    scatter : float
    """
    values = np.asarray(values)
    return float(1.482602 * np.median(np.abs(values - np.median(values))))


def measure_noise(residual, used, n_free, reach=None):
    """
    Measure the noise from the residual of a fit.

    Parameters
    ----------
    residual : 2D `~numpy.ndarray`
        Residual divided by the standard deviation of each pixel.
    used : 2D bool `~numpy.ndarray`
        The pixels that took part in the fit.
    n_free : int
        Number of parameters that were fitted.
    reach : int, optional
        Largest lag along an axis (pixels). By default as many as the number of pixels can
        determine, at most 4.

    Returns
    -------
    noise : `NoiseModel`

    Notes
    -----
    The products of the residual with itself at each lag are divided by the number of pairs of used
    pixels at that lag, so that masks and edges bias nothing.
    """
    n_used = int(np.count_nonzero(used))
    if reach is None:
        reach = 2 if n_used < 3000 else 3 if n_used < 20000 else 4
    shape = [fft.next_fast_len(n + reach, real=True) for n in used.shape]
    clean = np.where(used, residual, 0.0)
    power = np.abs(fft.rfft2(clean, s=shape)) ** 2
    pairs = np.abs(fft.rfft2(used.astype(float), s=shape)) ** 2
    lags = np.arange(-reach, reach + 1)
    at = np.ix_(lags % shape[0], lags % shape[1])
    products = fft.irfft2(power, s=shape)[at]
    counts = np.maximum(np.rint(fft.irfft2(pairs, s=shape)[at]), 1.0)
    covariance = products / counts
    centre = covariance[reach, reach]
    if not centre > 0:
        unit = np.zeros_like(covariance)
        unit[reach, reach] = 1.0
        return NoiseModel(0.0, unit)
    correlation = covariance / centre
    # Lags in the corners are farther away than the reach, and carry nothing but noise.
    distance = np.hypot(lags[:, None], lags[None, :])
    correlation[distance > reach + 0.5] = 0.0
    variance = centre * n_used / max(n_used - n_free, 1)
    return NoiseModel(float(variance), correlation)


def sandwich_covariance(derivatives, sigma, used, inverse, noise):
    """
    The covariance of weighted least squares in the presence of correlated noise.

    Parameters
    ----------
    derivatives : 3D `~numpy.ndarray`
        Derivatives of the model in the free parameters, (n_free, ny, nx).
    sigma : 2D `~numpy.ndarray`
        Standard deviation of each pixel, whose inverse square was the weight.
    used : 2D bool `~numpy.ndarray`
        The pixels that took part in the fit.
    inverse : 2D `~numpy.ndarray`
        Inverse of the normal matrix ``A = J' W J``.
    noise : `NoiseModel`
        The noise.

    Returns
    -------
    covariance : 2D `~numpy.ndarray`
        ``A^-1 B A^-1`` with ``B = J' W C W J``, C being the covariance of the noise.
    """
    weight = np.where(used, 1.0 / sigma, 0.0)
    middle = weighted_products(derivatives * weight, noise)
    return inverse @ middle @ inverse


def weighted_products(images, noise):
    """
    Products of images with each other through the covariance of the noise.

    Parameters
    ----------
    images : 3D `~numpy.ndarray`
        Images divided by the standard deviation of the pixels, (n, ny, nx); zero where a pixel is
        not used.
    noise : `NoiseModel`
        The noise.

    Returns
    -------
    products : 2D `~numpy.ndarray`
        ``sum_xy a_i(x) C(x - y) a_j(y)``, shape (n, n).
    """
    reach = noise.correlation.shape[0] // 2
    shape = [fft.next_fast_len(n + reach, real=True) for n in images.shape[1:]]
    transforms = fft.rfft2(images, s=shape, axes=(-2, -1))
    # Columns other than the first (and the Nyquist one) stand for two halves of the plane.
    multiplicity = np.full(transforms.shape[-1], 2.0)
    multiplicity[0] = 1.0
    if shape[1] % 2 == 0:
        multiplicity[-1] = 1.0
    filtered = transforms * (noise.power(shape) * multiplicity)
    n = len(images)
    products = (filtered.reshape(n, -1) @ transforms.reshape(n, -1).conj().T).real
    return 0.5 * (products + products.T) / (shape[0] * shape[1])
