# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The stars to fit: from a list of the user, or found in the HST image; and where each of them is in
an HST and in a MUSE image that were taken years apart.
"""

import logging

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable

from ..ds9regions import star_circle
from ..exceptions import GeometryError, UserError
from ..io import pixel_scale
from .detection import detect_stars
from .motions import image_epoch, moved
from .tables import read_gaia, read_stars

__all__ = ["prepare_stars"]

log = logging.getLogger(__name__)

#: Radius (arcsec) of the circle in which a star is fitted, where a list has none.
RADIUS = 2.5

# A star is the Gaia source within so many arcsec; two entries so near to each other are one star.
_MATCH, _SAME = 1.0, 0.1
# A motion whose error makes up this much (arcsec) between the two epochs does not help pointing.
_LARGEST_ERROR = 0.05


def prepare_stars(hst=None, muse=None, *, stars=None, star=None, gaia=None, radius=RADIUS):
    """
    Collect the stars of a fit, and say where each is expected in either image.

    Stars move in the years between the HST and the MUSE image. Where the motion of a star is
    known, from the list itself or from Gaia, it takes the star to the epoch of each image; only
    then, the offset between the two images tells the pointing of MUSE.

    Parameters
    ----------
    hst, muse : `~astropy.nddata.CCDData`
        The images, as the readers return them; their headers tell the epochs.
    stars : path-like, `~astropy.table.Table`, `~astropy.coordinates.SkyCoord`, optional
        The list of stars, see `read_stars`. ``"detect"``: what `detect_stars` finds in the HST
        image. A position without an epoch is taken to be that at the epoch of the HST image.
    star : tuple of float, optional
        A single star instead: right ascension and declination (ICRS, degrees), radius (arcsec).
    gaia : path-like or `~astropy.table.Table`, optional
        Sources of Gaia, see `read_gaia`: they give motions to stars that have none, if there is
        exactly one within 1 arcsec. Without ``stars`` and ``star`` they are the stars.
    radius : float, optional
        Radius (arcsec) of the circle in which a star is fitted, for stars that have none.

    Returns
    -------
    stars : `~astropy.table.QTable`
        One row per star on the MUSE image. ``id`` (str); ``ra``, ``dec`` (deg), as listed;
        ``radius`` (arcsec); ``ra_hst``, ``dec_hst``, ``ra_muse``, ``dec_muse`` (deg), the
        positions expected in the images; ``pointing`` (bool), whether the star may be used for
        the offset between the images; ``reason`` (str), why not.

    Raises
    ------
    UserError
        If no star is given, or a list cannot be used.
    GeometryError
        If no star lies on the MUSE image.
    """
    table = _listed(hst, muse, stars, star, gaia)
    gaia = None if gaia is None else read_gaia(gaia)
    table = table[_first_of_each(table)]
    epochs = [np.nan if image is None else image_epoch(image.meta) for image in (hst, muse)]
    motion = _Motions(table, epochs[0])
    if gaia is not None:
        motion.match(gaia)
    result = table["id", "ra", "dec"]
    result["radius"] = _radii(table, radius)
    for name, epoch in zip(("hst", "muse"), epochs, strict=True):
        ra, dec = motion.at(epoch)
        result[f"ra_{name}"], result[f"dec_{name}"] = ra * u.deg, dec * u.deg
    result["reason"] = motion.reasons(epochs)
    result["pointing"] = result["reason"] == ""
    result = result[[*result.colnames[:-2], "pointing", "reason"]]
    result.meta = {"epoch_hst": float(epochs[0]), "epoch_muse": float(epochs[1])}
    return result if muse is None else _on_image(result, muse)


def _listed(hst, muse, stars, star, gaia):
    """Return the list of stars, from whatever it is given as."""
    if stars is not None and star is not None:
        raise UserError("stars and star are both given; choose one of them")
    if star is not None:
        ra, dec, radius = star_circle(star)
        row = {"ra": [ra % 360.0] * u.deg, "dec": [dec] * u.deg, "radius": [radius] * u.arcsec}
        return QTable({"id": ["star"], **row})
    if isinstance(stars, str) and stars == "detect":
        if hst is None:
            raise UserError("stars: 'detect' needs an HST image in which to find stars")
        return detect_stars(hst, muse=muse)
    if stars is None and gaia is None:
        raise UserError(
            "no star is given; pass star (right ascension, declination, radius), or stars: a list, "
            "or 'detect'"
        )
    return read_stars(gaia if stars is None else stars)


def _radii(table, default):
    """Return the radius of each star, with a default for those without."""
    if not 0 < default < np.inf:
        raise UserError(f"radius: found {default!r}; a positive number of arcsec is needed")
    if "radius" not in table.colnames:
        return np.full(len(table), float(default)) * u.arcsec
    values = table["radius"].to_value(u.arcsec)
    return np.where(np.isnan(values), default, values) * u.arcsec


def _first_of_each(table):
    """Return which rows are the first of their star."""
    keep = np.ones(len(table), dtype=bool)
    sky = SkyCoord(table["ra"], table["dec"])
    first, second, _, _ = sky.search_around_sky(sky, _SAME * u.arcsec)
    for i, j in zip(first, second, strict=True):
        if i < j and keep[i] and keep[j]:
            keep[j] = False
            log.warning("star %s is at the place of star %s; it is used once", *table["id"][[j, i]])
    return keep


class _Motions:
    """
    The motions of stars, and where they take them.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        As `read_stars` returns it.
    default_epoch : float
        The epoch of positions that have none.
    """

    def __init__(self, table, default_epoch):
        self.ra, self.dec = (table[name].to_value(u.deg) for name in ("ra", "dec"))
        self.known = "pmra" in table.colnames  # whether anybody says anything about motions
        self.pmra, self.pmdec = (_values(table, f"pm{axis}") for axis in ("ra", "dec"))
        self.error = np.hypot(_values(table, "pmra_error"), _values(table, "pmdec_error"))
        self.epoch = _values(table, "ref_epoch")
        self.epoch = np.where(np.isnan(self.epoch), default_epoch, self.epoch)
        self.why = np.full(len(table), "its proper motion is unknown", dtype=object)

    def match(self, gaia):
        """Take the motions of those stars that have none from Gaia."""
        self.known = True
        pmra, pmdec, epoch = (_values(gaia, name) for name in ("pmra", "pmdec", "ref_epoch"))
        error = np.hypot(_values(gaia, "pmra_error"), _values(gaia, "pmdec_error"))
        positions = gaia["ra"].to_value(u.deg), gaia["dec"].to_value(u.deg)
        counts = np.zeros(len(gaia), dtype=int)
        found = {}
        for i in np.flatnonzero(np.isnan(self.pmra)):
            # Where neither the list nor the image has an epoch, Gaia's positions have to do.
            years = self.epoch[i] - epoch if np.isfinite(self.epoch[i]) else np.zeros_like(epoch)
            motion = np.nan_to_num(pmra), np.nan_to_num(pmdec), np.nan_to_num(years)
            distance = _separation(self.ra[i], self.dec[i], *moved(*positions, *motion))
            near = np.flatnonzero(distance < _MATCH)
            counts[near] += 1
            found[i] = near
        for i, near in found.items():
            if near.size != 1 or counts[near[0]] > 1:
                self.why[i] = _no_match(near, counts)
            elif np.isnan(pmra[near[0]]):
                self.why[i] = "Gaia does not know its proper motion"
            else:
                j = near[0]
                self.pmra[i], self.pmdec[i], self.error[i] = pmra[j], pmdec[j], error[j]

    def at(self, epoch):
        """Return the positions (degrees) at an epoch, unmoved where they cannot be computed."""
        years = epoch - self.epoch
        moves = np.isfinite(self.pmra) & np.isfinite(years)
        ra, dec = moved(self.ra, self.dec, self.pmra, self.pmdec, years)
        return np.where(moves, ra, self.ra), np.where(moves, dec, self.dec)

    def reasons(self, epochs):
        """Say for each star why its offset does not tell the pointing; "" if it does."""
        if not self.known:
            return np.full(self.ra.shape, "", dtype=str)
        reasons = np.where(np.isnan(self.pmra), self.why, "")
        moving = (reasons == "") & (np.hypot(self.pmra, self.pmdec) > 0)
        for epoch, name in zip(epochs, ("HST", "MUSE"), strict=True):
            if np.isnan(epoch):
                text = f"the header of the {name} image does not tell when it was taken"
                reasons[moving & (reasons == "")] = text
        error = 1e-3 * self.error * abs(epochs[1] - epochs[0])
        for i in np.flatnonzero((error > _LARGEST_ERROR) & (reasons == "")):
            reasons[i] = f"its motion between the two images is uncertain by {error[i]:.2f} arcsec"
        return reasons.astype(str)


def _no_match(near, counts):
    """Say why a star has no motion from Gaia."""
    if near.size == 0:
        return f"no source of Gaia is within {_MATCH:g} arcsec"
    if near.size > 1:
        return f"{near.size} sources of Gaia are within {_MATCH:g} arcsec"
    return f"its source of Gaia is that of {counts[near[0]]} stars"


def _values(table, name):
    """Return a column as numbers, NaN where the table has none."""
    return table[name].value.copy() if name in table.colnames else np.full(len(table), np.nan)


def _separation(ra, dec, ras, decs):
    """Return the distances (arcsec) of positions from one."""
    return SkyCoord(ra, dec, unit="deg").separation(SkyCoord(ras, decs, unit="deg")).arcsec


def _on_image(stars, muse):
    """Return the stars that lie on the MUSE image."""
    sky = SkyCoord(stars["ra_muse"], stars["dec_muse"])
    ny, nx = muse.data.shape
    centre = muse.wcs.pixel_to_world((nx - 1) / 2, (ny - 1) / 2)
    distance = sky.separation(centre).arcsec
    # Only what is near is asked for its pixel: far away there may be none.
    near = distance < np.hypot(nx, ny) * pixel_scale(muse.wcs)
    x, y = muse.wcs.world_to_pixel(sky[near])
    inside = near.copy()
    inside[near] = (abs(x - (nx - 1) / 2) < nx / 2) & (abs(y - (ny - 1) / 2) < ny / 2)
    for name in stars["id"][~inside]:
        log.info("star %s is not on the MUSE image; it is left out", name)
    if not inside.any():
        far = distance.min()
        words = f"{far:.4g} arcsec" if far < 3600 else f"{far / 3600:.3g} degrees"
        which = "the star does not lie" if len(stars) == 1 else f"none of {len(stars)} stars lies"
        raise GeometryError(
            f"{which} on the MUSE image, the nearest is {words} from its centre; give stars within "
            "the field (right ascension and declination in degrees)"
        )
    return stars[inside]
