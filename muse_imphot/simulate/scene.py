# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A patch of sky made of circular Gaussians: positions, fluxes and spectra are known exactly."""

from dataclasses import dataclass, replace

import numpy as np
from astropy.wcs import WCS

from ..exceptions import UserError

__all__ = ["REFERENCE_WAVELENGTH", "Scene"]

# The wavelength (vacuum Angstrom) at which the fluxes of a scene are given.
REFERENCE_WAVELENGTH = 7000.0

# An exponential disc of half-light radius 1 is, to a few per cent, this sum of Gaussians.
_DISC_SIGMA = np.array([0.11, 0.31, 0.67, 1.27])
_DISC_FRACTION = np.array([0.01, 0.09, 0.41, 0.49])

# The part of a galaxy's flux that sits in clumps, the number of clumps, and their widths in units
# of the half-light radius. The clumps are what makes the galaxies irregular.
_CLUMP_FRACTION = 0.4
_N_CLUMPS = 3
_CLUMP_SIGMA = (0.2, 0.5)

# An AB magnitude of 0 is 3.631e-20 erg/s/cm2/Hz; the speed of light is 2.998e18 Angstrom/s.
_ZERO_POINT_FLUX = 3.631e-20 * 2.99792458e18 / REFERENCE_WAVELENGTH**2 / 1e-20


@dataclass(frozen=True)
class Scene:
    """
    A patch of sky: circular Gaussian components, of which one or more make a source.

    Parameters
    ----------
    centre : tuple of float
        ICRS right ascension and declination of the centre in degrees.
    x, y : `~numpy.ndarray`, shape (n,)
        Positions of the components on the plane that touches the sky at ``centre``, in arcsec
        towards east and north.
    sigma : `~numpy.ndarray`, shape (n,)
        Standard deviations of the components in arcsec; zero is a star.
    flux : `~numpy.ndarray`, shape (n,)
        Total fluxes of the components at 7000 Angstrom, in 1e-20 erg/s/cm2/Angstrom.
    slope : `~numpy.ndarray`, shape (n,), optional
        Spectral slopes s: the flux density goes as lambda**s. Zero (a flat spectrum) if not given.
    source : `~numpy.ndarray` of int, shape (n,), optional
        The source that each component belongs to. One source per component if not given.
    flat_beyond : float
        The wavelength (vacuum Angstrom) beyond which every spectrum is flat. The default makes
        the mean flux in a filter such as F850LP the same over the whole of its curve and over the
        part of it that MUSE sees. `~numpy.inf` makes pure power laws.

    Raises
    ------
    UserError
        If the arrays are of different lengths, or if one of them has a value that makes no sense.
    """

    centre: tuple
    x: np.ndarray
    y: np.ndarray
    sigma: np.ndarray
    flux: np.ndarray
    slope: np.ndarray = None
    source: np.ndarray = None
    flat_beyond: float = 7900.0

    def __post_init__(self):
        count = np.size(self.x)
        defaults = {"slope": np.zeros(count), "source": np.arange(count)}
        for name in ("x", "y", "sigma", "flux", "slope", "source"):
            value = getattr(self, name)
            value = np.atleast_1d(defaults[name] if value is None else value)
            value = value.astype(int if name == "source" else float)
            if value.shape != (count,):
                raise UserError(
                    f"scene: {name} has shape {value.shape}; it needs one value for each of the "
                    f"{count} components"
                )
            if not np.all(np.isfinite(value)):
                raise UserError(f"scene: {name} has values that are not finite numbers")
            object.__setattr__(self, name, value)
        if np.any(self.sigma < 0):
            raise UserError(f"scene: sigma is {self.sigma.min():g} arcsec; it must not be negative")

    def __len__(self):
        return self.x.size

    def __add__(self, other):
        """Put the sources of another scene with the same centre into this one."""
        if self.centre != other.centre or self.flat_beyond != other.flat_beyond:
            raise UserError("scenes can be added only if they share centre and flat_beyond")
        parts = {
            name: np.concatenate([getattr(self, name), getattr(other, name)])
            for name in ("x", "y", "sigma", "flux", "slope")
        }
        first = self.source.max() + 1 if len(self) else 0
        source = np.concatenate([self.source, other.source + first])
        return replace(self, source=source, **parts)

    @property
    def coordinates(self):
        """Positions of the components (`~astropy.coordinates.SkyCoord`, ICRS)."""
        plane = WCS(naxis=2)
        plane.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        plane.wcs.crval = self.centre
        plane.wcs.crpix = [1.0, 1.0]
        plane.wcs.cdelt = [1 / 3600, 1 / 3600]
        plane.wcs.radesys = "ICRS"
        return plane.pixel_to_world(self.x, self.y)

    def select(self, keep):
        """
        Return the scene with only some of its components.

        Parameters
        ----------
        keep : `~numpy.ndarray`
            A boolean for each component, or the indices of the components to keep.

        Returns
        -------
        Scene
            The smaller scene.
        """
        names = ("x", "y", "sigma", "flux", "slope", "source")
        return replace(self, **{name: getattr(self, name)[keep] for name in names})

    def spectrum(self, wavelength):
        """
        Return the spectra of the components, relative to their fluxes at 7000 Angstrom.

        Parameters
        ----------
        wavelength : array_like, shape (m,)
            Vacuum wavelengths in Angstrom.

        Returns
        -------
        `~numpy.ndarray`, shape (n, m)
            Flux densities per wavelength, 1 at 7000 Angstrom.
        """
        bend = np.minimum(np.atleast_1d(wavelength), self.flat_beyond) / REFERENCE_WAVELENGTH
        reference = min(REFERENCE_WAVELENGTH, self.flat_beyond) / REFERENCE_WAVELENGTH
        return (bend / reference) ** self.slope[:, np.newaxis]

    @classmethod
    def random(
        cls,
        seed,
        *,
        width,
        n_galaxies,
        n_stars,
        centre=(53.16, -27.78),
        magnitudes=(20.0, 26.5),
        star_magnitudes=(20.0, 25.0),
    ):
        """
        Return a field of galaxies and stars such as a deep exposure sees.

        Parameters
        ----------
        seed : int or sequence of int or `~numpy.random.SeedSequence`
            The seed of the random numbers.
        width : float or tuple of float
            Extent in arcsec towards east and north.
        n_galaxies, n_stars : int
            How many of each.
        centre : tuple of float
            ICRS right ascension and declination in degrees.
        magnitudes, star_magnitudes : tuple of float
            Brightest and faintest AB magnitude at 7000 Angstrom. The number of galaxies goes as
            10**(0.3 magnitude); the magnitudes of stars are evenly spread.

        Returns
        -------
        Scene
            The field. Galaxies come first.

        Raises
        ------
        UserError
            If a number or extent is negative.
        """
        rng = np.random.default_rng(seed)
        width = np.broadcast_to(np.asarray(width, dtype=float), 2)
        if min(n_galaxies, n_stars) < 0 or width.min() <= 0:
            raise UserError(
                f"scene: {n_galaxies} galaxies and {n_stars} stars in {width[0]:g} x {width[1]:g} "
                "arcsec; numbers must not be negative, and the width must be positive"
            )
        galaxies = _random_galaxies(rng, n_galaxies, width, magnitudes)
        stars = _random_stars(rng, n_stars, width, star_magnitudes)
        stars["source"] = n_galaxies + np.arange(n_stars)
        return cls(centre, **{key: np.concatenate([galaxies[key], stars[key]]) for key in galaxies})


