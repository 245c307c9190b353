# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The fit of stars in a MUSE and an HST image, each at its own pixels.
"""

import logging
import warnings
from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord

from .._methods import star_terms
from ..exceptions import FitError, FitQualityWarning
from ..fitting.gates import SERIOUS
from ..fitting.stars import StarsFit, fit_stars
from ..fitting.stars.mean import deviant
from ..io import read_muse_image, source_name
from ..products import planned_products
from ..results.flags import FitFlags
from ..star_lists import prepare_stars
from ..template_source import weight_of
from .images import HST_RADIUS, MuseStars, hst_stars, muse_stars
from .results import collect

__all__ = ["StarPair", "fit_image_and_star_photometry", "fit_star_photometry"]

log = logging.getLogger(__name__)

# Stars of one image whose widths differ by less than this part of the FWHM are alike.
_ALIKE = {"muse": 0.02, "hst": 0.1}

# How often stars that are unlike the others are left out.
_MAX_REJECTIONS = 4


def fit_star_photometry(
    hst, muse, star=None, fix_fwhm=None, fix_beta=None, display=False, nowait=False,
    hardcopy=None, title=None, fig=None, apply=False, resample=False,
    *,
    stars=None, gaia=None, hst_psf=None, hst_fwhm=None, hst_beta=None, hst_unit=None,
    hst_weight=None, extramask=None, elliptical=False, integrate=False, background="constant",
    reject=True, filter_info=None, name=None, overwrite=False,
):  # fmt: skip
    """
    Fit stars, for the PSF, the flux calibration and the pointing of a MUSE image.

    In the MUSE image stars are Moffat profiles that include the MUSE pixel; in the HST image, at
    its original pixels, they are the HST PSF. All stars of an image share its PSF. The flux scale
    is the ratio of the fluxes in both images, the offset the difference of the positions; of
    several stars they are weighted means, whose errors grow where the stars scatter more than their
    errors explain.

    Parameters
    ----------
    hst : path-like, `~astropy.nddata.CCDData` or `Template`
        The HST image, on any grid; best the original one, because a template on the MUSE grid
        has lost resolution.
    muse : path-like or `~astropy.nddata.CCDData`
        The MUSE image.
    star : tuple of float, optional
        Right ascension and declination (degrees) and radius (arcsec) of a circle that holds one
        star. Either this or ``stars`` or ``gaia`` is needed.
    fix_fwhm, fix_beta : float or Quantity, optional
        Values at which FWHM (arcsec) and beta of the MUSE PSF are held.
    display, nowait, hardcopy, title, fig, apply, resample
        As for `fit_image_photometry`; the figure is ``<name>_star_fit``.
    stars : path-like, `~astropy.table.Table` or str, optional
        A list of stars, or ``"detect"``; see `~muse_imphot.star_lists.prepare_stars`.
    gaia : path-like or `~astropy.table.Table`, optional
        Sources of Gaia, whose proper motions take the stars to the epochs of the images. Stars
        without a motion then do not count for the offset.
    hst_psf : optional
        The PSF of the HST image, in all the forms that `fit_image_photometry` takes. Without it a
        Moffat is fitted to the stars.
    hst_fwhm, hst_beta : float or Quantity, optional
        Values at which FWHM (arcsec) and beta of that Moffat are held.
    hst_unit : str or `~astropy.units.Unit`, optional
        Unit of the HST image, where its header does not say it or is wrong.
    hst_weight : path-like or dict, optional
        FITS file of the weights of the HST image, on the same pixels, if they are not an extension
        ``WHT`` of its own file; or a dict from HST filters to such files.
    extramask : path-like or array, optional
        Mask on the MUSE grid, zero for good pixels.
    elliptical : bool, optional
        Fit the ellipticity of the MUSE PSF, too: ``e1``, ``e2`` of
        `~muse_imphot.models.TemplateImage2D`, which become part of ``result.extra``.
    integrate : bool, optional
        Let the MUSE PSF without the pixel be the Moffat, and integrate it over the pixels. The
        result has the FWHM with and without the pixel in any case (``fwhm`` and
        ``fwhm_optical``).
    background : {"constant", "plane"}, optional
        Whether the background around each star may have a slope. Those of MUSE are columns of
        ``result.stars``; ``bg_x``, ``bg_y`` of ``result.extra`` are those of the brightest star.
    reject : bool, optional
        Leave out stars that are unlike the others: wider (galaxies), of another flux ratio
        (variable stars), or at another place (moving stars). It takes three stars to tell.
    filter_info : `~muse_imphot.HstFilterInfo`, optional
        Filter and zero point, where the header of the HST image does not have them.
    name : str, optional
        Name of the result; the name of the MUSE file if not given.
    overwrite : bool, optional
        Whether files that exist may be replaced. If not, they are refused before the fit.

    Returns
    -------
    result : `~muse_imphot.FittedStarPhotometry`
        Where the HST image does not show any of the stars, the PSF is given all the same; scale
        and offsets are NaN, and ``NO_HST`` is among the flags.

    Raises
    ------
    UserError
        Of one of its kinds (`muse_imphot.exceptions`), if a file or an option cannot be used, or if
        no star can be fitted in the MUSE image.

    Examples
    --------
    >>> from muse_imphot import fit_star_photometry
    >>> star = (53.1606, -27.7801, 3.0)
    >>> result = fit_star_photometry("hst.fits", "muse.fits", star)  # doctest: +SKIP
    >>> print(result.scale, result.dx, result.dy)  # doctest: +SKIP
    """
    name = name or source_name(muse)
    products = planned_products(
        muse, name, method="stars", hardcopy=hardcopy, apply=apply, resample=resample,
        title=title, fig=fig, display=display, nowait=nowait, overwrite=overwrite,
    )  # fmt: skip
    hst_weight = weight_of(hst_weight, hst, filter_info)
    inputs = [hst, muse, stars, gaia, extramask, hst_psf, hst_weight]
    muse = read_muse_image(muse)
    products.check(inputs)
    target = muse_stars(
        muse, extramask=extramask, fwhm=fix_fwhm, beta=fix_beta, elliptical=elliptical,
        integrate=integrate, background=background,
    )  # fmt: skip
    source = hst_stars(
        hst, muse, psf=hst_psf, fwhm=hst_fwhm, beta=hst_beta, unit=hst_unit,
        weight=hst_weight, filter_info=filter_info,
    )  # fmt: skip
    table = prepare_stars(source.image, muse, stars=stars, star=star, gaia=gaia)
    fit = _fit(table, target, muse.wcs, source, reject)
    result = collect(fit, muse, source, name)
    _warn(result)
    products.write(result, muse)
    return result


def fit_image_and_star_photometry(
    hst, muse, star=None, regions="star",
    fix_scale=None, fix_bg=None, fix_dx=None, fix_dy=None, fix_fwhm=None, fix_beta=None,
    hst_fwhm=None, hst_beta=None, margin=None, segment=False,
    display=False, nowait=False, hardcopy=None, title=None, save=False, fig=None,
    *,
    stars=None, gaia=None, hst_psf=None, hst_unit=None, extramask=None,
    elliptical=False, integrate=False, background="constant",
    reject=True, name=None, overwrite=False, **options,
):  # fmt: skip
    """
    Fit a MUSE image as a whole, and stars in it.

    Parameters
    ----------
    hst, muse, star
        As for `fit_star_photometry`.
    regions
        As for `fit_image_photometry`. The default, ``"star"``, leaves only the circle of ``star``
        for the fit of the image, as imphot does; without ``star`` it stands for all pixels.
    fix_scale, fix_bg, fix_dx, fix_dy : float or Quantity, optional
        Values at which parameters of the fit of the image are held.
    fix_fwhm, fix_beta : float or Quantity, optional
        Values at which the PSF is held in both fits.
    hst_fwhm, hst_beta : float or Quantity, optional
        The Moffat PSF of the HST image, for the fit of the image. The fit of the stars determines
        that of its own.
    margin, segment, save
        As for `fit_image_photometry`.
    display, nowait, hardcopy, title, fig
        As for both. A figure that is given shows the stars in the end.
    stars, gaia, elliptical, integrate, background
        As for `fit_star_photometry`; what ``free`` has of ``e1``, ``e2``, ``bg_x`` and ``bg_y`` is
        fitted to the stars as well.
    hst_psf, hst_unit, extramask, reject, name, overwrite
        As for both.
    **options
        Further options of `fit_image_photometry`.

    Returns
    -------
    image_result : `~muse_imphot.FittedImagePhotometry`
    star_result : `~muse_imphot.FittedStarPhotometry`

    Raises
    ------
    UserError
        As for both.
    """
    from ..photometry import fit_image_photometry

    if star is None and regions in ("star", "notstar"):
        regions = None
    common = {
        "fix_fwhm": fix_fwhm, "fix_beta": fix_beta, "display": display, "nowait": nowait,
        "hardcopy": hardcopy, "title": title, "fig": fig, "hst_psf": hst_psf,
        "hst_unit": hst_unit, "extramask": extramask, "reject": reject, "name": name,
        "overwrite": overwrite,
    }  # fmt: skip
    image_result = fit_image_photometry(
        hst, muse, regions=regions, star=star, fix_scale=fix_scale, fix_bg=fix_bg,
        fix_dx=fix_dx, fix_dy=fix_dy, hst_fwhm=hst_fwhm, hst_beta=hst_beta, margin=margin,
        segment=segment, save=save, **common, **options,
    )  # fmt: skip
    shape = {"elliptical": elliptical, "background": background} | star_terms(options.get("free"))
    star_result = fit_star_photometry(
        hst, muse, star, stars=stars, gaia=gaia, integrate=integrate, **shape,
        hst_weight=options.get("hst_weight"), **common,
    )  # fmt: skip
    return image_result, star_result


@dataclass
class StarPair:
    """
    The fits of stars in both images.

    Attributes
    ----------
    table : `~astropy.table.QTable`
        The stars, see `~muse_imphot.star_lists.prepare_stars`.
    target : `~muse_imphot.star_photometry.images.MuseStars`
        How stars were fitted in the MUSE image.
    muse, hst : `~muse_imphot.fitting.stars.StarsFit`
        The fits; ``hst`` is None if that image shows no star.
    reasons : list of str
        Why stars were left out of the PSF; "" if they were not.
    reject : bool
        Whether stars unlike the others are to be left out.
    """

    table: object
    target: MuseStars
    muse: StarsFit
    hst: StarsFit
    reasons: list
    reject: bool


def _fit(table, target, wcs, source, reject):
    """Fit the stars in both images; leave out, one after the other, those unlike the others."""
    positions = {
        key: np.column_stack(at.world_to_pixel(SkyCoord(table[f"ra_{key}"], table[f"dec_{key}"])))
        for key, at in (("muse", wcs), ("hst", source.wcs))
    }
    radii = table["radius"].to_value(u.arcsec)
    reasons = [""] * len(table)
    for _ in range(_MAX_REJECTIONS + 1):
        skip = [i for i, reason in enumerate(reasons) if reason]
        muse = _fit_muse(target, positions["muse"], radii, skip)
        hst = _fit_hst(source, positions["hst"], radii, skip, plane=target.plane)
        found = _faint(muse) or (_unlike(muse, hst) if reject else {})
        if not found:
            break
        for i, reason in found.items():
            reasons[i] = reason
    return StarPair(table, target, muse, hst, reasons, reject)


def _fit_muse(target, positions, radii, skip):
    """Fit the stars in the MUSE image; there must be one."""
    if len(skip) == len(positions):
        raise FitError(
            "no star stands out of the noise of the MUSE image at the given positions; check them "
            "(right ascension and declination in degrees), or give brighter stars"
        )
    try:
        return fit_stars(
            target.field, positions, radii, target.profile, target.start, free=target.free,
            plane=target.plane, skip=skip,
        )  # fmt: skip
    except FitError as exc:
        raise FitError(
            f"MUSE image: {exc}; check the positions, the radius ({np.min(radii):g} arcsec) and "
            "the masks"
        ) from exc


def _fit_hst(source, positions, radii, skip, plane):
    """Fit the stars in the HST image; None if there are none."""
    skip = set(skip)
    while len(skip) < len(positions):
        try:
            fit = fit_stars(
                source.field, positions, np.minimum(radii, HST_RADIUS), source.profile,
                source.start, free=source.free, plane=plane, skip=sorted(skip), search=radii,
            )  # fmt: skip
        except FitError as exc:
            log.info("HST image: %s", exc)
            return None
        faint = set(np.flatnonzero(fit.shown & ~fit.seen).tolist())
        if not faint:
            return fit
        skip |= faint
    return None


def _faint(muse):
    """Return which stars cannot be used at all, with the reason."""
    return {int(i): "fainter than the noise" for i in np.flatnonzero(muse.shown & ~muse.seen)}


def _unlike(muse, hst):
    """Return which stars are wider or narrower than the others, with the reason."""
    found = {}
    for name, fit in (("muse", muse), ("hst", hst)):
        if fit is None or "fwhm" not in fit.shape:
            continue
        floor = _ALIKE[name] * fit.shape["fwhm"]
        for i in np.flatnonzero(deviant(fit.width, fit.width_err, fit.shown, floor)):
            word = "wider" if fit.width[i] > np.nanmedian(fit.width) else "narrower"
            found.setdefault(int(i), f"{word} than the other stars in {name.upper()}")
    return found


def _warn(result):
    """Say aloud what should not be overlooked."""
    serious = result.flags & (SERIOUS | FitFlags.NO_HST | FitFlags.NO_POINTING)
    if serious:
        words = "; ".join(serious.describe())
        if "other_offset" in result.meta:
            dx, dy = result.meta["other_offset"]
            words += (
                f"; both images also match at dx {dx:.1f}, dy {dy:.1f} arcsec: the star may be "
                "another source; check its position, or make its circle smaller"
            )
        warnings.warn(f"{result.name} {result.filter}: {words}", FitQualityWarning, stacklevel=3)
