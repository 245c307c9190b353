# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
MUSE cubes for `specutils`.

Importing this module makes ``specutils.Spectrum.read(path)`` recognise a MUSE cube and read it
with its variance, its mask, and vacuum wavelengths::

    import muse_imphot.io.loaders
    from specutils import Spectrum

    cube = Spectrum.read("cube.fits")

`muse_imphot.io` does not import it, since specutils takes seconds to load.
"""

import os

import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy.nddata import VarianceUncertainty

from ..exceptions import InputFileError, UserError
from .cube import open_cube
from .fits_files import find_image, image_shape, open_fits
from .headers import card_text
from .nddata import is_path

__all__ = ["is_muse_cube", "read_spectrum", "register"]

FORMAT = "MUSE cube"


def is_muse_cube(origin, *args, **kwargs):
    """
    Whether a file is a MUSE cube, as `astropy.io.registry` asks.

    Parameters
    ----------
    origin : str
        "read" or "write".
    *args : tuple
        The first one that is a path, an open file or an HDUList of a file counts.
    **kwargs : dict
        Ignored.

    Returns
    -------
    yes : bool
        True for a FITS file whose DATA extension has three axes, the third of wavelength.
    """
    path = next((path for path in map(_path_of, args) if path is not None), None)
    if origin != "read" or path is None:
        return False
    try:
        with open_fits(path) as hdul:
            return _holds_cube(hdul, path)
    except UserError:
        return False


def _path_of(source):
    """Return the path of a file, an open file or an HDUList; None if it has none."""
    if isinstance(source, fits.HDUList):
        source = source.filename()
    name = getattr(source, "name", source) if not isinstance(source, os.PathLike) else source
    return name if is_path(name) else None


def _holds_cube(hdul, path):
    hdu = find_image(hdul, path, ("DATA",), 3)
    waves = card_text(hdu.header, "CTYPE3").startswith(("AWAV", "WAVE"))
    return hdu.name == "DATA" and len(image_shape(hdu, 3)) == 3 and waves


def read_spectrum(source, **kwargs):
    """
    Read a MUSE cube as a spectrum.

    Parameters
    ----------
    source : path-like, file object or `~astropy.io.fits.HDUList`
        The file; `astropy.io.registry` hands over what it opened to identify it.
    **kwargs : dict
        Ignored.

    Returns
    -------
    spectrum : specutils.Spectrum
        Flux of shape (nlam, ny, nx) with a `~astropy.nddata.VarianceUncertainty`, masked where
        it is not finite or DQ != 0; wavelengths in vacuum. ``meta`` holds the ``header``, the
        ``celestial_wcs``, and under ``wavelengths`` where the wavelengths come from.
    """
    from specutils import Spectrum

    path = _path_of(source)
    if path is None:
        raise InputFileError("the MUSE cube", f"a file on disk is needed, not {source!r}")
    with open_cube(path) as cube:
        flux = np.empty(cube.shape, dtype=np.float32)
        variance = np.empty_like(flux) if cube.has_variance else None
        for first, end, data, var in cube.slabs():
            flux[first:end] = data
            if variance is not None:
                variance[first:end] = var
        found = "air" if cube.air else "vacuum"
        meta = {
            "header": cube.header,
            "celestial_wcs": cube.wcs,
            "wavelengths": f"vacuum ({found} in the file)",
        }
        unit, wavelengths = cube.unit, cube.wavelengths * u.AA
    uncertainty = None if variance is None else VarianceUncertainty(variance, unit=unit**2)
    return Spectrum(
        flux=flux * unit,
        spectral_axis=wavelengths,
        spectral_axis_index=0,
        uncertainty=uncertainty,
        mask=~np.isfinite(flux),
        meta=meta,
    )


def register():
    """
    Register the loader with specutils, under the name "MUSE cube".

    Called when the module is imported; calling it again does nothing.
    """
    from specutils import Spectrum
    from specutils.io.registers import data_loader, io_registry

    if FORMAT in io_registry.get_formats(Spectrum, "Read")["Format"]:
        return
    data_loader(FORMAT, identifier=is_muse_cube, dtype=Spectrum, extensions=["fits"])(read_spectrum)


register()
