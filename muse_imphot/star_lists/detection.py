# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Stars that an HST image shows, and that MUSE sees as such.

HST tells stars from galaxies: they are round and as small as its PSF. At the resolution of MUSE a
star needs more room than that, and cosmic rays that are left in an HST image are nowhere in MUSE.
"""

import logging

import numpy as np
from astropy.table import QTable
from scipy import ndimage

from ..exceptions import UserError
from ..io import pixel_scale
from ..template import find_stars

__all__ = ["detect_stars"]

log = logging.getLogger(__name__)

# Width (arcsec) of the surroundings in HST that must hold nothing else and be within the image.
_ROOM = 1.0
# Radii (arcsec) of the ring around a star that MUSE cannot tell from it, and of the one that shows
# the background; and how much light the former may hold, relative to the core of the star. The PSF
# of HST itself puts 0.1 to 0.2 there.
_RING, _SKY, _NEIGHBOURS = (0.35, 1.5), (1.5, 2.5), 0.35
# MUSE sees a star if there is a peak of this significance within so many arcsec; it stands out
# from a smooth background when that of the wider Gaussian (sigma in arcsec) is taken off.
_SEEN, _REACH, _WIDTHS = 5.0, 1.5, (0.3, 0.9)


def detect_stars(hst, *, muse=None, snr=50.0, saturation=np.inf):
    """
    Find stars in an HST image that can be fitted in the MUSE image.

    Parameters
    ----------
    hst : `~astropy.nddata.CCDData`
        The HST image.
    muse : `~astropy.nddata.CCDData`, optional
        The MUSE image. Only stars on its good pixels are kept, and only those that it shows
        within 1.5 arcsec of where they are in HST: the rest are cosmic rays and defects.
    snr : float, optional
        Lowest signal-to-noise ratio, in HST, of the light within 0.25 arcsec.
    saturation : float, optional
        Pixels of the HST image above this value (in its unit) are saturated, and their stars left
        out. Strongly saturated stars are found out anyhow: they are broader than others.

    Returns
    -------
    stars : `~astropy.table.QTable`
        ``id`` (1 is the brightest), ``ra``, ``dec`` (deg, ICRS, at the epoch of the HST image),
        ``flux`` (within 0.25 arcsec, in the unit of the image), ``snr``, ``size`` (sigma of the
        core, arcsec), ``ellipticity``, and ``neighbours``: the light around the star at 0.35 to
        1.5 arcsec, relative to ``flux``.

    Raises
    ------
    UserError
        If there is none.
    """
    try:
        found = find_stars(hst, size=_ROOM, snr=snr, n_stars_min=1, saturation=saturation)
    except UserError as exc:
        raise _none(f"no source is like a star with a signal-to-noise ratio above {snr:g}") from exc
    sky = found["coord"].icrs
    stars = QTable({"id": np.arange(1, len(found) + 1).astype(str), "ra": sky.ra, "dec": sky.dec})
    for name in ("flux", "snr", "size", "ellipticity"):
        stars[name] = found[name]
    stars["neighbours"] = _light_around(hst, found)
    keep = stars["neighbours"] < _NEIGHBOURS
    crowded = np.count_nonzero(~keep)
    if muse is not None:
        keep &= _seen(muse, sky)
    if not keep.any():
        raise _none(
            f"of {len(stars)} in HST, {crowded} have neighbours within {_RING[1]:g} arcsec, and "
            "the others are not in the MUSE image"
        )
    stars = stars[keep]
    stars["id"] = np.arange(1, len(stars) + 1).astype(str)
    log.info("%d stars found, %d more have neighbours", len(stars), crowded)
    return stars


def _none(reason):
    return UserError(
        f"no star was found ({reason}); give a list of stars (--stars FILE), or a fainter limit "
        "(snr= of detect_stars in Python)"
    )


def _light_around(hst, found):
    """Return the light around each star, relative to its core."""
    from photutils.aperture import ApertureStats, CircularAnnulus

    scale = pixel_scale(hst.wcs)
    mask = ~np.isfinite(hst.data) if hst.mask is None else hst.mask | ~np.isfinite(hst.data)
    positions = np.column_stack([found["x"], found["y"]])
    inner, outer = (
        ApertureStats(
            np.where(mask, 0.0, hst.data),
            CircularAnnulus(positions, *(radius / scale for radius in radii)),
            mask=mask,
            sum_method="center",
        )
        for radii in (_RING, _SKY)
    )
    # What is masked, or beyond the edge, is taken to be like the rest.
    area = np.pi * (_RING[1] ** 2 - _RING[0] ** 2) / scale**2
    background = np.where(np.isfinite(outer.median), outer.median, 0.0)
    return (inner.mean - background) * area / np.asarray(found["flux"])


def _seen(muse, sky):
    """Return which positions lie on good pixels of the MUSE image near a peak."""
    scale = pixel_scale(muse.wcs)
    good = np.isfinite(muse.data) if muse.mask is None else np.isfinite(muse.data) & ~muse.mask
    narrow, wide = (_smooth(muse.data, good, width / scale) for width in _WIDTHS)
    peaks = np.where(good, narrow - wide, 0.0)
    values = peaks[good]
    noise = 1.4826 * np.median(np.abs(values - np.median(values)))
    reach = int(round(_REACH / scale))
    seen = np.zeros(len(sky), dtype=bool)
    for i, position in enumerate(sky):
        x, y = (int(round(float(value))) for value in muse.wcs.world_to_pixel(position))
        if 0 <= x < good.shape[1] and 0 <= y < good.shape[0] and good[y, x]:
            box = tuple(slice(max(centre - reach, 0), centre + reach + 1) for centre in (y, x))
            seen[i] = peaks[box].max() > _SEEN * noise
    return seen


def _smooth(data, good, sigma):
    """Return an image smoothed by a Gaussian, bad pixels left out."""
    weight = ndimage.gaussian_filter(good.astype(float), sigma)
    smooth = ndimage.gaussian_filter(np.where(good, data, 0.0), sigma)
    return smooth / np.maximum(weight, 1e-6)
