# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
HST images: drizzled mosaics and the cut-outs of them that cover a MUSE field.
"""

import logging
import os
import warnings
from contextlib import nullcontext

import astropy.units as u
import numpy as np
from astropy.nddata import VarianceUncertainty
from scipy import ndimage

from ..exceptions import AssumptionWarning, GeometryError, HeaderError, InputFileError
from .coordinates import celestial_wcs, pixel_scale
from .fits_files import base_name, find_image, image_shape, open_fits, read_pixels, same_shape_hdu
from .headers import FLUX_DENSITY, card_value, merged_header, parse_unit, sanitize_card
from .nddata import RawImage, check_real, clean_image, is_path, raw_from_object
from .telescope import looks_like_muse

__all__ = ["read_hst_image"]

log = logging.getLogger(__name__)

ELECTRON_RATE = u.Unit(u.electron / u.s)
COUNT_RATE = u.Unit(u.count / u.s)
_AMOUNTS = {
    u.electron: ELECTRON_RATE,
    u.count: COUNT_RATE,
    u.adu: COUNT_RATE,
    u.DN: COUNT_RATE,
}
_NO_WEIGHT = "without weight (WHT)"
# A drizzled image with less noise per pixel than this cannot be in electrons: the read noise
# alone, a few electrons per exposure, is more.
_LEAST_NOISE = 0.2


def read_hst_image(source, *, around=None, unit=None, weight=None, hdul=None):
    """
    Read an HST image.

    Parameters
    ----------
    source : path-like, `~astropy.nddata.NDData` or MPDAF image
        A FITS file, with the image in an extension SCI or DATA, in the primary HDU, or in the
        first extension with two axes; or an image in memory.
    around : tuple, optional
        ``(wcs, shape, margin)`` of a MUSE image: only the part is read that covers its field
        with a margin in arcsec on every side, so that mosaics of any size can be used.
    unit : str or `~astropy.units.UnitBase`, optional
        The unit of the data, where BUNIT is wrong or absent: "electron/s", "ELECTRONS", ...
    weight : path-like, optional
        The FITS file of its weights, on the same pixels, if they are not an extension WHT.
    hdul : `~astropy.io.fits.HDUList`, optional
        The file ``source``, if `open_fits` has opened it already.

    Returns
    -------
    image : `~astropy.nddata.CCDData`
        Data, float64, shape (ny, nx), 0 at bad pixels; ``mask``, True at pixels that are not
        finite or have no weight (WHT <= 0; without WHT, in an image with noise, blocks of
        pixels that are exactly zero); ``unit``, electron/s or count/s (both are to be
        multiplied by PHOTFLAM), or a flux density per wavelength if the image is calibrated
        already; ``wcs``; ``meta``, the header of the image followed by the cards that only the
        primary header has; ``uncertainty``, the variance from the weights (1 / WHT) or errors
        (ERR): how it varies over the image, but not how large it is, because weight maps are of
        many kinds; None without any.

    Raises
    ------
    InputFileError
        If the file cannot be read, is a MUSE image, or has no usable pixel.
    HeaderError
        If there is no celestial WCS, the unit cannot be used, or EXPTIME is needed and absent.
    GeometryError
        If nothing of the image lies on the MUSE field.

    Warns
    -----
    AssumptionWarning
        If the unit is not stated, or contradicts the drizzle keywords.
    """
    if is_path(source):
        path = os.fspath(source)
        with open_fits(path) if hdul is None else nullcontext(hdul) as hdul:
            raw = _read_file(hdul, path, around, weight)
    else:
        if weight is not None:
            raise InputFileError(
                weight, "weights from a file are for an image from a file; add an uncertainty"
            )
        raw = raw_from_object(source, "HST")
        _refuse_muse(raw.header, raw.wcs, raw.label)
        if around is not None:
            raw = _cut_raw(raw, around)
    check_real(raw.data, raw.label)
    if _NO_WEIGHT not in raw.bad:
        raw.bad["in blank margins"] = _blank(raw.data)
    new_unit, factor = _rate_unit(raw, unit)
    # Not by clean_image, which makes double precision of it.
    variance, raw.variance = raw.variance, None
    if variance is not None:
        raw.bad.setdefault(_NO_WEIGHT, ~((variance > 0) & np.isfinite(variance)))
    try:
        image = clean_image(raw, new_unit, factor=factor)
    except InputFileError as error:
        if around is None:
            raise
        raise GeometryError(
            f"{raw.label}: nothing of the image is valid within the MUSE field ({error.problem})"
        ) from error
    if variance is not None:
        if not is_path(source):
            variance = variance.copy()
        variance[image.mask] = 1.0
        image.uncertainty = VarianceUncertainty(variance, copy=False)
    return image


def _read_file(hdul, path, around, weight):
    _refuse_chips(hdul, path)
    hdu = find_image(hdul, path, ("SCI", "DATA"), 2)
    header = merged_header(hdu.header, hdul[0].header)
    _refuse_muse(header, None, path)
    shape = image_shape(hdu, 2)
    if len(shape) != 2:
        raise InputFileError(
            path, f"has {len(shape)} axes, shape {shape}; an HST image of 2 axes is needed"
        )
    wcs = celestial_wcs(hdu.header, path, hdul=hdul)
    _refuse_muse(header, wcs, path)
    view = ...
    if around is not None:
        view = _covering_view(wcs, shape, around, path)
        wcs = _cut_wcs(wcs, header, view)
    raw = RawImage(read_pixels(hdu, path, view), wcs, header, path)
    if weight is None:
        weights = _weights(hdul, path, shape, view)
    else:
        weights = _separate_weights(weight, shape, view)
    if weights is not None:
        known = weights > 0
        raw.bad[_NO_WEIGHT] = ~known
        with np.errstate(over="ignore"):
            raw.variance = np.divide(1.0, weights, out=np.ones(weights.shape, "=f4"), where=known)
    raw.unit = card_value(header, "BUNIT")
    header["IMPFILE"] = (sanitize_card(base_name(path)), "file that the image came from")
    return raw


def _weights(hdul, path, shape, view):
    """Return the weights of an image from its file: WHT, or the errors ERR to the power of -2."""
    weight = same_shape_hdu(hdul, path, "WHT", shape)
    if weight is not None:
        return read_pixels(weight, path, view)
    error = same_shape_hdu(hdul, path, "ERR", shape)
    if error is None:
        return None
    values = np.asarray(read_pixels(error, path, view), dtype=float)
    known = values > 0
    # Errors that nobody has filled in say nothing.
    return np.power(values, -2.0, out=np.zeros_like(values), where=known) if known.any() else None


def _separate_weights(path, shape, view):
    """Return the weights of an image from a file of their own."""
    with open_fits(path) as hdul:
        hdu = find_image(hdul, path, ("WHT", "SCI", "DATA"), 2)
        found = image_shape(hdu, 2)
        if found != shape:
            raise InputFileError(
                path, f"the shape of the weights, {found}, differs from that of the image, {shape}"
            )
        return read_pixels(hdu, path, view)


def _refuse_muse(header, wcs, label):
    if looks_like_muse(header, wcs):
        raise InputFileError(
            label,
            "holds MUSE data, where an HST image is needed; a fit takes the HST image first, "
            "then MUSE images",
        )


def _refuse_chips(hdul, path):
    """Raise InputFileError for an exposure of several chips: one of them is not the image."""
    chips = sum(hdu.name == "SCI" for hdu in hdul)
    if chips > 1:
        raise InputFileError(
            path,
            f"holds {chips} SCI extensions, the chips of an exposure; a drizzled image "
            "(..._drz.fits, ..._drc.fits) is needed",
        )


def _blank(data):
    """
    Find the margins of a drizzled image that comes without its weights.

    They are exactly 0. Only blocks of 9 pixels and more count, and only in an image with noise
    (with negative pixels): a noise-free simulation has a sky of 0, and single pixels of a real
    image are 0 by chance.
    """
    blank = np.zeros(data.shape, dtype=bool)
    if data.dtype.kind != "f" or not np.any(data < 0):
        return blank
    zero = data == 0
    if np.count_nonzero(zero) < 9:
        return blank
    labels, _ = ndimage.label(zero)
    sizes = np.bincount(labels.ravel())
    large = sizes >= 9
    large[0] = False
    blank = large[labels]
    if blank.any():
        log.info("%d blank pixels at the margins are masked", np.count_nonzero(blank))
    return blank


# ---------------------------------------------------------------------------------------------
# Cut-outs
# ---------------------------------------------------------------------------------------------
def _cut_raw(raw, around):
    view = _covering_view(raw.wcs, raw.data.shape, around, raw.label)
    raw.wcs = _cut_wcs(raw.wcs, raw.header, view)
    raw.data = raw.data[view]
    raw.bad = {reason: pixels[view] for reason, pixels in raw.bad.items()}
    raw.variance = None if raw.variance is None else raw.variance[view]
    return raw


def _cut_wcs(wcs, header, view):
    """Return the WCS of a part of the image, and move the pixel keywords of its header."""
    for axis, part in zip((1, 2), view[::-1], strict=True):
        for key, default in ((f"CRPIX{axis}", None), (f"LTV{axis}", 0.0)):
            value = card_value(header, key, default)
            if isinstance(value, (int, float)):
                header[key] = value - part.start
    return wcs[view]


def _covering_view(wcs, shape, around, label):
    """Return the slices (y, x) of the image that cover a MUSE field and its margin."""
    muse_wcs, muse_shape, margin = around
    _check_distance(wcs, shape, around, label)
    if wcs.has_distortion:
        # A single exposure, not drizzled: small, and the inverse of its distortion may fail
        # outside of the image.
        return slice(0, shape[0]), slice(0, shape[1])
    pad = margin / pixel_scale(muse_wcs)
    ny, nx = muse_shape
    x = np.linspace(-0.5 - pad, nx - 0.5 + pad, 33)
    y = np.linspace(-0.5 - pad, ny - 0.5 + pad, 33)
    edge_x = np.concatenate([x, x, np.full(33, x[0]), np.full(33, x[-1])])
    edge_y = np.concatenate([np.full(33, y[0]), np.full(33, y[-1]), y, y])
    px, py = wcs.world_to_pixel(muse_wcs.pixel_to_world(edge_x, edge_y))
    view = []
    for pixels, size in ((py, shape[0]), (px, shape[1])):
        if not np.isfinite(pixels).all():
            raise _no_overlap(wcs, shape, around, label)
        # Two more pixels, for the interpolation at the edge.
        start = max(int(np.floor(pixels.min())) - 2, 0)
        stop = min(int(np.ceil(pixels.max())) + 3, size)
        if start >= stop:
            raise _no_overlap(wcs, shape, around, label)
        view.append(slice(start, stop))
    return tuple(view)


def _centre(wcs, shape):
    return wcs.pixel_to_world((shape[1] - 1) / 2, (shape[0] - 1) / 2).icrs


def _check_distance(wcs, shape, around, label):
    """Raise GeometryError for fields too far apart, where pixel coordinates mean nothing."""
    muse_wcs, muse_shape, margin = around
    distance = _centre(wcs, shape).separation(_centre(muse_wcs, muse_shape)).arcsec
    reach = margin + 0.5 * (
        np.hypot(*shape) * pixel_scale(wcs) + np.hypot(*muse_shape) * pixel_scale(muse_wcs)
    )
    # 1.5: the pixels of large mosaics are not all of the same size.
    if not distance <= 1.5 * reach:
        raise _no_overlap(wcs, shape, around, label)


def _no_overlap(wcs, shape, around, label):
    hst, muse = _centre(wcs, shape), _centre(*around[:2])
    distance = hst.separation(muse).arcsec
    text = f'{distance:.1f}"' if distance < 60 else f"{distance / 60:.1f}'"
    if distance >= 3600:
        text = f"{distance / 3600:.2f} deg"
    return GeometryError(
        f"{label}: the HST image does not cover the MUSE field: its centre is RA, Dec = "
        f"{hst.ra.deg:.5f}, {hst.dec.deg:+.5f}, that of the MUSE image {muse.ra.deg:.5f}, "
        f"{muse.dec.deg:+.5f}, {text} away; give an HST image of the same field"
    )


# ---------------------------------------------------------------------------------------------
# Units
# ---------------------------------------------------------------------------------------------
def _rate_unit(raw, override):
    """
    Unit of the result, and the factor that brings the data there.

    BUNIT (or the unit given by the user) may be a rate, an amount that is to be divided by
    EXPTIME, or a flux density.
    """
    unit = _parse_hst_unit(raw.unit if override is None else override, raw.label)
    drizzled = str(card_value(raw.header, "D001OUUN", "")).strip().lower()
    if unit is None:
        warnings.warn(
            f"{raw.label}: no BUNIT; the data are taken to be in electron/s "
            "(state the unit to be sure: unit=, --hst-unit)",
            AssumptionWarning,
            stacklevel=3,
        )
        unit = u.electron if drizzled == "counts" else ELECTRON_RATE
    if unit.is_equivalent(FLUX_DENSITY):
        return unit, 1.0
    for amount, rate in _AMOUNTS.items():
        if unit.is_equivalent(amount / u.s):
            return rate, unit.to(amount / u.s)
        if unit.is_equivalent(amount):
            if override is None and drizzled == "cps" and _is_rate(raw, unit):
                return rate, unit.to(amount)
            return rate, unit.to(amount) / _exposure_time(raw)
    raise HeaderError(
        f"{raw.label}: the data are in {unit.to_string()!r}; an HST image is needed in electron/s, "
        "count/s, electron, count, or erg/s/cm2/Angstrom (if BUNIT is wrong: unit=, --hst-unit)"
    )


def _parse_hst_unit(text, label):
    try:
        return parse_unit(text)
    except (ValueError, TypeError):
        raise HeaderError(
            f"{label}: the unit {text!r} is not known; state that of the HST image (unit=, "
            "--hst-unit): electron/s, count/s, electron, count, or erg/s/cm2/Angstrom"
        ) from None


def _is_rate(raw, unit):
    """
    Whether data said to be an amount are a rate, as their drizzle keyword says.

    Drizzle programs left BUNIT as it was in the exposures when they wrote counts per second;
    others multiplied by the time afterwards. The noise tells which.
    """
    # Differences of neighbours, in some rows, tell noise from the light of large galaxies.
    rows = raw.data[:: max(1, raw.data.shape[0] // 512)].astype(np.float64)
    steps = np.abs(np.diff(rows, axis=1)) / np.sqrt(2)
    steps = steps[np.isfinite(steps) & (steps > 0)]
    noise = 1.4826 * np.median(steps) if steps.size else 0.0
    rate = bool(noise < _LEAST_NOISE)
    taken = f"{unit}/s" if rate else f"{unit}"
    warnings.warn(
        f"{raw.label}: BUNIT says {unit}, but D001OUUN says cps; with a pixel noise of "
        f"{noise:.2g} the data are taken to be in {taken} (if this is wrong: unit=, --hst-unit)",
        AssumptionWarning,
        stacklevel=4,
    )
    return rate


def _exposure_time(raw):
    time = card_value(raw.header, "EXPTIME")
    number = isinstance(time, (int, float)) and not isinstance(time, bool)
    if not (number and np.isfinite(time) and time > 0):
        raise HeaderError(
            f"{raw.label}: the data are not per second, and EXPTIME = {time!r} in the header; a "
            "positive time in seconds is needed (or state the unit: unit=, --hst-unit)"
        )
    return float(time)
