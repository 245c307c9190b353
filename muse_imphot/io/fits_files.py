# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Opening FITS files, finding the images in them, reading their arrays.

Whatever is wrong with the container ends here, in an `~muse_imphot.exceptions.InputFileError`
of one line; what astropy says about odd but harmless headers is kept quiet.
"""

import bz2
import gzip
import logging
import lzma
import os
import re
import shutil
import stat
import tempfile
import warnings
import zlib
from contextlib import contextmanager
from pathlib import Path

from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from ..exceptions import InputFileError
from .remote import is_remote, open_remote

__all__ = [
    "base_name",
    "find_image",
    "image_shape",
    "open_fits",
    "open_plain",
    "read_pixels",
    "same_shape_hdu",
]

log = logging.getLogger(__name__)

_UNPACKERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
_FOREIGN = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x89HDF": "an HDF5 file",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive (unpack it first)",
    b"\x1f\x9d": "compressed by compress, .Z (unpack it with gunzip first)",
    b"<": "an HTML or XML page (the download failed?)",
    b"# %ECSV": "an ECSV table",
}
# Unpacked files up to this size stay in memory, larger ones go to the temporary folder.
_IN_MEMORY = 2**27
_BLOCK = 2880
_IMAGES = (fits.PrimaryHDU, fits.ImageHDU, fits.CompImageHDU)
# Extensions that accompany an image and are never the image itself.
_COMPANIONS = frozenset(
    {"STAT", "DQ", "WHT", "CTX", "ERR", "MASK", "UNCERT", "FIELDMAP", "EXPMAP", "VAR", "WEIGHT"}
)


def base_name(path):
    """
    Name of a file without its folder and without .fits and the suffixes of compression.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    name : str
        For example "UDF-01" for "data/UDF-01.fits.gz".
    """
    name = Path(os.fspath(path)).name
    if is_remote(path):
        name = re.split("[?#]", name)[0]
    for suffixes in ((".gz", ".bz2", ".xz", ".fz"), (".fits", ".fit", ".fts")):
        for suffix in suffixes:
            if name.lower().endswith(suffix) and len(name) > len(suffix):
                name = name[: -len(suffix)]
                break
    return name


@contextmanager
def open_fits(path):
    """
    Open a FITS file for reading, and refuse it unless it is complete.

    Compressed files (.gz, .bz2, .xz) are unpacked once, so that slices of them are read as fast
    as those of plain files. File names are taken literally (no "[1]"). Addresses such as
    ``https://...`` and ``s3://...`` are read by fsspec, of a large file the parts that are needed.

    Parameters
    ----------
    path : path-like
        The file, or its address.

    Yields
    ------
    hdul : `~astropy.io.fits.HDUList`
        Opened without memory mapping, so that ``hdu.section`` needs bounded memory.

    Raises
    ------
    InputFileError
        If the file is absent, not FITS, damaged or truncated.
    """
    with _plain_file(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        hdul = _read_headers(file, path)
        try:
            _check_complete(hdul, path, file, size)
            yield hdul
        finally:
            hdul.close()


def open_plain(path):
    """
    Open a file for reading its pixels without astropy.

    Parameters
    ----------
    path : path-like
        The file, which `open_fits` has opened before.

    Returns
    -------
    file : binary file object or None
        To be closed by the caller; None if the file is compressed or not on this machine.

    Raises
    ------
    InputFileError
        If it cannot be opened any more.
    """
    if is_remote(path):
        return None
    file = _open(path)
    if file.read(6) == b"SIMPLE":
        return file
    file.close()
    return None


def _open(path):
    """Open a file on disk."""
    try:
        return open(path, "rb")
    except OSError as error:
        raise InputFileError(path, f"cannot be opened: {error.strerror}") from error


@contextmanager
def _plain_file(path):
    """Yield the file, unpacked if need be, as a binary file object."""
    if is_remote(path):
        file = open_remote(path)
    else:
        _check_path(path)
        file = _open(path)
    with file:
        start = file.read(80)
        if not start:  # of a file on disk it is known already
            raise InputFileError(path, "is empty (0 bytes); a FITS file is needed")
        file.seek(0)
        unpacker = next((f for magic, f in _UNPACKERS.items() if start.startswith(magic)), None)
        if unpacker is None:
            _check_magic(start, path)
            yield file
            return
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as unpacked:
            _unpack(unpacker, file, unpacked, path)
            yield unpacked


def _check_path(path):
    """Raise InputFileError unless the path is a regular, non-empty file."""
    try:
        info = os.stat(path)
    except FileNotFoundError:
        link = os.path.islink(path)
        raise InputFileError(
            path, "is a link to a file that does not exist" if link else "no such file"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputFileError(path, f"cannot be opened: {reason}") from error
    if stat.S_ISDIR(info.st_mode):
        raise InputFileError(path, "is a folder; a FITS file is needed")
    if not stat.S_ISREG(info.st_mode):
        raise InputFileError(path, "is a pipe or a device; a FITS file on disk is needed")
    if info.st_size == 0:
        raise InputFileError(path, "is empty (0 bytes); a FITS file is needed")


def _check_magic(start, path):
    """Raise InputFileError unless the first bytes are those of a FITS file."""
    if start.startswith(b"SIMPLE"):
        return
    text = start.lstrip(b"\xef\xbb\xbf \r\n\t")
    kind = next((k for magic, k in _FOREIGN.items() if text.startswith(magic)), None)
    found = f"it is {kind}" if kind else f"it starts with {start[:12]!r}"
    raise InputFileError(path, f"is not a FITS file: {found}; a FITS file is needed")


def _unpack(unpacker, file, target, path):
    """Unpack a compressed file into another file object, and check what it holds."""
    log.info("unpacking %s", path)
    try:
        with unpacker(file) as stream:
            shutil.copyfileobj(stream, target, 2**20)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise InputFileError(
            path, f"the compressed file is truncated or damaged ({error}); fetch it again"
        ) from error
    target.seek(0)
    start = target.read(80)
    if not start:
        raise InputFileError(path, "is empty when unpacked; a FITS file is needed")
    _check_magic(start, path)


@contextmanager
def _quiet():
    """Silence astropy about harmless oddities: cards against the standard, lost padding."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        yield


