# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Where the template of a fit comes from: an HST image or a template, and the PSF of HST.

A fit may turn out to need another template than the one that it began with; the source then makes
it, with the same PSF.
"""

import dataclasses
import logging
import os
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
from astropy import units as u

from ._numbers import read_number
from .bandpass import HstFilterInfo
from .exceptions import AssumptionWarning, GeometryError, UserError
from .io import open_fits, read_hst_image
from .models import moffat_transform
from .template import (
    HstPSF,
    ImagePSF,
    Template,
    Turn,
    frame_matrix,
    is_template_file,
    make_template,
    measure_hst_psf,
    read_hst_psf,
    read_template,
    regridded_template,
)
from .template.geometry import grid_wcs

__all__ = ["TemplateSource", "load_template", "refuse_both", "template_source", "weight_of"]

log = logging.getLogger(__name__)

# Sky kept around the field for the wings of sources outside it, and for reading the HST image.
_MARGIN = 5.0

# Where the field holds too few stars for the PSF, they are looked for this far around it (arcsec).
_STARS_WITHIN = 60.0

# The model takes rotations to first order, which is exact enough below this (degrees).
_SMALL_ROTATION = 0.01

# PSFs that pass more than this beyond 1.48 times the Nyquist frequency need a finer template.
_SHARP = 5e-4


def template_source(hst, muse, **options):
    """
    Return the source of the template for a MUSE image, from whatever is given as the HST image.

    Parameters
    ----------
    hst : path-like, `~astropy.nddata.CCDData`, `Template` or `TemplateSource`
        An HST image, a template file, a template, or a source, which is returned as it is.
    muse : `~astropy.nddata.CCDData`
        The MUSE image.
    **options
        As for `TemplateSource`.

    Returns
    -------
    source : `TemplateSource`

    Raises
    ------
    UserError
        Of one of its kinds, if the source is for another image, or as for `TemplateSource`.
    """
    if not isinstance(hst, TemplateSource):
        return TemplateSource(hst, muse, **options)
    if hst.make().for_image(muse) is not hst.make():
        raise GeometryError("the template source is for an image in another unit; make a new one")
    return hst


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
    hst_weight : path-like or dict, optional
        File of the weights of the HST image, if they are not in its own; or a dict from HST filters
        to such files.
    max_offset : float, optional
        Largest pointing error to allow for (arcsec).
    filter_info : `~muse_imphot.HstFilterInfo`, optional
        Filter and zero point, where the header does not have them.
    measure_noise : bool, optional
        Whether to measure the noise of an HST image, or to use that of a template.
    hst_psf, hst_fwhm, hst_beta : optional
        The PSF of the HST image, as for `~muse_imphot.fit_image_photometry`.

    Attributes
    ----------
    psf_words : str
        What the PSF of the HST image is, and where it comes from.

    Raises
    ------
    UserError
        Of one of its kinds, if the image, the template or the PSF cannot be used.
    """

    def __init__(
        self,
        hst,
        muse,
        *,
        hst_unit=None,
        hst_weight=None,
        max_offset=12.0,
        filter_info=None,
        measure_noise=True,
        hst_psf=None,
        hst_fwhm=None,
        hst_beta=None,
    ):
        moffat = (
            read_number("hst_fwhm", hst_fwhm, u.arcsec, above=0.0),
            read_number("hst_beta", hst_beta, above=1.0),
        )
        refuse_both(hst_psf, *moffat)
        self._weight = hst_weight = weight_of(hst_weight, hst, filter_info)
        self._muse = muse
        self._image = self._made = None
        self._options = {
            "filter_info": filter_info,
            "max_offset": max_offset,
            "margin": _MARGIN,
            "measure_noise": measure_noise,
        }
        path = hst if isinstance(hst, str | os.PathLike) else None
        # Once: a packed file is unpacked each time.
        with nullcontext() if path is None else open_fits(path) as hdul:
            self._template = _existing_template(hst, muse, hdul)
            if self._template is None:
                around = (muse.wcs, muse.data.shape, max_offset + 2 * _MARGIN)
                self._image = read_hst_image(
                    hst, around=around, unit=hst_unit, weight=hst_weight, hdul=hdul
                )
        if self._template is not None and hst_weight is not None:
            raise UserError(
                "hst_weight: weights belong to an HST image, but a template was given; give the "
                "HST image itself"
            )
        if self._template is None:
            self._template = regridded_template(
                self._image, muse, filter_info=filter_info, max_offset=max_offset
            )
            if self._template is not None:
                self._image = None
        psf, origin = self._find_psf(hst, hst_psf, *moffat)
        self._psf = psf
        self.psf_words = f"{'image' if isinstance(psf, ImagePSF) else 'Moffat'}, {origin}"
        if self._template is not None:
            noise = self._template.noise if measure_noise else None
            if psf is not self._template.psf or noise is not self._template.noise:
                self._template = dataclasses.replace(self._template, psf=psf, noise=noise)

    def make(self, **changes):
        """
        Make the template.

        Parameters
        ----------
        **changes
            ``oversample`` and ``turn`` of `~muse_imphot.template.make_template`. The template that
            is made without changes is kept.

        Returns
        -------
        template : `Template`
        """
        if self._template is not None:
            return self._template
        if self._made is not None and not changes:
            return self._made
        psf = self._in_muse_axes(changes.get("turn"))
        template = make_template(self._image, self._muse, psf=psf, **self._options, **changes)
        if not changes:
            self._made = template
        return template

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

    def _find_psf(self, hst, source, fwhm, beta):
        """Return the PSF (of an HST image: in its axes), and where it comes from."""
        template = self._template
        usual = HstPSF() if template is None else template.psf
        if isinstance(source, Mapping):
            source = _of_filter(source, self._filter_name())
        if fwhm is not None or beta is not None:
            psf = HstPSF(usual.fwhm if fwhm is None else fwhm, usual.beta if beta is None else beta)
            return psf, "given"
        if source is None:
            return usual, "default" if template is None else "of the template"
        if template is not None:
            return _psf_for_template(source), "given"
        if isinstance(source, str) and source.strip().lower() == "stars":
            return self._measure_psf(hst), "from the stars of the HST image"
        named = isinstance(source, str | os.PathLike)
        return read_hst_psf(source, hst=self._image), os.fspath(source) if named else "given"

    def _filter_name(self):
        """Return the name of the HST filter."""
        if self._template is not None:
            return self._template.filter_name
        return (self._options["filter_info"] or HstFilterInfo(self._image)).filter_name

    def _measure_psf(self, hst):
        """Measure the PSF from stars in the field, or else around it."""
        try:
            return measure_hst_psf(self._image)
        except UserError as exc:
            around = (self._muse.wcs, self._muse.data.shape, _STARS_WITHIN)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", AssumptionWarning)  # of the unit: it was said
                larger = read_hst_image(
                    hst, around=around, unit=self._image.unit, weight=self._weight
                )
            if larger.shape == self._image.shape:
                raise
            log.info("%s; stars around the field are tried", exc)
        return measure_hst_psf(larger)

    def _in_muse_axes(self, turn):
        """Return the PSF of the HST image in the axes of the MUSE image, which may be turned."""
        if not isinstance(self._psf, ImagePSF):
            return self._psf
        shape = self._muse.data.shape
        wcs = grid_wcs(self._muse.wcs, shape, 0, 1, turn)
        return self._psf.turned(frame_matrix(self._image, SimpleNamespace(wcs=wcs, shape=shape)))


