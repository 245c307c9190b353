# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The pixels around stars: where the stars are, which of them are fitted together, what is left out.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from ..noise import robust_scatter

__all__ = [
    "Patch",
    "StarField",
    "cut_out",
    "flat_topped",
    "half_width",
    "locate",
    "make_patches",
    "neighbours",
    "unlike_opposite",
]

# Stars nearer to each other than this part of the radius share their pixels and background.
_TOGETHER = 0.6

# Stars nearer to each other than this, in units of the FWHM, have no peaks of their own.
_BLENDED = 1.6

# A star needs so many pixels, which are so much of its circle.
_MIN_PIXELS, _MIN_PART = 20, 0.4

# Pixels of a flat-topped core are within this part of the highest one. Of a star that is not
# saturated there are a few of them, and this part of the square of the FWHM.
_FLAT, _FEW_FLAT, _FLAT_PART = 0.03, 4, 0.25

# Smoothed noise is larger by this if it is correlated as the drizzle of a cube makes it.
_CORRELATED = 2.0

# What stands out of the light of the stars: by so many sigma (smoothed), and by this part of that
# light.
_EXCESS, _EXCESS_PART = 5.0, 0.3


@dataclass
class StarField:
    """
    An image in which stars are fitted.

    Attributes
    ----------
    data : 2D `~numpy.ndarray`
        The image.
    good : 2D bool `~numpy.ndarray`
        Its usable pixels.
    pixel_scale : tuple of float
        Size of a pixel along y and x (arcsec).
    sigma : 2D `~numpy.ndarray`, optional
        Standard deviation of each pixel. Without it, the noise is that of the sky (its
        scatter) and, if ``gain`` is known, of the photons.
    gain : float
        Photons per unit of the data.
    noise : 2D `~numpy.ndarray`, optional
        The noise of the sky relative to that of most pixels, where ``sigma`` is not known.
    saturation : float
        Pixels of this value and above are saturated.
    """

    data: np.ndarray
    good: np.ndarray
    pixel_scale: tuple
    sigma: np.ndarray = None
    gain: float = np.inf
    noise: np.ndarray = None
    saturation: float = np.inf


@dataclass
class Patch:
    """
    The pixels of a star, or of several that are close together.

    Attributes
    ----------
    members : list of int
        The stars.
    others : list of int
        Stars of other patches that are so near that they are fitted along.
    rows, columns : slice
        Where it is in the image.
    usable : 2D bool `~numpy.ndarray`
        The pixels that are good, and nearest to these stars.
    used : 2D bool `~numpy.ndarray`
        Those of them that are fitted; where other sources stand out, they are not.
    sigma : 2D `~numpy.ndarray`
        Standard deviation of each pixel.
    """

    members: list
    others: list
    rows: slice
    columns: slice
    usable: np.ndarray
    used: np.ndarray = None
    sigma: np.ndarray = field(default=None, repr=False)

    def __post_init__(self):
        self.used = self.usable if self.used is None else self.used

    @property
    def part(self):
        """The slices of the image."""
        return self.rows, self.columns

    def positions(self):
        """Return x and y of the used pixels in the image."""
        y, x = np.nonzero(self.used)
        return x + self.columns.start, y + self.rows.start


