# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The panels below the images: profile of the brightest source, distribution of the residual."""

import math

import numpy as np
from scipy.ndimage import maximum_filter

from .style import BLUE, GREY, INK, ORANGE, PALE, write
from .words import number

__all__ = ["brightest_source", "draw_histogram", "draw_profile", "ring_means"]

_NO_SOURCE = "no source in the fitted pixels"


def brightest_source(view):
    """
    Find the brightest source of the model among the fitted pixels.

    Sources at least 1.5 arcsec away from the edges of the fitted area are preferred.

    Parameters
    ----------
    view : ImageView
        The images.

    Returns
    -------
    row, column : float or None
        The position of the peak in the view; None where the model never exceeds its background.
    """
    if view.n_used == 0:
        return None
    flux = np.where(view.used, view.model - view.background, -np.inf)
    peaks = (maximum_filter(flux, 5) == flux) & view.used
    # One near the edge is taken only if it is far brighter than all others.
    inner = peaks & _inner_part(view) & (flux > 0.2 * flux.max())
    for choice in (inner, peaks):
        if choice.any():
            flux = np.where(choice, flux, -np.inf)
            break
    row, column = (int(i) for i in np.unravel_index(np.argmax(flux), flux.shape))
    if not 0 < flux[row, column] < math.inf:
        return None
    lines = (view.model[:, column], row), (view.model[row, :], column)
    return tuple(index + _peak_shift(line, index) for line, index in lines)


def _inner_part(view):
    """Return what is at least 1.5 arcsec from the edges of the box of the fitted pixels."""
    edge = max(1, round(1.5 / view.pixel_scale))
    inside = []
    for axis in (1, 0):
        where = np.flatnonzero(view.used.any(axis=axis))
        index = np.arange(view.used.shape[1 - axis])
        inside.append((index >= where[0] + edge) & (index <= where[-1] - edge))
    return np.outer(*inside)


def _peak_shift(line, index):
    """Return by how much the parabola through a maximum and its neighbours tops beside it."""
    if not 0 < index < line.size - 1:
        return 0.0
    before, top, after = line[index - 1 : index + 2]
    curvature = before - 2 * top + after
    shift = 0.5 * (before - after) / curvature if curvature < 0 else 0.0
    return float(np.clip(shift, -0.5, 0.5)) if math.isfinite(shift) else 0.0


def ring_means(view, center, reach):
    """
    Average data and model over the fitted pixels in rings of one pixel about a position.

    Parameters
    ----------
    view : ImageView
        The images.
    center : (float, float)
        Row and column of the position.
    reach : float
        The largest radius, in arcsec.

    Returns
    -------
    radius, data, error, model : 1D `~numpy.ndarray`
        Mean radius in arcsec; mean of the data and its error, and mean of the model, both without
        the fitted background. Rings without a fitted pixel are left out.
    """
    y, x = np.ogrid[: view.used.shape[0], : view.used.shape[1]]
    radius = view.pixel_scale * np.hypot(y - center[0], x - center[1])
    inside = view.used & (radius < reach)
    ring = np.floor(radius[inside] / view.pixel_scale).astype(int)
    count = np.bincount(ring)
    keep = count > 0

    def total(values):
        return np.bincount(ring, weights=values[inside])[keep]

    error = np.sqrt(total(view.noise**2)) / count[keep]
    columns = (total(image) / count[keep] for image in (radius, view.data, view.model))
    radius, data, model = columns
    return radius, data - view.background, error, model - view.background


