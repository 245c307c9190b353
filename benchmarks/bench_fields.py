# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Simulated fields for the benchmarks, and what is known about them independently of the fit.
"""

import dataclasses
import warnings
import zlib

import numpy as np
from astropy.wcs.utils import skycoord_to_pixel

from muse_imphot import fit_image_photometry
from muse_imphot.exceptions import FitQualityWarning
from muse_imphot.simulate import moffat_mixture, render

__all__ = [
    "MUSE_PIXEL",
    "PARAMETERS",
    "SMALL",
    "depth_noise",
    "errors",
    "fit",
    "fisher_bound",
    "generator",
    "geometry",
    "outcome",
    "render_elliptical",
    "spoil",
    "turn_header",
]

PARAMETERS = ("scale", "bg", "dx", "dy", "fwhm", "beta")

#: Size of a MUSE pixel (arcsec).
MUSE_PIXEL = 0.2

#: A field that is large enough for statistics, and cheap.
SMALL = {"shape": (200, 200), "hst_margin": 8.0}

# AB magnitude of 1 electron/s in F606W, and the aperture of a quoted depth (arcsec).
_ZERO_POINT, _APERTURE = 26.51, 0.2


def generator(purpose, field):
    """
    Return the random numbers of a field, the same ones whenever they are asked for.

    Parameters
    ----------
    purpose : str
        What they are for.
    field : int
        Number of the field.

    Returns
    -------
    `~numpy.random.Generator`
    """
    return np.random.default_rng([zlib.crc32(purpose.encode()), field])


def geometry(rng):
    """
    Draw the geometry of a field: rotations, flips, tangent points 10 x 10 arcmin away.

    Parameters
    ----------
    rng : `~numpy.random.Generator`
        Random numbers.

    Returns
    -------
    dict
        Options of `muse_imphot.simulate.simulate_pair`.
    """
    muse_flip, hst_flip = rng.random(2) < 0.25
    return {
        "dx": rng.uniform(-1.0, 1.0),
        "dy": rng.uniform(-1.0, 1.0),
        "muse_rotation": rng.uniform(0.0, 360.0),
        "hst_rotation": rng.uniform(0.0, 360.0),
        "muse_flip": bool(muse_flip),
        "hst_flip": bool(hst_flip),
        "tangent_offset": tuple(rng.choice([-10.0, 0.0, 10.0], 2)),
    }


def spoil(pair, rng, *, count=8):
    """
    Put masked discs into a MUSE image, and NaN into every bad pixel.

    Parameters
    ----------
    pair : `~muse_imphot.simulate.SimulatedPair`
        The field.
    rng : `~numpy.random.Generator`
        Random numbers.
    count : int, optional
        How many discs.

    Returns
    -------
    `~muse_imphot.simulate.SimulatedPair`
        Another pair.
    """
    muse = pair.muse.copy()
    ny, nx = muse.shape
    y, x = np.ogrid[:ny, :nx]
    for _ in range(count):
        centre_y, centre_x, radius = rng.uniform(0, ny), rng.uniform(0, nx), rng.uniform(2, 12)
        muse.mask |= (y - centre_y) ** 2 + (x - centre_x) ** 2 < radius**2
    muse.data[muse.mask] = np.nan
    return dataclasses.replace(pair, muse=muse)


def fit(pair, **options):
    """
    Fit a field, quietly.

    Parameters
    ----------
    pair : `~muse_imphot.simulate.SimulatedPair`
        The field.
    **options
        For `muse_imphot.fit_image_photometry`.

    Returns
    -------
    `~muse_imphot.FittedImagePhotometry`
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitQualityWarning)
        return fit_image_photometry(pair.hst, pair.muse, **{"name": "benchmark"} | options)


def errors(result, truth, names=PARAMETERS):
    """
    Return by how much the parameters of a fit are off.

    Parameters
    ----------
    result : `~muse_imphot.FittedImagePhotometry`
        The fit.
    truth : dict
        True values.
    names : iterable of str
        The parameters.

    Returns
    -------
    `~numpy.ndarray`
    """
    return np.array([getattr(result, name).value - truth[name] for name in names])


def outcome(result, truth, names=PARAMETERS):
    """
    Return errors and quoted uncertainties as the columns of a table.

    Parameters
    ----------
    result, truth, names
        As for `errors`.

    Returns
    -------
    dict
        ``<name>_error`` and ``<name>_sigma`` for every parameter, and the flags.
    """
    row = dict(zip((f"{name}_error" for name in names), errors(result, truth, names)))
    row |= {f"{name}_sigma": float(getattr(result, name).stdev or 0.0) for name in names}
    return row | {"flags": str(result.flags), "n_outliers": len(result.outliers or ())}


