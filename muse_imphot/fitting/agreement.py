# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Do an image and its model show the same sources?

A fit to another sky can be good where one bright source happens to lie on another one, and the rest
has been left out as outliers. Counting sources, each of which has one voice however bright it is,
tells that from a fit to the same sky.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .sources import background, beam_width, highest_near

__all__ = ["Agreement", "compare_sources"]

# Sources that stand out by this much from the noise on the scale of the PSF are counted.
_DETECTION = 6.0

# They are the same if their heights agree to this factor. Sources may vary, and seen through a PSF
# that is somewhat wrong they change their heights too.
_ALIKE = 0.35

# Sources may have moved by this much (FWHM); there is one source within such a distance (FWHM).
_MOVED, _APART = 0.6, 1.0

# A very broad PSF is not believed.
_MAX_FWHM = 1.5


@dataclass(frozen=True)
class Agreement:
    """
    How many sources the image and the model have in common.

    Attributes
    ----------
    common : int
        Sources of the model that the image has too.
    missing : int
        Sources of the model that the image does not have.
    unexpected : int
        Sources of the image that the model does not have.
    """

    common: int = 0
    missing: int = 0
    unexpected: int = 0

    @property
    def contrary(self):
        """Number of sources that only one of them has."""
        return self.missing + self.unexpected


def compare_sources(sky, data, sigma, used, *, pixel_scale, fwhm):
    """
    Count the sources that an image and its model have in common.

    Parameters
    ----------
    sky, data : 2D `~numpy.ndarray`
        The model and the image, without background.
    sigma : 2D `~numpy.ndarray`
        Standard deviation of each pixel, with the noise of neighbours correlated: that of a mean
        of many pixels, times the root of their number.
    used : 2D bool `~numpy.ndarray`
        The pixels to compare.
    pixel_scale : tuple of float
        Pixel size along y and x (arcsec).
    fwhm : float
        FWHM of the PSF (arcsec).

    Returns
    -------
    agreement : `Agreement`
    """
    fwhm = min(fwhm, _MAX_FWHM)
    step = fwhm / min(pixel_scale)
    weight = np.where(used, 1.0 / sigma, 0.0)
    model, image = (_matched(a, weight, used, fwhm, pixel_scale) for a in (sky, data))
    apart, moved = (max(int(round(n * step)), 1) for n in (_APART, _MOVED))
    places = [_peaks(a, used, apart) for a in (model, image)]
    found = [
        highest_near(other, place, moved) >= _ALIKE * own[place]
        for place, own, other in zip(places, (model, image), (image, model))
    ]
    common = int(np.count_nonzero(found[0]))
    return Agreement(common, len(found[0]) - common, int(np.count_nonzero(~found[1])))


def _matched(image, weight, used, fwhm, pixel_scale):
    """Return the significance of a source of the size of the PSF at each pixel."""
    scaled = np.where(used, image, 0.0) * weight
    # Steps of the background and the outskirts of galaxies are no sources.
    scaled -= background(scaled, max(int(round(4.0 * fwhm / min(pixel_scale))), 3))
    scaled[~used] = 0.0
    width = beam_width(fwhm, pixel_scale)
    gain = np.sqrt(4.0 * np.pi * np.prod(width))
    return gain * ndimage.gaussian_filter(scaled, width, mode="constant")


def _peaks(image, used, apart):
    """Return the indices (y, x) of significant peaks."""
    bright = np.nonzero((image > _DETECTION) & used)
    highest = image[bright] >= highest_near(image, bright, apart)
    return tuple(index[highest] for index in bright)
