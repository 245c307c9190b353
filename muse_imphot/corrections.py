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
from astropy.nddata import (
    CCDData,
    InverseVariance,
    NDData,
    StdDevUncertainty,
    VarianceUncertainty,
)

from ._correction_headers import (
    corrected_header,
    in_pixels,
    move_cards,
    recorded,
    refuse_twice,
    reverted_header,
)
from .exceptions import FitError, GeometryError, UserError
from .io import read_muse_image
from .resampling import move_image

__all__ = [
    "apply_corrections",
    "corrected_header",
    "corrected_wcs",
    "in_unit_of",
    "move_cards",
    "parse_kinds",
    "plan",
    "recorded",
    "refuse_twice",
    "revert_corrections",
    "reverted_header",
]

KINDS = ("xy", "scale", "zero")

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
            data, mask, uncertainty, in_pixels(image.wcs, step["shift_x"], step["shift_y"])
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
    done = recorded(image.meta)
    back = {name: -done[name] for name in ("dx", "dy", "dra", "ddec")}
    uncertainty = copy.deepcopy(image.uncertainty)
    _rescale(uncertainty, 1 / done["scale"])
    return CCDData(
        np.asarray(image.data) * done["scale"] + done["bg"],
        unit=image.unit,
        mask=copy.deepcopy(image.mask),
        uncertainty=uncertainty,
        wcs=corrected_wcs(image.wcs, back),
        meta=reverted_header(image.meta, image.wcs, back),
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
    crpix[:2] += in_pixels(wcs, step.get("dx", 0.0), step.get("dy", 0.0))
    crval = np.array(wcs.wcs.crval)
    crval[wcs.wcs.lng] -= step.get("dra", 0.0) / 3600
    crval[wcs.wcs.lat] -= step.get("ddec", 0.0) / 3600
    wcs.wcs.crpix, wcs.wcs.crval = crpix, crval
    wcs.wcs.set()
    return wcs


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
