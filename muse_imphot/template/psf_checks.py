# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What a PSF image and its options must be like.
"""

import numpy as np
from astropy import units as u

from ..exceptions import UserError

__all__ = ["checked_image", "checked_position", "positive", "turning_matrix"]

_MIN_SIZE = 5


def checked_image(data):
    """Return a PSF image as an array of float, or raise UserError."""
    if isinstance(data, np.ma.MaskedArray):
        data = data.astype(float).filled(np.nan)
    try:
        data = np.array(data, dtype=float)
    except (TypeError, ValueError):
        raise UserError("HST PSF: it is no array of numbers; an image is needed") from None
    if data.ndim != 2:
        raise UserError(f"HST PSF: it has {data.ndim} axes, shape {data.shape}; an image is needed")
    if min(data.shape) < _MIN_SIZE:
        raise UserError(
            f"HST PSF: an image of {data.shape[1]} x {data.shape[0]} pixels is too small for a PSF"
        )
    bad = np.count_nonzero(~np.isfinite(data))
    if bad:
        raise UserError(
            f"HST PSF: {bad} pixels of the image are masked or not finite; all must have values"
        )
    if not data.sum() > 0:
        raise UserError(
            f"HST PSF: the sum of the image is {data.sum():g}; a positive flux is needed (has too "
            "much background been subtracted?)"
        )
    return data


def positive(name, value, what, unit=u.dimensionless_unscaled, *, zero=False, largest=np.inf):
    """Return a number that is positive, and finite, from one or a quantity; or raise UserError."""
    try:
        number = float(value.to_value(unit)) if isinstance(value, u.Quantity) else float(value)
    except (TypeError, ValueError, u.UnitConversionError):
        number = np.nan
    if not ((0 <= number if zero else 0 < number) and number <= largest and np.isfinite(number)):
        low = "a number not below 0" if zero else "a positive number"
        high = f", up to {largest:g}" if np.isfinite(largest) else ""
        raise UserError(f"HST PSF: {name} is {value}; {low}{high} ({what}) is needed")
    return number


def checked_position(centre, shape):
    """Return a position (x, y) within an image, or raise UserError."""
    try:
        x, y = (float(v) for v in centre)
    except (TypeError, ValueError):
        raise UserError(f"HST PSF: the centre is {centre}; (x, y) in pixels is needed") from None
    ny, nx = shape
    if not (0 <= x <= nx - 1 and 0 <= y <= ny - 1):
        raise UserError(
            f"HST PSF: the centre ({x:.1f}, {y:.1f}) is not within the image of {nx} x {ny} pixels"
        )
    return x, y


def turning_matrix(rotation):
    """Return a matrix from an angle in degrees or a matrix."""
    try:
        matrix = np.array(rotation, dtype=float)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.ndim == 0 and np.isfinite(matrix):
        cosine, sine = np.cos(np.radians(matrix)), np.sin(np.radians(matrix))
        return np.array([[cosine, -sine], [sine, cosine]])
    finite = matrix.shape == (2, 2) and np.isfinite(matrix).all()
    if not (finite and abs(np.linalg.det(matrix)) > 0.01):
        raise UserError(
            f"HST PSF: the rotation is {rotation}; an angle in degrees, or a matrix of 2 x 2 that "
            "is not singular, is needed"
        )
    return matrix
