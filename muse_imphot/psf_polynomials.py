# Licensed under a 3-clause BSD style license - see LICENSE.rst
r"""
FWHM and beta of a PSF as polynomials of the wavelength.

The argument is MPDAF's reduced wavelength

.. math:: l = (\lambda - \lambda_1) / (\lambda_2 - \lambda_1) - 1/2

so that the coefficients go into headers as MPDAF's FSF keywords without conversion.
"""

import dataclasses
import math

import numpy as np
from astropy import units as u
from astropy.io import fits

from .exceptions import HeaderError
from .results.values import same_fields

__all__ = ["PsfWavelength"]

# MPDAF's reference wavelengths, in Angstrom.
_REFERENCE = (5000.0, 9000.0)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class PsfWavelength:
    """
    FWHM and beta of a Moffat PSF as polynomials of the wavelength.

    Parameters
    ----------
    exposure : str, optional
        The exposure.
    fwhm_coefficients, beta_coefficients : array-like
        Coefficients in the reduced wavelength, highest power first (`numpy.polyval`); those of
        the FWHM in arcsec. FWHM and beta include the MUSE pixel.
    covariance : 2D array-like, optional
        Covariance of all coefficients, those of the FWHM first.
    reference : tuple of float, optional
        The wavelengths, in Angstrom, where the reduced wavelength is -0.5 and +0.5.
    filters : tuple of str, optional
        The filters that went into the fit.
    wave_range : tuple of float, optional
        Shortest and longest pivot wavelength in Angstrom; beyond is extrapolation.
    chi2 : float, optional
        Chi-square of the polynomials.
    dof : int, optional
        Its degrees of freedom.
    notes : tuple of str, optional
        What the reader should know, such as an order that had to be lowered.
    """

    exposure: str = ""
    fwhm_coefficients: np.ndarray
    beta_coefficients: np.ndarray
    covariance: np.ndarray = None
    reference: tuple = _REFERENCE
    filters: tuple = ()
    wave_range: tuple = (math.nan, math.nan)
    chi2: float = math.nan
    dof: int = 0
    notes: tuple = ()

    __eq__ = same_fields
    __hash__ = None

    def __post_init__(self):
        for name in ("fwhm_coefficients", "beta_coefficients"):
            array = np.array(getattr(self, name), dtype=float)
            if array.ndim != 1 or array.size == 0:
                raise ValueError(f"{name} must be a list of numbers, got shape {array.shape}.")
            object.__setattr__(self, name, array)
        size = self.fwhm_coefficients.size + self.beta_coefficients.size
        covariance = np.full((size, size), math.nan) if self.covariance is None else self.covariance
        covariance = np.array(covariance, dtype=float)
        if covariance.shape != (size, size):
            raise ValueError(f"covariance must have shape {(size, size)}, got {covariance.shape}.")
        object.__setattr__(self, "covariance", covariance)
        low, high = self.reference
        if not low < high:
            raise ValueError(f"reference must be two rising wavelengths, got {self.reference}.")

    def reduced_wavelength(self, wave):
        """
        Return the argument of the polynomials.

        Parameters
        ----------
        wave : float, array-like or `~astropy.units.Quantity`
            Wavelength; Angstrom if it has no unit.

        Returns
        -------
        float or `~numpy.ndarray`
        """
        if isinstance(wave, u.Quantity):
            wave = wave.to_value(u.AA)
        low, high = self.reference
        return (np.asarray(wave, dtype=float) - low) / (high - low) - 0.5

    def fwhm(self, wave):
        """
        Return the FWHM and its standard deviation.

        Parameters
        ----------
        wave : float, array-like or `~astropy.units.Quantity`
            Wavelength; Angstrom if it has no unit.

        Returns
        -------
        value, error : float or `~numpy.ndarray`
            In arcsec, of the shape of ``wave``.
        """
        size = self.fwhm_coefficients.size
        return self._evaluate(wave, self.fwhm_coefficients, self.covariance[:size, :size])

    def beta(self, wave):
        """
        Return beta and its standard deviation.

        Parameters
        ----------
        wave : float, array-like or `~astropy.units.Quantity`
            Wavelength; Angstrom if it has no unit.

        Returns
        -------
        value, error : float or `~numpy.ndarray`
            Of the shape of ``wave``.
        """
        size = self.fwhm_coefficients.size
        return self._evaluate(wave, self.beta_coefficients, self.covariance[size:, size:])

    def _evaluate(self, wave, coefficients, covariance):
        reduced = self.reduced_wavelength(wave)
        powers = reduced[..., None] ** np.arange(coefficients.size)[::-1]
        variance = np.einsum("...i,ij,...j->...", powers, covariance, powers)
        # Rounding may leave a zero variance a hair below zero.
        return np.polyval(coefficients, reduced)[()], np.sqrt(np.maximum(variance, 0))[()]

    def to_header(self, header=None, *, field=0):
        """
        Write the polynomials as MPDAF's FSF keywords.

        Parameters
        ----------
        header : `~astropy.io.fits.Header`, optional
            The header to write to, the primary header of an image or cube; a new one if left out.
        field : int, optional
            Number of the field; 0 for a single one.

        Returns
        -------
        `~astropy.io.fits.Header`
        """
        header = fits.Header() if header is None else header
        header["FSFMODE"] = (2, "Circular MOFFAT beta=poly(lbda) fwhm=poly(lbda)")
        header["FSFLB1"] = (float(self.reference[0]), "FSF Blue Ref Wave (A)")
        header["FSFLB2"] = (float(self.reference[1]), "FSF Red Ref Wave (A)")
        start = f"FSF{field:02d}"
        for letter, name in (("F", "FWHM"), ("B", "BETA")):
            values = getattr(self, f"{name.lower()}_coefficients")
            header[f"{start}{letter}NC"] = (values.size, f"{start} {name} Poly Ncoef")
            for i, value in enumerate(values):
                card = (float(value), f"{start} {name} Poly C{i:02d}")
                header[f"{start}{letter}{i:02d}"] = card
        return header

    @classmethod
    def from_header(cls, header, *, field=0, exposure=""):
        """
        Read the polynomials from MPDAF's FSF keywords.

        Parameters
        ----------
        header : `~astropy.io.fits.Header`
            The primary header of an image or cube.
        field : int, optional
            Number of the field.
        exposure : str, optional
            Name of the exposure.

        Returns
        -------
        `PsfWavelength`
            Without errors, which the keywords do not hold.

        Raises
        ------
        `~muse_imphot.exceptions.HeaderError`
            If the keywords are absent or unusable.
        """
        start = f"FSF{field:02d}"
        try:
            if header["FSFMODE"] == "MOFFAT1":
                return cls._from_old_header(header, start, exposure)
            if header["FSFMODE"] != 2:
                raise HeaderError(
                    f"FSFMODE is {header['FSFMODE']!r}; only 2 and 'MOFFAT1' can be read."
                )
            return cls(
                exposure=exposure,
                reference=(float(header["FSFLB1"]), float(header["FSFLB2"])),
                **{
                    f"{name}_coefficients": [
                        float(header[f"{start}{letter}{i:02d}"])
                        for i in range(int(header[f"{start}{letter}NC"]))
                    ]
                    for letter, name in (("F", "fwhm"), ("B", "beta"))
                },
            )
        except (KeyError, TypeError, ValueError) as err:
            raise HeaderError(
                f"the header has no usable FSF keywords of field {field} ({err})."
            ) from err

    @classmethod
    def _from_old_header(cls, header, start, exposure):
        """Read the older keywords, where the FWHM is a line in the wavelength itself."""
        low, high = _REFERENCE
        offset, slope = float(header[f"{start}FWA"]), float(header[f"{start}FWB"])
        return cls(
            exposure=exposure,
            fwhm_coefficients=[slope * (high - low), offset + slope * (low + high) / 2],
            beta_coefficients=[float(header[f"{start}BET"])],
        )
