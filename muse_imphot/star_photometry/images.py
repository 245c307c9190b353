# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The two images of a fit of stars: what is fitted in each of them, with which PSF, in which unit.
"""

import os
from dataclasses import dataclass, replace

import numpy as np
from astropy import units as u
from astropy.wcs.utils import pixel_to_pixel

from .._numbers import read_number
from ..bandpass import HstFilterInfo
from ..exceptions import UserError
from ..fitting.stars.patches import StarField
from ..fitting.stars.psf import ImageProfile, IntegratedMoffat, MoffatProfile
from ..io import read_hst_image
from ..masks import MaskMaker
from ..models.pixel import optical_fwhm, pixel_fwhm
from ..template import (
    HstPSF,
    ImagePSF,
    Template,
    is_template_file,
    measure_hst_psf,
    read_hst_psf,
    read_template,
)
from ..template.geometry import grid_wcs, pixel_area, pixel_scales
from ..template.regrid import flux_factor
from ..template_source import refuse_both
from .pixels import electrons_per_unit, relative_noise, saturation_level

__all__ = ["HstStars", "MuseStars", "hst_stars", "muse_stars"]

# Where the search for the PSF of MUSE begins.
_MUSE_START = {"fwhm": 0.7, "beta": 2.5}

# Steps of FWHM and beta by which the effect of the pixel is found.
_STEPS = 1e-4, 1e-3

# Sky around the MUSE field in which stars of the HST image may be (arcsec).
_AROUND = 15.0

# The PSF of HST is narrow: farther from a star than this there is nothing to learn (arcsec).
HST_RADIUS = 1.5

# The Moffat to start from in an HST image: this one, or so many pixels.
_START = {"fwhm": 0.085, "beta": 1.6}
_START_PIXELS = 1.3

_BACKGROUNDS = ("constant", "plane")

# The wings of what a template has been through end here (arcsec).
_TEMPLATE_EXTENT = 20.0


@dataclass
class HstStars:
    """
    An HST image, or a template, in which stars are fitted.

    Attributes
    ----------
    field : `~muse_imphot.fitting.stars.patches.StarField`
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


@dataclass
class MuseStars:
    """
    A MUSE image in which stars are fitted.

    Attributes
    ----------
    field : `~muse_imphot.fitting.stars.patches.StarField`
        The pixels.
    profile : `MoffatProfile`
        The PSF.
    start : dict
        Its shape: where the search begins, or what is held.
    free : tuple of str
        What is fitted of the shape.
    plane : bool
        Whether backgrounds have slopes.
    """

    field: StarField
    profile: object
    start: dict
    free: tuple
    plane: bool

    @property
    def integrated(self):
        """Whether the FWHM of the profile is that without the pixel."""
        return isinstance(self.profile, IntegratedMoffat)

    def fwhm(self, shape):
        """
        Return the FWHM with the pixel, and its derivatives in FWHM and beta of the profile.

        Parameters
        ----------
        shape : dict
            The shape of the profile.

        Returns
        -------
        fwhm : float
            In arcsec.
        slopes : dict
            By name.
        """
        point = {name: shape[name] for name in ("fwhm", "beta")}
        if not self.integrated:
            return point["fwhm"], {"fwhm": 1.0, "beta": 0.0}
        pixel = float(np.mean(self.field.pixel_scale))
        slopes = {}
        for name, step in zip(point, _STEPS):
            up, down = (
                pixel_fwhm(**{**point, name: point[name] + change}, pixel=pixel)
                for change in (step, -step)
            )
            slopes[name] = (up - down) / (2.0 * step)
        return pixel_fwhm(**point, pixel=pixel), slopes


def muse_stars(
    muse, *, extramask=None, fwhm=None, beta=None, elliptical=False, integrate=False,
    background="constant",
):  # fmt: skip
    """
    Prepare a MUSE image for a fit of stars.

    Parameters
    ----------
    muse : `~astropy.nddata.CCDData`
        The image, as the reader returns it.
    extramask : path-like or array, optional
        Further pixels to leave out.
    fwhm, beta : float or Quantity, optional
        ``fix_fwhm`` and ``fix_beta`` of `~muse_imphot.fit_star_photometry`.
    elliptical, integrate, background : optional
        As in `~muse_imphot.fit_star_photometry`.

    Returns
    -------
    stars : `MuseStars`

    Raises
    ------
    UserError
        If an option makes no sense, or the mask cannot be used.
    """
    held = {
        "fwhm": read_number("fix_fwhm", fwhm, u.arcsec, above=0.0),
        "beta": read_number("fix_beta", beta, above=1.0),
    }
    if background not in _BACKGROUNDS:
        raise UserError(
            f"background: {background!r} was given; it must be {' or '.join(_BACKGROUNDS)}"
        )
    scales = pixel_scales(muse.wcs, muse.data.shape)
    if integrate and held["fwhm"] is not None:
        held["fwhm"] = _held_without_pixel(held, float(np.mean(scales)))
    good = ~muse.mask & ~MaskMaker(muse.data.shape, muse.wcs, extramask=extramask).at().excluded
    sigma = None if muse.uncertainty is None else np.sqrt(muse.uncertainty.array)
    free = tuple(name for name, value in held.items() if value is None)
    return MuseStars(
        field=StarField(muse.data, good, scales, sigma, saturation=saturation_level(muse)),
        profile=IntegratedMoffat(scales) if integrate else MoffatProfile(),
        start={**_MUSE_START, **{name: held[name] for name in held if name not in free}},
        free=free + (("e1", "e2") if elliptical else ()),
        plane=background == "plane",
    )


def _held_without_pixel(held, pixel):
    """Return the FWHM without the pixel of one that is held, which includes it."""
    if held["beta"] is None:
        raise UserError(
            "fix_fwhm: with integrate=True the FWHM without the pixel is fitted, and which one "
            "that is depends on beta; give fix_beta as well, or leave both free"
        )
    width = optical_fwhm(held["fwhm"], held["beta"], pixel)
    if not width > 0:
        raise UserError(
            f"fix_fwhm: {held['fwhm']:g} arcsec was given; with the pixel of {pixel:g} arcsec in "
            "it, the FWHM of a star is larger"
        )
    return width


def hst_stars(
    hst, muse, *, psf=None, fwhm=None, beta=None, unit=None, weight=None, filter_info=None
):
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
    weight : path-like, optional
        File of its weights, if they are not in its own.
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
        if weight is not None:
            raise UserError(
                "hst_weight: weights belong to an HST image, but a template was given; give the "
                "HST image itself"
            )
        return _of_template(hst.for_image(muse), psf, held)
    around = (muse.wcs, muse.data.shape, _AROUND)
    image = read_hst_image(hst, around=around, unit=unit, weight=weight)
    info = filter_info or HstFilterInfo(image)
    scales = pixel_scales(image.wcs, image.shape)
    profile, start, free, words = _psf_of_image(psf, held, image, scales)
    factor = flux_factor(image, muse, info)
    pixels = {
        "gain": electrons_per_unit(image, info),
        "noise": relative_noise(image),
        "saturation": saturation_level(image),
    }
    return HstStars(
        field=StarField(image.data, ~image.mask, scales, **pixels),
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


def _of_template(template, source, held):
    """Return a template as an image, whose PSF is known."""
    if source is not None or any(value is not None for value in held.values()):
        usual = template.psf
        psf = (
            read_hst_psf(source)
            if source is not None
            else HstPSF(held["fwhm"] or usual.fwhm, held["beta"] or usual.beta)
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
