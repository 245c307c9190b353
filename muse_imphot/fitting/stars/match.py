# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Whether two images show the same star: a test by what is around it.

A single star tells the offset between two images only if it is the same source in both. What is
around it must then be the same as well. Where the images look as much alike, or more, with another
offset, the star may have been taken for another source.
"""

from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

from ..start import correlate_masked

__all__ = ["Surroundings", "rebin_light", "rival_offset"]

# Sources count for no more than so many times the star, so that none of them decides alone.
_BRIGHTEST = 1.5

# What varies over so many times the FWHM is background.
_SMOOTH = 1.0

# Another offset is a rival if its correlation (after Fisher's transformation, for the number of
# pixels that it rests on) is this part of that of the fit. Of 714 simulated stars that were the
# right ones, pointing offsets up to 2 arcsec, two were doubted, both with a signal-to-noise ratio
# below 10; of 35 other sources 31, and three of the rest were at the edge of the MUSE field.
_RIVAL = 0.7

# The fit and the top of its hill may be so far apart (pixels).
_SAME = 1.2

# Noise-free images correlate perfectly.
_PERFECT = 0.9999


@dataclass
class Surroundings:
    """
    A star and what is around it, on MUSE pixels.

    Attributes
    ----------
    light : 2D `~numpy.ndarray`
        The image; the star is at the centre of the middle pixel, or near it.
    known : 2D bool `~numpy.ndarray`
        Its usable pixels.
    height : float, optional
        The height of the star in it, above the background.
    """

    light: np.ndarray
    known: np.ndarray
    height: float = None


def rebin_light(data, good, place, shape):
    """
    Add up the light of an image in the pixels of another one.

    Parameters
    ----------
    data : 2D `~numpy.ndarray`
        The image, without its background.
    good : 2D bool `~numpy.ndarray`
        Its usable pixels.
    place : tuple of 2D `~numpy.ndarray`
        Where the centres of its pixels are among the others (y, x).
    shape : tuple of int
        Shape of the other image.

    Returns
    -------
    light : 2D `~numpy.ndarray`
        The sums.
    known : 2D bool `~numpy.ndarray`
        Pixels in which there is a usable pixel of the image, or beside them.
    """
    row, column = (np.rint(at).astype(int) for at in place)
    inside = good & (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
    index = row[inside] * shape[1] + column[inside]
    size = shape[0] * shape[1]
    light = np.bincount(index, data[inside], size).reshape(shape)
    count = np.bincount(index, minlength=size).reshape(shape)
    return light, ndimage.binary_closing(np.pad(count > 0, 2))[2:-2, 2:-2]


def rival_offset(muse, hst, psf, *, fwhm, allowed):
    """
    Look for another offset at which two images of a star are as much alike as at the fitted one.

    Parameters
    ----------
    muse, hst : `Surroundings`
        The star in both images, at the same place; shape (2 n + 1, 2 n + 1) each. The light of
        ``hst`` has the resolution of HST.
    psf : 2D `~numpy.ndarray`
        The MUSE PSF at the same pixels.
    fwhm : float
        Its FWHM (pixels). Nearer offsets are the same.
    allowed : 2D bool `~numpy.ndarray`
        Which further movements of ``hst`` along y and x (pixels, from -n to n) are possible.

    Returns
    -------
    shift : tuple of int or None
        The further movement of ``hst`` along y and x (pixels) that is the best of the others; None
        if the fitted offset is by far better than all others.
    """
    reach = muse.light.shape[0] // 2
    # Where HST did not look MUSE tells nothing; beyond the MUSE field the stars of HST still do.
    known = muse.known & hst.known
    blurred = _convolve(np.where(hst.known, hst.light, 0.0), psf)
    height = float(blurred[reach - 1 : reach + 2, reach - 1 : reach + 2].max())
    image = _contrast(muse.light, known, muse.height, fwhm)
    template = np.pad(_contrast(blurred, hst.known, height, fwhm), reach)
    coefficient = correlate_masked(image, known, template, np.pad(hst.known, reach), reach)
    likeness = np.arctanh(np.clip(np.nan_to_num(coefficient, nan=-1.0), -_PERFECT, _PERFECT))
    likeness *= np.sqrt(_overlap(known, hst.known))
    here = max(likeness[reach, reach], 0.0)
    distance = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1])
    hills = likeness == ndimage.maximum_filter(likeness, 3)
    # Where the star of each image comes to lie, the other one has to be known.
    hills &= allowed & muse.known & hst.known[::-1, ::-1]
    # Within the PSF it is the same hill, unless its top is elsewhere.
    rivals = hills & (distance > _SAME) & (likeness > np.where(distance > fwhm, _RIVAL, 1.0) * here)
    if not rivals.any():
        return None
    best = np.unravel_index(np.argmax(np.where(rivals, likeness, -np.inf)), rivals.shape)
    return tuple(int(at) - reach for at in best)


def _overlap(image, template):
    """Return how many pixels of two masks overlap for every shift, relative to no shift."""
    size = image.shape[0]
    spectra = [fft.rfft2(mask.astype(float), s=2 * [2 * size]) for mask in (image, template)]
    count = fft.fftshift(fft.irfft2(spectra[0] * np.conj(spectra[1])))
    part = slice(size - size // 2, size + size // 2 + 1)
    return np.maximum(count[part, part], 0.0) / np.count_nonzero(image & template)


def _convolve(image, psf):
    """Convolve an image with a PSF on as many pixels."""
    shape = [fft.next_fast_len(2 * n, real=True) for n in image.shape]
    product = fft.rfft2(image, s=shape) * fft.rfft2(psf, s=shape)
    start = image.shape[0] // 2
    part = slice(start, start + image.shape[0])
    return fft.irfft2(product, s=shape)[part, part]


def _contrast(image, known, height, fwhm):
    """Return an image in units of the star, without its slow variations."""
    relative = np.where(known, np.clip(image / height, -_BRIGHTEST, _BRIGHTEST), 0.0)
    width = _SMOOTH * fwhm
    weight = np.maximum(ndimage.gaussian_filter(known.astype(float), width), 1e-3)
    return np.where(known, relative - ndimage.gaussian_filter(relative, width) / weight, 0.0)
