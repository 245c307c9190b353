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

from .exceptions import FitQualityWarning, UserError
from .fitting import FitOptions, fit_image
from .fitting.gates import SCORE_LIMIT, SERIOUS, judge
from .io import read_hst_image, read_muse_image, source_name
from .masks import MaskMaker, faint_pixels
from .models import EXTRA_TERMS, moffat_transform
from .models.pixel import optical_fwhm
from .results import FitImages, FittedImagePhotometry, FittedValue, sky_offsets
from .template import (
    HstPSF,
    Template,
    Turn,
    is_template_file,
    make_template,
    read_template,
)

__all__ = ["TemplateSource", "fit_image_photometry", "load_template"]

log = logging.getLogger(__name__)

# Sky kept around the field for the wings of sources outside it, and for reading the HST image.
_MARGIN = 5.0

# The model takes rotations to first order, which is exact enough below this (degrees).
_SMALL_ROTATION = 0.01
_MAX_REFINEMENTS = 8

# PSFs that pass more than this beyond 1.48 times the Nyquist frequency need a finer template.
_SHARP = 5e-4


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
    bootstrap=0,
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
    bootstrap : int, optional
        Number of draws of a block bootstrap, an independent check of the errors; its standard
        deviations are ``result.meta["bootstrap"]``.
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
        "scale": _number("fix_scale", fix_scale, above=0.0),
        "dx": _number("fix_dx", fix_dx, u.arcsec),
        "dy": _number("fix_dy", fix_dy, u.arcsec),
        "fwhm": _number("fix_fwhm", fix_fwhm, u.arcsec, above=0.0),
        "beta": _number("fix_beta", fix_beta, above=1.0),
    }
    start = _number("init_dx", init_dx, u.arcsec), _number("init_dy", init_dy, u.arcsec)
    psf = (
        _number("hst_fwhm", hst_fwhm, u.arcsec, above=0.0),
        _number("hst_beta", hst_beta, above=1.0),
    )
    max_offset = _number("max_offset", max_offset, u.arcsec, above=0.0)
    min_scale = _number("min_scale", min_scale)
    name = name or source_name(muse)
    muse = read_muse_image(muse)
    fixed["bg"] = _number("fix_bg", fix_bg, muse.unit)
    if all(value is not None for value in fixed.values()) and not free:
        raise UserError("all parameters are fixed (fix_scale, ...): nothing is left to fit")
    largest = max([max_offset, *(abs(v) for v in (*start, fixed["dx"], fixed["dy"]) if v)])
    source = TemplateSource(
        hst, muse, hst_unit=hst_unit, max_offset=largest, measure_noise=correct_template_noise
    )
    template = _with_psf(source.make(), *psf)
    exclude = _exclusion(muse, template, regions, star, segment, extramask)
    options = FitOptions(
        fixed=fixed,
        free=free,
        start=start,
        min_scale=min_scale,
        max_offset=max_offset,
        reject=reject,
        bootstrap=int(bootstrap),
    )
    sigma = None if muse.uncertainty is None else np.sqrt(muse.uncertainty.array)
    fit = fit_image(template, muse.data, sigma, ~muse.mask, exclude=exclude, options=options)
    for _ in range(_MAX_REFINEMENTS):
        better = source.better(template, fit)
        if better is None:
            break
        template = _with_psf(source.make(**better), *psf)
        options = dataclasses.replace(options, start=(fit.values["dx"], fit.values["dy"]))
        guess = fit.guess
        fit = fit_image(template, muse.data, sigma, ~muse.mask, exclude=exclude, options=options)
        fit.guess = guess
    result = _result(fit, muse, template, name)
    _warn(result)
    return result


def load_template(hst, muse, **options):
    """
    Return the template for a MUSE image, from whatever is given as the HST image.

    Parameters
    ----------
    hst : path-like, `~astropy.nddata.CCDData` or `Template`
        An HST image, a template file, or a template.
    muse : `~astropy.nddata.CCDData`
        The MUSE image.
    **options
        As for `TemplateSource`.

    Returns
    -------
    template : `Template`
    """
    return TemplateSource(hst, muse, **options).make()


