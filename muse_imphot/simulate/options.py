# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What can be chosen about a simulated field."""

from dataclasses import dataclass, fields

import numpy as np

from ..exceptions import UserError

__all__ = ["ExposureOptions", "FieldOptions", "PairOptions"]


@dataclass(frozen=True, kw_only=True)
class FieldOptions:
    """
    What pairs of images and exposures have in common.

    Parameters
    ----------
    shape : tuple of int
        Shape (ny, nx) of the MUSE field in pixels of 0.2 arcsec; default (300, 300) for a pair,
        (120, 120) for an exposure.
    scale, bg : float
        Flux scale of MUSE over HST, and background in 1e-20 erg/s/cm2/Angstrom per pixel.
    dx, dy : float
        Pointing error, MUSE minus HST, in arcsec along +x and +y of the MUSE pixels: a source
        appears that far from where the coordinates of the MUSE header put it.
    beta : float
        Exponent of the Moffat PSF.
    noise : float
        Standard deviation of the noise of a MUSE pixel (of a channel, in a cube), in
        1e-20 erg/s/cm2/Angstrom. With zero the image is free of noise, and its variance is 1.
    noise_correlation, hst_noise_correlation : float or `~numpy.ndarray`, optional
        Kernel with which white noise is convolved (and rescaled to its standard deviation), as
        drizzling does. A number is the weight of each of the four neighbours.
    hst_noise : float
        Standard deviation of the noise of an HST pixel in electron/s.
    hst_pixel, hst_margin : float
        HST pixel size, and extent of the HST image beyond the MUSE field, in arcsec.
    hst_fwhm, hst_beta : float
        Moffat PSF of the HST image, its pixel included: FWHM in arcsec, and exponent.
    centre : tuple of float
        ICRS right ascension and declination of the field in degrees.
    muse_rotation, hst_rotation : float
        Position angles of +y, from north to east, in degrees.
    muse_flip, hst_flip : bool
        Whether +x points the other way (east of north instead of west).
    muse_frame, hst_frame : {"icrs", "fk5"}
        Frames of the coordinates in the headers.
    tangent_offset : tuple of float
        Where the tangent point of the HST image is, in arcmin east and north of the field.
    n_galaxies, n_stars : int, optional
        How many in the simulated sky; by default 90 and 5 per square arcmin (60 and 6 around an
        exposure).
    scene_margin : float, optional
        Extent of the simulated sky beyond the MUSE field, in arcsec. By default 2 arcsec more than
        that of the HST image, so that sources lie across all edges.
    border : int
        Width of a border of bad pixels around the MUSE field.
    with_variance : bool
        Whether MUSE comes with variances.

    Raises
    ------
    UserError
        If a value makes no sense.
    """

    shape: tuple = (300, 300)
    scale: float = 0.95
    bg: float = 0.05
    dx: float = 0.12
    dy: float = -0.07
    beta: float = 2.5
    noise: float = 0.3
    noise_correlation: object = None
    hst_noise: float = 0.0
    hst_noise_correlation: object = None
    hst_pixel: float = 0.03
    hst_margin: float = 14.0
    hst_fwhm: float = 0.085
    hst_beta: float = 1.6
    centre: tuple = (53.16, -27.78)
    muse_rotation: float = 0.0
    hst_rotation: float = 0.0
    muse_flip: bool = False
    hst_flip: bool = False
    muse_frame: str = "icrs"
    hst_frame: str = "icrs"
    tangent_offset: tuple = (0.0, 0.0)
    n_galaxies: int = None
    n_stars: int = None
    scene_margin: float = None
    border: int = 0
    with_variance: bool = True

    def __post_init__(self):
        shape = np.asarray(self.shape)
        if shape.shape != (2,) or shape.dtype.kind not in "iu" or shape.min() < 8:
            raise UserError(f"shape is {self.shape}; two whole numbers of at least 8 are needed")
        self._check(0, "noise", "hst_noise", "border", "hst_margin", "n_galaxies", "n_stars")
        self._check(0, "scene_margin")
        self._check(1e-3, "hst_pixel", "hst_fwhm")
        for frame in (self.muse_frame, self.hst_frame):
            if frame not in ("icrs", "fk5"):
                raise UserError(f"the frame {frame!r} is unknown; it must be 'icrs' or 'fk5'")
        if 2 * self.border >= shape.min():
            raise UserError(f"a border of {self.border} pixels leaves nothing of {self.shape}")

    def _check(self, smallest, *names):
        """Refuse values that are smaller than allowed."""
        for name in names:
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value >= smallest):
                raise UserError(f"{name} is {value}; it must be a number not below {smallest:g}")

    def as_dict(self):
        """
        Return the values as a dictionary that JSON can hold.

        Returns
        -------
        dict
            One item per option.
        """
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {key: v.tolist() if hasattr(v, "tolist") else v for key, v in values.items()}


