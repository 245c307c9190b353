# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The parts of a result: a value with its error, and the images behind a fit.
"""

import dataclasses
import math

import numpy as np
from astropy.table import Table
from astropy.wcs import WCS

from . import summaries

__all__ = ["FitImages", "FittedValue", "StarImages", "same_fields"]


def _same(a, b):
    """Compare two values of any kind, arrays and NaN included."""
    if isinstance(a, WCS) and isinstance(b, WCS):
        return a.to_header_string(relax=True) == b.to_header_string(relax=True)
    if isinstance(a, Table) or isinstance(b, Table):
        return _same_tables(a, b)
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return _same_arrays(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b):
        return True
    return bool(a == b)


def _same_tables(a, b):
    if type(a) is not type(b) or a.colnames != b.colnames or len(a) != len(b):
        return False
    return all(_same_columns(a[name], b[name]) for name in a.colnames)


def _same_columns(a, b):
    masks = (np.ma.getmaskarray(np.ma.asarray(item)) for item in (a, b))
    same_units = getattr(a, "unit", None) == getattr(b, "unit", None)
    return same_units and _same(*masks) and _same(np.asarray(a), np.asarray(b))


def _same_arrays(a, b):
    if getattr(a, "unit", None) != getattr(b, "unit", None):
        return False
    a, b = np.asarray(a), np.asarray(b)
    numeric = a.dtype.kind in "fc" and b.dtype.kind in "fc"
    return a.shape == b.shape and np.array_equal(a, b, equal_nan=numeric)


def same_fields(a, b):
    """
    Compare two dataclass instances field by field, for use as ``__eq__``.

    Arrays are compared as a whole, NaN equals NaN, and two `~astropy.wcs.WCS` are equal when they
    would write the same header; so a result equals its pickled copy.
    """
    if type(a) is not type(b):
        return NotImplemented
    names = [field.name for field in dataclasses.fields(a)]
    return all(_same(getattr(a, name), getattr(b, name)) for name in names)


@dataclasses.dataclass(frozen=True, eq=False)
class FittedValue:
    """
    A value with its standard deviation.

    Parameters
    ----------
    value : float, optional
        The value; NaN when there is none.
    stdev : float, optional
        Its standard deviation; NaN when it is unknown, and always NaN for a fixed value, which
        has no error.
    fixed : bool, optional
        Whether the value was held during the fit.
    """

    value: float = None
    stdev: float = None
    fixed: bool = False

    def __post_init__(self):
        stdev = None if self.fixed else self.stdev
        object.__setattr__(self, "value", math.nan if self.value is None else float(self.value))
        object.__setattr__(self, "stdev", math.nan if stdev is None else float(stdev))
        object.__setattr__(self, "fixed", bool(self.fixed))

    __eq__ = same_fields

    def __hash__(self):
        # All NaN are equal here, and so must share one hash.
        key = (None if math.isnan(item) else item for item in (self.value, self.stdev))
        return hash((*key, self.fixed))

    def __float__(self):
        return self.value

    def __str__(self):
        return summaries.format_value(self.value, self.stdev, self.fixed)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class FitImages:
    """
    The images behind a fit, for figures and checks.

    Parameters
    ----------
    data : 2D `~numpy.ndarray`
        The MUSE image, shape (ny, nx), in the unit of the result.
    model : 2D `~numpy.ndarray`
        The best model, same shape and unit.
    sigma : 2D `~numpy.ndarray` or `None`, optional
        Standard deviation of each pixel of ``data``.
    used : 2D `~numpy.ndarray` of bool, optional
        True where the pixel took part in the fit; all pixels if left out.
    wcs : `~astropy.wcs.WCS`, optional
        Celestial WCS of the images.
    pixel_scale : float, optional
        Size of a pixel in arcsec.
    hst_psf : tuple of float or `~muse_imphot.template.ImagePSF`, optional
        The HST PSF of the template: (FWHM in arcsec, beta) of a Moffat profile, or an image in the
        axes of MUSE.
    """

    data: np.ndarray
    model: np.ndarray
    sigma: np.ndarray = None
    used: np.ndarray = None
    wcs: WCS = None
    pixel_scale: float = math.nan
    hst_psf: tuple = None

    def __post_init__(self):
        if self.used is None:
            object.__setattr__(self, "used", np.ones(np.shape(self.data), dtype=bool))
        for name in ("model", "sigma", "used"):
            array = getattr(self, name)
            if array is not None and np.shape(array) != np.shape(self.data):
                raise ValueError(
                    f"{name} must have the shape of data, {np.shape(self.data)}, "
                    f"got {np.shape(array)}."
                )

    __eq__ = same_fields
    __hash__ = None

    @property
    def residual(self):
        """``data - model``, a 2D `~numpy.ndarray` in the unit of the result."""
        return self.data - self.model


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class StarImages:
    """
    The pixels around one star and the model that was fitted to them.

    Parameters
    ----------
    data, model : 2D `~numpy.ndarray`
        The image and the best model, shape (ny, nx), in the unit of the image.
    sigma : 2D `~numpy.ndarray`, optional
        Standard deviation of each pixel.
    used : 2D `~numpy.ndarray` of bool
        True where the pixel took part in the fit.
    x, y : float
        Centre of the star in pixels of these arrays, the first pixel being 0.
    flux, bg : float
        Flux of the star (unit of the image times pixels), and the background at its centre.
    pixel_scale : float
        Size of a pixel in arcsec.
    """

    data: np.ndarray
    model: np.ndarray
    sigma: np.ndarray = None
    used: np.ndarray
    x: float
    y: float
    flux: float
    bg: float
    pixel_scale: float

    __eq__ = same_fields
    __hash__ = None

    @property
    def residual(self):
        """``data - model``, a 2D `~numpy.ndarray` in the unit of the image."""
        return self.data - self.model
