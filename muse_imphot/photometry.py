# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The fit of one MUSE image, from files or images to a result.
"""

import dataclasses
import logging
import warnings
from collections.abc import Mapping

import numpy as np
from astropy import units as u
from astropy.table import QTable

from ._filters import compare_filters
from ._numbers import read_number
from .exceptions import FitQualityWarning, UserError
from .fitting import FitOptions, fit_image
from .fitting.gates import SCORE_LIMIT, SERIOUS, judge, refuse_chance
from .io import read_muse_image, source_name
from .io.headers import observation_meta
from .masks import MaskMaker, faint_pixels
from .models import EXTRA_TERMS
from .products import planned_products
from .results import FitImages, FittedImagePhotometry, FittedValue, sky_offsets
from .results.derived import covariance_block, fwhm_without_pixel
from .template import ImagePSF
from .template_source import TemplateSource, load_template, template_source

__all__ = ["TemplateSource", "fit_image_photometry", "load_template"]

log = logging.getLogger(__name__)

_MAX_REFINEMENTS = 8

# An error of dra or ddec that is this part of the other is that of a fixed offset.
_NOTHING = 1e-3

# Unit and lowest value of what can be held; a unit of None is that of the MUSE image.
_FIXED = {
    "scale": (u.dimensionless_unscaled, 0.0),
    "bg": (None, -np.inf),
    "dx": (u.arcsec, -np.inf),
    "dy": (u.arcsec, -np.inf),
    "fwhm": (u.arcsec, 0.0),
    "beta": (u.dimensionless_unscaled, 1.0),
}


def fit_image_photometry(
    hst, muse, regions=None,
    fix_scale=None, fix_bg=None, fix_dx=None, fix_dy=None, fix_fwhm=None, fix_beta=None,
    min_scale=0.0, hst_fwhm=None, hst_beta=None, margin=None, segment=False,
    display=False, nowait=False, hardcopy=None, title=None, star=None, save=False, fig=None,
    taper=None, apply=False, resample=False, extramask=None, init_dx=None, init_dy=None,
    *,
    hst_psf=None, hst_unit=None, hst_weight=None, max_offset=12.0, correct_template_noise=True,
    free=(), reject=True, bootstrap=0, name=None, overwrite=False,
):  # fmt: skip
    """
    Fit the PSF, the flux calibration and the pointing of a MUSE image, with HST as template.

    The model is ``MUSE = scale * HST (x) PSF, moved by (dx, dy), + bg``; the PSF is a Moffat
    that includes the MUSE pixel.

    Parameters
    ----------
    hst : path-like, `~astropy.nddata.CCDData`, `Template` or `TemplateSource`
        The HST image, on any grid; or a template that was made before for the same MUSE grid; or
        a source of templates for this MUSE image, with options of its own for the HST image.
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
    margin : float, optional
        Accepted from scripts for imphot, without effect: the template brings the sky around the
        field along.
    segment : bool, optional
        Leave out the pixels in which the HST image is fainter than its median.
    display : bool, optional
        Show the figure of the fit in a window.
    nowait : bool, optional
        Go on while the window is open, instead of waiting until it is closed.
    hardcopy : str, optional
        Draw the figure into a file of this format, such as ``"pdf"``: ``<name>_image_fit.pdf``.
        This and all other files are written beside the MUSE image, whose name they begin with;
        or, for an image in memory, into the current folder.
    title : str, optional
        Title of the figure. The default is the name of the result and the filter; an empty text
        is no title.
    star : tuple of float, optional
        Right ascension and declination (degrees) and radius (arcsec) of a circle.
    save : bool, optional
        Write the images behind the fit: ``<name>_image.fits``, ``_hst_model`` and ``_residual``,
        and the absolute values of their Fourier transforms, ``_fft``, ``_hst_model_fft`` and
        ``_residual_fft``.
    fig : `~matplotlib.figure.Figure`, optional
        A figure to clear, and to draw in.
    taper : float, optional
        Accepted from scripts for imphot, without effect: nothing is tapered, because masked pixels
        are left out.
    apply : bool, optional
        Write the MUSE image with its pointing, background and flux scale corrected,
        ``<name>_aligned.fits``; see `~muse_imphot.apply_corrections`.
    resample : bool, optional
        With ``apply``: move the pixels instead of changing the coordinates.
    extramask : path-like or array, optional
        Mask on the MUSE grid, zero for good pixels.
    init_dx, init_dy : float or Quantity, optional
        Starting offsets (arcsec). The default is to search for them.
    hst_psf : tuple, path-like, 2D array, `HstPSF`, `ImagePSF`, dict or str, optional
        The PSF of the HST image, in place of ``hst_fwhm`` and ``hst_beta``: these two, or an image
        of the PSF in the pixel frame of the HST image (see
        `~muse_imphot.template.read_hst_psf`), or ``"stars"``, which measures it
        (`~muse_imphot.template.measure_hst_psf`); or a dict from HST filters to any of these.
        If a template is given as ``hst``, an `ImagePSF` is taken to be in the axes of MUSE.
    hst_unit : str or `~astropy.units.Unit`, optional
        Unit of the HST image, where its header does not say it or is wrong.
    hst_weight : path-like or dict, optional
        FITS file of the weights of the HST image, on the same pixels, if they are not an extension
        ``WHT`` of its own file; or a dict from HST filters to such files. They tell how its noise
        varies.
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
    overwrite : bool, optional
        Whether files that exist may be replaced. If not, they are refused before the fit.

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
    psfs = hst_psf.values() if isinstance(hst_psf, Mapping) else [hst_psf]
    weights = hst_weight.values() if isinstance(hst_weight, Mapping) else [hst_weight]
    inputs = [hst, muse, regions, extramask, *psfs, *weights]
    name = name or source_name(muse)
    products = planned_products(
        muse, name, hardcopy=hardcopy, save=save, apply=apply, resample=resample, title=title,
        fig=fig, display=display, nowait=nowait, overwrite=overwrite,
    )  # fmt: skip
    _say_needless(margin=margin, taper=taper)
    muse = read_muse_image(muse)
    products.check(inputs)
    options = _fit_options(
        muse.unit,
        fixed=(fix_scale, fix_bg, fix_dx, fix_dy, fix_fwhm, fix_beta),
        start=(init_dx, init_dy),
        min_scale=min_scale,
        max_offset=max_offset,
        free=free,
        reject=reject,
        bootstrap=bootstrap,
    )
    source = template_source(
        hst, muse, hst_unit=hst_unit, hst_weight=hst_weight, max_offset=_reach(options),
        measure_noise=correct_template_noise, hst_psf=hst_psf, hst_fwhm=hst_fwhm,
        hst_beta=hst_beta,
    )  # fmt: skip
    compare_filters(name, muse.meta, source.make().filter_name)
    masks = _Masks(muse, regions=regions, star=star, extramask=extramask, segment=segment)
    fit, template = _fit(source, muse, masks, options)
    result = _result(fit, muse, template, name)
    result.meta["hst_psf"] = source.psf_words
    if masks.words:
        result.meta["masked"] = masks.words
    _warn(result)
    products.write(result, muse)
    return result


