# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Where the fit starts: the offset between two images, from their masked cross-correlation.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import fft, ndimage

from .noise import median, robust_scatter

__all__ = ["OffsetGuess", "correlate_masked", "guess_offset", "search_offset"]

# A shift for which fewer than this fraction of the pixels of the best overlap take part is not
# considered: a few pixels correlate with anything.
_MIN_OVERLAP = 0.3

# Peaks that stand out by this much are beyond doubt; for others, mirrored images tell how high a
# chance match can be.
_SURE = 14.0

# Images of at least so many pixels a side are searched for the offset at half their resolution.
_LARGE = 160

# Width to which the template is blurred, about that of the PSF of an image (pixels).
_BLUR = 1.5


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
        Correlation coefficient of the highest peak elsewhere, or of a mirrored image.
    position : tuple of float
        The movement along y and x, with a fraction of a pixel from the shape of the peak.
    trials : int
        Number of whole-pixel shifts among which this one was chosen.
    """

    shift: tuple
    correlation: float
    significance: float
    rival: float
    position: tuple = None
    trials: int = 1


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
    correlation = _MaskedCorrelation(image, good, template, known, single=False)
    return correlation.coefficient(max_shift)


class _MaskedCorrelation:
    """
    The spectra of an image and a template of which only some pixels are usable.

    Parameters
    ----------
    image, good, template, known
        As for `correlate_masked`.
    single : bool
        Whether to work in single precision, in half the time.
    """

    def __init__(self, image, good, template, known, single):
        self._size, self._dtype = image.shape, np.dtype(np.float32 if single else float)
        self._shape = [fft.next_fast_len(n, real=True) for n in template.shape]
        self._margin = (template.shape[0] - image.shape[0]) // 2
        # Means are taken out first, which keeps the sums of squares free of cancellation.
        a = np.where(good, image - image[good].mean(), 0.0)
        b = np.where(known, template - template[known].mean(), 0.0)
        self._image, self._good = self._transform(a), self._transform(good)
        self._template, self._square = self._transform(b), self._transform(b * b)
        # None where the image never leaves the template, whose pixels all count.
        self._known = None
        if known.all():
            self._n_good, self._sum_square = np.float64(np.count_nonzero(good)), np.vdot(a, a)
        else:
            self._known = self._transform(known)
            self._image_square = self._transform(a * a)

    def _transform(self, image):
        return fft.rfft2(image.astype(self._dtype, copy=False), s=self._shape)

    def coefficient(self, max_shift, mirrored=(False, False)):
        """
        The correlation coefficient for every whole-pixel shift.

        Parameters
        ----------
        max_shift : int
            Largest shift wanted.
        mirrored : tuple of bool, optional
            Whether to turn the image round along y and along x before.

        Returns
        -------
        coefficient : 2D `~numpy.ndarray`
            As from `correlate_masked`.
        """
        # Movement by +s means that image pixel x meets template pixel x + margin - s. To take
        # the frequencies of a transform the other way round mirrors its image about pixel zero.
        wanted = [
            self._margin - np.arange(-max_shift, max_shift + 1) + (n - 1 if flip else 0)
            for n, flip in zip(self._size, mirrored)
        ]

        def correlate(one, other):
            product = _mirrored(np.conj(one), mirrored) * other
            return self._inverse(product, wanted).astype(float, copy=False)

        fa, fg = self._image, self._good
        sab, sb = correlate(fa, self._template), correlate(fg, self._template)
        sbb = correlate(fg, self._square)
        if self._known is None:
            n, sa, saa = self._n_good, 0.0, self._sum_square
        else:
            n = np.maximum(np.rint(correlate(fg, self._known)), 1.0)
            sa, saa = correlate(fa, self._known), correlate(self._image_square, self._known)
        n, sa, saa = np.broadcast_arrays(n, sa, saa, sab)[:3]
        var_a, var_b = saa - sa**2 / n, sbb - sb**2 / n
        # Where one of them is constant the rounding of the transforms is all that is left.
        least = 100.0 * np.finfo(self._dtype).eps
        usable = (var_a > least * var_a.max()) & (var_b > least * var_b.max())
        usable &= n >= max(_MIN_OVERLAP * n.max(), 9)
        coefficient = np.full(n.shape, np.nan)
        covariance = sab - sa * sb / n
        coefficient[usable] = covariance[usable] / np.sqrt(var_a[usable] * var_b[usable])
        return coefficient

    def _inverse(self, spectrum, wanted):
        """Return some rows and columns of the image of a spectrum, which is spoilt."""
        # Axis by axis, so that rows that are not wanted need no second transform.
        rows, columns = (np.mod(index, n) for index, n in zip(wanted, self._shape))
        halfway = fft.ifft(spectrum, axis=0, overwrite_x=True)[rows]
        return fft.irfft(halfway, n=self._shape[1], axis=1)[:, columns]


def _mirrored(spectrum, axes):
    """Return the conjugate transform of an image that is mirrored about pixel zero."""
    along_y, along_x = axes
    if along_y != along_x:
        # Along y all frequencies are there, and change places.
        spectrum = np.roll(spectrum[::-1], 1, axis=0)
    # Along x the other half of the plane is the conjugate of this one.
    return np.conj(spectrum) if along_x else spectrum


def guess_offset(image, good, template, known, *, max_shift):
    """
    Find the movement of the template that makes it look most like the image.

    Parameters
    ----------
    image, good, template, known, max_shift
        As for `correlate_masked`. The template should have the resolution of the image.

    Returns
    -------
    guess : `OffsetGuess` or None
        None when no shift can be compared at all.
    """
    if not (good.any() and known.any()):
        return None
    image, template = _compress(image, good), _compress(template, known)
    # Shifts beyond those wanted tell what chance does.
    reach = min((t - i) // 2 for t, i in zip(template.shape, image.shape))
    correlation = _MaskedCorrelation(image, good, template, known, single=True)
    coefficient = correlation.coefficient(reach)
    max_shift = min(max_shift, reach)
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
        rival = np.nanmax([rival, _by_chance(correlation, reach)])
    exact = [
        float(at + _vertex(np.take(coefficient, peak[1 - axis], axis=1 - axis), at) - reach)
        for axis, at in enumerate(peak)
    ]
    shift = tuple(int(at) - reach for at in peak)
    trials = int(np.count_nonzero(np.isfinite(wanted)))
    return OffsetGuess(shift, best, significance, rival, tuple(exact), trials)


def _vertex(values, at):
    """Return how far from a peak the parabola through it and its neighbours is highest."""
    if not 0 < at < len(values) - 1:
        return 0.0
    before, here, after = values[at - 1 : at + 2]
    bend = before - 2.0 * here + after
    if not (np.isfinite(bend) and bend < 0):
        return 0.0
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5))


def search_offset(data, good, template, known, *, oversample, max_shift):
    """
    Find the offset of an image from a template with pixels of its own.

    Parameters
    ----------
    data : 2D `~numpy.ndarray`
        The image.
    good : 2D bool `~numpy.ndarray`
        Its usable pixels.
    template : 2D `~numpy.ndarray`
        The template, larger than the image by the same margin on all sides.
    known : 2D bool `~numpy.ndarray`
        Its usable parts, in pixels of the image.
    oversample : int
        How many times finer than the image ``template`` is.
    max_shift : int
        Largest shift wanted (pixels of the image).

    Returns
    -------
    guess : `OffsetGuess` or None
        None when no shift can be compared at all. Large images are compared at half their
        resolution.
    """
    if min(data.shape) < _LARGE:
        blurred = _blurred(template, oversample, _BLUR)
        return guess_offset(data, good, blurred, known, max_shift=max_shift)
    # The margin of the template has to be even, so that the pairs of pixels correspond.
    odd = (known.shape[0] - data.shape[0]) // 2 % 2
    parts = [slice(odd, n - odd - size % 2) for n, size in zip(known.shape, data.shape)]
    fine = tuple(slice(p.start * oversample, p.stop * oversample) for p in parts)
    blurred = _blurred(template[fine], 2 * oversample, 0.5 * _BLUR)
    known = _add_blocks(known[tuple(parts)].astype(float), 2) == 4.0
    count = _add_blocks(good.astype(float), 2)
    mean = _add_blocks(np.where(good, data, 0.0), 2) / np.maximum(count, 1.0)
    binned = guess_offset(mean, count > 0, blurred, known, max_shift=-(-max_shift // 2))
    if binned is None:
        return None
    position = tuple(2.0 * p for p in binned.position)
    shift = tuple(round(p) for p in position)
    return replace(binned, shift=shift, position=position, trials=4 * binned.trials)


def _blurred(template, size, width):
    """Return the means over square blocks of a template, blurred by some of these blocks."""
    return ndimage.gaussian_filter(_add_blocks(template, size) / size**2, width)


def _add_blocks(image, size):
    """Return the sums over square blocks; what is left at the ends of the axes is left out."""
    ny, nx = (size * (n // size) for n in image.shape)
    # Slice by slice: several times faster than a sum over the axes of a reshaped array.
    rows = sum(image[start:ny:size, :nx] for start in range(size))
    return sum(rows[:, start::size] for start in range(size))


def _by_chance(correlation, reach):
    """Return the highest correlation of mirrored images, which show another sky."""
    mirrored = [
        correlation.coefficient(reach, flip)
        for flip in ((True, False), (False, True), (True, True))
    ]
    return float(np.nanmax(mirrored)) if np.any(np.isfinite(mirrored)) else np.nan


def _compress(image, good):
    """
    Return an image in which bright sources count little more than faint ones.

    Without this, one bright star, which may have moved, would decide the offset alone.
    """
    values = image[good]
    centre = median(values)
    scatter = robust_scatter(values) or np.std(values) or 1.0
    return np.arcsinh(np.where(good, image - centre, 0.0) / (3.0 * scatter))


def _hill(coefficient, peak):
    """Return the region around a peak that belongs to it: above half its height, connected."""
    height = coefficient[peak]
    middle = np.nanmedian(coefficient)
    above = np.nan_to_num(coefficient, nan=-1.0) > middle + 0.5 * (height - middle)
    labels, _ = ndimage.label(above)
    hill = labels == labels[peak]
    return ndimage.binary_dilation(hill, iterations=2)
