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
    "gradient_covariance",
    "measure_noise",
    "median",
    "robust_scatter",
    "sandwich_covariance",
    "split_noise",
    "weighted_products",
]


# Numbers that are summed at a time: few enough for the cache.
_BLOCK = 16384

# Part of the noise of the image below which that of the template is not treated apart.
_NEGLIGIBLE = 0.02

# Where the noise of the template explains all of the residual, so much is still left to MUSE.
_LEAST_LEFT = 0.01

# The square of the noise of the template takes at most this part of the variance of a gradient
# away.
_MOST_TAKEN = -0.9


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

    @property
    def reach(self):
        """Largest lag along an axis (pixels)."""
        return self.correlation.shape[0] // 2

    def without(self, covariance):
        """
        What is left of the noise when a known part is taken away.

        Parameters
        ----------
        covariance : 2D `~numpy.ndarray`
            Covariance of that part at the lags of ``correlation``.

        Returns
        -------
        noise : `NoiseModel`
            Of at least a hundredth of the variance.
        """
        left = self.variance * self.correlation - np.where(self.correlation, covariance, 0.0)
        variance = max(left[self.reach, self.reach], _LEAST_LEFT * self.variance)
        correlation = np.clip(left / max(variance, 1e-300), -1.0, 1.0)
        correlation[self.reach, self.reach] = 1.0
        return NoiseModel(float(variance), correlation)

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
        lags = np.arange(-self.reach, self.reach + 1)
        # Few lags: the transform is two small products of matrices.
        along_y, along_x = (_waves(n, lags, half) for n, half in zip(shape, (False, True)))
        power = (along_y @ self.correlation @ along_x.T).real
        return self.variance * np.maximum(power, 0.0)


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
    values = np.ravel(values)
    return float(1.482602 * median(np.abs(values - median(values))))


def median(values):
    """
    The upper one of the two medians, several times faster than `numpy.median`.

    Parameters
    ----------
    values : 1D `~numpy.ndarray`
        At least one number, no NaN.

    Returns
    -------
    median : float
    """
    middle = len(values) // 2
    return np.partition(values, middle)[middle]


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
    lags = np.arange(-reach, reach + 1)
    products = _autocorrelation(np.where(used, residual, 0.0), shape, lags)
    if n_used == used.size:
        counts = np.outer(*(n - np.abs(lags) for n in used.shape))
    else:
        counts = np.rint(_autocorrelation(used.astype(float), shape, lags))
    covariance = products / np.maximum(counts, 1.0)
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


def _autocorrelation(image, shape, lags):
    """Return the sums of products of an image with itself at some lags."""
    power = fft.rfft2(image, s=shape)
    power = (power.real**2 + power.imag**2) * _multiplicity(shape)
    # A few lags only: two small products of matrices in place of an inverse transform.
    along_y, along_x = (_waves(n, lags, half) for n, half in zip(shape, (False, True)))
    return (along_y.T @ power @ along_x).real / (shape[0] * shape[1])