class TemplateSource:
    """
    Where the template of a fit comes from, and how to make a better one if the fit asks for it.

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
        Whether to measure the noise of an HST image, or to use that of a template.
    """

    def __init__(
        self, hst, muse, *, hst_unit=None, max_offset=12.0, filter_info=None, measure_noise=True
    ):
        self._muse = muse
        self._template = self._image = None
        self._options = {
            "filter_info": filter_info,
            "max_offset": max_offset,
            "margin": _MARGIN,
            "measure_noise": measure_noise,
        }
        if isinstance(hst, Template):
            self._template = hst.for_image(muse)
        elif isinstance(hst, str | os.PathLike) and is_template_file(hst):
            self._template = read_template(hst, muse)
        else:
            around = (muse.wcs, muse.data.shape, max_offset + 2 * _MARGIN)
            self._image = read_hst_image(hst, around=around, unit=hst_unit)
        if self._template is not None and not measure_noise:
            self._template = dataclasses.replace(self._template, noise=None)

    def make(self, **changes):
        """
        Make the template.

        Parameters
        ----------
        **changes
            ``oversample`` and ``turn`` of `~muse_imphot.template.make_template`.

        Returns
        -------
        template : `Template`
        """
        if self._template is not None:
            return self._template
        return make_template(self._image, self._muse, **self._options, **changes)

    def better(self, template, fit):
        """
        Say how the template should be made for the solution of a fit.

        Parameters
        ----------
        template : `Template`
            The template of the fit.
        fit : `~muse_imphot.fitting.ImageFit`
            The fit.

        Returns
        -------
        changes : dict or None
            What to give to `make`; None if the template is good enough, or cannot be made again.
        """
        turn, oversample = template.turn, template.oversample
        if {"rotation", "magnification"} & set(fit.free):
            found = Turn(fit.values["rotation"], fit.values["magnification"])
            if abs(found.rotation - turn.rotation) > _SMALL_ROTATION or (
                abs(found.magnification - turn.magnification) > np.radians(_SMALL_ROTATION)
            ):
                turn = found
        psf = fit.values["fwhm"], fit.values["beta"]
        # Beyond 1.48 times the Nyquist frequency of the pixels, a grid that is only twice as fine
        # mixes frequencies up.
        frequency = 1.48 * 0.5 / max(template.pixel_scale)
        if oversample < 3 and moffat_transform([frequency], *psf)[0] > _SHARP:
            oversample = 3
        if (turn, oversample) == (template.turn, template.oversample):
            return None
        if self._image is None:
            log.warning(
                "the template was made before the fit, and cannot be adapted to a PSF of %.2f "
                "arcsec or a rotation of %.2f deg; give the HST image itself",
                psf[0], turn.rotation,
            )  # fmt: skip
            return None
        return {"turn": turn, "oversample": oversample}


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


def _number(name, value, unit=u.dimensionless_unscaled, above=-np.inf):
    """Return an option as a float in a unit; None stays None."""
    if value is None:
        return None
    try:
        number = float(value.to_value(unit) if isinstance(value, u.Quantity) else value)
    except (TypeError, ValueError, u.UnitConversionError) as exc:
        wanted = f"a number in {unit}" if unit != u.dimensionless_unscaled else "a plain number"
        raise UserError(f"{name}: {value!r} was given; {wanted} is needed") from exc
    if not np.isfinite(number) or number <= above:
        limit = f" above {above:g}" if np.isfinite(above) else ""
        raise UserError(f"{name}: {number:g} was given; a finite number{limit} is needed")
    return number


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
        # Of a filter that leaves the cube, only a part is in the image.
        pivot=float(muse.meta.get("IMPPIV", template.pivot)),
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
    if fit.bootstrap_covariance is not None:
        stdev = np.sqrt(np.diag(fit.bootstrap_covariance))
        meta["bootstrap"] = dict(zip(fit.free, map(float, stdev)))
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