def locate(image, positions, radii, fwhm):
    """
    Find stars near where they are expected.

    Stars share most of their displacement, which is found first, by adding up their surroundings.

    Parameters
    ----------
    image : `StarField`
        The image.
    positions : 2D `~numpy.ndarray`
        Expected positions (x, y) in pixels, shape (n, 2).
    radii : 1D `~numpy.ndarray`
        Radius of the circle within which each star must be (pixels).
    fwhm : float
        Rough FWHM of the stars (pixels).

    Returns
    -------
    found : 2D `~numpy.ndarray`
        Positions of their highest pixels, of blends roughly, shape (n, 2); NaN for stars that are
        not in the image.
    """
    inside = np.all((positions > -0.5) & (positions < np.array(image.data.shape[::-1]) - 0.5), 1)
    found = np.full(positions.shape, np.nan)
    if not inside.any():
        return found
    search = max(int(np.ceil(np.max(radii[inside]))), 2)
    # Twice as far, so that the displaced stars can be looked for in their turn.
    maps = {i: _smooth(image, positions[i], 2 * search, fwhm) for i in np.flatnonzero(inside)}
    distance = np.hypot(*np.mgrid[-search : search + 1, -search : search + 1])
    inner = slice(search, 3 * search + 1)
    total = sum(_relative(smooth[inner, inner], distance <= radii[i]) for i, smooth in maps.items())
    total *= np.exp(-2.0 * (distance / search) ** 2)
    shift = np.array(np.unravel_index(np.argmax(total), total.shape)) - search
    if not total.max() > 0:
        shift[:] = 0
    for i, smooth in maps.items():
        others = np.delete(positions, i, axis=0) - positions[i]
        nearest = np.fmin.reduce(np.hypot(*others.T), initial=np.inf)
        if nearest < _BLENDED * fwhm:
            # The highest pixel may be that of the other one.
            found[i] = positions[i] + shift[::-1]
            continue
        reach = int(np.clip(min(1.5 * fwhm, 0.45 * nearest), 1, search))
        y, x = shift + 2 * search
        around = smooth[y - reach : y + reach + 1, x - reach : x + reach + 1]
        step = np.array(np.unravel_index(np.argmax(around), around.shape)) - reach
        found[i] = np.rint(positions[i]) + (shift + step)[::-1]
    limit = np.array(image.data.shape[::-1]) - 0.5
    found[~np.all((found > -0.5) & (found < limit), axis=1)] = np.nan
    # Beyond its circle there are other stars.
    found[np.hypot(*(found - positions).T) > radii] = np.nan
    return found


def _relative(values, inside):
    """Return a map of the surroundings of a star, whose highest value is 1."""
    values = np.where(inside, values, 0.0)
    return np.maximum(values, 0.0) / max(values.max(), 1e-300)


def _smooth(image, position, reach, fwhm):
    """Return the surroundings of a position, smoothed, zero where there is no image."""
    x, y = np.rint(position).astype(int)
    rows, columns = np.arange(y - reach, y + reach + 1), np.arange(x - reach, x + reach + 1)
    ny, nx = image.data.shape
    inside = ((rows >= 0) & (rows < ny))[:, None] & ((columns >= 0) & (columns < nx))
    at = np.ix_(np.clip(rows, 0, ny - 1), np.clip(columns, 0, nx - 1))
    good = inside & image.good[at]
    if not good.any():
        return np.zeros(good.shape)
    data = np.where(good, image.data[at] - np.median(image.data[at][good]), 0.0)
    width = 0.4 * fwhm
    weight = ndimage.gaussian_filter(good.astype(float), width)
    smooth = ndimage.gaussian_filter(data, width) / np.maximum(weight, 0.3)
    return np.where(inside & (weight > 0.05), smooth, 0.0)