def _waves(n, lags, half):
    """Return the waves of a transform of length ``n`` at some lags, one row per frequency."""
    frequency = np.arange(n // 2 + 1 if half else n)
    return np.exp((-2j * np.pi / n) * np.outer(frequency, lags))


def _multiplicity(shape):
    """Return how many halves of the plane each column of a real transform stands for."""
    multiplicity = np.full(shape[1] // 2 + 1, 2.0)
    multiplicity[0] = 1.0
    if shape[1] % 2 == 0:
        multiplicity[-1] = 1.0
    return multiplicity


def sandwich_covariance(derivatives, sigma, used, inverse, noise, template=None):
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
        The noise of the residual.
    template : `~muse_imphot.fitting.template_noise.SeenTemplateNoise`, optional
        The part of it that comes from the template.

    Returns
    -------
    covariance : 2D `~numpy.ndarray`
        ``A^-1 B A^-1`` with ``B = J' W C W J``, C being the covariance of the noise; with noise of
        the template B has one more term, see
        `~muse_imphot.fitting.template_noise.SeenTemplateNoise`.
    """
    return inverse @ gradient_covariance(derivatives, sigma, used, noise, template) @ inverse


def gradient_covariance(derivatives, sigma, used, noise, template=None):
    """
    The covariance of the gradient of weighted least squares.

    Parameters
    ----------
    derivatives, sigma, used, noise, template
        As for `sandwich_covariance`.

    Returns
    -------
    covariance : 2D `~numpy.ndarray`
        ``B = J' W C W J``.
    """
    weight = np.where(used, 1.0 / sigma, 0.0)
    own, seen = split_noise(noise, template, weight, used)
    covariance = weighted_products(derivatives, own, weight)
    if seen is not None:
        covariance += weighted_products(derivatives, seen, weight**2)
        covariance += _bounded(seen.quadratic, covariance)
    return covariance


def _bounded(change, matrix):
    """
    Return a change to a positive definite matrix that leaves some of it in every direction.

    What is expected on the average leaves enough, but noise that was measured elsewhere in the
    template may be more than the residual has.
    """
    scale = np.sqrt(np.maximum(np.diag(matrix), np.finfo(float).tiny))
    outer = np.outer(scale, scale)
    try:
        root = np.linalg.cholesky(matrix / outer + 1e-9 * np.eye(len(scale)))
    except np.linalg.LinAlgError:
        return np.zeros_like(change)
    half = np.linalg.solve(root, change / outer)
    values, vectors = np.linalg.eigh(np.linalg.solve(root, half.T))
    if values[0] >= _MOST_TAKEN:
        return change
    sides = root @ vectors
    return (sides * np.maximum(values, _MOST_TAKEN)) @ sides.T * outer


def split_noise(noise, template, weight, used):
    """
    Tell the noise of an image from that of the template.

    Parameters
    ----------
    noise : `NoiseModel`
        Both together, as the residual has them.
    template : `~muse_imphot.fitting.template_noise.SeenTemplateNoise` or None
        That of the template.
    weight : 2D `~numpy.ndarray`
        One over the standard deviation of each pixel, zero where it is not used.
    used : 2D bool `~numpy.ndarray`
        The pixels in use.

    Returns
    -------
    noise : `NoiseModel`
        The noise of the image; that of both if the template adds nothing to speak of.
    template : `~muse_imphot.fitting.template_noise.SeenTemplateNoise` or None
        None if it adds nothing to speak of.
    """
    if template is None:
        return noise, None
    square = np.vdot(weight, weight) / np.count_nonzero(used)
    lags = np.arange(-noise.reach, noise.reach + 1)
    # What counts are the slow fluctuations, to which many pixels add up.
    if square * template.level < _NEGLIGIBLE * noise.variance * noise.correlation.sum():
        return noise, None
    return noise.without(square * template.covariance(lags)), template


def weighted_products(images, noise, weight=1.0):
    """
    Products of images with each other through the covariance of the noise.

    Parameters
    ----------
    images : 3D `~numpy.ndarray`
        The images, (n, ny, nx).
    noise : `NoiseModel`
        The noise, or anything else with a ``reach`` and a ``power``.
    weight : 2D `~numpy.ndarray`, optional
        What the images are multiplied with, such as one over the standard deviation of a pixel;
        zero where a pixel is not used.

    Returns
    -------
    products : 2D `~numpy.ndarray`
        ``sum_xy a_i(x) C(x - y) a_j(y)`` of the weighted images ``a_i``, shape (n, n); good to
        some 1e-6.
    """
    shape = [fft.next_fast_len(n + noise.reach, real=True) for n in images.shape[1:]]
    root = np.sqrt(noise.power(shape) * _multiplicity(shape)).astype(np.float32)
    # Half the digits are enough for errors; the images are scaled to stay within them.
    waves = np.empty((len(images), *root.shape), dtype=np.complex64)
    sizes = np.empty(len(images))
    for i, image in enumerate(images):
        weighted = image * weight
        sizes[i] = np.sqrt(np.vdot(weighted, weighted)) or 1.0
        weighted = np.multiply(weighted, 1.0 / sizes[i], dtype=np.float32, casting="same_kind")
        np.multiply(fft.rfft2(weighted, s=shape), root, out=waves[i])
    waves = waves.reshape(len(images), -1).view(np.float32)
    products = np.zeros((len(images),) * 2)
    for start in range(0, waves.shape[1], _BLOCK):
        # Sums in double precision keep the products positive definite.
        part = waves[:, start : start + _BLOCK].astype(float)
        products += part @ part.T
    return products * np.outer(sizes, sizes) / (shape[0] * shape[1])
