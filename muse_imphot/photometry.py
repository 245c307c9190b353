# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The fit of one MUSE image, from files or images to a result.
"""

import dataclasses
import logging
import os
import warnings

import numpy as np
from astropy import units as u
from astropy.table import QTable

from .exceptions import FitQualityWarning
from .fitting import FitOptions, fit_image
from .fitting.gates import SCORE_LIMIT, SERIOUS, judge
from .io import read_hst_image, read_muse_image, source_name
from .masks import MaskMaker, faint_pixels
from .models import EXTRA_TERMS
from .models.pixel import optical_fwhm
from .results import FitImages, FittedImagePhotometry, FittedValue, sky_offsets
from .template import HstPSF, Template, is_template_file, make_template, read_template

__all__ = ["fit_image_photometry", "load_template"]

log = logging.getLogger(__name__)

# Sky kept around the field for the wings of sources outside it, and for reading the HST image.
_MARGIN = 5.0


def fit_image_photometry(
    hst,
    muse,
    regions=None,
    fix_scale=None,
    fix_bg=None,
    fix_dx=None,
    fix_dy=None,
    fix_fwhm=None,
    fix_beta=None,
    *,
    min_scale=0.0,
    hst_fwhm=None,
    hst_beta=None,
    hst_unit=None,
    star=None,
    segment=False,
    extramask=None,
    init_dx=None,
    init_dy=None,
    max_offset=12.0,
    correct_template_noise=True,
    free=(),
    reject=True,
    name=None,
):
    """
    Fit the PSF, the flux calibration and the pointing of a MUSE image, with HST as template.

    The model is ``MUSE = scale * HST (x) PSF, moved by (dx, dy), + bg``; the PSF is a Moffat
    that includes the MUSE pixel.

    Parameters
    ----------
    hst : path-like, `~astropy.nddata.CCDData` or `Template`
        The HST image, on any grid; or a template that was made before for the same MUSE grid.
    muse : path-like or `~astropy.nddata.CCDData`
        The MUSE image.
    regions : str or iterable of str, optional
        A ds9 region file, or its lines: pixels inside excluded regions, or outside all included
        ones, are left out. ``"star"`` uses only the circle of ``star``, ``"notstar"`` everything
        but that circle. The default uses all pixels.
    fix_scale, fix_bg, fix_dx, fix_dy, fix_fwhm, fix_beta : float or Quantity, optional
        Values at which parameters are held: ``fix_bg`` in the unit of the MUSE image, ``fix_dx``,
        ``fix_dy`` and ``fix_fwhm`` in arcsec.
    min_scale : float, optional
        Lowest scale allowed.
    hst_fwhm, hst_beta : float or Quantity, optional
        The Moffat PSF of the HST image, pixel included; FWHM in arcsec. The default is 0.085
        arcsec and 1.6, or what the template was made with.
    hst_unit : str or `~astropy.units.Unit`, optional
        Unit of the HST image, where its header does not say it or is wrong.
    star : tuple of float, optional
        Right ascension and declination (degrees) and radius (arcsec) of a circle.
    segment : bool, optional
        Leave out the pixels in which the HST image is fainter than its median.
    extramask : path-like or array, optional
        Mask on the MUSE grid, zero for good pixels.
    init_dx, init_dy : float or Quantity, optional
        Starting offsets (arcsec). The default is to search for them.
    max_offset : float, optional
        Largest pointing error to search for (arcsec).
    correct_template_noise : bool, optional
        Take the bias out that the noise of the HST image would cause. The noise is measured in
        the empty sky of that image.
    free : iterable of str, optional
        Terms to fit besides the usual six: ``"rotation"``, ``"magnification"``, ``"bg_x"``,
        ``"bg_y"``, ``"e1"``, ``"e2"``; see `~muse_imphot.models.TemplateImage2D`.
    reject : bool, optional
        Find sources that do not follow the model (stars that moved, quasars that varied, cosmic
        rays), list them with the result, and leave them out.
    name : str, optional
        Name of the result; the name of the MUSE file if not given.

    Returns
    -------
    result : `~muse_imphot.FittedImagePhotometry`

    Raises
    ------
    UserError
        Of one of its kinds (`muse_imphot.exceptions`), if a file, a mask or an option cannot be
        used, if the images do not overlap, or if they do not determine a fit.

    Examples
    --------
    >>> from muse_imphot import fit_image_photometry
    >>> result = fit_image_photometry("hst_F606W.fits", "muse_F606W.fits")  # doctest: +SKIP
    >>> print(result.fwhm, result.dx, result.dy)  # doctest: +SKIP
    """
    fixed = {
        "scale": _plain(fix_scale),
        "bg": fix_bg,
        "dx": _plain(fix_dx, u.arcsec),
        "dy": _plain(fix_dy, u.arcsec),
        "fwhm": _plain(fix_fwhm, u.arcsec),
        "beta": _plain(fix_beta),
    }
    start = _plain(init_dx, u.arcsec), _plain(init_dy, u.arcsec)
    name = name or source_name(muse)
    muse = read_muse_image(muse)
    fixed["bg"] = _plain(fix_bg, muse.unit)
    largest = max([max_offset, *(abs(v) for v in (*start, fixed["dx"], fixed["dy"]) if v)])
    template = load_template(
        hst, muse, hst_unit=hst_unit, max_offset=largest, measure_noise=correct_template_noise
    )
    if not correct_template_noise:
        template = dataclasses.replace(template, noise=None)
    template = _with_psf(template, _plain(hst_fwhm, u.arcsec), _plain(hst_beta))
    fit = fit_image(
        template,
        muse.data,
        None if muse.uncertainty is None else np.sqrt(muse.uncertainty.array),
        ~muse.mask,
        exclude=_exclusion(muse, template, regions, star, segment, extramask),
        options=FitOptions(
            fixed=fixed,
            free=free,
            start=start,
            min_scale=min_scale,
            max_offset=max_offset,
            reject=reject,
        ),
    )
    result = _result(fit, muse, template, name)
    _warn(result)
    return result


def load_template(
    hst, muse, *, hst_unit=None, max_offset=12.0, filter_info=None, measure_noise=True
):
    """
    Return the template for a MUSE image, from whatever is given as the HST image.

    Parameters
    ----------
    hst : path-like, `~astropy.nddata.CCDData` or `Template`
        An HST image, a template file, or a template.
    muse : `~astropy.nddata.CCDData`
        The MUSE image.
    hst_unit : str or `~astropy.units.Unit`, optional
        Unit of the HST image, where its header does not say it or is wrong.
    max_offset : float, optional
        Largest pointing error to allow for (arcsec).
    filter_info : `~muse_imphot.HstFilterInfo`, optional
        Filter and zero point, where the header does not have them.
    measure_noise : bool, optional
        Whether to measure the noise of an HST image.

    Returns
    -------
    template : `Template`
    """
    if isinstance(hst, Template):
        return hst
    if isinstance(hst, str | os.PathLike) and is_template_file(hst):
        return read_template(hst, muse)
    around = (muse.wcs, muse.data.shape, max_offset + 2 * _MARGIN)
    image = read_hst_image(hst, around=around, unit=hst_unit)
    return make_template(
        image,
        muse,
        filter_info=filter_info,
        max_offset=max_offset,
        margin=_MARGIN,
        measure_noise=measure_noise,
    )


def _exclusion(muse, template, regions, star, segment, extramask):
    """
    Return the function that says which pixels to leave out at an offset; None if none are.

    Masks given on the sky belong to the HST image, whose coordinates are trusted, and move with the
    offset; masks given in MUSE pixels stay.
    """
    maker = MaskMaker(
        muse.data.shape, muse.wcs, regions=regions, star=star, extramask=extramask, header=muse.meta
    )
    first = maker.at()
    for line in first.describe():
        log.info("left out: %s", line)
    if not first.reasons and not segment:
        return None
    faint = faint_pixels(template.on_muse_grid().data) if segment else None

    def exclude(shift):
        dy, dx = shift
        excluded = maker.at((dx, dy)).excluded
        if faint is None:
            return excluded
        return excluded | np.roll(faint, (round(dy), round(dx)), axis=(0, 1))

    return exclude


def _plain(value, unit=u.dimensionless_unscaled):
    """Return a float from a float or a quantity; None stays None."""
    if value is None:
        return None
    return float(value.to_value(unit)) if isinstance(value, u.Quantity) else float(value)


def _with_psf(template, fwhm, beta):
    """Return the template with another HST PSF, if one is given."""
    if fwhm is None and beta is None:
        return template
    psf = HstPSF(
        template.psf.fwhm if fwhm is None else fwhm, template.psf.beta if beta is None else beta
    )
    return dataclasses.replace(template, psf=psf)


def _result(fit, muse, template, name):
    """Turn the outcome of the fit into a result."""
    stdev = dict(zip(fit.free, np.sqrt(np.diag(fit.covariance))))
    values = {
        key: FittedValue(value, stdev.get(key), fixed=key not in fit.free)
        for key, value in fit.values.items()
    }
    extra = {key: values.pop(key) for key in EXTRA_TERMS}
    dra, ddec = sky_offsets(
        muse.wcs, muse.data.shape, values["dx"], values["dy"], _block(fit, ("dx", "dy"))
    )
    residual = (muse.data[fit.region] - fit.model)[fit.used]
    n_used, n_free = residual.size, len(fit.free)
    return FittedImagePhotometry(
        name=name,
        filter=template.filter_name,
        **values,
        dra=dra,
        ddec=ddec,
        fwhm_optical=_without_pixel(fit, template),
        rms_error=float(np.sqrt(np.mean(residual**2))),
        rchi=fit.info.chi2 / max(n_used - n_free, 1),
        flags=judge(fit),
        covariance=fit.covariance,
        parameter_names=fit.free,
        unit=muse.unit,
        n_pixels=n_used,
        n_evaluations=fit.info.nfev,
        pivot=template.pivot,
        extra={key: value for key, value in extra.items() if key in fit.free},
        outliers=_outliers_on_sky(fit.outliers, muse.wcs),
        meta=_provenance(fit, template),
        images=_images(fit, muse, template),
    )


def _outliers_on_sky(outliers, wcs):
    """Return the sources that were left out as a table with their coordinates; None if none."""
    if not outliers:
        return None
    table = QTable([dataclasses.asdict(outlier) for outlier in outliers])
    sky = wcs.pixel_to_world(table["x"], table["y"]).icrs
    table.add_columns([sky.ra, sky.dec], names=["ra", "dec"], indexes=[2, 2])
    for name in ("dx", "dy", "radius"):
        table[name].unit = u.arcsec
    return table


def _block(fit, names):
    """Return the covariance of some parameters, zero where one was fixed."""
    block = np.zeros((len(names), len(names)))
    for i, first in enumerate(names):
        for j, second in enumerate(names):
            if first in fit.free and second in fit.free:
                block[i, j] = fit.covariance[fit.free.index(first), fit.free.index(second)]
    return block


def _without_pixel(fit, template):
    """Return the FWHM without the MUSE pixel, with its error."""
    pixel = float(np.mean(template.pixel_scale))
    point = np.array([fit.values["fwhm"], fit.values["beta"]])
    value = optical_fwhm(*point, pixel)
    slopes = []
    for step in ((1e-4, 0.0), (0.0, 1e-4 * point[1])):
        change = optical_fwhm(*(point + step), pixel) - optical_fwhm(*(point - step), pixel)
        slopes.append(change / (2.0 * sum(step)))
    variance = np.array(slopes) @ _block(fit, ("fwhm", "beta")) @ np.array(slopes)
    fixed = "fwhm" not in fit.free and "beta" not in fit.free
    return FittedValue(value, float(np.sqrt(variance)), fixed=fixed)


def _images(fit, muse, template):
    """Collect the images behind the fit, with the errors that the residual shows."""
    return FitImages(
        data=muse.data[fit.region],
        model=fit.model,
        sigma=fit.sigma * np.sqrt(fit.core_variance),
        used=fit.used,
        wcs=muse.wcs[fit.region],
        pixel_scale=float(np.mean(template.pixel_scale)),
        hst_psf=(template.psf.fwhm, template.psf.beta),
    )


def _provenance(fit, template):
    """Say how the fit came about."""
    meta = {
        "convergence": fit.info.message,
        "hst_fwhm": template.psf.fwhm,
        "hst_beta": template.psf.beta,
        "hst_overlap": template.overlap,
        "noise_variance_ratio": float(fit.core_variance),
    }
    if fit.info.at_bound:
        meta["at_bound"] = list(fit.info.at_bound)
    significant = {s.name: s for s in fit.scores if abs(s.significance) > SCORE_LIMIT}
    if significant:
        meta["missing_terms"] = {
            name: {"estimate": float(s.estimate), "significance": float(s.significance)}
            for name, s in significant.items()
        }
    if template.noise is not None:
        meta["template_noise_share"] = fit.template_variance
        if fit.info.correction is not None:
            moved = dict(zip(fit.free, map(float, fit.info.correction)))
            meta["template_noise_correction"] = moved
    if fit.guess is not None:
        meta["start_correlation"] = fit.guess.correlation
        meta["start_significance"] = fit.guess.significance
    return meta


def _warn(result):
    """Say aloud what should not be overlooked."""
    serious = result.flags & SERIOUS
    if serious:
        words = "; ".join(serious.describe())
        warnings.warn(f"{result.name} {result.filter}: {words}", FitQualityWarning, stacklevel=3)
