# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
How corrections are recorded in headers: HISTORY for people, and keywords from which they can be
taken back.
"""

import math

from astropy.io import fits
from astropy.wcs.utils import proj_plane_pixel_scales

from .exceptions import GeometryError, UserError
from .io import sanitize_card

__all__ = [
    "corrected_header",
    "in_pixels",
    "move_cards",
    "put_psf",
    "recorded",
    "refuse_twice",
    "reverted_header",
]

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

# Says that the FSF keywords are ours; those that were there before begin with another letter.
_PSF_CARD, _PSF, _EARLIER_PSF = "IMPFSF", "FSF", "OSF"


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


def reverted_header(meta, wcs, back):
    """
    Return a copy of a header without the corrections and their record.

    Parameters
    ----------
    meta : `~astropy.io.fits.Header` or dict
        The header of the corrected image.
    wcs : `~astropy.wcs.WCS` or `None`
        The WCS of that image.
    back : dict
        The steps back; see `plan`.

    Returns
    -------
    `~astropy.io.fits.Header`
    """
    meta = _header_copy(meta)
    move_cards(meta, wcs, back)
    for card, _, _ in _CARDS.values():
        meta.remove(card, ignore_missing=True)
    if _PSF_CARD in meta:
        del meta[_PSF_CARD], meta[f"{_PSF}*"]
        _rename(meta, _EARLIER_PSF, _PSF)
    meta.add_history("muse_imphot: corrections taken back")
    return meta


def put_psf(header, psf):
    """
    Write a PSF into a header as FSF keywords, in place; `reverted_header` takes them back.

    Parameters
    ----------
    header : `~astropy.io.fits.Header`
        The primary header. FSF keywords that it has already are kept under other names.
    psf : `~muse_imphot.psf_wavelength.PsfWavelength`
        The PSF against wavelength.
    """
    if _PSF_CARD in header:
        del header[f"{_PSF}*"]
    else:
        _rename(header, _PSF, _EARLIER_PSF)
    psf.to_header(header)
    header[_PSF_CARD] = (True, f"FSF keywords are of muse_imphot, {_EARLIER_PSF} older ones")


def _rename(header, old, new):
    for keyword in list(header[f"{old}*"]):
        header.rename_keyword(keyword, new + keyword.removeprefix(old))


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
    pixels = in_pixels(wcs, step.get("dx", 0.0), step.get("dy", 0.0))
    degrees = {wcs.wcs.lng: step.get("dra", 0.0) / 3600, wcs.wcs.lat: step.get("ddec", 0.0) / 3600}
    for axis in (0, 1):
        if f"CRPIX{axis + 1}" in header:
            header[f"CRPIX{axis + 1}"] += pixels[axis]
        if f"CRVAL{axis + 1}" in header:
            header[f"CRVAL{axis + 1}"] -= degrees[axis]


def recorded(meta, label=None):
    """
    Return what has been done to an image, if it can be taken back.

    Parameters
    ----------
    meta : `~astropy.io.fits.Header` or dict
        The header.
    label : str, optional
        What begins messages: the file.

    Returns
    -------
    dict
        See `plan`; 0 (for ``scale`` 1) for what was not done.

    Raises
    ------
    `~muse_imphot.exceptions.UserError`
        If there is no record, or the pixels were resampled.
    """
    done = _record(meta)
    start = "" if label is None else f"{label}: "
    if not any(card in meta for card, _, _ in _CARDS.values()):
        raise UserError(
            f"{start}the header holds no record of corrections; there is nothing to revert."
        )
    if done["shift_x"] or done["shift_y"]:
        raise UserError(
            f"{start}the pixels were resampled, which cannot be taken back; "
            "start again from the original image."
        )
    return done


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


def in_pixels(wcs, dx, dy):
    """
    Return an offset in arcsec as one in pixels.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS` or `None`
        Celestial WCS of the image.
    dx, dy : float
        The offset along x and y in arcsec.

    Returns
    -------
    tuple of float

    Raises
    ------
    `~muse_imphot.exceptions.GeometryError`
        If there is no WCS.
    """
    if wcs is None:
        raise GeometryError("the image has no WCS, so that its pixel size is unknown.")
    scales = proj_plane_pixel_scales(wcs)[:2] * 3600.0
    return dx / scales[0], dy / scales[1]


def _record(meta):
    """Return what has been done to an image according to its header."""
    return {name: float(meta.get(card, empty)) for name, (card, empty, _) in _CARDS.items()}


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
