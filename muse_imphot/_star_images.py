# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The two images of a fit of stars: what is fitted in each of them, with which PSF, in which unit.
"""

import os
from dataclasses import dataclass, replace

import numpy as np
from astropy import units as u
from astropy.wcs.utils import pixel_to_pixel

from ._numbers import read_number
from .bandpass import HstFilterInfo
from .fitting.stars_patches import StarField
from .fitting.stars_psf import ImageProfile, MoffatProfile
from .io import read_hst_image
from .io.headers import card_value
from .masks import MaskMaker
from .template import (
    HstPSF,
    ImagePSF,
    Template,
    is_template_file,
    measure_hst_psf,
    read_hst_psf,
    read_template,
)
from .template.geometry import grid_wcs, pixel_area, pixel_scales
from .template.regrid import flux_factor
from .template_source import refuse_both

__all__ = ["HstStars", "hst_stars", "muse_field"]

# Sky around the MUSE field in which stars of the HST image may be (arcsec).
_AROUND = 15.0

# The PSF of HST is narrow: farther from a star than this there is nothing to learn (arcsec).
HST_RADIUS = 1.5

# The Moffat to start from in an HST image: this one, or so many pixels.
_START = {"fwhm": 0.085, "beta": 1.6}
_START_PIXELS = 1.3

# The wings of what a template has been through end here (arcsec).
_TEMPLATE_EXTENT = 20.0


@dataclass
class HstStars:
    """
    An HST image, or a template, in which stars are fitted.

    Attributes
    ----------
    field : `~muse_imphot.fitting.stars_patches.StarField`
        The pixels.
    wcs : `~astropy.wcs.WCS`
        Their coordinates.
    profile : `MoffatProfile` or `ImageProfile`
        The PSF.
    start : dict
        Its shape, as far as it is known.
    free : tuple of str
        What is fitted of the shape.
    flux_factor, bg_factor : float
        What brings fluxes, and backgrounds per pixel, into the unit and to the pixels of MUSE.
    image : `~astropy.nddata.CCDData`
        The image, for the search for stars and for its epoch.
    filter_name : str
        The filter.
    pivot : float
        Its pivot wavelength (Angstrom).
    psf_words : str
        What the PSF is, and where it comes from.
    """

    field: StarField
    wcs: object
    profile: object
    start: dict
    free: tuple
    flux_factor: float
    bg_factor: float
    image: object
    filter_name: str
    pivot: float
    psf_words: str


def muse_field(muse, extramask=None):
    """
    Return the pixels of a MUSE image.

    Parameters
    ----------
    muse : `~astropy.nddata.CCDData`
        The image, as the reader returns it.
    extramask : path-like or array, optional
        Further pixels to leave out.

    Returns
    -------
    field : `~muse_imphot.fitting.stars_patches.StarField`
    """
    good = ~muse.mask & ~MaskMaker(muse.data.shape, muse.wcs, extramask=extramask).at().excluded
    sigma = None if muse.uncertainty is None else np.sqrt(muse.uncertainty.array)
    return StarField(muse.data, good, pixel_scales(muse.wcs, muse.data.shape), sigma)


def hst_stars(hst, muse, *, psf=None, fwhm=None, beta=None, unit=None, filter_info=None):
    """
    Prepare an HST image for a fit of stars.

    Parameters
    ----------
    hst : path-like, `~astropy.nddata.CCDData` or `Template`
        The HST image, or a template.
    muse : `~astropy.nddata.CCDData`
        The MUSE image.
    psf, fwhm, beta : optional
        ``hst_psf``, ``hst_fwhm`` and ``hst_beta`` of `~muse_imphot.fit_star_photometry`.
    unit : str or `~astropy.units.Unit`, optional
        Unit of the HST image.
    filter_info : `~muse_imphot.HstFilterInfo`, optional
        Filter and zero point, where the header does not have them.

    Returns
    -------
    stars : `HstStars`

    Raises
    ------
    UserError
        Of one of its kinds, if the image or the PSF cannot be used.
    """
    held = {
        "fwhm": read_number("hst_fwhm", fwhm, u.arcsec, above=0.0),
        "beta": read_number("hst_beta", beta, above=1.0),
    }
    refuse_both(psf, *held.values())
    if isinstance(hst, str | os.PathLike) and is_template_file(hst):
        hst = read_template(hst, muse)
    if isinstance(hst, Template):
        return _of_template(hst.for_image(muse), psf, held)
    image = read_hst_image(hst, around=(muse.wcs, muse.data.shape, _AROUND), unit=unit)
    info = filter_info or HstFilterInfo(image)
    scales = pixel_scales(image.wcs, image.shape)
    profile, start, free, words = _psf_of_image(psf, held, image, scales)
    factor = flux_factor(image, muse, info)
    return HstStars(
        field=StarField(image.data, ~image.mask, scales, gain=_gain(image, info)),
        wcs=image.wcs,
        profile=profile,
        start=start,
        free=free,
        flux_factor=factor / _area_ratio(muse, image),
        bg_factor=factor,
        image=image,
        filter_name=info.filter_name,
        pivot=float(info.photplam),
        psf_words=words,
    )


def _area_ratio(muse, image):
    """Return the area of a MUSE pixel in HST pixels, at the centre of the MUSE image."""
    x, y = ((n - 1) / 2 for n in muse.data.shape[::-1])
    at = pixel_to_pixel(muse.wcs, image.wcs, x, y)
    return pixel_area(muse.wcs, x, y) / pixel_area(image.wcs, *map(float, at))


def _psf_of_image(source, held, image, scales):
    """Return profile, shape, its free parameters, and words, for an HST image."""
    if source is None:
        start = {**_START, "fwhm": max(_START["fwhm"], _START_PIXELS * float(np.mean(scales)))}
        start |= {name: value for name, value in held.items() if value is not None}
        free = tuple(name for name, value in held.items() if value is None)
        return MoffatProfile(), start, free, "Moffat, fitted" if free else "Moffat, given"
    if isinstance(source, str) and source.strip().lower() == "stars":
        psf, origin = measure_hst_psf(image), "from the stars of the HST image"
    else:
        psf = read_hst_psf(source, hst=image)
        origin = os.fspath(source) if isinstance(source, str | os.PathLike) else "given"
    start = {"fwhm": psf.fwhm, "beta": psf.beta}
    if isinstance(psf, ImagePSF):
        return ImageProfile.of_psf(psf, 2.5 * HST_RADIUS), start, (), f"image, {origin}"
    return MoffatProfile(), start, (), f"Moffat, {origin}"


def _gain(image, info):
    """Return the number of electrons per unit of an HST image, infinite if it is not known."""
    time = card_value(image.meta, "EXPTIME")
    if not (isinstance(time, int | float) and 0 < time < np.inf):
        return np.inf
    if image.unit == u.electron / u.s:
        return float(time)
    gain = next(
        (
            float(value)
            for value in (card_value(image.meta, key) for key in ("ATODGAIN", "CCDGAIN"))
            if isinstance(value, int | float) and value > 0
        ),
        1.0,
    )
    if image.unit == u.ct / u.s:
        return float(time) * gain
    return float(time) / (info.photflam * u.Unit("erg / (s cm2 Angstrom)")).to_value(image.unit)


def _of_template(template, source, held):
    """Return a template as an image, whose PSF is known."""
    if source is not None or any(value is not None for value in held.values()):
        usual = template.psf
        psf = read_hst_psf(source) if source is not None else HstPSF(
            held["fwhm"] or usual.fwhm, held["beta"] or usual.beta
        )
        template = replace(template, psf=psf)
    q = template.oversample
    wcs = grid_wcs(template.wcs, template.shape, template.margin, q, template.turn)
    known = np.repeat(np.repeat(template.known, q, axis=0), q, axis=1)
    scales = tuple(scale / q for scale in template.pixel_scale)
    profile = ImageProfile(
        template.response, template.low_pass.stop, 2.5 * HST_RADIUS, _TEMPLATE_EXTENT
    )
    width = float(np.hypot(template.psf.fwhm, 0.5 / template.low_pass.stop))
    image = template.on_muse_grid()
    return HstStars(
        field=StarField(template.image, known, scales),
        wcs=wcs,
        profile=profile,
        start={"fwhm": width, "beta": template.psf.beta},
        free=(),
        flux_factor=1.0 / q**2,
        bg_factor=1.0,
        image=image,
        filter_name=template.filter_name,
        pivot=float(template.pivot),
        psf_words="of the template",
    )