def _read_headers(file, path):
    """Return the HDUList with all its headers read."""
    try:
        with _quiet():
            hdul = fits.open(file, mode="readonly", memmap=False, lazy_load_hdus=False)
            for hdu in hdul:
                _touch(hdu)
    # A damaged header can raise nearly anything in astropy: OSError (END lost), ValueError,
    # KeyError, TypeError, VerifyError.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputFileError(
            path, f"its FITS headers are damaged or truncated ({reason}); fetch the file again"
        ) from error
    return hdul


def _touch(hdu):
    """Use what is used later of an HDU: headers are parsed only then, and may be damaged."""
    if not hasattr(hdu, "fileinfo"):  # a _CorruptedHDU of astropy
        raise ValueError("an extension cannot be understood")
    hdu.name, hdu.size, len(hdu.header)
    if isinstance(hdu, _IMAGES) and not all(isinstance(n, int) for n in hdu.shape):
        raise ValueError(f"NAXISn of extension {hdu.name} are not all numbers")


def _check_complete(hdul, path, file, size):
    """Raise InputFileError if the file ends within its last HDU, header or data."""
    end = 0
    for hdu in hdul:
        where = hdu.fileinfo()
        if where is None:
            continue
        # Only the data themselves count: some writers leave the padding of the last block out.
        # The span of a table or a compressed image is known with its padding only.
        # From astropy 8 on, a compressed image is an ImageHDU too.
        plain = isinstance(hdu, (fits.PrimaryHDU, fits.ImageHDU))
        plain &= not isinstance(hdu, fits.CompImageHDU)
        length = hdu.size if plain else where["datSpan"] - _BLOCK + 1
        missing = where["datLoc"] + length - size
        end = max(end, where["datLoc"] + where["datSpan"])
        if missing > 0:
            raise InputFileError(
                path,
                f"is truncated: {missing} bytes of extension {hdu.name or 'PRIMARY'} are "
                "missing; fetch the file again",
            )
    # A last header without its end is passed over by astropy.
    file.seek(end)
    if file.read(8) == b"XTENSION":
        raise InputFileError(
            path, f"is truncated in the header of extension {len(hdul)}; fetch the file again"
        )


