# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Writing files that are either complete or absent, and images in the MUSE layout.
"""

import errno
import os
import secrets
from contextlib import contextmanager, suppress
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.io import fits

from ..exceptions import OutputError
from .headers import FLUX_DENSITY, merged_header, sanitize_card, without_wcs
from .muse import clean_object
from .nddata import raw_from_object

__all__ = ["atomic_path", "muse_hdus", "sanitize_card", "write_muse_image"]

_PACKING = (".gz", ".bz2", ".xz", ".fz")


@contextmanager
def atomic_path(path, *, overwrite=False):
    """
    Write a file under a temporary name, and give it its own name when it is complete.

    Whatever goes wrong on the way (an exception, a full disk, Ctrl-C), an older file of the same
    name is kept as it was, and no partial file is left.

    Parameters
    ----------
    path : path-like
        The file to write. If it is a link, the file that it points to is written.
    overwrite : bool, optional
        Whether an older file may be replaced.

    Yields
    ------
    temporary : `~pathlib.Path`
        A file in the same folder, with the same suffixes, which does not exist yet.

    Raises
    ------
    OutputError
        If the file exists and ``overwrite`` is False, is a folder, its folder is missing or
        cannot be written to; or if writing fails (OSError in the body).
    """
    target = _check_target(path, overwrite)
    suffix = target.suffix
    if suffix in _PACKING:
        suffix = target.with_suffix("").suffix + suffix
    temporary = target.with_name(f".imphot-{secrets.token_hex(6)}{suffix}")
    try:
        yield temporary
        _synchronise(temporary)
        if not overwrite and target.exists():
            raise _exists(path)
        os.replace(temporary, target)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written: {_reason(error, temporary)}{_advice(error)}"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _check_target(path, overwrite):
    """Return the real path of an output file, or raise OutputError."""
    target = Path(os.path.realpath(path))
    folder = target.parent
    try:
        if target.is_dir():
            raise OutputError(f"{path}: is a folder; the name of a file is needed")
        if target.exists() and not target.is_file():
            raise OutputError(f"{path}: is a pipe or a device; the name of a file is needed")
        if target.exists() and not overwrite:
            raise _exists(path)
    except OSError as error:  # a name that is too long, a folder that cannot be searched
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error
    if not folder.is_dir():
        raise OutputError(f"{path}: the folder {folder} does not exist; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: the folder {folder} is not writable; choose another one")
    return target


def _exists(path):
    return OutputError(f"{path}: exists already; pass overwrite=True (--overwrite) to replace it")


def _synchronise(path):
    """Bring a file to the disk, so that after a power cut the name never shows a partial one."""
    with open(path, "r+b") as file:
        os.fsync(file.fileno())


def _reason(error, temporary):
    """Return what the system says, with the file that it says it of if that is another one."""
    reason = str(error.strerror or error)
    other = error.filename is not None and os.fspath(error.filename) != os.fspath(temporary)
    return f"{reason} ({error.filename})" if other else reason


def _advice(error):
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or "space" in str(error).lower():
        return "; free some space or choose another folder"
    return ""


def write_muse_image(image, path, *, overwrite=False, dtype="float32"):
    """
    Write an image in the layout of MUSE: PRIMARY / DATA / STAT / DQ.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`
        An image with a unit and a WCS, as `read_muse_image` returns it (or takes it).
    path : path-like
        The file.
    overwrite : bool, optional
        Whether an older file may be replaced.
    dtype : {"float32", "float64"}, optional
        Type of the pixels. Arrays whose values float32 cannot hold (a variance of 1e-42) are
        written as float64.

    Raises
    ------
    OutputError
        If the file cannot be written.
    HeaderError, InputFileError
        If the image has no celestial WCS, no flux unit, or no usable pixel.
    """
    # Not read_muse_image: an HST image on the grid and in the units of MUSE may be written too.
    hdus = muse_hdus(clean_object(raw_from_object(image, "MUSE")), dtype=dtype)
    with atomic_path(path, overwrite=overwrite) as temporary:
        # "ignore": an odd card of the original header must not prevent the output.
        hdus.writeto(temporary, output_verify="silentfix+ignore", checksum=True)


def muse_hdus(image, *, dtype="float32"):
    """
    Make the HDUs of an image in the layout of MUSE.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`
        As `read_muse_image` returns it.
    dtype : {"float32", "float64"}, optional
        Type of the pixels.

    Returns
    -------
    hdus : `~astropy.io.fits.HDUList`
        PRIMARY with the cards of ``image.meta``; DATA, NaN at masked pixels; STAT if there is a
        variance; DQ (uint8), 1 at masked pixels. The WCS is in each but PRIMARY.
    """
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype must be 'float32' or 'float64', not {dtype!r}")
    wcs_cards = _wcs_cards(image.wcs)
    unit, factor = _fits_unit(image.unit)
    hdus = [fits.PrimaryHDU(header=_primary_header(image.meta))]
    data = np.where(image.mask, np.nan, image.data * factor)
    hdus.append(_image_hdu("DATA", _cast(data, dtype, keep_all=False), wcs_cards, unit))
    if image.uncertainty is not None:
        variance = np.where(image.mask, np.nan, image.uncertainty.array * factor**2)
        # A variance that becomes 0 would make a bad pixel.
        variance = _cast(variance, dtype, keep_all=True)
        hdus.append(_image_hdu("STAT", variance, wcs_cards, unit**2))
    hdus.append(_image_hdu("DQ", image.mask.astype(np.uint8), wcs_cards, None))
    for hdu in hdus[2:]:
        hdu.header["SCIDATA"] = ("DATA", "extension that this one belongs to")
    if image.uncertainty is not None:
        hdus[1].header["ERRDATA"] = ("STAT", "extension of the variance")
    hdus[1].header["QUALDATA"] = ("DQ", "extension of the bad pixels")
    return fits.HDUList(hdus)


def _image_hdu(name, data, wcs_cards, unit):
    header = fits.Header([*wcs_cards])
    if unit is not None:
        header["BUNIT"] = (unit.to_string("fits"), "unit of the data")
    return fits.ImageHDU(data, header=header, name=name)


def _cast(array, dtype, *, keep_all):
    """
    Return an array in a type that holds its values: float64 where float32 does not.

    Small numbers may become 0 unless all are to be kept.
    """
    values = np.abs(array[np.isfinite(array) & (array != 0)])
    if values.size:
        limits = np.finfo(np.float32)
        smallest = values.min() if keep_all else values.max()
        if values.max() > limits.max or smallest < limits.tiny:
            dtype = "float64"
    return array.astype(dtype)


def _fits_unit(unit):
    """Return a unit that FITS can spell, and the factor that brings the data there."""
    try:
        unit.to_string("fits")
    except ValueError:  # a scale that is not a power of 10
        return u.Unit(1e-20 * FLUX_DENSITY), unit.to(1e-20 * FLUX_DENSITY)
    return unit, 1.0


def _wcs_cards(wcs):
    """Return the cards of a celestial WCS, with a CD matrix and all digits."""
    header = wcs.to_header(relax=True)
    names = ("CTYPE", "CUNIT", "LONPOLE", "LATPOLE", "RADESYS", "EQUINOX", "WCSAXES", "PV", "A_")
    names += ("B_", "AP_", "BP_")
    cards = [card for card in header.cards if card.keyword.startswith(names)]
    # to_header rounds to 12 digits and spells the matrix PC, which MUSE software does not expect.
    for i in (0, 1):
        cards.append(fits.Card(f"CRVAL{i + 1}", float(wcs.wcs.crval[i])))
        cards.append(fits.Card(f"CRPIX{i + 1}", float(wcs.wcs.crpix[i])))
        for j in (0, 1):
            value = float(wcs.pixel_scale_matrix[i, j])
            cards.append(fits.Card(f"CD{i + 1}_{j + 1}", value))
    return cards


def _primary_header(meta):
    """Return the cards of an image that belong to the file as a whole and can be written."""
    header = fits.Header()
    for card in without_wcs(merged_header(meta)).cards:
        if card.keyword in ("BUNIT", "FSCALE", "ERRDATA", "QUALDATA", "SCIDATA"):
            continue
        try:
            card.verify("silentfix+exception")
            str(card)
        except (fits.VerifyError, ValueError):
            continue
        header.append(card, end=True)
    return header
