# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The PSF of an HST image, measured from its own stars.

Their images make an effective PSF (Anderson & King 2000, PASP 112, 1360; built by
`photutils.psf.EPSFBuilder`), to which the wings are added that the images cut off.
"""

import logging
import warnings

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table
from astropy.utils.exceptions import AstropyWarning
from scipy import ndimage

from ..exceptions import UserError
from ..models.moffat import core_radius
from .geometry import pixel_scales
from .psf_checks import positive
from .psf_image import ImagePSF
from .psf_star_finding import find_stars, source_moments

__all__ = ["measure_hst_psf"]

log = logging.getLogger(__name__)

# The background around a star is that beyond this part of the width of its image.
_BORDER = 0.42

# Stars whose core differs by more than this part of its flux from that of most are no stars.
_MAX_DIFFERENCE = 0.08

# The core of a star, and the smallest image that shows its wings too (arcsec).
_CORE, _SMALLEST = 0.2, 1.0

# HST pixels larger than this (arcsec) are divided, into so many along an axis for each of them,
# if there are at least twice as many stars as parts.
_WELL_SAMPLED, _MAX_OVERSAMPLING = 0.035, 3

_ITERATIONS = 8

# The wings of a PSF image begin here, in units of its half width. Their exponent is like this,
# give or take that; it is looked for among these.
_WINGS, _EXPONENT, _EXPONENTS = 0.3, (3.2, 0.5), np.arange(2.3, 6.01, 0.05)

# What came through the optics of HST has more wings than a Moffat with this exponent.
_MAX_BETA = 8.0

# Part by which the wings may deviate from a power law.
_ROUGHNESS = 0.03


def measure_hst_psf(
    hst, *, stars=None, size=2.5, n_stars_min=4, n_stars_max=40, oversampling=None, wings=None
):
    """
    Measure the PSF of an HST image from its stars.

    Parameters
    ----------
    hst : `~astropy.nddata.CCDData`
        The HST image.
    stars : `~astropy.coordinates.SkyCoord` or `~astropy.table.Table`, optional
        The stars: coordinates, or a table with columns ``x`` and ``y`` (0-based pixels), as
        `find_stars` returns it. If not given they are searched for.
    size : float or `~astropy.units.Quantity`, optional
        Width of the image of the PSF (arcsec). Stars nearer to an edge than half of it cannot be
        used.
    n_stars_min, n_stars_max : int, optional
        How many stars are needed at least, and how many (the brightest) are used at most.
    oversampling : int, optional
        How many pixels of the PSF make one of the HST image; by default 1 for well-sampled images,
        and up to 3 for others if there are stars enough.
    wings : float, optional
        Exponent of the power law with which the PSF continues outside of its image; it also tells
        the wings from the background around the stars. By default it is found in the outskirts of
        the image, together with the background. With 0 the PSF ends with its image.

    Returns
    -------
    psf : `ImagePSF`
        In the pixel frame of the HST image; ``psf.moffat`` is the Moffat that is closest to it.

    Raises
    ------
    UserError
        If there are too few stars, if they differ from each other, or if they have no wings.

    Notes
    -----
    The core does not depend on the wings, but its share of the flux does. In a fit of a simulated
    field, an exponent that is wrong by 0.4 moves the flux scale by 1 to 2 per cent, beta by 0.06,
    and the FWHM by less than 1 mas.
    """
    size = _checked_size(size)
    if wings and not wings > 2:
        raise UserError(f"wings is {wings}; an exponent above 2, or 0 for none, is needed")
    if stars is None:
        stars = find_stars(hst, size=size, n_stars_min=n_stars_min)
    scale = float(np.mean(pixel_scales(hst.wcs, hst.shape)))
    width = 2 * int(np.ceil(0.5 * size / scale)) + 1
    positions = _positions(stars, hst)
    images = _star_images(hst, positions, width, scale)[:n_stars_max]
    images = _consistent(images, scale, n_stars_min, len(positions))
    finer = oversampling or _choose_oversampling(scale, len(images))
    psf = ImagePSF(_effective_psf(images, finer), scale / finer)
    if wings != 0:
        psf = _completed(psf, wings)
    log.info("HST PSF of %d stars: FWHM %.4f arcsec, beta %.2f", len(images), psf.fwhm, psf.beta)
    return psf


def _checked_size(size):
    """Return the width of the image of the PSF (arcsec)."""
    size = positive("size", size, "arcsec", u.arcsec)
    if size < _SMALLEST:
        raise UserError(
            f"an image of {size:g} arcsec is too small to measure the PSF of HST; at least "
            f"{_SMALLEST:g} arcsec are needed"
        )
    return size


def _positions(stars, hst):
    """Return the positions of stars (x, y pixels) from whatever they are given as."""
    if isinstance(stars, SkyCoord):
        x, y = hst.wcs.world_to_pixel(stars)
    elif isinstance(stars, Table) and {"x", "y"} <= set(stars.colnames):
        x, y = stars["x"], stars["y"]
    else:
        raise UserError(
            "stars: coordinates (SkyCoord) or a table with columns x and y are needed to measure "
            f"the HST PSF; {type(stars).__name__} is given"
        )
    return np.column_stack([np.atleast_1d(np.asarray(v, dtype=float)) for v in (x, y)])


def _star_images(hst, positions, width, scale):
    """Return the images of stars, the brightest first: data, usable pixels, and position (x, y)."""
    half = width // 2
    distance = np.hypot(*(np.mgrid[:width, :width] - half))
    border, core = distance > _BORDER * width, distance < _CORE / scale
    good = np.isfinite(hst.data) if hst.mask is None else np.isfinite(hst.data) & ~hst.mask
    images = []
    for x, y in np.rint(positions[np.isfinite(positions).all(axis=1)]).astype(int):
        if not (half <= x < hst.shape[1] - half and half <= y < hst.shape[0] - half):
            continue
        part = slice(y - half, y + half + 1), slice(x - half, x + half + 1)
        used = good[part]
        if not used[core].all() or not used[border].any():
            continue
        data = np.where(used, hst.data[part] - np.median(hst.data[part][border & used]), 0.0)
        moments = source_moments(data, half, half, scale)
        if moments is not None:
            images.append((data, used, moments[:2]))
    return sorted(images, key=lambda image: -image[0].sum())


def _consistent(images, scale, n_stars_min, n_tried):
    """Return the images that agree with most of the others in the core."""
    cores = []
    for data, _, (x, y) in images:
        half = data.shape[0] // 2
        reach = int(np.ceil(_CORE / scale))
        centred = ndimage.shift(data, (half - y, half - x), order=3)
        # Smoothed, so that the noise of faint stars does not count.
        centred = ndimage.gaussian_filter(centred, 0.25 * _CORE / scale)
        core = centred[half - reach : half + reach + 1, half - reach : half + reach + 1]
        cores.append(core / core.sum())
    difference = [0.5 * np.abs(core - np.median(cores, axis=0)).sum() for core in cores]
    kept = [image for image, d in zip(images, difference) if d < _MAX_DIFFERENCE]
    log.debug("differences of the stars: %s", np.round(difference, 3))
    if len(kept) < max(n_stars_min, 1):
        raise UserError(
            f"{len(kept)} of {n_tried} stars can be used to measure the PSF of the HST image, but "
            f"{max(n_stars_min, 1)} are needed, alike, and with their surroundings in the image: "
            "give the PSF as a file or as a Moffat, or lower the size of its image"
        )
    return kept


def _choose_oversampling(scale, count):
    """Return the sampling of the PSF for a size of HST pixels (arcsec) and a number of stars."""
    wanted = min(int(np.ceil(scale / _WELL_SAMPLED - 0.01)), _MAX_OVERSAMPLING)
    return max(n for n in range(1, wanted + 1) if n == 1 or count >= 2 * n**2)


def _effective_psf(images, oversampling):
    """Return the effective PSF of some stars."""
    from photutils.psf import EPSFBuilder, EPSFStar, EPSFStars

    stars = EPSFStars(
        [
            EPSFStar(data, weights=used.astype(float), cutout_center=position)
            for data, used, position in images
        ]
    )
    builder = EPSFBuilder(oversampling=oversampling, maxiters=_ITERATIONS, progress_bar=False)
    with warnings.catch_warnings():
        # It tells which stars could not be fitted, and whether the last change was small enough.
        warnings.simplefilter("ignore", AstropyWarning)
        try:
            psf, _ = builder(stars)
        except (ValueError, RuntimeError) as exc:
            raise UserError(
                f"the PSF of the HST image cannot be built from its {len(images)} stars ({exc}); "
                "give it as a file, or as a Moffat"
            ) from exc
    return psf.data


def _completed(psf, wings):
    """Return the PSF with the wings that its image cuts off."""
    exponent, constant = _outskirts(psf, wings)
    complete = None
    try:
        complete = ImagePSF(psf.data - constant, psf.pixel_scale).with_wings(exponent)
    except UserError as exc:
        log.debug("%s", exc)
    if complete is None or complete.beta > _MAX_BETA:
        raise UserError(
            "the stars found in the HST image have no wings; they may be cosmic rays, or too faint "
            "to measure the PSF: give it as a file or as a Moffat, or say where the stars are"
        )
    return complete


def _outskirts(psf, exponent):
    """
    Tell the wings of a PSF image from its background.

    The background of each star was measured where its wings still shine, so that too much was
    subtracted. Outside the core the PSF is taken to be a power law, which bends over within the
    core radius as a Moffat does, plus a constant.

    Parameters
    ----------
    psf : `ImagePSF`
        The PSF.
    exponent : float or None
        Exponent of the power law; None to fit it, with the usual one as a prior.

    Returns
    -------
    exponent, constant : float
    """
    radius, value, error = _rings(psf)
    core2 = core_radius(psf.fwhm, psf.beta) ** 2
    best = (np.inf, exponent, 0.0)
    for trial in _EXPONENTS if exponent is None else [exponent]:
        law = (radius**2 + core2) ** (-0.5 * trial)
        design = np.stack([law, np.ones_like(law)], axis=1) / error[:, None]
        solution = np.linalg.lstsq(design, value / error, rcond=None)[0]
        chi2 = np.sum((value / error - design @ solution) ** 2)
        chi2 += ((trial - _EXPONENT[0]) / _EXPONENT[1]) ** 2
        if chi2 < best[0]:
            best = (chi2, float(trial), float(solution[1]))
    return best[1:]


def _rings(psf):
    """Return radius (arcsec), median, and its error, in rings around the core of a PSF image."""
    ny, nx = psf.data.shape
    x, y = psf.centre
    distance = np.hypot(np.arange(nx)[None, :] - x, np.arange(ny)[:, None] - y) * psf.pixel_scale
    edge = 0.5 * min(nx, ny) * psf.pixel_scale
    limits = np.linspace(_WINGS * edge, edge, 20)
    rings = [(distance >= a) & (distance < b) for a, b in zip(limits, limits[1:])]
    rings = [ring for ring in rings if np.count_nonzero(ring) > 8]
    radius = np.array([distance[ring].mean() for ring in rings])
    # Medians, because neighbours that were not masked are brighter than the wings.
    value = np.array([np.median(psf.data[ring]) for ring in rings])
    error = [
        1.4826 * np.median(np.abs(psf.data[ring] - v)) / np.sqrt(np.count_nonzero(ring))
        for ring, v in zip(rings, value)
    ]
    # No PSF is so smooth that a power law would fit it better than this.
    return radius, value, np.hypot(error, _ROUGHNESS * np.abs(value)) + 1e-12
