# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The Fourier plane of a template: the frequencies that the pixels of an image carry, and those beyond
their Nyquist frequency, which sampling folds back onto them.
"""

import functools
import itertools

import numpy as np
from scipy import fft, sparse

__all__ = ["Part", "plane_parts", "radial_nodes", "refined"]

# Nodes at which the transform of the PSF is computed, before it is spread over the Fourier plane.
# They are equally spaced in the square root of the frequency, because the transform has a cusp at
# zero when beta < 2.
_N_NODES = 256

# First it is interpolated to so many times more nodes, with many of them, then from these to the
# plane, with few. There are far more places in the plane than nodes.
_REFINE, _REFINE_POINTS = 16, 8
_N_FINE = _REFINE * (_N_NODES - 1) + 1

# Nodes that the interpolation uses below the Nyquist frequency, where its error is below 1e-8; and
# beyond, where little is left to be interpolated, and single precision will do.
_POINTS, _ALIAS_POINTS = 3, 2


class Part:
    """
    A rectangle of the Fourier plane that sampling shifts to the frequencies of the pixels.

    Parameters
    ----------
    row, column : 1D int `~numpy.ndarray`
        Its frequencies along y and x, in waves per area.
    place : tuple of slice
        Where these fall in the half plane that `scipy.fft.irfft2` expects.
    steps : tuple of float
        One wave per area along y and x (cycles/arcsec).
    nodes : 1D `~numpy.ndarray`
        Frequencies at which radial functions are given (cycles/arcsec).
    top : tuple of int
        Highest frequency known along y and x, in waves per area.
    alias : bool
        Whether the part lies beyond the Nyquist frequency.
    """

    def __init__(self, row, column, place, *, steps, nodes, top, alias):
        self.row, self.column, self.place, self.alias = row, column, place, alias
        self._top = top
        self.fy, self.fx = row[:, None] * steps[0], column[None, :] * steps[1]
        self.dtype = np.dtype(np.complex64 if alias else np.complex128)
        # Frequencies of both signs share what is radial.
        rows, self._mirror = np.unique(np.abs(row), return_inverse=True)
        radius = np.hypot(rows[:, None] * steps[0], self.fx)
        self._shape, self._limit = radius.shape, nodes[-1]
        self._matrix = self._interpolation(radius)

    def spectrum(self, sky):
        """
        The spectrum of the sky in this part.

        Parameters
        ----------
        sky : 2D complex `~numpy.ndarray`
            The spectrum: rows as `scipy.fft.fft` has them, columns from zero to the highest
            frequency along x. What lies beyond the highest is zero.

        Returns
        -------
        spectrum : 2D complex `~numpy.ndarray`
        """
        top_y, top_x = self._top
        known_y, known_x = np.abs(self.row) <= top_y, np.abs(self.column) <= top_x
        row, column = self.row[known_y], self.column[known_x]
        # Negative indices count from the end, as negative frequencies do.
        if column[0] < 0:
            # The conjugates stand for the half plane that is not kept.
            values = sky[-row, -column[-1] : 1 - column[0]][:, ::-1].conj()
        else:
            values = sky[row, column[0] : column[-1] + 1]
        if known_y.all() and known_x.all():
            return np.ascontiguousarray(values, dtype=self.dtype)
        spectrum = np.zeros((len(self.row), len(self.column)), dtype=self.dtype)
        spectrum[known_y, : len(column)] = values
        return spectrum

    def shifted(self, spectrum, dx, dy):
        """Return the spectrum of a sky that is moved (arcsec)."""
        along_y, along_x = (
            np.exp(-2j * np.pi * f * d).astype(spectrum.dtype)
            for f, d in ((self.fy, dy), (self.fx, dx))
        )
        moved = spectrum * along_y
        moved *= along_x
        return moved

    def spread(self, table, dtype, e1=0.0, e2=0.0):
        """Return a radial function, given by `refined`, all over the part."""
        if e1 == e2 == 0.0:
            quadrant = self._matrix @ table.astype(self._matrix.dtype, copy=False)
            return quadrant.astype(dtype, copy=False).reshape(self._shape)[self._mirror]
        radius = np.sqrt(self.radius2(e1, e2))
        return (self._interpolation(radius) @ table).astype(dtype).reshape(radius.shape)

    def radius2(self, e1=0.0, e2=0.0):
        """Return the square of the frequency, along circles or along ellipses."""
        fy, fx = self.fy, self.fx
        round_ = (1.0 + e1) * fx**2 + (1.0 - e1) * fy**2
        return round_ + 2.0 * e2 * fx * fy if e2 else round_

    def _interpolation(self, radius):
        """Return the matrix that interpolates a radial table at some frequencies."""
        # Beyond the table the transform is negligible, or the corner of the plane is empty anyway.
        position = np.sqrt(np.minimum(radius.ravel() / self._limit, 1.0)) * (_N_FINE - 1)
        if self.alias:
            return _interpolation_matrix(position, _ALIAS_POINTS, _N_FINE).astype(np.float32)
        return _interpolation_matrix(position, _POINTS, _N_FINE)


def radial_nodes(area, pixel_scale, top):
    """
    The frequencies at which radial functions are to be given.

    Parameters
    ----------
    area, pixel_scale : tuple
        Number of pixels, and their size (arcsec), along y and x.
    top : tuple of int
        Highest frequency kept along y and x, in waves per area.

    Returns
    -------
    nodes : 1D `~numpy.ndarray`
        In cycles/arcsec.
    """
    limit = np.hypot(*(max(t, n // 2) / (n * s) for t, n, s in zip(top, area, pixel_scale)))
    return max(limit * (1.0 + 1e-9), 1e-9) * np.linspace(0.0, 1.0, _N_NODES) ** 2


@functools.lru_cache(maxsize=4)
def plane_parts(area, pixel_scale, top, corners):
    """
    The parts of the plane up to a highest frequency.

    Parameters
    ----------
    area, pixel_scale, top
        As for `radial_nodes`.
    corners : bool
        Whether frequencies are wanted that are below the highest along both axes, but beyond it
        along the diagonal.

    Returns
    -------
    parts : tuple of `Part`
        The first one lies below the Nyquist frequency, the others are folded back onto it. Rounds
        of a fit, and fits of images of the same size, share them.
    """
    n_y, n_x = area
    rows = np.rint(fft.fftfreq(n_y) * n_y).astype(int)
    columns = np.arange(n_x // 2 + 1)
    options = {
        "steps": tuple(1.0 / (n * s) for n, s in zip(area, pixel_scale)),
        "nodes": radial_nodes(area, pixel_scale, top),
        "top": top,
    }
    everything = (slice(None), slice(None))
    parts = [Part(rows, columns, everything, alias=False, **options)]
    pairs = itertools.product(_aliases(rows, n_y, top[0]), _aliases(columns, n_x, top[1]))
    for row, column in itertools.islice(pairs, 1, None):
        y, x = np.abs(row) / max(top[0], 1), np.abs(column) / max(top[1], 1)
        limit = np.inf if corners else 1.0
        # Whatever comes near the circle about zero with the radius of the highest frequency.
        place = (
            _span((y <= 1.0) & (np.hypot(y, x.min()) <= limit)),
            _span((x <= 1.0) & (np.hypot(y.min(), x) <= limit)),
        )
        if None not in place:
            parts.append(Part(row[place[0]], column[place[1]], place, alias=True, **options))
    return tuple(parts)


def _aliases(index, n, top):
    """Return frequencies below Nyquist, and those up to the highest that look the same."""
    sign = np.where(index < 0, -1, 1)
    found = [index]
    # The nearest one is on the other side of zero, the next one on the same side, and so on.
    for turn in range(1, 2 * top // n + 2):
        alias = index + (-1) ** turn * ((turn + 1) // 2) * n * sign
        if np.any(np.abs(alias) <= top):
            found.append(alias)
    return found


def _span(wanted):
    """Return the slice that holds all that is wanted, or None if that is nothing."""
    found = np.flatnonzero(wanted)
    return slice(int(found[0]), int(found[-1]) + 1) if found.size else None


def refined(table):
    """
    Interpolate a radial function to more nodes.

    Parameters
    ----------
    table : 1D `~numpy.ndarray`
        The function at the `radial_nodes`.

    Returns
    -------
    table : 1D `~numpy.ndarray`
        What `Part.spread` needs.
    """
    return _refinement() @ table


@functools.lru_cache(maxsize=1)
def _refinement():
    """Return the matrix that interpolates the table to the fine nodes."""
    return _interpolation_matrix(np.arange(_N_FINE) / _REFINE, _REFINE_POINTS, _N_NODES)


def _interpolation_matrix(position, n_points, n_nodes):
    """Return the sparse matrix that interpolates equally spaced nodes at ``position``."""
    first = np.floor(position - (0.5 * n_points - 1.0)).astype(np.int32)
    first = np.clip(first, 0, n_nodes - n_points)
    t = position - first
    weights = np.ones((len(position), n_points))
    for j in range(n_points):
        for k in range(n_points):
            if k != j:
                weights[:, j] *= (t - k) / (j - k)
    columns = first[:, None] + np.arange(n_points, dtype=np.int32)
    starts = np.arange(0, columns.size + 1, n_points, dtype=np.int32)
    return sparse.csr_array(
        (weights.ravel(), columns.ravel(), starts), shape=(len(position), n_nodes)
    )
