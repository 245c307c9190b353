# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Integrals of filter curves over the channels of a cube."""

import numpy as np
from astropy import units as u

from ..exceptions import BandpassError
from ..io.cube import vacuum_to_air
from .curves import parse_wave_unit, validated

__all__ = ["array_weights", "linear_integral"]


def linear_integral(wavelength, throughput, power):
    """
    Return the function of x that is the integral of throughput * wavelength**power up to x.

    The throughput is linear between its points and zero outside; the integral is exact.

    Parameters
    ----------
    wavelength, throughput : `numpy.ndarray`
        The points, by increasing wavelength, shape ``(n,)``.
    power : {-1, 0, 1}
        The power of the wavelength.

    Returns
    -------
    callable
        It takes numbers or arrays.
    """
    start = wavelength[:-1]
    slope = np.diff(throughput) / np.diff(wavelength)

    def partial(index, t):
        """Integrate over the first t of the segments with these indices."""
        a, f, s = start[index], throughput[index], slope[index]
        if power == 1:
            return f * a * t + (f + s * a) * t**2 / 2 + s * t**3 / 3
        if power == 0:
            return f * t + s * t**2 / 2
        return (f - s * a) * np.log1p(t / a) + s * t

    everything = partial(np.arange(len(start)), np.diff(wavelength))
    before = np.concatenate(([0.0], np.cumsum(everything)))

    def cumulative(x):
        x = np.clip(x, wavelength[0], wavelength[-1])
        index = np.clip(np.searchsorted(wavelength, x, side="right") - 1, 0, len(start) - 1)
        return before[index] + partial(index, x - start[index])

    return cumulative


def array_weights(wavelengths, sensitivities, cube, *, unit, interpolation, medium):
    """
    Weigh the channels of a cube by the integrals of a curve that is given as numbers.

    Parameters
    ----------
    wavelengths : array_like or `~astropy.units.Quantity`
        The points, shape ``(n,)``.
    sensitivities : array_like
        The curve there, in any unit.
    cube : `~muse_imphot.io.MuseCube`
        The cube.
    unit : `~astropy.units.Unit`, str or None
        Unit of the wavelengths; None for channels, counted from 0.
    interpolation : {"linear", "cubic"}
        What joins the points.
    medium : {"vacuum", "air"} or None
        The medium of the wavelengths; None for that of the cube.

    Returns
    -------
    weights : `~numpy.ndarray`
        The integral of the curve over each channel, shape ``(nlam,)``.
    coverage : float
        The fraction of the whole integral that lies inside the channels.

    Raises
    ------
    BandpassError
        If the curve is faulty, or something unknown is asked for.
    """
    if medium not in ("vacuum", "air", None):
        raise BandpassError(f"medium: {medium!r} is neither 'vacuum' nor 'air'")
    x, y = _points(wavelengths, sensitivities)
    unit = getattr(wavelengths, "unit", unit)
    edges = cube.wavelength_edges
    if unit is None:
        # Of a spectral axis in channels, the wavelengths are those in which it is linear.
        edges = vacuum_to_air(edges) if cube.air else edges
        x, unit = _of_channels(x, edges), u.AA
    elif medium == "air" or (medium is None and cube.air):
        edges = vacuum_to_air(edges)
    unit = parse_wave_unit(unit, name="unit_wave")
    x, y = validated(x, y, name="wavelengths and sensitivities", unit=unit, min_points=2)
    integral = _integral(x, y, interpolation)
    weights = np.diff(integral(edges))
    total = float(integral(x[-1]) - integral(x[0]))
    if not total > 0:
        raise BandpassError("sensitivities: their integral is not positive; correct the curve")
    return weights, min(float(weights.sum()) / total, 1.0)


def _points(wavelengths, sensitivities):
    """Return both as arrays of float; the largest sensitivity is 1."""
    try:
        x = np.asarray(getattr(wavelengths, "value", wavelengths), float)
        y = np.asarray(getattr(sensitivities, "value", sensitivities), float)
    except (TypeError, ValueError):
        raise BandpassError("wavelengths and sensitivities: arrays of numbers are needed") from None
    if x.ndim != 1 or x.shape != y.shape:
        raise BandpassError(
            f"wavelengths and sensitivities: their shapes are {x.shape} and {y.shape}; two "
            "one-dimensional arrays of equal length are needed"
        )
    peak = y.max(initial=0.0)
    return x, y / peak if 0 < peak < np.inf else y


def _of_channels(channels, edges):
    """Return the wavelengths of channels, counted from 0 at the centre of the first."""
    index = np.clip(np.floor(channels + 0.5), 0, len(edges) - 2)
    index = np.nan_to_num(index).astype(int)
    return edges[index] + (channels + 0.5 - index) * (edges[index + 1] - edges[index])


def _integral(wavelength, throughput, interpolation):
    """Return the function of x that is the integral of the curve up to x, and a constant."""
    if interpolation == "linear":
        return linear_integral(wavelength, throughput, 0)
    if interpolation != "cubic":
        raise BandpassError(f"interpolation: {interpolation!r} is neither 'linear' nor 'cubic'")
    if len(wavelength) < 4:
        raise BandpassError(
            f"wavelengths: a cubic spline needs 4 points, not {len(wavelength)}; use "
            "interpolation='linear'"
        )
    from scipy.interpolate import make_interp_spline

    spline = make_interp_spline(wavelength, throughput, k=3).antiderivative()
    return lambda x: spline(np.clip(x, wavelength[0], wavelength[-1]))
