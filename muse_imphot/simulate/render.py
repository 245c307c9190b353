# Licensed under a 3-clause BSD style license - see LICENSE.rst
r"""
The image of a scene through a Moffat PSF, exact at the centres of the pixels.

A Moffat profile is a sum of Gaussians of all widths,

.. math::

    \left(1 + \frac{r^2}{\alpha^2}\right)^{-\beta}
        = \frac{1}{\Gamma(\beta)} \int t^{\beta} e^{-t}\, e^{-t r^2 / \alpha^2}\, d\ln t ,

and the trapezoidal rule in :math:`\ln t` converges so fast that a few dozen of them are enough
for nine digits. Convolved with the Gaussian components of a scene they stay Gaussians. Narrow ones
are added to the pixels as they are; wide ones to a grid that is coarser by a power of two,
which is refined by interpolation. No Fourier transform is involved: nothing wraps around, nothing
is cut off at the edges, and the aliases that a sampling detector sees are in the image. It shares
nothing with the way in which the fit computes its models.
"""

import numpy as np
from astropy.wcs.utils import skycoord_to_pixel
from scipy.special import loggamma

from ..exceptions import GeometryError, UserError

__all__ = ["local_pixel_scale", "moffat_mixture", "render"]

# On a grid that is coarser by 2**j the Gaussians have sigmas of _FINEST to 2 * _FINEST grid steps:
# wide enough to be interpolated with an error of 1e-8.
_FINEST = 3.0
# Gaussians are cut off at this many sigmas, where they have fallen to 2e-10.
_CUT = 6.7
# Number of points from which a new grid point is interpolated; also the width (in grid steps) of
# the frame around each grid.
_TAPS = 16


def moffat_mixture(fwhm, beta, *, tolerance=1e-9):
    """
    Return the Gaussians whose sum is a Moffat profile.

    Parameters
    ----------
    fwhm : float
        Full width at half maximum of the profile.
    beta : float
        Its exponent, larger than 1.
    tolerance : float
        Largest error, relative to the profile at any radius that matters.

    Returns
    -------
    variance, weight : `~numpy.ndarray`, shape (n,)
        Variances (units of ``fwhm`` squared, falling) of the Gaussians and their fluxes. Their sum
        is 1 but for Gaussians too wide to be seen.

    Raises
    ------
    UserError
        If ``fwhm`` is not positive, or if ``beta`` is not larger than 1.
    """
    if not (np.isfinite(fwhm) and fwhm > 0):
        raise UserError(f"fwhm is {fwhm}; it must be a positive number of arcsec")
    if not (np.isfinite(beta) and 1 < beta <= 100):
        raise UserError(f"beta is {beta}; it must be larger than 1 and not above 100")
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / beta) - 1))
    # Poisson's sum formula: the error of the trapezoidal rule with step h is a ratio of Gamma
    # functions, the same at all radii.
    step = 0.6
    while 2 * np.exp(loggamma(beta + 2j * np.pi / step).real - loggamma(beta)) > tolerance:
        step *= 0.97
    t = np.exp(np.arange(-80, np.log(3 * beta + 60), step))
    log_peak = beta * np.log(t) - t - loggamma(beta)
    keep = log_peak > np.log(1e-3 * tolerance)
    t, log_peak = t[keep], log_peak[keep]
    return alpha**2 / (2 * t), step * (beta - 1) * np.exp(log_peak) / t


def local_pixel_scale(wcs, shape):
    """
    Return the size of the pixels at the centre of an image.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`
        The celestial coordinates of the image.
    shape : tuple of int
        Its shape (ny, nx).

    Returns
    -------
    float
        The pixel size in arcsec.

    Raises
    ------
    GeometryError
        If the pixels are not square.
    """
    x, y = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    centre, right, up = (wcs.pixel_to_world(x + dx, y + dy) for dx, dy in ((0, 0), (9, 0), (0, 9)))
    a, b = (centre.separation(other).arcsec / 9 for other in (right, up))
    diagonal = right.separation(up).arcsec / 9
    # The diagonal of a square tells both equal sides and a right angle.
    if abs(b / a - 1) > 1e-3 or abs(diagonal**2 / (a**2 + b**2) - 1) > 1e-3:
        raise GeometryError(
            f"the image has pixels of {a:.4f} x {b:.4f} arcsec with a diagonal of {diagonal:.4f}; "
            "square pixels are needed"
        )
    return float(np.sqrt(a * b))