def draw_profile(axes, view, result):
    """
    Draw the profile of the brightest source: data, model, and the PSF of the fit.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
        Where to draw.
    view : ImageView
        The images.
    result : `~muse_imphot.results.FittedPhotometry`
        The result, for the PSF.
    """
    axes.set_title("profile of the brightest source")
    center = brightest_source(view)
    if center is None:
        return _draw_nothing(axes, _NO_SOURCE)
    fwhm, beta = number(result.fwhm), number(result.beta)
    reach = float(np.clip(5 * fwhm if fwhm > 0 else 3.0, 1.5, 6.0))
    radius, data, error, model = ring_means(view, center, reach)
    if not (model.size and model[0] > 0):
        return _draw_nothing(axes, _NO_SOURCE)
    peak = model[0]
    if fwhm > 0 and beta > 0:
        peak /= float(_moffat(radius[0], fwhm, beta))
        _draw_psf(axes, fwhm, beta, reach)
    # A line that fell to zero would have no end on a logarithmic scale.
    shown = np.where(model > 0, model, np.nan) / peak
    axes.plot(radius, shown, color=BLUE, label="model", zorder=3)
    points = {"fmt": "o", "markersize": 3.4, "elinewidth": 1.0, "zorder": 4, "color": INK}
    axes.errorbar(radius, data / peak, error / peak, label="MUSE, ring means", **points)
    lowest = min(model.min(), np.abs(data).min()) / peak
    highest = max(model.max(), data.max(), peak) / peak
    axes.set_yscale("log")
    axes.set(xlim=(0, reach), ylim=(np.clip(0.6 * lowest, 1e-4, 0.05), 2.0 * highest))
    axes.set(xlabel="radius (arcsec)", ylabel="relative to the peak")
    axes.grid(True)
    axes.legend(loc="upper right")


def _moffat(radius, fwhm, beta):
    alpha = fwhm / (2 * math.sqrt(2 ** (1 / beta) - 1))
    return (1 + (radius / alpha) ** 2) ** -beta


def _draw_psf(axes, fwhm, beta, reach):
    """Draw the fitted PSF and mark where it has fallen to one half."""
    radius = np.linspace(0.0, reach, 200)
    dashes = {"linestyle": (0, (4, 2)), "color": ORANGE}
    axes.plot(radius, _moffat(radius, fwhm, beta), label="fitted PSF", zorder=2, **dashes)
    half = fwhm / 2
    axes.axvline(half, color=ORANGE, linewidth=0.9, linestyle=":", zorder=1)
    # Left of the line there is room below the curves, unless it is close to the axis.
    left = half > 0.07 * reach
    place = {"xytext": (-3 if left else 4, 5), "textcoords": "offset points", "va": "bottom"}
    place |= {"xycoords": axes.get_xaxis_transform(), "ha": "right" if left else "left"}
    text = f"FWHM/2 = {half:.3f}\N{DOUBLE PRIME}"
    axes.annotate(text, (half, 0), color=ORANGE, fontsize=8.5, rotation=90, **place)


def _draw_nothing(axes, text):
    """Leave a panel empty, and say why."""
    axes.set(xticks=[], yticks=[])
    options = {"ha": "center", "va": "center", "color": GREY, "transform": axes.transAxes}
    write(axes, 0.5, 0.5, text, **options)


def draw_histogram(axes, view):
    """
    Draw how the residual is distributed, beside what pure noise would give.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
        Where to draw.
    view : ImageView
        The images.
    """
    axes.set_title("distribution of the residual")
    pulls = view.pulls[view.used]
    pulls = pulls[np.isfinite(pulls)]
    if pulls.size < 2:
        return _draw_nothing(axes, "no fitted pixels with a known noise")
    limit = 7.0
    bins = np.linspace(-limit, limit, 1 + int(np.clip(4 * pulls.size ** (1 / 3), 14, 70)))
    # What lies beyond the panel is counted in its outermost bins, so that nothing goes unseen.
    pulls = np.clip(pulls, -limit, limit)
    bars = {"color": PALE, "edgecolor": GREY, "linewidth": 0.6, "histtype": "stepfilled"}
    axes.hist(pulls, bins, label="fitted pixels", **bars)
    fine = np.linspace(-limit, limit, 281)
    normal = pulls.size * (bins[1] - bins[0]) * np.exp(-0.5 * fine**2) / math.sqrt(2 * math.pi)
    axes.plot(fine, normal, color=BLUE, label="noise alone")
    axes.set_yscale("log")
    top = max(float(normal.max()), float(np.histogram(pulls, bins)[0].max()), 1.0)
    axes.set(xlim=(-limit, limit), ylim=(0.5, 4.0 * top), xticks=range(-6, 7, 2))
    axes.minorticks_off()
    axes.set(xlabel=f"residual / {view.pull_unit}", ylabel="pixels")
    axes.grid(True)
    axes.legend(loc="upper left", handlelength=1.2, borderpad=0.1)