@dataclass(frozen=True, kw_only=True)
class PairOptions(FieldOptions):
    """
    What can be chosen about a MUSE image and its HST image, besides `FieldOptions`.

    Parameters
    ----------
    fwhm : float
        FWHM of the MUSE PSF in arcsec.
    variance_gradient : float
        How much the variance of the noise grows from the left to the right edge, relative to its
        mean; between -2 and 2.
    filter_name : str
        Filter of ACS/WFC.

    Raises
    ------
    UserError
        If a value makes no sense.
    """

    fwhm: float = 0.65
    variance_gradient: float = 0.0
    filter_name: str = "F606W"

    def __post_init__(self):
        super().__post_init__()
        if not -2 < self.variance_gradient < 2:
            raise UserError(
                f"variance_gradient is {self.variance_gradient}; it must lie between -2 and 2"
            )


@dataclass(frozen=True, kw_only=True)
class ExposureOptions(FieldOptions):
    """
    What can be chosen about a MUSE cube and its HST images, besides `FieldOptions`.

    Parameters
    ----------
    fwhm, beta : float or tuple of float
        FWHM (arcsec) and exponent of the PSF: one value for all wavelengths, or those at 5000 and
        9000 Angstrom, between and beyond which they are linear in wavelength.
    wavelengths : tuple of float
        First and last channel and their distance in (air) Angstrom.
    filters : tuple of str
        Filters of ACS/WFC; one HST image is made for each of them.
    filter_scale : dict, optional
        Calibration errors of the HST images: filter to a factor, by which the image is divided.

    Raises
    ------
    UserError
        If a value makes no sense.
    """

    shape: tuple = (120, 120)
    fwhm: tuple = (0.72, 0.60)
    wavelengths: tuple = (4750.0, 9350.0, 20.0)
    noise: float = 2.0
    hst_margin: float = 8.0
    n_galaxies: int = 60
    n_stars: int = 6
    filters: tuple = ("F606W", "F775W", "F814W", "F850LP")
    filter_scale: dict = None

    def __post_init__(self):
        super().__post_init__()
        first, last, step = self.wavelengths
        if not (3000 <= first < last <= 12000 and 0 < step <= (last - first) / 2):
            raise UserError(
                f"wavelengths are {self.wavelengths}; needed are the first and the last channel "
                "(between 3000 and 12000 Angstrom) and their distance"
            )
        unknown = set(self.filter_scale or ()) - set(self.filters)
        if unknown:
            raise UserError(
                f"filter_scale names {sorted(unknown)}; the filters are {list(self.filters)}"
            )

    def psf(self, wavelength):
        """
        Return the PSF of the cube.

        Parameters
        ----------
        wavelength : float or `~numpy.ndarray`
            Vacuum wavelength in Angstrom.

        Returns
        -------
        fwhm, beta : float or `~numpy.ndarray`
            FWHM in arcsec, and exponent.
        """
        position = (wavelength - 5000.0) / 4000.0
        pairs = (np.broadcast_to(np.asarray(v, dtype=float), 2) for v in (self.fwhm, self.beta))
        return tuple(blue + (red - blue) * position for blue, red in pairs)
