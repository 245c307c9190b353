# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The stars of an HST image that can show its PSF.

Stars are the smallest round things that several sources have in common. Smaller ones are no light:
cosmic rays and hot pixels are sharper than what the optics of HST can make.
"""

import logging
import warnings

import numpy as np
from astropy import units as u
from astropy.table import QTable, Table
from astropy.utils.exceptions import AstropyWarning

from ..bandpass import HstFilterInfo
from ..exceptions import UserError
from .geometry import pixel_scales
from .psf_checks import positive

__all__ = ["find_stars", "source_moments"]

log = logging.getLogger(__name__)

# Diameter of the HST mirror in the unit that makes wavelength (Angstrom) over diameter arcsec.
_MIRROR = 2.4e10 / 206265.0

# Apertures (arcsec): the flux of a source, and the Gaussian weight (sigma) of its moments.
_APERTURE, _WEIGHT = 0.25, 0.1

# Sources fainter than this many times the noise of a pixel are not looked at; as neighbours, they
# do not matter if they are below this part of the star.
_DETECTION, _NEIGHBOUR = 5.0, 0.03

# Stars are round to this (difference of the second moments over their sum), and alike in size.
_MAX_ELLIPTICITY, _SIZE_SPREAD = 0.2, 0.08

# Cosmic rays have sharp edges: beside their brightest pixel is one below this part of it.
_SHARPEST_EDGE = 0.08

# Largest size of stars: so many arcsec, plus so many pixels.
_LARGEST = (0.075, 0.45)

_MAX_CANDIDATES = 1000


def find_stars(hst, *, size=2.5, snr=50.0, n_stars_min=1, saturation=np.inf):
    """
    Find the point sources of an HST image: isolated, round, and of the same, smallest size.

    Parameters
    ----------
    hst : `~astropy.nddata.CCDData`
        The image.
    size : float or `~astropy.units.Quantity`, optional
        Width of the surroundings that must be free of other sources, and within the image
        (arcsec).
    snr : float, optional
        Lowest signal-to-noise ratio of a star.
    n_stars_min : int, optional
        How many stars there must be. The more, the surer it is that what they have in common is
        the PSF.
    saturation : float, optional
        Pixels above this value (in the unit of the image) are saturated. Saturated stars are
        broader than others, so that most are left out anyhow.

    Returns
    -------
    stars : `~astropy.table.QTable`
        ``x``, ``y`` (0-based pixels), ``coord``, ``flux`` (within 0.25 arcsec, in the unit of the
        image), ``snr``, ``size`` (sigma of the core, arcsec) and ``ellipticity``; brightest first.

    Raises
    ------
    UserError
        If fewer stars are found.
    """
    size = positive("size", size, "arcsec", u.arcsec)
    scale = float(np.mean(pixel_scales(hst.wcs, hst.shape)))
    mask = ~np.isfinite(hst.data) if hst.mask is None else hst.mask | ~np.isfinite(hst.data)
    sky, noise = _without_background(np.where(mask, 0.0, hst.data), mask, scale)
    sources = _sources(sky, noise, mask, scale)
    bright = sources[sources["snr"] > snr]
    usable = _isolated(bright, sources, 0.5 * size / scale)
    usable &= _within(bright, hst.shape, 0.5 * size / scale) & (bright["peak"] < saturation)
    usable &= (bright["ellipticity"] < _MAX_ELLIPTICITY) & (bright["edge"] > _SHARPEST_EDGE)
    smallest, largest = _size_limits(hst, scale)
    usable &= (bright["size"] > smallest) & (bright["size"] < largest)
    candidates = bright[usable]
    stars = candidates[_same_size(np.asarray(candidates["size"]), n_stars_min)]
    if len(stars) < n_stars_min:
        raise UserError(
            f"the HST image does not have the {n_stars_min} stars that it takes to measure its PSF "
            f"(alike, isolated, with a signal-to-noise ratio above {snr:g}): {len(candidates)} of "
            f"{len(bright)} bright sources might be stars; give the PSF as a file or as a Moffat, "
            "or say where the stars are"
        )
    stars["size"] = stars["size"] * scale * u.arcsec
    stars["coord"] = hst.wcs.pixel_to_world(stars["x"], stars["y"])
    stars = QTable(stars["x", "y", "coord", "flux", "snr", "size", "ellipticity"])
    log.info("%d stars found among %d bright sources", len(stars), len(bright))
    return stars


def _without_background(data, mask, scale):
    """Return the image minus its smooth background, and the noise of its pixels."""
    from astropy.stats import SigmaClip
    from photutils.background import Background2D, MedianBackground

    box = [min(max(int(3.0 / scale), 16), n) for n in data.shape]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        try:
            background = Background2D(
                data,
                box,
                mask=mask,
                sigma_clip=SigmaClip(3.0),
                bkg_estimator=MedianBackground(),
                exclude_percentile=95.0,
            ).background
        except ValueError:
            # No box has pixels enough.
            background = np.median(data[~mask]) if not mask.all() else 0.0
    sky = np.where(mask, 0.0, data - background)
    values = sky[~mask] if not mask.all() else sky
    return sky, 1.4826 * float(np.median(np.abs(values - np.median(values))))


def _sources(sky, noise, mask, scale):
    """Return the sources of an image: position, flux, size and shape, the brightest first."""
    from photutils.detection import find_peaks

    # Noise-free images have a threshold, too.
    threshold = max(_DETECTION * noise, 1e-6 * float(sky.max(initial=0.0)))
    box = 2 * max(int(round(0.15 / scale)), 1) + 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        peaks = find_peaks(sky, threshold, box_size=box, mask=mask)
    names = ("x", "y", "flux", "size", "ellipticity", "peak", "edge")
    rows = []
    if peaks is not None:
        order = np.argsort(peaks["peak_value"])[::-1][:_MAX_CANDIDATES]
        x, y = (np.asarray(peaks[f"{axis}_peak"])[order] for axis in "xy")
        rows = [source_moments(sky, *position, scale) for position in zip(x, y)]
    rows = [row for row in rows if row is not None]
    table = Table(rows=rows or None, names=names, dtype=[float] * len(names))
    table.sort("flux", reverse=True)
    n_pixels = np.pi * (_APERTURE / scale) ** 2
    table["snr"] = table["flux"] / max(noise * np.sqrt(n_pixels), 1e-300)
    return table


def source_moments(sky, x, y, scale):
    """
    Measure a source with a Gaussian weight.

    Parameters
    ----------
    sky : 2D `~numpy.ndarray`
        Image without background.
    x, y : int
        Pixel near the source.
    scale : float
        Size of the pixels (arcsec).

    Returns
    -------
    moments : tuple of float or None
        Position x and y (pixels), flux, size (sigma in pixels, of a Gaussian), ellipticity,
        the pixel at ``x``, ``y``, and the lowest of its four neighbours relative to it; None if
        there is no source, or if it is at an edge.
    """
    half = int(np.ceil(max(_APERTURE, 3.0 * _WEIGHT) / scale))
    if not (half <= x < sky.shape[1] - half and half <= y < sky.shape[0] - half):
        return None
    stamp = sky[y - half : y + half + 1, x - half : x + half + 1]
    v, h = np.mgrid[-half : half + 1, -half : half + 1].astype(float)
    sigma2 = max(_WEIGHT / scale, 1.2) ** 2
    x0 = y0 = 0.0
    for _ in range(12):
        weight = np.exp(-0.5 * ((h - x0) ** 2 + (v - y0) ** 2) / sigma2) * stamp
        total = weight.sum()
        if not total > 0:
            return None
        # The weight pulls the centroid towards its own centre, by about half.
        step = 2.0 * (weight * (h - x0)).sum() / total, 2.0 * (weight * (v - y0)).sum() / total
        x0, y0 = x0 + step[0], y0 + step[1]
        if max(abs(x0), abs(y0)) > 2.0:
            return None
        if max(np.abs(step)) < 1e-3:
            break
    xx, yy, xy = (
        float((weight * product).sum() / total)
        for product in ((h - x0) ** 2, (v - y0) ** 2, (h - x0) * (v - y0))
    )
    observed = 0.5 * (xx + yy)
    # What the weight made narrower.
    size2 = 1.0 / (1.0 / observed - 1.0 / sigma2) if 0 < observed < sigma2 else np.inf
    flux = stamp[np.hypot(h - x0, v - y0) < _APERTURE / scale].sum()
    ellipticity = np.hypot(xx - yy, 2.0 * xy) / (xx + yy)
    peak, beside = sky[y, x], [sky[y - 1, x], sky[y + 1, x], sky[y, x - 1], sky[y, x + 1]]
    edge = min(beside) / peak if peak > 0 else 0.0
    return x + x0, y + y0, float(flux), np.sqrt(size2), ellipticity, float(peak), float(edge)


def _isolated(bright, sources, reach):
    """Return which sources have no neighbour that matters within a distance (pixels)."""
    x, y, flux = (np.asarray(sources[name]) for name in ("x", "y", "flux"))
    isolated = np.ones(len(bright), dtype=bool)
    for i, star in enumerate(bright):
        distance = np.hypot(x - star["x"], y - star["y"])
        near = (distance > 0) & (distance < 1.2 * reach)
        isolated[i] = not np.any(flux[near] > _NEIGHBOUR * star["flux"])
    return isolated


def _within(table, shape, reach):
    """Return which sources have their surroundings within the image."""
    x, y = np.asarray(table["x"]), np.asarray(table["y"])
    return (np.minimum(x, shape[1] - 1 - x) > reach) & (np.minimum(y, shape[0] - 1 - y) > reach)


def _size_limits(hst, scale):
    """Return the sizes (pixels) between which those of stars lie."""
    try:
        wavelength = HstFilterInfo(hst).photplam
    except UserError:
        wavelength = 6000.0
    # A Gaussian as wide as the Airy disc, and the pixel. Models of the optics alone, with their
    # rings, are at least 1.5 times larger; cosmic rays may be smaller.
    ideal = np.hypot(0.42 * wavelength / _MIRROR / scale, np.sqrt(1.0 / 12.0))
    return 1.3 * ideal, _LARGEST[0] / scale + _LARGEST[1]


def _same_size(sizes, count):
    """Return which sources have the smallest size that enough of them have in common."""
    order = np.sort(sizes[np.isfinite(sizes)])
    count = max(count, 1)
    for first in order:
        alike = order[(order >= first) & (order <= first * (1.0 + _SIZE_SPREAD))]
        if alike.size >= count:
            return np.abs(sizes / np.median(alike) - 1.0) < _SIZE_SPREAD
    return np.zeros(sizes.shape, dtype=bool)
