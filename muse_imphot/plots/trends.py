# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Figures that put several results together: the PSF against wavelength, and all exposures."""

import math

import numpy as np

from .style import BLUE, GREY, INK, blank_figure, clean, fit_text, style, widen, write
from .words import number, verdict

__all__ = ["plot_psf_wavelength"]

_MUSE_RANGE = (4650.0, 9400.0)
_LETTERS = 95  # names of filters have room for, side by side
_POINTS = {
    "image": {"marker": "o", "markersize": 6},
    "stars": {"marker": "*", "markersize": 9},
}


def plot_psf_wavelength(psf, results, *, title=None, fig=None):
    """
    Draw FWHM and beta of one exposure against wavelength.

    Points are the fits of single filters (hollow where the value was held; asterisks are fits of
    stars), the line is the polynomial and the band its standard deviation; it is dashed outside
    the filters.

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
        fig = blank_figure(fig, (8.0, 5.9))
        heading = write(fig, 0.10, 0.955, clean(title), fontsize=13, weight="bold", va="center")
        fit_text(heading, 0.86)
        upper = fig.add_axes((0.10, 0.545, 0.86, 0.36), label="fwhm")
        lower = fig.add_axes((0.10, 0.145, 0.86, 0.36), label="beta", sharex=upper)
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
        _explain(fig, psf, results)
    return fig


def _explain(fig, psf, results):
    """Explain lines and points below the panels, as far as they occur."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    held = any(item.fixed for result in results for item in (result.fwhm, result.beta))
    handles = {}
    if psf is not None:
        handles["polynomial"] = Line2D([], [], color=BLUE, linewidth=1.8)
        dashes = {"linestyle": (0, (4, 2)), "linewidth": 1.1}
        handles["beyond the filters"] = Line2D([], [], color=BLUE, **dashes)
        sigma = "\N{PLUS-MINUS SIGN}1 \N{GREEK SMALL LETTER SIGMA}"
        handles[sigma] = Patch(color=BLUE, alpha=0.16, linewidth=0)
    for method, label in (("image", "fit of the image"), ("stars", "fit of stars")):
        if any(result.method == method for result in results):
            handles[label] = Line2D([], [], color=INK, linestyle="none", **_POINTS[method])
    if held:
        look = {"color": INK, "linestyle": "none", "markerfacecolor": "white"}
        handles["held"] = Line2D([], [], **look, **_POINTS["image"])
    if handles:
        place = {"loc": "lower center", "bbox_to_anchor": (0.53, 0.0), "ncols": len(handles)}
        fig.legend(handles.values(), handles, columnspacing=1.6, **place)


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
        point = _POINTS["stars" if result.method == "stars" else "image"]
        point = {"linestyle": "none", **point, "markerfacecolor": face, "color": INK, "zorder": 4}
        bar = {"yerr": error, "capsize": 2.5, "elinewidth": 1.2}
        axes.errorbar(result.pivot, number(fitted), **bar, **point)


def _name_filters(axes, results):
    """Write the names of the filters along the upper edge, together where they would collide."""
    names = {}
    for result in results:
        names.setdefault(clean(result.filter), []).append(result.pivot)
    places = [([name], min(pivots), max(pivots)) for name, pivots in names.items()]
    letter = np.ptp(axes.get_xlim()) / _LETTERS
    groups = []
    for place in places:
        groups.append(place)
        # Those that were merged may reach the ones before them.
        while len(groups) > 1 and _reach(groups[-2], letter)[1] > _reach(groups[-1], letter)[0]:
            after, before = groups.pop(), groups.pop()
            groups.append((before[0] + after[0], before[1], max(before[2], after[2])))
    for group, low, high in groups:
        place = {"ha": "center", "va": "bottom", "transform": axes.get_xaxis_transform()}
        look = {"fontsize": 8.5, "color": GREY}
        text = write(axes, (low + high) / 2, 1.015, ", ".join(group), **look, **place)
        fit_text(text, 0.86, smallest=6)


def _reach(group, letter):
    """Return where the names of a group begin and end."""
    names, low, high = group
    half = letter * (len(", ".join(names)) + 2) / 2
    return (low + high) / 2 - half, (low + high) / 2 + half
