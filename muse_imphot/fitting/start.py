# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Where the fit starts: the offset between two images, from their masked cross-correlation.
"""

from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

__all__ = ["OffsetGuess", "bin_pairs", "correlate_masked", "guess_offset"]

# A shift for which fewer than this fraction of the pixels of the best overlap take part is not
# considered: a few pixels correlate with anything.
_MIN_OVERLAP = 0.3

# Peaks that stand out by this much are beyond doubt; for others, mirrored templates tell how high a
# chance match can be.
_SURE = 14.0


@dataclass(frozen=True)
class OffsetGuess:
    """
    An offset in whole pixels.

    Attributes
    ----------
    shift : tuple of int
        Movement of the template along y and x (pixels).
    correlation : float
        Correlation coefficient there.
    significance : float
        Height of the peak above all the other shifts, in units of their scatter (after Fisher's
        transformation of the coefficients).
    rival : float
        Correlation coefficient of the highest peak elsewhere, or of a mirrored template.
    position : tuple of float
        The movement along y and x, with a fraction of a pixel from the shape of the peak.
    """

    shift: tuple
    correlation: float
    significance: float
    rival: float
    position: tuple = None


def correlate_masked(image, good, template, known, max_shift):
    """
    The correlation coefficient of an image and a template for every whole-pixel shift.

    Parameters
    ----------
    image : 2D `~numpy.ndarray`
        Shape (ny, nx).
    good : 2D bool `~numpy.ndarray`
        Its usable pixels.
    template : 2D `~numpy.ndarray`
        Shape (ny + 2 m, nx + 2 m): it extends beyond the image by m pixels on every side.
    known : 2D bool `~numpy.ndarray`
        Its usable pixels.
    max_shift : int
        Largest shift wanted; at most m.

    Returns
    -------
    coefficient : 2D `~numpy.ndarray`
        Shape (2 max_shift + 1, 2 max_shift + 1); element (i, j) is for a movement of the template
        by (i - max_shift, j - max_shift) pixels. NaN where too few pixels overlap.

    Notes
    -----
    Only pixels that are usable in both images count, with their own mean and variance at every
    shift, following Padfield (2012, IEEE Trans. Image Processing 21, 2706).
    """
    shape = [fft.next_fast_len(n, real=True) for n in template.shape]
    # Means are taken out first, which keeps the sums of squares free of cancellation.
    a = np.where(good, image - image[good].mean(), 0.0)
    b = np.where(known, template - template[known].mean(), 0.0)

    def transform(array):
        return fft.rfft2(array, s=shape)

    fa, fa2, fg = transform(a), transform(a * a), transform(good.astype(float))
    fb, fb2, fk = transform(b), transform(b * b), transform(known.astype(float))
    pairs = ((fg, fk), (fa, fk), (fa2, fk), (fg, fb), (fg, fb2), (fa, fb))
    margin = (template.shape[0] - image.shape[0]) // 2
    # Movement by +s means that image pixel x meets template pixel x + margin - s.
    index = margin - np.arange(-max_shift, max_shift + 1)
    n, sa, saa, sb, sbb, sab = (
        fft.irfft2(np.conj(one) * other, s=shape)[np.ix_(index, index)] for one, other in pairs
    )
    n = np.maximum(np.rint(n), 1.0)
    var_a, var_b = saa - sa**2 / n, sbb - sb**2 / n
    # Where one of them is constant the rounding of the transforms is all that is left.
    usable = (var_a > 1e-10 * var_a.max()) & (var_b > 1e-10 * var_b.max())
    usable &= n >= max(_MIN_OVERLAP * n.max(), 9)
    coefficient = np.full(n.shape, np.nan)
    covariance = sab - sa * sb / n
    coefficient[usable] = covariance[usable] / np.sqrt(var_a[usable] * var_b[usable])
    return coefficient


def guess_offset(image, good, template, known, *, max_shift, noise=None, centre=(0, 0)):
    """
    Find the movement of the template that makes it look most like the image.

    Parameters
    ----------
    image, good, template, known, max_shift
        As for `correlate_masked`. The template should have the resolution of the image.
    noise : float, optional
        Standard deviation of the noise of a pixel of the image.
    centre : tuple of int, optional
        Shift along y and x about which to search.

    Returns
    -------
    guess : `OffsetGuess` or None
        None when no shift can be compared at all.
    """
    image = _compress(image, good, noise)
    template = _compress(template, known, None)
    if centre != (0, 0):
        template = np.roll(template, centre, axis=(0, 1))
        known = np.roll(known, centre, axis=(0, 1))
    # Shifts beyond those wanted tell what chance does.
    reach = min((t - i) // 2 for t, i in zip(template.shape, image.shape))
    coefficient = correlate_masked(image, good, template, known, reach)
    wanted = np.full(coefficient.shape, np.nan)
    inner = slice(reach - max_shift, reach + max_shift + 1)
    wanted[inner, inner] = coefficient[inner, inner]
    if not np.any(np.isfinite(wanted)):
        return None
    peak = np.unravel_index(np.nanargmax(wanted), wanted.shape)
    best = float(coefficient[peak])
    away = np.isfinite(coefficient) & ~_hill(coefficient, peak)
    others = coefficient[away]
    if others.size < 10:
        significance, rival = np.inf, np.nan
    else:
        z = np.arctanh(np.clip(others, -0.999999, 0.999999))
        scatter = 1.4826 * np.median(np.abs(z - np.median(z)))
        top = np.arctanh(min(best, 0.999999))
        significance = float((top - np.median(z)) / max(scatter, 1e-12))
        rival = float(others.max())
    if significance < _SURE:
        rival = np.nanmax([rival, _by_chance(image, good, template, known, reach)])
    exact = [
        at + _vertex(np.take(coefficient, peak[1 - axis], axis=1 - axis), at) - reach + start
        for axis, (at, start) in enumerate(zip(peak, centre))
    ]
    shift = (int(peak[0]) - reach + centre[0], int(peak[1]) - reach + centre[1])
    return OffsetGuess(shift, best, significance, rival, tuple(map(float, exact)))


def _vertex(values, at):
    """Return how far from a peak the parabola through it and its neighbours is highest."""
    if not 0 < at < len(values) - 1:
        return 0.0
    before, here, after = values[at - 1 : at + 2]
    bend = before - 2.0 * here + after
    if not (np.isfinite(bend) and bend < 0):
        return 0.0
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5))


def bin_pairs(image, good):
    """
    Average blocks of two by two pixels.

    Parameters
    ----------
    image : 2D `~numpy.ndarray`
        The image; an odd last row or column is left out.
    good : 2D bool `~numpy.ndarray`
        Its usable pixels.

    Returns
    -------
    image, good : 2D `~numpy.ndarray`
        The means of the usable pixels, and the blocks that have any.
    """
    ny, nx = (n // 2 for n in image.shape)
    blocks = np.where(good, image, 0.0)[: 2 * ny, : 2 * nx].reshape(ny, 2, nx, 2)
    count = good[: 2 * ny, : 2 * nx].reshape(ny, 2, nx, 2).sum(axis=(1, 3))
    return blocks.sum(axis=(1, 3)) / np.maximum(count, 1), count > 0


def _by_chance(image, good, template, known, reach):
    """Return the highest correlation with mirrored templates, which show another sky."""
    mirrored = [
        correlate_masked(image, good, template[flip], known[flip], reach)
        for flip in (np.s_[::-1], np.s_[:, ::-1], np.s_[::-1, ::-1])
    ]
    return float(np.nanmax(mirrored)) if np.any(np.isfinite(mirrored)) else np.nan


def _compress(image, good, noise):
    """
    Return an image in which bright sources count little more than faint ones.

    Without this, one bright star, which may have moved, would decide the offset alone.
    """
    values = image[good]
    centre = np.median(values)
    scatter = noise or 1.4826 * np.median(np.abs(values - centre))
    if not scatter > 0:
        scatter = np.std(values) or 1.0
    return np.arcsinh(np.where(good, image - centre, 0.0) / (3.0 * scatter))


def _hill(coefficient, peak):
    """Return the region around a peak that belongs to it: above half its height, connected."""
    height = coefficient[peak]
    middle = np.nanmedian(coefficient)
    above = np.nan_to_num(coefficient, nan=-1.0) > middle + 0.5 * (height - middle)
    labels, _ = ndimage.label(above)
    hill = labels == labels[peak]
    return ndimage.binary_dilation(hill, iterations=2)
