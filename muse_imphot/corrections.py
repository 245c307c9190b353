# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Apply a result to an image: put it right on the sky, in flux scale and in background.

Everything is recorded in the header: HISTORY for people, and a few keywords with which
`revert_corrections` takes it all back, and which keep a second correction from being confused with
the first.
"""

import copy
import math

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import (
    CCDData,
    InverseVariance,
    NDData,
    StdDevUncertainty,
    VarianceUncertainty,
)
from astropy.wcs.utils import proj_plane_pixel_scales

from .exceptions import FitError, GeometryError, UserError
from .io import read_muse_image, sanitize_card
from .resampling import move_image

__all__ = [
    "apply_corrections",
    "corrected_header",
    "corrected_wcs",
    "in_unit_of",
    "move_cards",
    "parse_kinds",
    "plan",
    "refuse_twice",
    "revert_corrections",
]

KINDS = ("xy", "scale", "zero")

# Keywords that remember what was done: (keyword, what a header without it means, comment).
_CARDS = {
    "dx": ("IMPDX", 0.0, "[arcsec] MUSE minus HST along x, taken out"),
    "dy": ("IMPDY", 0.0, "[arcsec] MUSE minus HST along y, taken out"),
    "dra": ("IMPDRA", 0.0, "[arcsec] MUSE minus HST in CRVAL1, taken out"),
    "ddec": ("IMPDDEC", 0.0, "[arcsec] MUSE minus HST in CRVAL2, taken out"),
    "shift_x": ("IMPSHX", 0.0, "[arcsec] resampled along x by minus this"),
    "shift_y": ("IMPSHY", 0.0, "[arcsec] resampled along y by minus this"),
    "bg": ("IMPBG", 0.0, "background that was subtracted"),
    "scale": ("IMPSCALE", 1.0, "factor by which the flux was divided"),
}
# Exponent of the scale with which each kind of uncertainty follows the data.
_UNCERTAINTY_POWER = {StdDevUncertainty: 1, VarianceUncertainty: 2, InverseVariance: -2}


def apply_corrections(
    image, result, corrections="xy,scale,zero", resample=False, *, reference="crpix"
):
    """
    Correct an image by what a fit found.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`, path-like or MPDAF Image
        The MUSE image. It is not changed.
    result : `~muse_imphot.results.FittedPhotometry`
        The fit of this image.
    corrections : str or iterable of str, optional
        What to correct, joined by commas: ``xy`` the pointing, ``zero`` the background, ``scale``
        the flux scale. The background is subtracted before the flux is divided by the scale.
    resample : bool, optional
        Whether to move the pixels instead of changing the WCS, so that they fall on the grid of
        the HST image. The move is by Fourier transform: neither the PSF nor the noise is smoothed.
    reference : {"crpix", "crval"}, optional
        Which keywords put the pointing right: the reference pixel, by ``dx`` and ``dy``, or the
        reference coordinates, by ``dra`` and ``ddec``.

    Returns
    -------
    `~astropy.nddata.CCDData`
        The corrected image, with the record of the corrections in its header.

    Raises
    ------
    `~muse_imphot.exceptions.UserError`
        If a correction is unknown, or has been applied already.
    `~muse_imphot.exceptions.FitError`
        If the result lacks a value that is needed.
    """
    kinds = parse_kinds(corrections)
    step = plan(result, kinds, resample=resample, reference=reference)
    image = _as_image(image)
    if "zero" in kinds:
        step["bg"] = in_unit_of(step["bg"], result.unit, image.unit, result.name)
    refuse_twice(image.meta, step, result.name)
    data = np.array(image.data, dtype=float)
    mask = None if image.mask is None else np.array(image.mask, dtype=bool)
    uncertainty = copy.deepcopy(image.uncertainty)
    if resample and "xy" in kinds:
        data, mask, uncertainty = move_image(
            data, mask, uncertainty, _in_pixels(image.wcs, step["shift_x"], step["shift_y"])
        )
    data = (data - step.get("bg", 0.0)) / step.get("scale", 1.0)
    _rescale(uncertainty, step.get("scale", 1.0))
    return CCDData(
        data,
        unit=u.dimensionless_unscaled if image.unit is None else image.unit,
        mask=mask,
        uncertainty=uncertainty,
        wcs=corrected_wcs(image.wcs, step),
        meta=corrected_header(image.meta, image.wcs, step, name=result.name),
    )


def revert_corrections(image):
    """
    Take back what `apply_corrections` did, from the record in the header.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`, path-like or MPDAF Image
        The corrected image. It is not changed.

    Returns
    -------
    `~astropy.nddata.CCDData`
        The image as it was, without the record.

    Raises
    ------
    `~muse_imphot.exceptions.UserError`
        If there is no record, or the pixels were resampled, which cannot be taken back exactly.
    """
    image = _as_image(image)
    done = _record(image.meta)
    if not any(card in image.meta for card, _, _ in _CARDS.values()):
        raise UserError("the header holds no record of corrections; there is nothing to revert.")
    if done["shift_x"] or done["shift_y"]:
        raise UserError(
            "the pixels of this image were resampled, which cannot be taken back; "
            "start again from the original image."
        )
    back = {name: -done[name] for name in ("dx", "dy", "dra", "ddec")}
    uncertainty = copy.deepcopy(image.uncertainty)
    _rescale(uncertainty, 1 / done["scale"])
    meta = _header_copy(image.meta)
    move_cards(meta, image.wcs, back)
    for card, _, _ in _CARDS.values():
        meta.remove(card, ignore_missing=True)
    meta.add_history("muse_imphot: corrections taken back")
    return CCDData(
        np.asarray(image.data) * done["scale"] + done["bg"],
        unit=image.unit,
        mask=copy.deepcopy(image.mask),
        uncertainty=uncertainty,
        wcs=corrected_wcs(image.wcs, back),
        meta=meta,
    )


def parse_kinds(corrections):
    """
    Check what is to be corrected.

    Parameters
    ----------
    corrections : str or iterable of str
        Names joined by commas, or a list of them; imphot's ``x,y`` means ``xy``.

    Returns
    -------
    set of str

    Raises
    ------
    `~muse_imphot.exceptions.UserError`
        If nothing is given, or a name is unknown.
    """
    names = corrections.split(",") if isinstance(corrections, str) else list(corrections)
    names = [name.strip().lower() for name in names]
    kinds = {"xy" if name in ("x", "y") else name for name in names} - {""}
    if not kinds:
        raise UserError(f"corrections: nothing given; choose from {', '.join(KINDS)}.")
    if unknown := sorted(kinds - set(KINDS)):
        raise UserError(
            f"corrections: {', '.join(unknown)} is unknown; choose from {', '.join(KINDS)}."
        )
    return kinds


def plan(result, kinds, *, resample, reference):
    """
    Take from a result what is to be done.

    Parameters
    ----------
    result : `~muse_imphot.results.FittedPhotometry`
        The result.
    kinds : set of str
        What `parse_kinds` returns.
    resample : bool
        Whether the pixels are to be moved.
    reference : {"crpix", "crval"}
        Which keywords are to be changed otherwise.

    Returns
    -------
    dict
        Some of ``dx``, ``dy``, ``dra``, ``ddec``, ``shift_x``, ``shift_y`` (arcsec), ``bg`` (in
        the unit of the result) and ``scale``.

    Raises
    ------
    `~muse_imphot.exceptions.FitError`
        If the result lacks a value that is needed.
    """
    if reference not in ("crpix", "crval"):
        raise UserError(f"reference: found {reference!r}; needed is 'crpix' or 'crval'.")
    step = {}
    if "xy" in kinds and resample:
        step.update(shift_x=result.dx.value, shift_y=result.dy.value)
    elif "xy" in kinds and reference == "crpix":
        step.update(dx=result.dx.value, dy=result.dy.value)
    elif "xy" in kinds:
        step.update(dra=result.dra.value, ddec=result.ddec.value)
    if "zero" in kinds:
        step["bg"] = result.bg.value
    if "scale" in kinds:
        step["scale"] = result.scale.value
    if bad := [name for name, value in step.items() if not math.isfinite(value)]:
        reason = result.meta.get("reason", "the fit did not determine it")
        raise FitError(f"{result.name}: the result has no {', '.join(bad)} to correct ({reason}).")
    if step.get("scale", 1) <= 0:
        raise FitError(
            f"{result.name}: cannot divide by the scale {step['scale']:g}; "
            "a positive one is needed, so leave 'scale' out of the corrections."
        )
    return step


def _as_image(image):
    """Return an image as `NDData`."""
    return image if isinstance(image, NDData) else read_muse_image(image)


def in_unit_of(value, unit, target, name):
    """
    Convert a background from the unit of a result to that of an image.

    Parameters
    ----------
    value : float
        The background.
    unit, target : `~astropy.units.UnitBase` or `None`
        The unit of the result and of the image; None where unknown, which is taken as the other.
    name : str
        The image that was fitted, for the message.

    Returns
    -------
    float

    Raises
    ------
    `~muse_imphot.exceptions.GeometryError`
        If the units do not go together.
    """
    if unit is None or target is None or unit == target:
        return value
    try:
        return float((value * unit).to_value(target))
    except u.UnitConversionError:
        raise GeometryError(
            f"{name}: the result is in {unit}, the image in {target}; "
            "correct the image that was fitted, or leave 'zero' out of the corrections."
        ) from None


def _in_pixels(wcs, dx, dy):
    """Return an offset in arcsec as one in pixels."""
    if wcs is None:
        raise GeometryError("the image has no WCS, so that its pixel size is unknown.")
    scales = proj_plane_pixel_scales(wcs)[:2] * 3600.0
    return dx / scales[0], dy / scales[1]


def _record(meta):
    """Return what has been done to an image according to its header."""
    return {name: float(meta.get(card, empty)) for name, (card, empty, _) in _CARDS.items()}


def refuse_twice(meta, step, name):
    """
    Refuse to apply the very same correction again.

    Parameters
    ----------
    meta : `~astropy.io.fits.Header` or dict
        The header of the image.
    step : dict
        What is to be done; see `plan`.
    name : str
        The image that was fitted, for the message.

    Raises
    ------
    `~muse_imphot.exceptions.UserError`
        If the header records exactly these values.
    """
    done = _record(meta)
    empty = {key: card[1] for key, card in _CARDS.items()}
    if all(math.isclose(done[key], value, rel_tol=1e-6) for key, value in step.items()) and any(
        done[key] != empty[key] for key in step
    ):
        raise UserError(
            f"{name}: the header says that exactly these corrections have been applied already; "
            "start from the original image, or fit the corrected one again."
        )


def corrected_wcs(wcs, step):
    """
    Return a corrected copy of a WCS.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS` or `None`
        Celestial WCS of the image.
    step : dict
        ``dx`` and ``dy``, or ``dra`` and ``ddec``, in arcsec; what is absent counts as zero.

    Returns
    -------
    `~astropy.wcs.WCS` or `None`
    """
    if wcs is None:
        return None
    wcs = wcs.deepcopy()
    crpix = np.array(wcs.wcs.crpix)
    crpix[:2] += _in_pixels(wcs, step.get("dx", 0.0), step.get("dy", 0.0))
    crval = np.array(wcs.wcs.crval)
    crval[wcs.wcs.lng] -= step.get("dra", 0.0) / 3600
    crval[wcs.wcs.lat] -= step.get("ddec", 0.0) / 3600
    wcs.wcs.crpix, wcs.wcs.crval = crpix, crval
    wcs.wcs.set()
    return wcs


def corrected_header(meta, wcs, step, *, name):
    """
    Return a copy of a header with corrected coordinates and the record of the corrections.

    Parameters
    ----------
    meta : `~astropy.io.fits.Header` or dict
        The header.
    wcs : `~astropy.wcs.WCS` or `None`
        The WCS before the correction.
    step : dict
        What is done: ``dx``, ``dy``, ``dra``, ``ddec``, ``shift_x``, ``shift_y`` in arcsec, ``bg``
        in the unit of the image, ``scale``.
    name : str
        Name of the image that was fitted.

    Returns
    -------
    `~astropy.io.fits.Header`
    """
    meta = _header_copy(meta)
    move_cards(meta, wcs, step)
    total = _record(meta)
    # (d - b1) / s1 - b2 all over s2 is d minus (b1 + s1 b2), all over s1 s2.
    total["bg"] += total["scale"] * step.get("bg", 0.0)
    total["scale"] *= step.get("scale", 1.0)
    for key in set(_CARDS) - {"bg", "scale"}:
        total[key] += step.get(key, 0.0)
    for key, (card, empty, comment) in _CARDS.items():
        if key in step or total[key] != empty:
            meta[card] = (total[key], comment)
    values = ", ".join(f"{key}={value:.7g}" for key, value in step.items())
    meta.add_history(sanitize_card(f"muse_imphot: corrected by the fit of {name}: {values}"))
    return meta


def _header_copy(meta):
    """Return any kind of metadata as a new FITS header."""
    if isinstance(meta, fits.Header):
        return meta.copy()
    header = fits.Header()
    for key, value in dict(meta or {}).items():
        if isinstance(value, str):
            value = sanitize_card(value)
        elif not isinstance(value, bool | int) and not (
            isinstance(value, float) and math.isfinite(value)
        ):
            continue
        if len(key) <= 8:
            header[key] = value
    return header


def move_cards(header, wcs, step):
    """
    Correct the coordinates that a header itself holds, in place.

    Parameters
    ----------
    header : `~astropy.io.fits.Header`
        The header.
    wcs : `~astropy.wcs.WCS` or `None`
        The WCS before the correction.
    step : dict
        What is done; see `plan`.
    """
    if wcs is None:
        return
    pixels = _in_pixels(wcs, step.get("dx", 0.0), step.get("dy", 0.0))
    degrees = {wcs.wcs.lng: step.get("dra", 0.0) / 3600, wcs.wcs.lat: step.get("ddec", 0.0) / 3600}
    for axis in (0, 1):
        if f"CRPIX{axis + 1}" in header:
            header[f"CRPIX{axis + 1}"] += pixels[axis]
        if f"CRVAL{axis + 1}" in header:
            header[f"CRVAL{axis + 1}"] -= degrees[axis]


def _rescale(uncertainty, scale):
    """Divide an uncertainty by the scale, in place."""
    if uncertainty is None or scale == 1:
        return
    power = _UNCERTAINTY_POWER.get(type(uncertainty))
    if power is None:
        raise UserError(
            f"cannot rescale a {type(uncertainty).__name__}; give the image a variance."
        )
    uncertainty.array = np.asarray(uncertainty.array, dtype=float) / scale**power