def render(scene, wcs, shape, fwhm, beta, *, flux=None):
    """
    Return the image of a scene through a Moffat PSF.

    Parameters
    ----------
    scene : Scene
        The sky. Sources outside the image bring their wings in.
    wcs : `~astropy.wcs.WCS`
        Celestial coordinates of the image, of any frame and projection.
    shape : tuple of int
        Shape (ny, nx) of the image.
    fwhm, beta : float
        The PSF, which includes the pixel: FWHM in arcsec, and exponent.
    flux : `~numpy.ndarray`, shape (n,), optional
        Fluxes of the components of the scene, in place of those at 7000 Angstrom.

    Returns
    -------
    `~numpy.ndarray`, shape (ny, nx)
        Flux in each pixel: surface brightness, convolved with the PSF, at the pixel's centre, times
        the area of the pixel.

    Raises
    ------
    GeometryError
        If the pixels are not square.
    UserError
        If the PSF makes no sense.
    """
    variance, weight = moffat_mixture(fwhm, beta)
    scale = local_pixel_scale(wcs, shape)
    flux = scene.flux if flux is None else np.asarray(flux, dtype=float)
    x, y = skycoord_to_pixel(scene.coordinates, wcs)
    sigma = np.sqrt(scene.sigma[:, np.newaxis] ** 2 + variance) / scale
    peak = flux[:, np.newaxis] * weight / (2 * np.pi * sigma**2)
    level = np.floor(np.log2(np.maximum(sigma / _FINEST, 1))).astype(int)

    coarsest = level.max(initial=0)
    image = np.zeros(_grid_shape(shape, coarsest))
    for j in range(coarsest, -1, -1):
        if j < coarsest:
            image = _refine(_refine(image, _grid_shape(shape, j)).T, _grid_shape(shape, j)[::-1]).T
        inside = level == j
        for i in np.flatnonzero(inside.any(axis=1)):
            at = inside[i]
            position = x[i] / 2**j + _TAPS, y[i] / 2**j + _TAPS
            _add_gaussians(image, position, sigma[i, at] / 2**j, peak[i, at])
    return np.ascontiguousarray(image[_TAPS : _TAPS + shape[0], _TAPS : _TAPS + shape[1]])


def _grid_shape(shape, level):
    """Return the shape of the grid whose steps are 2**level pixels, with its frame."""
    return tuple(-(-(n - 1) // 2**level) + 1 + 2 * _TAPS for n in shape)


def _add_gaussians(grid, position, sigma, peak):
    """Add concentric circular Gaussians to a grid, in grid units."""
    reach = _CUT * sigma.max()
    profiles, slices = [], []
    for centre, size in zip(position, grid.shape[::-1], strict=True):
        start = max(int(np.ceil(centre - reach)), 0)
        stop = min(int(np.floor(centre + reach)) + 1, size)
        if stop <= start:
            return
        offset = (np.arange(start, stop) - centre) / sigma[:, np.newaxis]
        profiles.append(np.exp(-0.5 * offset**2))
        slices.append(slice(start, stop))
    grid[slices[1], slices[0]] += (profiles[1] * peak[:, np.newaxis]).T @ profiles[0]


def _refine(coarse, shape):
    """Interpolate the first axis of a grid to steps of half the size; its new length is given."""
    half = _TAPS // 2
    fine = np.empty((shape[0], coarse.shape[1]))
    # The frame has the same number of steps on both grids, so the fine one begins half a frame
    # later: its even points are points of the coarse grid, its odd ones lie midway.
    even, odd = fine[::2], fine[1::2]
    even[:] = coarse[half : half + len(even)]
    odd[:] = 0.0
    for m, weight in enumerate(_midpoint_weights(half)):
        left, right = half - m, half + 1 + m
        odd += weight * (coarse[left : left + len(odd)] + coarse[right : right + len(odd)])
    return fine


def _midpoint_weights(half):
    """Return Lagrange's weights of the points at 1/2, 3/2, ... on either side of the middle."""
    nodes = np.arange(half) + 0.5
    weights = np.empty(half)
    for m, node in enumerate(nodes):
        others = np.delete(nodes, m)
        weights[m] = 0.5 * np.prod(others**2 / (others**2 - node**2))
    return weights