def _fit_options(unit, *, fixed, start, max_offset, min_scale, free, reject, bootstrap):
    """Check what to fit, and how."""
    values = {
        name: read_number(f"fix_{name}", value, of or unit, above=above)
        for (name, (of, above)), value in zip(_FIXED.items(), fixed)
    }
    options = FitOptions(
        fixed=values,
        free=free,
        start=tuple(
            read_number(name, value, u.arcsec) for name, value in zip(("init_dx", "init_dy"), start)
        ),
        min_scale=read_number("min_scale", min_scale),
        max_offset=read_number("max_offset", max_offset, u.arcsec, above=0.0),
        reject=reject,
        bootstrap=int(bootstrap),
    )
    if len(options.fixed) == len(_FIXED) and not options.free:
        raise UserError("all parameters are fixed (fix_scale, ...): nothing is left to fit")
    return options


def _reach(options):
    """Return the largest offset that the fit can start from."""
    given = (*options.start, options.fixed.get("dx"), options.fixed.get("dy"))
    return max([options.max_offset, *(abs(value) for value in given if value)])


def _say_needless(**options):
    """Tell about options of imphot that nothing depends on."""
    for name, value in options.items():
        if value is not None:
            log.info("%s has no effect: the fit does without it", name)


def _fit(source, muse, masks, options):
    """Fit, with a template that suits the solution; return the fit and the template."""
    template = source.make()
    exclude = masks.exclusion(template)
    good = ~muse.mask & ~masks.extra
    sigma = None if muse.uncertainty is None else np.sqrt(muse.uncertainty.array)
    fit = fit_image(template, muse.data, sigma, good, exclude=exclude, options=options)
    for _ in range(_MAX_REFINEMENTS):
        better = source.better(template, fit)
        if better is None:
            break
        template = source.make(**better)
        options = dataclasses.replace(options, start=(fit.values["dx"], fit.values["dy"]))
        guess = fit.guess
        fit = fit_image(template, muse.data, sigma, good, exclude=exclude, options=options)
        fit.guess = guess
    return fit, template


