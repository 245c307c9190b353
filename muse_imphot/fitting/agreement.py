# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Do an image and its model show the same sources?

A fit to another sky can be good where one bright source happens to lie on another one, and the rest
has been left out as outliers. Counting sources, each of which has one voice however bright it is,
tells that from a fit to the same sky. Where there are few of them, all may match by chance, once
the offset has been chosen among many: how likely that is follows from how much of the image would
match each of them as well.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, special

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

# Sources that tell whether a match is by chance stand out by this much. The brightest of them will
# do, so many at most.
_FORCED_DETECTION, _MOST = 5.0, 40

# Their heights are the same if they agree to one standard deviation, or to this part of themselves.
_SAME_HEIGHT = 0.05

# Sources of a galaxy stand close together: the surroundings of each, between these radii (FWHM),
# count where they are fuller than the field.
_SURROUNDINGS = (1.0, 2.5)


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
    chance : float
        Probability that at one offset, given beforehand, as many sources would agree as well if
        they were spread at random.
    """

    common: int = 0
    missing: int = 0
    unexpected: int = 0
    chance: float = 1.0

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
    chance = _chance(model, image, used, step)
    return Agreement(common, len(found[0]) - common, int(np.count_nonzero(~found[1])), chance)


def _matched(image, weight, used, fwhm, pixel_scale):
    """Return the significance of a source of the size of the PSF at each pixel."""
    scaled = np.where(used, image, 0.0) * weight
    # Steps of the background and the outskirts of galaxies are no sources.
    scaled -= background(scaled, max(int(round(4.0 * fwhm / min(pixel_scale))), 3))
    scaled[~used] = 0.0
    width = beam_width(fwhm, pixel_scale)
    gain = np.sqrt(4.0 * np.pi * np.prod(width))
    return gain * ndimage.gaussian_filter(scaled, width, mode="constant")


def _peaks(image, used, apart, threshold=_DETECTION):
    """Return the indices (y, x) of significant peaks."""
    bright = np.nonzero((image > threshold) & used)
    highest = image[bright] >= highest_near(image, bright, apart)
    return tuple(index[highest] for index in bright)


def _chance(model, image, used, step):
    """
    Return how probable it is that the sources of the model meet their like in the image by chance.

    Each has a probability of its own: the part of the image that is as similar to its height as
    the place where it is. They are combined after Fisher (1932, Statistical Methods for Research
    Workers, section 21.1): minus twice the sum of n logarithms is distributed like chi-square with
    2 n degrees of freedom. ``step`` is the FWHM in pixels.
    """
    y, x = _peaks(model, used, max(int(round(_APART * step)), 1), _FORCED_DETECTION)
    if not len(y):
        return 1.0
    brightest = np.argsort(-model[y, x])[:_MOST]
    y, x = y[brightest], x[brightest]
    height = model[y, x]
    # Nothing is known better than this, however well it happens to agree.
    doubt = np.hypot(1.0, _SAME_HEIGHT * height)
    apart = np.maximum(np.abs(image[y, x] - height), doubt)
    levels = np.sort(image[used])
    alike = np.searchsorted(levels, height + apart) - np.searchsorted(levels, height - apart)
    part = np.maximum(alike, 1) / len(levels)
    around, known = _surroundings(image, used, (y, x), step)
    alike = (np.abs(around - height[:, None]) <= apart[:, None]) & known
    part = np.maximum(part, alike.sum(axis=1) / np.maximum(known.sum(axis=1), 1))
    return float(special.gammaincc(len(part), -np.log(part).sum()))


def _surroundings(image, used, places, step):
    """Return the pixels around some places, one row for each, and which of them can be used."""
    near, far = (radius * step for radius in _SURROUNDINGS)
    away = np.arange(-int(far), int(far) + 1)
    distance = np.hypot(away[:, None], away)
    offsets = [i - int(far) for i in np.nonzero((distance > near) & (distance <= far))]
    at = [i[:, None] + offset for i, offset in zip(places, offsets)]
    inside = [np.clip(i, 0, n - 1) for i, n in zip(at, image.shape)]
    known = used[tuple(inside)] & (at[0] == inside[0]) & (at[1] == inside[1])
    return image[tuple(inside)], known
