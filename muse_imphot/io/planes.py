# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Planes of a cube, read from its file.
"""

import numpy as np
from astropy.io import fits

from ..exceptions import InputFileError
from .fits_files import read_pixels

__all__ = ["PlaneReader"]


class PlaneReader:
    """
    Planes of an image HDU of three axes.

    What MUSE cubes are, unscaled float32 in a plain file, is read into memory that is used again
    for the next planes; that is a third faster than new memory each time. All else is left to
    astropy.

    Parameters
    ----------
    hdu : image HDU
        The HDU.
    path : path-like
        The file, for messages.
    file : binary file object or None
        The file itself if it is not compressed.
    """

    def __init__(self, hdu, path, file=None):
        self._hdu = hdu
        self._path = path
        self._file = file if _is_plain(hdu) else None
        self._memory = np.empty((0, *hdu.shape[-2:]), ">f4")

    def __call__(self, first, end):
        """
        Read planes.

        Parameters
        ----------
        first, end : int
            The planes ``first:end``.

        Returns
        -------
        pixels : `~numpy.ndarray`
            Of the type and the byte order of the file; valid until planes are read again.

        Raises
        ------
        InputFileError
            If the data cannot be read.
        """
        if self._file is None:
            return read_pixels(self._hdu, self._path, slice(first, end), ndim=3)
        if len(self._memory) < end - first:
            self._memory = np.empty((end - first, *self._memory.shape[1:]), ">f4")
        pixels = self._memory[: end - first]
        try:
            self._file.seek(self._hdu.fileinfo()["datLoc"] + first * pixels[0].nbytes)
            missing = pixels.nbytes - self._file.readinto(memoryview(pixels).cast("B"))
            problem = f"{missing} bytes are missing" if missing else None
        except OSError as error:
            problem = error.strerror
        if problem:
            raise InputFileError(
                self._path,
                f"the data of extension {self._hdu.name or 'PRIMARY'} cannot be read ({problem}); "
                "the file is truncated or damaged",
            )
        return pixels


def _is_plain(hdu):
    """Return whether the array of an HDU is stored as unscaled float32."""
    compressed = isinstance(hdu, fits.CompImageHDU)
    scaled = any(key in hdu.header for key in ("BSCALE", "BZERO"))
    return not compressed and not scaled and hdu.header.get("BITPIX") == -32
