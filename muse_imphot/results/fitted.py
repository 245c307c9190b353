# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The result of a fit, of an image or of stars.

A result is made once by the fitter and only read afterwards: plots, reports, corrections and
PSF(wavelength) all start from it. It holds plain numbers in the units that its docstring states.
"""

import dataclasses
import math

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData, VarianceUncertainty
from astropy.table import QTable

from ..exceptions import UserError
from . import summaries
from .files import write_results
from .flags import FitFlags
from .tables import PARAMETERS, TEXT_COLUMNS, results_table
from .values import FitImages, FittedValue, same_fields

__all__ = ["FittedImagePhotometry", "FittedPhotometry", "FittedStarPhotometry"]

_NOTHING = FittedValue()


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
    pixel_scale : float, optional
        Size of a pixel of the MUSE image in arcsec; that of ``images`` if left out.
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
    pixel_scale: float = math.nan
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
        if self.images is not None and math.isnan(self.pixel_scale):
            self.pixel_scale = float(self.images.pixel_scale)
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
        return summaries.html_table(self)

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
        """The whole fit as text; see `report`."""
        return self.report()

    def report(self, min_correlation=0.1):
        """
        Describe the whole fit, in the manner of lmfit's reports.

        Parameters
        ----------
        min_correlation : float, optional
            The least absolute correlation that is listed.

        Returns
        -------
        str
            Several lines: the model, the statistics, the values with their errors and percentages,
            the correlations, the sources that were left out, and the flags in words.
        """
        return summaries.fit_report(self, min_correlation)

    def summary(self, header=True, errors=False):
        """
        Summarise the result in imphot's columns.

        Parameters
        ----------
        header : bool, optional
            Whether to put the three header lines first.
        errors : bool, optional
            Whether to add a line with the standard deviations, under the values. Fixed values
            have none, and neither has the rms.

        Returns
        -------
        str
            The lines; the last one has no line end.
        """
        head = summaries.summary_header(len(self.name)) if header else ""
        last = f"\n{summaries.summary_errors(self)}" if errors else ""
        return head + summaries.summary_row(self) + last

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
        Write the result in full, with a table of one row; `read_result` gives it back.

        Only the images behind the fit are not written.

        Parameters
        ----------
        path : path-like
            The file: FITS if it ends so, ECSV otherwise.
        overwrite : bool, optional
            Whether an existing file may be replaced.
        meta : dict, optional
            Provenance to store with the table.

        Raises
        ------
        `~muse_imphot.exceptions.OutputError`
            If the file exists and ``overwrite`` is False, or cannot be written.
        """
        write_results([self], path, full=True, overwrite=overwrite, meta=meta)

    def model_image(self):
        """
        Return the fitted model as an image.

        Returns
        -------
        `~astropy.nddata.CCDData`
            With the WCS and the unit of the MUSE image; pixels that were not fitted are masked.

        Raises
        ------
        UserError
            If the result came without its images, as one from a file does.
        """
        return self._image("model")

    def residual_image(self):
        """
        Return the MUSE image minus the fitted model, with its variance.

        Returns
        -------
        `~astropy.nddata.CCDData`
            With the WCS and the unit of the MUSE image; pixels that were not fitted are masked.

        Raises
        ------
        UserError
            If the result came without its images, as one from a file does.
        """
        image = self._image("residual")
        if self.images.sigma is not None:
            image.uncertainty = VarianceUncertainty(np.square(self.images.sigma))
        return image

    def _image(self, name):
        if self.images is None:
            raise UserError(
                f"{self.name}: the result came without its images, which are not written to files; "
                "take the result that the fit returns"
            )
        unit = u.dimensionless_unscaled if self.unit is None else self.unit
        data = np.array(getattr(self.images, name), dtype=float)
        return CCDData(data, unit=unit, wcs=self.images.wcs, mask=~self.images.used)

    def psf_image(self, shape, oversampling=1):
        """
        Draw the fitted PSF, with the MUSE pixel in it.

        Parameters
        ----------
        shape : int or tuple of int
            Shape of the image, (ny, nx).
        oversampling : int, optional
            Number of pixels of the image per MUSE pixel along each axis.

        Returns
        -------
        2D `~numpy.ndarray`
            The PSF, whose sum is 1; see `~muse_imphot.psf_images.psf_image`.

        Raises
        ------
        UserError
            If there is no fit, or the size of the pixels is not known.
        """
        from ..psf_images import psf_image

        if math.isnan(self.pixel_scale):
            raise UserError(
                f"{self.name}: the size of its pixels is not known; set pixel_scale (arcsec) of "
                "the result"
            )
        return psf_image(
            *self._profile(), self.pixel_scale, shape, oversampling=oversampling, **self._shape()
        )

    def encircled_energy(self, radius):
        """
        Return the part of the light of a point source that falls within a circle.

        Parameters
        ----------
        radius : float, array-like or `~astropy.units.Quantity`
            Radius in arcsec.

        Returns
        -------
        float or `~numpy.ndarray`
            From 0 to 1; see `~muse_imphot.psf_images.encircled_energy`.

        Raises
        ------
        UserError
            If there is no fit, or a radius is negative.
        """
        from ..psf_images import encircled_energy

        return encircled_energy(*self._profile(), radius, **self._shape())

    def _profile(self):
        """Return FWHM and beta; there must be a fit."""
        if not (math.isfinite(self.fwhm.value) and math.isfinite(self.beta.value)):
            raise UserError(f"{self.name}: the result has no PSF; its flags are {self.flags}")
        return self.fwhm.value, self.beta.value

    def _shape(self):
        """Return the ellipticity that was fitted, if it was."""
        return {name: self.extra[name].value for name in ("e1", "e2") if name in self.extra}


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
        background in the unit of the MUSE image, flux as the sum of the pixels in that unit.
    hst_fwhm, hst_beta, hst_dx, hst_dy, hst_bg, hst_flux : `FittedValue`, optional
        The same in the HST image; flux and background in the unit of the MUSE image, too, and per
        MUSE pixel.
    muse_rchi, hst_rchi : float, optional
        Reduced chi-square of both fits.
    stars : `~astropy.table.QTable`, optional
        One row per star: position, fluxes and offsets with errors, what it was used for.
    stamps : dict, optional
        ``"muse"`` and ``"hst"``: lists of `~muse_imphot.results.StarImages`, one per star, `None`
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