def _existing_template(hst, muse, hdul):
    """Return the template, in the unit of the MUSE image, if one is given; None if an image is."""
    if isinstance(hst, Template):
        return hst.for_image(muse)
    if hdul is not None and is_template_file(hst, hdul=hdul):
        return read_template(hst, muse, hdul=hdul)
    return None


def refuse_both(psf, fwhm, beta):
    """
    Refuse a PSF of the HST image that is given twice.

    Parameters
    ----------
    psf, fwhm, beta
        ``hst_psf``, ``hst_fwhm`` and ``hst_beta`` of `~muse_imphot.fit_image_photometry`.

    Raises
    ------
    UserError
        If there is both the first and one of the others.
    """
    if psf is not None and (fwhm is not None or beta is not None):
        raise UserError(
            "hst_psf is given together with hst_fwhm or hst_beta; give either the one or the others"
        )


def weight_of(weights, hst, filter_info=None):
    """
    Return the file of the weights of an HST image.

    Parameters
    ----------
    weights : path-like, dict or None
        The file, or a dict from HST filters to files.
    hst : path-like or `~astropy.nddata.CCDData`
        The HST image, whose filter is looked up if it matters.
    filter_info : `~muse_imphot.HstFilterInfo`, optional
        Its filter, if that is known.

    Returns
    -------
    path-like or None
        None if there is no file for this filter.
    """
    if not isinstance(weights, Mapping):
        return weights
    name = (filter_info or HstFilterInfo(hst)).filter_name
    by_name = {str(key).strip().upper(): value for key, value in weights.items()}
    return by_name.get(name.upper())


def _of_filter(sources, name):
    """Return what a dict holds for a filter."""
    by_name = {str(key).strip().upper(): value for key, value in sources.items()}
    if name.upper() not in by_name:
        raise UserError(
            f"hst_psf: the HST image is in {name or 'an unknown filter'}, and PSFs are given for "
            f"{', '.join(by_name) or 'no filter'}; add that of {name or 'its filter'}"
        )
    return by_name[name.upper()]


def _psf_for_template(source):
    """Return a PSF in place of that of a template, of whose HST image nothing else is known."""
    pair = isinstance(source, tuple | list) and len(source) == 2 and np.ndim(source[1]) == 0
    if pair or isinstance(source, HstPSF | ImagePSF):
        return read_hst_psf(source)
    raise UserError(
        "hst_psf: an image of the PSF belongs to the pixels of the HST image, and so do its stars, "
        "but a template was given; give the HST image itself, or make the template with this PSF"
    )