def _is_image(hdu):
    # Not hdu.is_image, which is True for some corrupted HDUs that have no shape.
    return isinstance(hdu, _IMAGES) and not isinstance(hdu, fits.GroupsHDU) and len(hdu.shape) > 0


def image_shape(hdu, ndim):
    """
    Shape of the array of an HDU without leading axes of length 1.

    Parameters
    ----------
    hdu : image HDU
        The HDU.
    ndim : int
        Axes are dropped until this many are left.

    Returns
    -------
    shape : tuple of int
        In numpy order.
    """
    shape = tuple(hdu.shape)
    while len(shape) > ndim and shape[0] == 1:
        shape = shape[1:]
    return shape


def find_image(hdul, path, names, ndim):
    """
    Find the HDU that holds the image (or the cube).

    The first HDU with one of the names counts; without any, the first image HDU with the right
    number of axes that is not a variance, weight or mask.

    Parameters
    ----------
    hdul : `~astropy.io.fits.HDUList`
        The file.
    path : path-like
        Its name, for messages.
    names : sequence of str
        Names of extensions, the preferred one first.
    ndim : int
        Number of axes wanted, 2 or 3.

    Returns
    -------
    hdu : image HDU
        It has pixels; its number of axes is for the caller to check with `image_shape`.

    Raises
    ------
    InputFileError
        If no HDU holds an image.
    """
    images = [hdu for hdu in hdul if _is_image(hdu)]
    if not images:
        kind = "tables" if len(hdul) > 1 else "a header"
        raise InputFileError(path, f"holds only {kind}, no image")
    images = [hdu for hdu in images if 0 not in hdu.shape]
    if not images:
        raise InputFileError(path, "its image has no pixel (an axis of length 0)")
    for name in names:
        named = [hdu for hdu in images if hdu.name == name]
        if named:
            return _first_with_axes(named, ndim)
    others = [hdu for hdu in images if hdu.name not in _COMPANIONS]
    return _first_with_axes(others or images, ndim)


def _first_with_axes(hdus, ndim):
    return next((hdu for hdu in hdus if len(image_shape(hdu, ndim)) == ndim), hdus[0])


def same_shape_hdu(hdul, path, name, shape):
    """
    Find the extension that accompanies an image: its variance, weight or quality.

    Parameters
    ----------
    hdul : `~astropy.io.fits.HDUList`
        The file.
    path : path-like
        Its name, for messages.
    name : str
        Name of the extension.
    shape : tuple of int
        Shape of the image.

    Returns
    -------
    hdu : image HDU or None
        None if there is no such extension.

    Raises
    ------
    InputFileError
        If its shape is another one.
    """
    found = [hdu for hdu in hdul if hdu.name == name and _is_image(hdu)]
    if not found:
        return None
    match = next((hdu for hdu in found if image_shape(hdu, len(shape)) == shape), None)
    if match is None:
        raise InputFileError(
            path,
            f"the shape of {name}, {tuple(found[0].shape)}, differs from that of the data, "
            f"{tuple(shape)}",
        )
    return match


def read_pixels(hdu, path, view=..., *, ndim=2):
    """
    Read an array or a part of it, as it is stored (scaled, big-endian).

    Parameters
    ----------
    hdu : image HDU
        The HDU.
    path : path-like
        The file, for messages.
    view : slice or tuple of slices, optional
        The part; by default everything.
    ndim : int, optional
        Number of axes after the leading ones of length 1 are dropped.

    Returns
    -------
    pixels : `~numpy.ndarray`
        A new array.

    Raises
    ------
    InputFileError
        If the data cannot be read.
    """
    extra = len(hdu.shape) - ndim
    try:
        with _quiet():
            if view is ...:
                return hdu.data.reshape(hdu.shape[extra:])
            view = view if isinstance(view, tuple) else (view,)
            return hdu.section[(0,) * extra + view]
    except MemoryError:
        raise
    # A truncated or damaged stream: TypeError and ValueError (buffer too small), OSError,
    # zlib.error, and whatever the tile decompressors raise.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputFileError(
            path,
            f"the data of extension {hdu.name or 'PRIMARY'} cannot be read ({reason}); "
            "the file is truncated or damaged",
        ) from error
