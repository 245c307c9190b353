# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Cubes in memory, and whatever else may stand for a MUSE cube.
"""

from contextlib import contextmanager

import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from .coordinates import check_celestial
from .cube import MuseCube, open_cube, require_cube, slab_ranges, wavelength_edges
from .fits_files import base_name
from .headers import check_flux_density, merged_header, muse_flux_unit, sanitize_card
from .nddata import check_real, is_path

__all__ = ["CubeObject", "as_cube"]

_ATTRIBUTES = ("data", "var", "wcs", "wave", "unit", "shape")


@contextmanager
def as_cube(source):
    """
    Yield a cube with the face of `MuseCube`, whatever stands for it.

    Parameters
    ----------
    source : path-like, `MuseCube` or MPDAF Cube
        A file, which is opened and closed again; an open cube, which stays open; or an object in
        memory, recognised by its attributes data, var, wcs, wave and unit.

    Yields
    ------
    cube : `MuseCube`
        Or an object with its attributes and its method ``slabs``.

    Raises
    ------
    InputFileError, HeaderError
        If it is no cube, or its coordinates, wavelengths or unit cannot be used.
    TypeError
        If it is something else.
    """
    if is_path(source):
        with open_cube(source) as cube:
            yield cube
    elif isinstance(source, (MuseCube, CubeObject)):
        yield source
    elif all(hasattr(type(source), name) or hasattr(source, name) for name in _ATTRIBUTES):
        yield CubeObject(source)
    else:
        raise TypeError(
            "the cube must be the path of a FITS file, a MuseCube or an MPDAF Cube, not "
            f"{type(source).__name__}"
        )


class CubeObject:
    """
    A cube of MPDAF with the face of `MuseCube`.

    A cube that MPDAF has not read yet is read slab by slab here, too.

    Parameters
    ----------
    source : MPDAF Cube
        Or anything with its attributes ``data``, ``var``, ``wcs``, ``wave``, ``unit`` and
        ``shape``, of which ``source[first:end]`` is a part.

    Attributes
    ----------
    path, name, shape, header, primary_header, wcs, unit, wavelength_edges, wavelengths, air
        As of `MuseCube`.
    has_variance : bool
        Whether there is a variance.
    """

    def __init__(self, source):
        filename = getattr(source, "filename", None)
        self.path = filename if isinstance(filename, str) and filename else "the MUSE cube"
        self.name = base_name(filename) if self.path == filename else "cube"
        self.shape = tuple(source.shape or ())
        own, primary = (
            h if isinstance(h, fits.Header) else fits.Header()
            for h in (getattr(source, f"{name}_header", None) for name in ("data", "primary"))
        )
        self.primary_header = primary
        self.header = merged_header(own, primary)
        if self.path == filename:
            self.header["IMPFILE"] = (sanitize_card(self.name), "file that the cube came from")
        require_cube(self.shape, self.header, self.path)
        # Its WCS class wraps one of astropy.
        wcs = source.wcs if isinstance(source.wcs, WCS) else getattr(source.wcs, "wcs", None)
        self.wcs = check_celestial(wcs, self.path)
        self.unit = self._unit_of(source, own, primary)
        waves = source.wave.to_header(naxis=3, use_cd=True)
        self.wavelength_edges, self.air = wavelength_edges(waves, self.shape[0], self.path)
        self.wavelengths = 0.5 * (self.wavelength_edges[1:] + self.wavelength_edges[:-1])
        part = source[:1]
        check_real(part.data, self.path)
        self.has_variance = part.var is not None
        self._source = source

    def _unit_of(self, source, own, primary):
        """Return the unit; MPDAF calls data without BUNIT dimensionless."""
        if source.unit is None or u.Unit(source.unit) == u.dimensionless_unscaled:
            return muse_flux_unit(self.path, own, primary)
        return check_flux_density(u.Unit(source.unit), self.path)

    def __repr__(self):
        return f"<CubeObject {self.path!r} {self.shape}>"

    def slabs(self, planes=32, *, variance=True, start=0, stop=None, native=True):
        """
        Give the cube slab by slab, as `MuseCube.slabs` does; masked voxels are NaN.

        Parameters
        ----------
        planes, variance, start, stop, native
            As there; the arrays are native float32 in any case.

        Yields
        ------
        first, end, data, variance
            As there.
        """
        for first, end in slab_ranges(self.shape[0], planes, start, stop):
            part = self._source[first:end]
            data = np.array(np.ma.getdata(part.data), dtype=np.float32)
            np.copyto(data, np.nan, where=np.ma.getmaskarray(part.data))
            wanted = variance and self.has_variance
            found = np.asarray(np.ma.getdata(part.var), np.float32) if wanted else None
            yield first, end, data, found