def _flux(magnitude):
    """Return the flux of an AB magnitude at 7000 Angstrom in 1e-20 erg/s/cm2/Angstrom."""
    return _ZERO_POINT_FLUX * 10 ** (-0.4 * magnitude)


def _random_galaxies(rng, count, width, magnitudes):
    """Return the components of galaxies: a disc of concentric Gaussians, and clumps around it."""
    bright, faint = (10 ** (0.3 * m) for m in magnitudes)
    magnitude = np.log10(rng.uniform(bright, faint, count)) / 0.3
    # Fainter galaxies are smaller: 0.6 arcsec at magnitude 22, 0.2 arcsec at 27.
    radius = 0.6 * 10 ** (-0.095 * (magnitude - 22) + rng.normal(0, 0.12, count))
    radius = np.clip(radius, 0.12, 2.0)[:, np.newaxis]
    position = rng.uniform(-0.5, 0.5, (2, count, 1)) * width[:, np.newaxis, np.newaxis]
    clump_position = position + 0.8 * radius * rng.normal(size=(2, count, _N_CLUMPS))
    clump_sigma = radius * rng.uniform(*_CLUMP_SIGMA, (count, _N_CLUMPS))
    clump_share = rng.dirichlet(np.ones(_N_CLUMPS), count)
    disc_position = np.broadcast_to(position, (2, count, _DISC_SIGMA.size))
    disc_share = np.broadcast_to(_DISC_FRACTION, (count, _DISC_SIGMA.size))
    share = np.hstack([(1 - _CLUMP_FRACTION) * disc_share, _CLUMP_FRACTION * clump_share])
    x, y = np.concatenate([disc_position, clump_position], axis=2)
    parts = share.shape[1]
    slope = np.clip(rng.normal(-0.8, 0.7, count), -2.5, 1.0)
    return {
        "x": x.ravel(),
        "y": y.ravel(),
        "sigma": np.hstack([radius * _DISC_SIGMA, clump_sigma]).ravel(),
        "flux": (_flux(magnitude)[:, np.newaxis] * share).ravel(),
        "slope": np.repeat(slope, parts),
        "source": np.repeat(np.arange(count), parts),
    }


def _random_stars(rng, count, width, magnitudes):
    """Return the components of stars, without the numbers of their sources."""
    x, y = rng.uniform(-0.5, 0.5, (2, count)) * width[:, np.newaxis]
    return {
        "x": x,
        "y": y,
        "sigma": np.zeros(count),
        "flux": _flux(rng.uniform(*magnitudes, count)),
        "slope": rng.uniform(-2.0, 1.0, count),
    }
