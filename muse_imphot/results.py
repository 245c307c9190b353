# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What a fit gives back: values with errors, the result of one exposure, and tables of results.

A result is made once by the fitter and only read afterwards: plots, reports, corrections and
PSF(wavelength) all start from it. It holds plain numbers in the units that its docstring states;
`results_table` is where they become quantities.
"""

import dataclasses
import math

import numpy as np
from astropy import units as u
from astropy.table import QTable
from astropy.wcs.utils import proj_plane_pixel_scales

from . import summaries
from .flags import FitFlags, flag_table
from .result_tables import (
    PARAMETERS,
    TEXT_COLUMNS,
    read_results,
    results_table,
    write_results,
)
from .values import FitImages, FittedValue, same_fields

__all__ = [
    "FitFlags",
    "FitImages",
    "FittedImagePhotometry",
    "FittedPhotometry",
    "FittedStarPhotometry",
    "FittedValue",
    "failed_result",
    "flag_table",
    "read_results",
    "results_table",
    "sky_offsets",
    "write_results",
]

_NOTHING = FittedValue()
_CENTRAL = np.eye(2) / 2  # half a pixel along x, and along y


@dataclasses.dataclass(eq=False, kw_only=True)
class FittedPhotometry:
    """
    The result of fitting one MUSE image: ``MUSE = scale * HST (x) PSF moved by (dx, dy) + bg``.

    Parameters
    ----------
    name : str
        Name of the MUSE image (the file name without ``.fits``).
    exposure : str, optional
        The exposure that the image belongs to; shared by its filters. The name if left out.
    filter : str, optional
        The HST filter.
    method : str, optional
        How the fit was done, ``"image"`` or ``"stars"``.
    scale, bg, dx, dy, dra, ddec, fwhm, beta, fwhm_optical : `FittedValue`, optional
        The fitted values: `bg` in `unit`; offsets and FWHM in arcsec. Offsets are MUSE minus HST,
        `dra` is the difference of the coordinate (without cos dec). `fwhm` and `beta` include the
        MUSE pixel, `fwhm_optical` does not.
    rms_error : float, optional
        Rms of the residual over the fitted pixels, in `unit`.
    rchi : float, optional
        Reduced chi-square.
    flags : `FitFlags`, optional
        What is noteworthy about the fit.
    covariance : 2D `~numpy.ndarray`, optional
        Covariance of the free parameters, in the order of `parameter_names`.
    parameter_names : tuple of str, optional
        The free parameters.
    unit : `~astropy.units.Unit`, optional
        Unit of the MUSE image.
    n_pixels, n_evaluations : int, optional
        Number of fitted pixels, and of evaluations of the model.
    pivot : float, optional
        Pivot wavelength of the filter in Angstrom.
    extra : dict, optional
        Terms beyond the six usual parameters that were fitted, by name, as `FittedValue`:
        ``rotation`` (deg), ``magnification``, ``bg_x`` and ``bg_y`` (`unit` per arcsec), ``e1``,
        ``e2``.
    outliers : `~astropy.table.QTable`, optional
        Sources that do not follow the model and were left out: position, kind, significance.
    meta : dict, optional
        Provenance; ``meta["reason"]`` says why a fit failed.
    images : `FitImages`, optional
        The images behind the fit. They are not written to files.

    Raises
    ------
    ValueError
        If the shape of ``covariance`` is not that of ``parameter_names``.
    """

    name: str
    exposure: str = None
    filter: str = ""
    method: str = "image"
    scale: FittedValue = _NOTHING
    bg: FittedValue = _NOTHING
    dx: FittedValue = _NOTHING
    dy: FittedValue = _NOTHING
    dra: FittedValue = _NOTHING
    ddec: FittedValue = _NOTHING
    fwhm: FittedValue = _NOTHING
    beta: FittedValue = _NOTHING
    fwhm_optical: FittedValue = _NOTHING
    rms_error: float = math.nan
    rchi: float = math.nan
    flags: FitFlags = 0
    covariance: np.ndarray = None
    parameter_names: tuple = ()
    unit: u.UnitBase = None
    n_pixels: int = 0
    n_evaluations: int = 0
    pivot: float = math.nan
    extra: dict = dataclasses.field(default_factory=dict)
    outliers: QTable = None
    meta: dict = dataclasses.field(default_factory=dict)
    images: FitImages = None

    __eq__ = same_fields
    __hash__ = None

    def __post_init__(self):
        self.exposure = self.name if self.exposure is None else self.exposure
        self.flags = FitFlags(self.flags)
        self.parameter_names = tuple(self.parameter_names)
        size = len(self.parameter_names)
        if self.covariance is None:
            self.covariance = np.full((size, size), math.nan)
        self.covariance = np.array(self.covariance, dtype=float)
        if self.covariance.shape != (size, size):
            raise ValueError(
                f"covariance must have shape {(size, size)} for the parameters "
                f"{', '.join(self.parameter_names) or '(none)'}, got {self.covariance.shape}."
            )

    def __str__(self):
        return self.summary()

    def __repr__(self):
        return (
            f"<{type(self).__name__} {self.name!r} {self.filter} {self.method}: "
            f"fwhm={self.fwhm}, beta={self.beta}, scale={self.scale}, flags={self.flags}>"
        )

    def _repr_html_(self):
        return self.to_table()._repr_html_()

    @property
    def model_text(self):
        """The model that was fitted, as one line."""
        return "MUSE = scale * (HST convolved with the PSF, moved by dx, dy) + bg"

    @property
    def failed(self):
        """Whether there is no fit; ``meta["reason"]`` says why."""
        return bool(self.flags & FitFlags.FAILED)

    @property
    def fit_report(self):
        """The whole fit as text: statistics, values, correlations, flags in words."""
        return summaries.fit_report(self)

    def summary(self, header=True):
        """
        Summarise the result in imphot's columns.

        Parameters
        ----------
        header : bool, optional
            Whether to put the three header lines first.

        Returns
        -------
        str
            The lines; the last one has no line end.
        """
        head = summaries.summary_header(len(self.name)) if header else ""
        return head + summaries.summary_row(self)

    def covariance_of(self, *names):
        """
        Return the covariance of some of the parameters.

        Parameters
        ----------
        *names : str
            Names of fitted parameters, free or fixed.

        Returns
        -------
        2D `~numpy.ndarray`
            Rows and columns in the order of ``names``; zero where a parameter was fixed, and the
            variance alone where only the error of a parameter is known.
        """
        stdevs = [getattr(self, name) for name in names]
        matrix = np.diag([0.0 if item.fixed else item.stdev**2 for item in stdevs])
        known = [i for i, name in enumerate(names) if name in self.parameter_names]
        index = [self.parameter_names.index(names[i]) for i in known]
        matrix[np.ix_(known, known)] = self.covariance[np.ix_(index, index)]
        return matrix

    def to_row(self):
        """
        Return the result as one row of the results table.

        Returns
        -------
        dict
            Column name to plain value; angles in arcsec, `bg` and `rms` in the unit of the
            result.
        """
        row = {name: getattr(self, name) for name in TEXT_COLUMNS}
        for name in PARAMETERS:
            item = getattr(self, name)
            row[name], row[f"{name}_err"] = item.value, item.stdev
        row.update(rms=float(self.rms_error), rchi=float(self.rchi), flags=str(self.flags))
        return row

    def to_table(self):
        """
        Return the result as a table of one row.

        Returns
        -------
        `~astropy.table.QTable`
            See `results_table`.
        """
        return results_table([self])

    def write(self, path, *, overwrite=False, meta=None):
        """
        Write the result as an ECSV table of one row.

        Parameters
        ----------
        path : path-like
            The file.
        overwrite : bool, optional
            Whether an existing file may be replaced.
        meta : dict, optional
            Provenance to store in the header of the table.
        """
        write_results([self], path, overwrite=overwrite, meta=meta)


@dataclasses.dataclass(eq=False, kw_only=True, repr=False)
class FittedImagePhotometry(FittedPhotometry):
    """The result of fitting a whole image; see `FittedPhotometry` for its attributes."""


@dataclasses.dataclass(eq=False, kw_only=True, repr=False)
class FittedStarPhotometry(FittedPhotometry):
    """
    The result of fitting a star in both images.

    The attributes are those of `FittedPhotometry` and the following.

    Parameters
    ----------
    ra, dec : float, optional
        Position of the star in degrees.
    muse_fwhm, muse_beta, muse_dx, muse_dy, muse_bg, muse_flux : `FittedValue`, optional
        The profile of the star in the MUSE image: angles in arcsec (offsets from `ra`, `dec`),
        background in the unit of the image, flux in that unit times arcsec2.
    hst_fwhm, hst_beta, hst_dx, hst_dy, hst_bg, hst_flux : `FittedValue`, optional
        The same in the HST image.
    muse_rchi, hst_rchi : float, optional
        Reduced chi-square of both fits.
    stars : `~astropy.table.QTable`, optional
        One row per star: position, fluxes and offsets with errors, what it was used for.
    stamps : dict, optional
        ``"muse"`` and ``"hst"``: lists of `~muse_imphot.values.StarImages`, one per star, `None`
        for a star that the image does not show. They are not written to files.
    """

    method: str = "stars"
    ra: float = math.nan
    dec: float = math.nan
    muse_fwhm: FittedValue = _NOTHING
    muse_beta: FittedValue = _NOTHING
    muse_dx: FittedValue = _NOTHING
    muse_dy: FittedValue = _NOTHING
    muse_bg: FittedValue = _NOTHING
    muse_flux: FittedValue = _NOTHING
    muse_rchi: float = math.nan
    hst_fwhm: FittedValue = _NOTHING
    hst_beta: FittedValue = _NOTHING
    hst_dx: FittedValue = _NOTHING
    hst_dy: FittedValue = _NOTHING
    hst_bg: FittedValue = _NOTHING
    hst_flux: FittedValue = _NOTHING
    hst_rchi: float = math.nan
    stars: QTable = None
    stamps: dict = None

    @property
    def model_text(self):
        """The model that was fitted, as one line."""
        return "star in MUSE = bg + flux * Moffat(fwhm, beta); scale = ratio of the fluxes"


def failed_result(name, filter, reason, *, exposure=None, method="image", flags=0, **attributes):
    """
    Make the result of an exposure that could not be fitted, so that it keeps its row.

    Parameters
    ----------
    name, filter : str
        Name of the MUSE image, and of the HST filter.
    reason : str or Exception
        Why there is no fit.
    exposure : str, optional
        The exposure that the image belongs to.
    method : str, optional
        ``"image"`` or ``"stars"``.
    flags : `FitFlags`, optional
        Further flags; ``FAILED`` is always set.
    **attributes
        Further attributes that are known, such as ``unit`` or ``pivot``.

    Returns
    -------
    `FittedImagePhotometry` or `FittedStarPhotometry`
        All values are NaN; ``meta["reason"]`` holds the reason on one line.
    """
    kind = FittedStarPhotometry if method == "stars" else FittedImagePhotometry
    text = " ".join(str(reason).split()) or type(reason).__name__
    return kind(
        name=name,
        exposure=exposure,
        filter=filter,
        method=method,
        flags=FitFlags.FAILED | flags,
        meta={**attributes.pop("meta", {}), "reason": text},
        **attributes,
    )


def sky_offsets(wcs, shape, dx, dy, covariance=None):
    """
    Turn offsets along the pixels into differences of the sky coordinates at the image centre.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`
        Celestial WCS of the MUSE image.
    shape : tuple of int
        Shape of the image, (ny, nx).
    dx, dy : `FittedValue` or float
        MUSE minus HST, arcsec, along +x and +y of the pixels.
    covariance : 2x2 array-like, optional
        Covariance of dx and dy in arcsec**2. The errors of `dx` and `dy` if left out. What
        concerns a fixed offset counts as zero.

    Returns
    -------
    dra, ddec : `FittedValue`
        Arcsec; coordinates at the centre minus those of the point (dx, dy) before it, to be
        subtracted from CRVAL1 and CRVAL2. `dra` is without cos dec.
    """
    offset = [item if isinstance(item, FittedValue) else FittedValue(item) for item in (dx, dy)]
    scales = proj_plane_pixel_scales(wcs)[:2] * 3600.0
    step = np.array([item.value for item in offset]) / scales
    centre = (np.array(shape[::-1]) - 1) / 2

    # What MUSE shows at its centre is the sky of the point that lies (dx, dy) before it.
    sky = _coordinate_step(wcs, centre - step, centre)
    jacobian = np.column_stack(
        [
            _coordinate_step(wcs, centre - half, centre + half) / scale
            for half, scale in zip(_CENTRAL, scales, strict=True)
        ]
    )
    if covariance is None:
        covariance = np.diag([item.stdev**2 for item in offset])
    covariance = np.array(covariance, dtype=float)
    held = np.array([item.fixed for item in offset])
    covariance[held, :] = covariance[:, held] = 0
    variance = np.diag(jacobian @ covariance @ jacobian.T)
    return tuple(
        FittedValue(value, np.sqrt(var), fixed=held.all())
        for value, var in zip(sky, variance, strict=True)
    )


def _coordinate_step(wcs, start, end):
    """Return (longitude, latitude) at one pixel minus those at another, in arcsec."""
    world = wcs.all_pix2world([start, end], 0)
    lon, lat = (np.diff(world[:, axis])[0] for axis in (wcs.wcs.lng, wcs.wcs.lat))
    lon = (lon + 180.0) % 360.0 - 180.0  # across right ascension zero
    return 3600.0 * np.array([lon, lat])
