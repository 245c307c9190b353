# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Images before they are cleaned: from a file or from an object in memory, in one common form.
"""

import os
from dataclasses import dataclass, field

import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy.nddata import (
    CCDData,
    InverseVariance,
    NDData,
    StdDevUncertainty,
    VarianceUncertainty,
)
from astropy.wcs import WCS

from ..exceptions import InputFileError
from .coordinates import check_celestial
from .fits_files import base_name
from .headers import card_value, merged_header, sanitize_card

__all__ = ["RawImage", "check_real", "clean_image", "is_path", "raw_from_object", "source_name"]


# Finite values of this size and more, in whatever unit, stand for "undefined": the largest float32,
# the INDEF of IRAF (1.6e38). As data they would be all that a fit sees.
_BLANK = 1e30


@dataclass
class RawImage:
    """
    An image as it was found: bad pixels and units are not dealt with yet.

    Attributes
    ----------
    data : `~numpy.ndarray`
        Two axes, any real type.
    wcs : `~astropy.wcs.WCS`
        Celestial, checked.
    header : `~astropy.io.fits.Header`
        The merged header.
    label : str
        What messages call it.
    variance : `~numpy.ndarray` or None
        Same shape as the data.
    bad : dict of str to `~numpy.ndarray`
        Boolean images of pixels that cannot be used, by reason.
    unit : `~astropy.units.UnitBase` or None
        None where nothing says it.
    """

    data: np.ndarray
    wcs: WCS
    header: fits.Header
    label: str
    variance: np.ndarray | None = None
    bad: dict = field(default_factory=dict)
    unit: u.UnitBase | None = None


def is_path(source):
    """Return whether a source of an image is the name of a file."""
    return isinstance(source, (str, os.PathLike))


def source_name(source):
    """
    Short name of an exposure, as it appears in tables and in the names of output files.

    Parameters
    ----------
    source : path-like or image
        A file, or an image as the readers take or return it.

    Returns
    -------
    name : str
        The name of the file without folder and without .fits (and .gz, .bz2, .xz, .fz); for an
        image in memory the name of the file that it came from, or "image".
    """
    if is_path(source):
        return base_name(source)
    name = card_value(getattr(source, "meta", None) or {}, "IMPFILE")
    name = name or getattr(source, "filename", None)
    return base_name(name) if isinstance(name, str) and name else "image"


def raw_from_object(source, kind):
    """
    Take an image from an object in memory.

    Parameters
    ----------
    source : `~astropy.nddata.NDData` or MPDAF image
        An MPDAF Image is recognised by its attributes data, var, wcs and unit.
    kind : str
        "MUSE" or "HST", for messages.

    Returns
    -------
    raw : `RawImage`
        Its arrays share memory with the source.

    Raises
    ------
    TypeError
        If the object is neither.
    HeaderError, InputFileError
        If it has no celestial WCS, or is not an image of real numbers.
    """
    label = f"the {kind} image"
    if isinstance(source, NDData):
        raw = _from_nddata(source, label)
    elif all(hasattr(source, name) for name in ("data", "var", "wcs", "unit")):
        raw = _from_mpdaf(source, label)
    else:
        raise TypeError(
            f"{label} must be the path of a FITS file, a CCDData (or NDData) object or an MPDAF "
            f"Image, not {type(source).__name__}"
        )
    return _squeezed(raw, label)


def _from_nddata(source, label):
    header = source.meta if isinstance(source.meta, fits.Header) else _header_from(source.meta)
    unit = None if source.unit == u.dimensionless_unscaled else source.unit
    # A scalar mask is that of numpy.ma for "none".
    mask = None if source.mask is None or np.ndim(source.mask) == 0 else source.mask
    return RawImage(
        data=np.asarray(source.data),
        wcs=source.wcs,
        header=merged_header(header),
        label=label,
        variance=_variance_array(source.uncertainty, label),
        bad={} if mask is None else {"masked": np.asarray(mask, dtype=bool)},
        unit=unit,
    )


def _variance_array(uncertainty, label):
    """Return the variance that an uncertainty of NDData means."""
    if uncertainty is None or uncertainty.array is None:
        return None
    array = np.asarray(uncertainty.array)
    if isinstance(uncertainty, VarianceUncertainty):
        return array
    if isinstance(uncertainty, StdDevUncertainty):
        return np.asarray(array, dtype=np.float64) ** 2
    if isinstance(uncertainty, InverseVariance):
        with np.errstate(divide="ignore"):
            return 1.0 / np.asarray(array, dtype=np.float64)
    raise InputFileError(
        label,
        f"its uncertainty is a {type(uncertainty).__name__}; a VarianceUncertainty, "
        "StdDevUncertainty or InverseVariance is needed",
    )


def _from_mpdaf(source, label):
    header = getattr(source, "data_header", None)
    header = header if isinstance(header, fits.Header) else fits.Header()
    primary = getattr(source, "primary_header", None)
    merged = merged_header(header, primary if isinstance(primary, fits.Header) else None)
    # Its WCS class wraps one of astropy; astropy's own has Wcsprm under the same name.
    wcs = source.wcs if isinstance(source.wcs, WCS) else getattr(source.wcs, "wcs", None)
    data, variance = source.data, source.var
    bad = {"masked": np.ma.getmaskarray(data)} if np.ma.isMaskedArray(data) else {}
    unit = source.unit
    # MPDAF calls data without BUNIT dimensionless.
    unit = None if unit is None or u.Unit(unit) == u.dimensionless_unscaled else u.Unit(unit)
    name = getattr(source, "filename", None)
    if isinstance(name, str):
        label = name
        merged["IMPFILE"] = (sanitize_card(base_name(name)), "file that the image came from")
    return RawImage(
        data=np.ma.getdata(data),
        wcs=wcs,
        header=merged,
        label=label,
        variance=None if variance is None else np.ma.getdata(variance),
        bad=bad,
        unit=unit,
    )


def _header_from(meta):
    """Return a header with the entries of a plain dictionary that a header can hold."""
    header = fits.Header()
    for key, value in dict(meta or {}).items():
        key = sanitize_card(key).upper().replace("=", "_")
        if isinstance(value, np.generic):
            value = value.item()
        simple = isinstance(value, (bool, int, str)) or (
            isinstance(value, float) and np.isfinite(value)
        )
        value = value if simple and not isinstance(value, str) else sanitize_card(value)
        # HIERARCH is spelled out, or astropy warns that it chooses it for long keywords.
        long = len(key) > 8 or " " in key
        header[f"HIERARCH {key}" if long else key] = value
    return header


def _squeezed(raw, label):
    """Drop leading axes of length 1 and check that the shapes and the types fit."""
    extra = raw.data.ndim - 2
    if extra < 0 or any(n != 1 for n in raw.data.shape[:extra]):
        raise InputFileError(
            label, f"has {raw.data.ndim} axes, shape {raw.data.shape}; an image of 2 is needed"
        )
    shape = raw.data.shape[extra:]
    if 0 in shape:
        raise InputFileError(label, f"has no pixel, shape {shape}")
    raw.wcs = check_celestial(raw.wcs, label)
    raw.data, found = raw.data.reshape(shape), raw.data.shape
    for name, array in {"variance": raw.variance, **raw.bad}.items():
        if array is not None and array.shape != found:
            name = "mask" if name == "masked" else name
            raise InputFileError(label, f"its {name} has shape {array.shape}, its data {found}")
    raw.bad = {key: value.reshape(shape) for key, value in raw.bad.items()}
    raw.variance = None if raw.variance is None else raw.variance.reshape(shape)
    return raw


def check_real(array, label):
    """Raise InputFileError unless the pixels are integers or real numbers."""
    if array.dtype.kind not in "iuf":
        raise InputFileError(
            label, f"its pixels are of type {array.dtype}; real numbers are needed"
        )


def clean_image(raw, unit, *, factor=1.0):
    """
    Make the `~astropy.nddata.CCDData` that the rest of the package works with.

    Parameters
    ----------
    raw : `RawImage`
        What was found.
    unit : `~astropy.units.UnitBase`
        Unit of the result.
    factor : float, optional
        The data are multiplied by it, the variance by its square.

    Returns
    -------
    image : `~astropy.nddata.CCDData`
        Data of native float64, 0 at bad pixels; a boolean mask, True at bad pixels, among them
        those that are not finite or 1e30 and more, whatever the unit; a
        `~astropy.nddata.VarianceUncertainty`, 1 at bad pixels, or None.

    Raises
    ------
    InputFileError
        If no pixel is good, or the pixels are not real numbers.
    """
    check_real(raw.data, raw.label)
    data = np.array(raw.data, dtype=np.float64, order="C")
    bad = dict(raw.bad)
    bad["not finite"] = ~np.isfinite(data)
    bad["of absurd size"] = np.abs(data) >= _BLANK
    variance = None
    if raw.variance is not None:
        check_real(raw.variance, raw.label)
        variance = np.array(raw.variance, dtype=np.float64, order="C")
        bad["with a variance that is not finite, zero or negative"] = ~(
            np.isfinite(variance) & (variance > 0)
        )
    mask = np.zeros(data.shape, dtype=bool)
    for pixels in bad.values():
        mask |= pixels
    if mask.all():
        counts = {reason: np.count_nonzero(pixels) for reason, pixels in bad.items()}
        found = ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)
        raise InputFileError(raw.label, f"no usable pixel among {mask.size}: {found}")
    data *= factor
    data[mask] = 0.0
    uncertainty = None
    if variance is not None:
        variance *= factor**2
        variance[mask] = 1.0
        uncertainty = VarianceUncertainty(variance, copy=False)
    return CCDData(
        data, unit=unit, mask=mask, uncertainty=uncertainty, wcs=raw.wcs, meta=raw.header
    )
