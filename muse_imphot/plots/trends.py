# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Figures that put several results together: the PSF against wavelength, and all exposures."""

import math

import numpy as np

from .style import BLUE, GREY, INK, blank_figure, clean, fit_text, style, widen, write
from .words import number, verdict

__all__ = ["plot_psf_wavelength"]

_MUSE_RANGE = (4650.0, 9400.0)


def plot_psf_wavelength(psf, results, *, title=None, fig=None):
    """
    Draw FWHM and beta of one exposure against wavelength.

    Points are the fits of single filters (hollow where the value was held; asterisks are fits of
    stars), the line is the
    polynomial and the band its standard deviation; it is dashed outside the filters.

    Parameters
    ----------
    psf : `~muse_imphot.psf_wavelength.PsfWavelength` or None
        The polynomials; None for the points alone.
    results : iterable of `~muse_imphot.results.FittedPhotometry`
        The results of the filters. Those of other exposures than that of ``psf`` are left out, as
        are failed ones and those without a pivot wavelength.
    title : str, optional
        The title; by default the name of the exposure.
    fig : `~matplotlib.figure.Figure`, optional
        A figure to clear and draw in; by default a new one of 8 by 5.6 inches.

    Returns
    -------
    `~matplotlib.figure.Figure`

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    results = _with_pivot(results, getattr(psf, "exposure", "") or None)
    if title is None:
        exposure = getattr(psf, "exposure", "") or (results[0].exposure if results else "")
        title = f"{exposure}  \N{MIDDLE DOT}  PSF against wavelength" if exposure else "PSF"
    with style():
        fig = blank_figure(fig, (8.0, 5.6))
        heading = write(fig, 0.10, 0.955, clean(title), fontsize=13, weight="bold", va="center")
        fit_text(heading, 0.86)
        upper = fig.add_axes((0.10, 0.525, 0.86, 0.38), label="fwhm")
        lower = fig.add_axes((0.10, 0.095, 0.86, 0.38), label="beta", sharex=upper)
        for axes, name in ((upper, "fwhm"), (lower, "beta")):
            _draw_polynomial(axes, psf, name)
            _draw_filters(axes, results, name)
            axes.grid(True)
            axes.margins(y=0.15)
            widen(axes)
        upper.set(ylabel="FWHM (arcsec)", xlim=_wave_limits(results))
        upper.tick_params(labelbottom=False)
        lower.set(ylabel="beta", xlabel="wavelength (\N{ANGSTROM SIGN})")
        _name_filters(upper, results)
    return fig


def _with_pivot(results, exposure):
    """Return the results that have a place in the figure, by wavelength."""
    chosen = [
        result
        for result in results
        if verdict(result) != "failed"
        and math.isfinite(number(result.pivot))
        and exposure in (None, result.exposure)
    ]
    return sorted(chosen, key=lambda result: (result.pivot, result.filter))


def _wave_limits(results):
    """Return the range of MUSE, widened where a filter lies beyond."""
    pivots = [result.pivot for result in results]
    return min([_MUSE_RANGE[0], *(p - 150 for p in pivots)]), max(
        [_MUSE_RANGE[1], *(p + 150 for p in pivots)]
    )


def _draw_polynomial(axes, psf, name):
    """Draw a polynomial with its error band, dashed where it extrapolates."""
    if psf is None:
        return
    wave = np.linspace(*_MUSE_RANGE, 400)
    value, error = (np.asarray(item, dtype=float) for item in getattr(psf, name)(wave))
    if np.isfinite(error).all():
        axes.fill_between(wave, value - error, value + error, color=BLUE, alpha=0.16, linewidth=0)
    low, high = psf.wave_range
    inside = (wave >= low) & (wave <= high) if high > low else np.zeros(wave.shape, dtype=bool)
    axes.plot(wave, value, color=BLUE, linestyle=(0, (4, 2)), linewidth=1.1)
    axes.plot(wave[inside], value[inside], color=BLUE, linewidth=1.8)


def _draw_filters(axes, results, name):
    """Draw the value of each filter with its error; held values are hollow."""
    for result in results:
        fitted = getattr(result, name)
        error = number(fitted.stdev, 0.0)
        face = "white" if fitted.fixed else INK
        marker, size = ("*", 9) if result.method == "stars" else ("o", 6)
        point = {"fmt": marker, "markersize": size, "markerfacecolor": face, "color": INK}
        point["zorder"] = 4
        bar = {"yerr": error, "capsize": 2.5, "elinewidth": 1.2}
        axes.errorbar(result.pivot, number(fitted), **bar, **point)


def _name_filters(axes, results, least=260.0):
    """Write the names of the filters along the upper edge, those of close wavelengths together."""
    groups = []
    for result in results:
        if not groups or result.pivot - groups[-1][-1].pivot > least:
            groups.append([])
        groups[-1].append(result)
    for group in groups:
        text = ", ".join(dict.fromkeys(clean(result.filter) for result in group))
        place = {"ha": "center", "va": "bottom", "transform": axes.get_xaxis_transform()}
        pivot = (group[0].pivot + group[-1].pivot) / 2
        write(axes, pivot, 1.015, text, fontsize=8.5, color=GREY, **place)
