# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Move the content of an image by a part of a pixel, without blur.

The move is by Fourier transform. Interpolation by splines would smooth the noise (order 5, half a
pixel: by 16 %) and make the variance wrong.
"""

import numpy as np
from scipy import fft, ndimage

from .exceptions import GeometryError

__all__ = ["move_image"]

# A pixel is bad when bad ones around it, or what lies beyond an edge, have more than this part in
# the square of its weights: that is the part of its noise that would be theirs.
_BAD_PART = 0.04

# Beyond so many pixels, the weights are of no account.
_FAR = 50

# Steps of the relaxation that fills bad pixels: enough for holes some ten pixels wide. The middle
# of larger ones does not matter.
_RELAXATION = 60
_NEIGHBOURS = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]) / 4


def move_image(data, mask, uncertainty, shift):
    """
    Move the content of an image by minus a shift.

    Bad pixels are filled smoothly from their surroundings first, because a step would ring. What
    depends on them, or on what lies outside, is bad afterwards.

    Parameters
    ----------
    data : 2D `~numpy.ndarray`
        The image, shape (ny, nx).
    mask : 2D `~numpy.ndarray` of bool or `None`
        True where a pixel is bad. What is not finite is bad too.
    uncertainty : `~astropy.nddata.NDUncertainty` or `None`
        The uncertainty; its array is replaced by the moved one.
    shift : tuple of float
        The shift (dx, dy) in pixels: the new image at x is the old one at ``x + dx``.

    Returns
    -------
    data, mask, uncertainty
        The moved ones; 0 where the mask is True.

    Raises
    ------
    `~muse_imphot.exceptions.GeometryError`
        If all pixels are bad.
    """
    bad = ~np.isfinite(data) | (False if mask is None else mask)
    if bad.all():
        raise GeometryError("all pixels of the image are masked; there is nothing to resample.")
    filled = _fill(data, bad)
    for axis, amount in ((1, shift[0]), (0, shift[1])):
        filled = _shift_axis(filled, amount, axis)
    offset = (-shift[1], -shift[0])
    bad = _dependence(bad, shift) > _BAD_PART
    if uncertainty is not None:
        # The move keeps the noise white, so the variance only changes its place.
        uncertainty.array = ndimage.shift(
            np.asarray(uncertainty.array, dtype=float), offset, order=1, mode="nearest"
        )
    return np.where(bad, 0.0, filled), bad, uncertainty


def _fill(data, bad):
    """Return an image whose bad pixels continue the good ones without a step or a kink."""
    if not bad.any():
        return data
    nearest = ndimage.distance_transform_edt(bad, return_distances=False, return_indices=True)
    filled = data[tuple(nearest)]
    for _ in range(_RELAXATION):
        # The mean over the neighbours, again and again, leads to the solution of Laplace's
        # equation.
        mean = ndimage.convolve(filled, _NEIGHBOURS, mode="nearest")
        filled = np.where(bad, mean, filled)
    return filled


def _dependence(bad, shift):
    """Return the part of the squared weights of each moved pixel that is of unknown ones."""
    part = ~bad * 1.0
    for axis, amount in ((1, shift[0]), (0, shift[1])):
        far = round(abs(amount)) + _FAR
        weights = np.sinc(np.arange(-far, far + 1) + amount) ** 2
        part = ndimage.convolve1d(part, weights / weights.sum(), axis=axis, mode="constant")
    return 1.0 - part


def _shift_axis(data, shift, axis):
    """Return ``data(x + shift)`` along an axis, by the Fourier transform of its even extension."""
    size = data.shape[axis]
    # The even extension has no step at the edge, which would ring.
    spectrum = fft.rfft(np.concatenate([data, np.flip(data, axis)], axis=axis), axis=axis)
    phase = np.exp(2j * np.pi * fft.rfftfreq(2 * size) * shift)
    phase[-1] = phase[-1].real  # the Nyquist frequency has no phase in a real image
    spectrum *= phase.reshape([-1 if i == axis else 1 for i in range(data.ndim)])
    return fft.irfft(spectrum, n=2 * size, axis=axis).take(range(size), axis=axis)