def make_patches(image, positions, radii):
    """
    Collect the pixels of stars.

    Parameters
    ----------
    image : `StarField`
        The image.
    positions : 2D `~numpy.ndarray`
        Positions (x, y) in pixels; NaN for stars that the image does not show.
    radii : 1D `~numpy.ndarray`
        Radii of the circles to fit (pixels).

    Returns
    -------
    patches : list of `Patch`
        Stars with too few usable pixels are in none of them.
    """
    shown = np.flatnonzero(np.isfinite(positions).all(axis=1))
    shown = shown[[_has_pixels(image, positions[i], radii[i]) for i in shown]]
    if shown.size == 0:
        return []
    owner = np.full(image.data.shape, -1)
    nearest = np.full(image.data.shape, np.inf)
    groups = _groups(positions[shown], _TOGETHER * np.median(radii[shown]))
    boxes = {}
    for i, group in zip(shown, groups):
        part, distance = _circle(image, positions[i], radii[i])
        mine = (distance <= radii[i]) & (distance < nearest[part])
        owner[part][mine], nearest[part][mine] = group, distance[mine]
        boxes.setdefault(group, []).append(part)
    patches = []
    for group in sorted(boxes):
        rows, columns = (_hull([part[axis] for part in boxes[group]]) for axis in (0, 1))
        members = [int(i) for i in shown[groups == group]]
        used = (owner[rows, columns] == group) & image.good[rows, columns]
        others = _visitors(members, shown, positions, radii, (columns, rows))
        patches.append(Patch(members, others, rows, columns, used))
    return patches


def _groups(positions, separation):
    """Return a number for each star, the same for stars that are close together."""
    if len(positions) == 1:
        return np.zeros(1, dtype=int)
    from photutils.psf import SourceGrouper

    return np.asarray(SourceGrouper(max(separation, 1e-3))(*positions.T))


def _visitors(members, shown, positions, radii, box):
    """Return the stars whose light varies strongly among others, or around these."""
    visitors = []
    for i in set(shown) - set(members):
        distance = np.hypot(*(positions[members] - positions[i]).T)
        around = all(
            part.start - radii[i] < place < part.stop + radii[i]
            for part, place in zip(box, positions[i])
        )
        if around or np.any(distance < radii[members] + radii[i]):
            visitors.append(int(i))
    return sorted(visitors)


def _hull(slices):
    return slice(min(s.start for s in slices), max(s.stop for s in slices))


def cut_out(image, position, radius):
    """Return the slices of the image around a star."""
    return _circle(image, position, radius)[0]


def _circle(image, position, radius):
    """Return the slices around a star, and the distances of their pixels from it."""
    x, y = position
    ny, nx = image.data.shape
    rows = slice(max(int(np.ceil(y - radius)), 0), min(int(np.floor(y + radius)) + 1, ny))
    columns = slice(max(int(np.ceil(x - radius)), 0), min(int(np.floor(x + radius)) + 1, nx))
    rows_at, columns_at = np.ogrid[rows, columns]
    return (rows, columns), np.hypot(rows_at - y, columns_at - x)


def _has_pixels(image, position, radius):
    part, distance = _circle(image, position, radius)
    count = np.count_nonzero(image.good[part] & (distance <= radius))
    return count >= max(_MIN_PIXELS, _MIN_PART * np.pi * radius**2)


def flat_topped(image, position, fwhm):
    """
    Find the core of a saturated star, which is flat.

    Parameters
    ----------
    image : `StarField`
        The image.
    position : 1D `~numpy.ndarray`
        Position (x, y) of the star in pixels.
    fwhm : float
        FWHM of the stars (pixels).

    Returns
    -------
    part : tuple of slice
        A part of the image around the star.
    flat : 2D bool `~numpy.ndarray`
        The pixels of the core and those that touch it, shape of that part; none if the star is not
        saturated.
    """
    part, distance = _circle(image, position, max(4.0 * fwhm, 8.0))
    good = image.good[part]
    if not good.any():
        return part, np.zeros(good.shape, dtype=bool)
    data = np.where(good, image.data[part], -np.inf)
    level = np.median(data[good])
    core = np.where(distance <= max(2.0 * fwhm, 4.0), data, -np.inf)
    # Not what is brighter still, a neighbour.
    high = np.abs(data - core.max()) <= _FLAT * (core.max() - level)
    labels, _ = ndimage.label(high)
    flat = high & (labels == labels[np.unravel_index(np.argmax(core), core.shape)])
    if np.count_nonzero(flat) <= _FEW_FLAT + _FLAT_PART * fwhm**2:
        return part, np.zeros_like(flat)
    return part, ndimage.binary_dilation(flat, np.ones((3, 3)))