def depth_noise(depth, pixel=0.03):
    """
    Return the noise of an HST pixel that makes a 5 sigma depth.

    Parameters
    ----------
    depth : float
        AB magnitude that is detected at 5 sigma in a circle of 0.2 arcsec radius (F606W).
    pixel : float, optional
        HST pixel (arcsec).

    Returns
    -------
    float
        Standard deviation in electron/s.
    """
    flux = 10 ** (-0.4 * (depth - _ZERO_POINT))
    return flux / 5.0 / np.sqrt(np.pi * _APERTURE**2 / pixel**2)


def fisher_bound(pair):
    """
    Return the derivatives of a field and the Cramer-Rao bound for white noise.

    Nothing of the fit takes part in this: the derivatives are differences of rendered images.

    Parameters
    ----------
    pair : `~muse_imphot.simulate.SimulatedPair`
        The field.

    Returns
    -------
    derivatives : 2D `~numpy.ndarray`
        One row for each of `PARAMETERS`, good pixels only, divided by the noise.
    covariance : 2D `~numpy.ndarray`
        The smallest possible covariance.
    """
    truth, options = pair.truth, pair.options

    def image(**changes):
        p = truth | changes
        wcs = pair.muse.wcs.deepcopy()
        wcs.wcs.crpix += np.array([p["dx"], p["dy"]]) / MUSE_PIXEL
        wcs.wcs.set()
        return render(pair.scene, wcs, options.shape, p["fwhm"], p["beta"])

    columns = {"scale": image(), "bg": np.ones(options.shape)}
    for name, step in (("dx", 1e-3), ("dy", 1e-3), ("fwhm", 1e-3), ("beta", 1e-2)):
        change = image(**{name: truth[name] + step}) - image(**{name: truth[name] - step})
        columns[name] = truth["scale"] * change / (2.0 * step)
    good = ~pair.muse.mask
    sigma = np.sqrt(pair.muse.uncertainty.array[good])
    derivatives = np.stack([columns[name][good] / sigma for name in PARAMETERS])
    return derivatives, np.linalg.inv(derivatives @ derivatives.T)


def turn_header(pair, angle):
    """
    Make the header of a MUSE image wrong by a rotation about its centre.

    Parameters
    ----------
    pair : `~muse_imphot.simulate.SimulatedPair`
        The field.
    angle : float
        By how much the sky in the image is turned from where its header says, +x towards +y
        (degrees).

    Returns
    -------
    `~muse_imphot.simulate.SimulatedPair`
        Another pair.
    """
    muse = pair.muse.copy()
    wcs = pair.muse.wcs.deepcopy()
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    # The sky of a pixel is cd @ (pixel - centre); a pixel that should be at p is at turn @ p.
    wcs.wcs.cd = wcs.wcs.cd @ np.array([[cosine, -sine], [sine, cosine]])
    wcs.wcs.set()
    muse.wcs = wcs
    return dataclasses.replace(pair, muse=muse)


def render_elliptical(pair, ellipticity):
    """
    Return what MUSE sees through a PSF that is longer along x than along y, without noise.

    Parameters
    ----------
    pair : `~muse_imphot.simulate.SimulatedPair`
        The field.
    ellipticity : float
        ``(a^2 - b^2) / (a^2 + b^2)`` of the widths a along x and b along y.

    Returns
    -------
    2D `~numpy.ndarray`
    """
    truth, scene = pair.truth, pair.scene
    variance, weight = moffat_mixture(truth["fwhm"], truth["beta"])
    profiles = []
    positions = skycoord_to_pixel(scene.coordinates, pair.muse.wcs)
    for axis, stretch in ((1, 1.0 + ellipticity), (0, 1.0 - ellipticity)):
        offset = np.arange(pair.muse.shape[axis])[:, None] - positions[1 - axis]
        offset = MUSE_PIXEL * offset - truth[("dy", "dx")[axis]]
        # Gaussians of the mixture, each seen through every Gaussian of the scene.
        width2 = scene.sigma[:, None] ** 2 + stretch * variance
        profile = np.exp(-0.5 * offset[:, :, None] ** 2 / width2) / np.sqrt(2.0 * np.pi * width2)
        profiles.append(profile.reshape(len(offset), -1))
    flux = (scene.flux[:, None] * weight).ravel() * MUSE_PIXEL**2
    return truth["scale"] * (profiles[1] * flux) @ profiles[0].T + truth["bg"]