class _Masks:
    """
    What the user leaves out of a fit.

    Parameters
    ----------
    muse : `~astropy.nddata.CCDData`
        The MUSE image.
    regions, star, extramask, segment
        As for `fit_image_photometry`.

    Attributes
    ----------
    extra : 2D bool `~numpy.ndarray`
        Pixels that are left out whatever the offset.
    words : list of str
        What is left out, and why.
    """

    def __init__(self, muse, *, regions, star, extramask, segment):
        self._muse, self._segment = muse, segment
        self._given = {"regions": regions, "star": star, "header": muse.meta}
        extra = MaskMaker(muse.data.shape, muse.wcs, extramask=extramask).at()
        self.extra, self.words = extra.excluded, []
        self._note(extra)

    def _note(self, mask):
        for line in mask.describe():
            log.info("left out: %s", line)
            self.words.append(line)

    def exclusion(self, template):
        """
        Return the function that says which pixels to leave out at an offset; None if none are.

        Masks given on the sky belong to the HST image, whose coordinates are trusted, and move with
        the offset, as does what is faint in the HST image; regions given in pixels stay.
        """
        faint = None
        if self._segment:
            image = template.on_muse_grid()
            faint = faint_pixels(image.data, image.mask)
        muse = self._muse
        maker = MaskMaker(muse.data.shape, muse.wcs, faint=faint, **self._given)
        first = maker.at()
        self._note(first)
        if not first.reasons:
            return None
        return lambda shift: maker.at(shift[::-1]).excluded


def _result(fit, muse, template, name):
    """Turn the outcome of the fit into a result."""
    stdev = dict(zip(fit.free, np.sqrt(np.diag(fit.covariance))))
    values = {
        key: FittedValue(value, stdev.get(key), fixed=key not in fit.free)
        for key, value in fit.values.items()
    }
    extra = {key: values.pop(key) for key in EXTRA_TERMS}
    dra, ddec = _sky_offsets(fit, muse, values["dx"], values["dy"])
    flags = judge(fit)
    refuse_chance(fit, flags)
    residual = (muse.data[fit.region] - fit.model)[fit.used]
    n_used, n_free = residual.size, len(fit.free)
    return FittedImagePhotometry(
        name=name,
        filter=template.filter_name,
        **values,
        dra=dra,
        ddec=ddec,
        fwhm_optical=fwhm_without_pixel(
            values["fwhm"],
            values["beta"],
            covariance_block(fit.covariance, fit.free, ("fwhm", "beta")),
            float(np.mean(template.pixel_scale)),
        ),
        rms_error=float(np.sqrt(np.mean(residual**2))),
        rchi=fit.info.chi2 / max(n_used - n_free, 1),
        flags=flags,
        covariance=fit.covariance,
        parameter_names=fit.free,
        unit=muse.unit,
        n_pixels=n_used,
        n_evaluations=fit.info.nfev,
        # Of a filter that leaves the cube, only a part is in the image.
        pivot=float(muse.meta.get("IMPPIV", template.pivot)),
        extra={key: value for key, value in extra.items() if key in fit.free},
        outliers=_outliers_on_sky(fit.outliers, muse.wcs),
        meta=observation_meta(muse.meta) | _provenance(fit, template),
        images=_images(fit, muse, template),
    )


def _sky_offsets(fit, muse, dx, dy):
    """Return dra and ddec; one that only a fixed offset contributes to is fixed, too."""
    covariance = covariance_block(fit.covariance, fit.free, ("dx", "dy"))
    offsets = sky_offsets(muse.wcs, muse.data.shape, dx, dy, covariance)
    largest = max(item.stdev for item in offsets)
    if not (dx.fixed or dy.fixed):
        return offsets
    return tuple(
        FittedValue(item.value, fixed=True) if item.stdev <= _NOTHING * largest else item
        for item in offsets
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


def _images(fit, muse, template):
    """Collect the images behind the fit, with the errors that the residual shows."""
    psf = template.psf
    return FitImages(
        data=muse.data[fit.region],
        model=fit.model,
        sigma=fit.sigma * np.sqrt(fit.core_variance),
        used=fit.used,
        wcs=muse.wcs[fit.region],
        pixel_scale=float(np.mean(template.pixel_scale)),
        hst_psf=psf if isinstance(psf, ImagePSF) else (psf.fwhm, psf.beta),
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
    if fit.agreement is not None:
        meta["sources"] = dataclasses.asdict(fit.agreement)
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