def half_width(image, position, largest):
    """
    Return the FWHM of a star from the area of its pixels above half of its height.

    Parameters
    ----------
    image : `StarField`
        The image.
    position : 1D `~numpy.ndarray`
        Position (x, y) of the star in pixels.
    largest : float
        Largest FWHM to expect (pixels).

    Returns
    -------
    fwhm : float
        In pixels.
    """
    part, distance = _circle(image, position, largest)
    good = image.good[part]
    if not good.any():
        return np.nan
    data = np.where(good, image.data[part], -np.inf)
    core = np.where(distance <= 0.25 * largest, data, -np.inf)
    level = np.median(data[good & (distance > 0.7 * largest)], axis=None)
    labels, _ = ndimage.label(data > 0.5 * (core.max() + level))
    peak = labels[np.unravel_index(np.argmax(core), core.shape)]
    area = np.count_nonzero(labels == peak) if peak else 0
    return 2.0 * np.sqrt(area / np.pi)


def unlike_opposite(residual, centre):
    """
    Return what a residual has more than there is on the opposite side of a star.

    Rings and spikes around a star are those of its PSF; a neighbour is on one side only.

    Parameters
    ----------
    residual : 2D `~numpy.ndarray`
        Data minus model.
    centre : tuple of float
        Position (y, x) of the star in it (pixels).

    Returns
    -------
    excess : 2D `~numpy.ndarray`
    """
    rows, columns = (
        np.rint(2.0 * c - np.arange(n)).astype(int) for c, n in zip(centre, residual.shape)
    )
    opposite = np.zeros_like(residual)
    inside = [(at >= 0) & (at < n) for at, n in zip((rows, columns), residual.shape)]
    opposite[np.ix_(*inside)] = residual[np.ix_(rows[inside[0]], columns[inside[1]])]
    return residual - np.maximum(opposite, 0.0)


def _smoothed_noise(pull, used, width):
    """Return the scatter that the noise of a residual has once it is smoothed."""
    # Differences of adjacent pixels, so that the light of neighbours and misfits hardly count.
    both = used[1:] & used[:-1]
    if not both.any():
        return 1.0
    scatter = robust_scatter((pull[1:] - pull[:-1])[both]) / np.sqrt(2.0)
    return max(_CORRELATED * scatter / (2.0 * np.sqrt(np.pi) * width), 1e-300)


def neighbours(residual, stars, sigma, used, fwhm):
    """
    Find sources that stand out of the light of the stars.

    Parameters
    ----------
    residual : 2D `~numpy.ndarray`
        Data minus model.
    stars : 2D `~numpy.ndarray`
        The model without its background.
    sigma : 2D `~numpy.ndarray`
        Standard deviation of each pixel.
    used : 2D bool `~numpy.ndarray`
        The usable pixels.
    fwhm : float
        FWHM of the stars (pixels).

    Returns
    -------
    found : 2D bool `~numpy.ndarray`
        Their pixels.
    """
    width = max(0.4 * fwhm, 0.5)
    weight = np.maximum(ndimage.gaussian_filter(used.astype(float), width), 0.1)
    pull, light, noise = (
        ndimage.gaussian_filter(np.where(used, image, 0.0), width) / weight
        for image in (residual / sigma, stars / sigma, np.ones(used.shape))
    )
    scatter = _smoothed_noise(residual / sigma, used, width)
    high = used & (pull > np.maximum(_EXCESS * scatter, _EXCESS_PART * light))
    if not high.any():
        return high
    # Down to where the source is lost in the noise.
    low = used & (pull > np.maximum(1.5 * scatter, 0.5 * _EXCESS_PART * light))
    labels, _ = ndimage.label(low)
    found = np.isin(labels, np.unique(labels[high]))
    return ndimage.binary_dilation(found, iterations=max(int(round(0.5 * fwhm)), 1)) & used
