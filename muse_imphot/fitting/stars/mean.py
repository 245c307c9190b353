# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What several stars say together: flux scale, background and offset, and which stars disagree.
"""

from dataclasses import dataclass

import numpy as np
from scipy import special

from ..noise import robust_scatter

__all__ = ["Quantity", "deviant", "mean_weights"]

# A scatter that chance alone makes this rarely shows that the errors are too small.
_CHANCE = 0.01

# Stars that differ from the median by so many standard deviations are left out, if there are at
# least so many stars.
_DEVIATION, _LEAST_STARS = 5.0, 3


@dataclass
class Quantity:
    """
    A quantity that each star gives, to first order in the parameters of the fits.

    Attributes
    ----------
    values : 1D `~numpy.ndarray`
        One value per star.
    slopes : tuple of 2D `~numpy.ndarray`
        Derivatives in the parameters of the fit of the MUSE image, and of the HST image; one row
        per star.
    covariances : tuple of 2D `~numpy.ndarray`
        Covariances of these parameters.
    """

    values: np.ndarray
    slopes: tuple
    covariances: tuple

    @property
    def errors(self):
        """Standard deviation of each value."""
        variance = sum(
            np.einsum("ij,jk,ik->i", slope, covariance, slope)
            for slope, covariance in zip(self.slopes, self.covariances)
        )
        return np.sqrt(np.maximum(variance, 0.0))


def mean_weights(quantity, used):
    """
    Return the weights of stars in a mean.

    Parameters
    ----------
    quantity : `Quantity`
        The values with their errors.
    used : 1D bool `~numpy.ndarray`
        The stars to take; at least one.

    Returns
    -------
    weights : 1D `~numpy.ndarray`
        Inverse variances, of sum 1; zero for the others.
    inflation : float
        Factor of the error of the mean: above 1 if the stars scatter more than their errors
        explain.
    """
    errors = np.where(used, quantity.errors, 1.0)
    # Without noise all stars are perfect.
    weights = np.where(used, 1.0 / np.maximum(errors, 1e-12 + 1e-9 * errors.max()) ** 2, 0.0)
    weights /= weights.sum()
    count = np.count_nonzero(used)
    if count < 2:
        return weights, 1.0
    mean = weights @ np.where(used, quantity.values, 0.0)
    chi2 = np.sum(((quantity.values - mean)[used] / np.maximum(errors[used], 1e-300)) ** 2)
    unlikely = special.chdtrc(count - 1, chi2) < _CHANCE
    return weights, float(np.sqrt(chi2 / (count - 1))) if unlikely else 1.0


def deviant(values, errors, used, floor):
    """
    Find stars that differ from the others.

    Parameters
    ----------
    values, errors : 1D `~numpy.ndarray`
        One value per star.
    used : 1D bool `~numpy.ndarray`
        The stars to compare.
    floor : float
        Differences of this size (one standard deviation) are normal.

    Returns
    -------
    found : 1D bool `~numpy.ndarray`
    """
    used = used & np.isfinite(values) & np.isfinite(errors)
    found = np.zeros(values.shape, dtype=bool)
    if np.count_nonzero(used) < _LEAST_STARS:
        return found
    difference = values - np.median(values[used])
    scatter = max(robust_scatter(values[used]), floor)
    found[used] = np.abs(difference[used]) > _DEVIATION * np.hypot(errors[used], scatter)
    # The majority is right.
    if np.count_nonzero(found) > 0.5 * np.count_nonzero(used):
        found[:] = False
    return found
