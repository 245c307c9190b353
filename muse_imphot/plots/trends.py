# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Figures that put several results together: the PSF against wavelength, and all exposures."""

import math

import numpy as np

from .style import (
    BLUE,
    GREY,
    INK,
    MARKERS,
    SERIES,
    VERDICT_COLORS,
    blank_figure,
    clean,
    fit_text,
    style,
    write,
)
from .words import number, verdict

__all__ = ["plot_psf_wavelength", "plot_summary"]

_MUSE_RANGE = (4650.0, 9400.0)


def plot_psf_wavelength(psf, results, *, title=None, fig=None):
    """
    Draw FWHM and beta of one exposure against wavelength.

    Points are the fits of single filters (hollow where the value was held), the line is the
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
            _widen(axes)
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
        point = {"fmt": "o", "markersize": 6, "markerfacecolor": face, "color": INK, "zorder": 4}
        bar = {"yerr": error, "capsize": 2.5, "elinewidth": 1.2}
        axes.errorbar(result.pivot, number(fitted), **bar, **point)


def _widen(axes, least=0.02):
    """Keep an axis from magnifying rounding errors when all values are the same."""
    low, high = axes.get_ylim()
    middle, half = (low + high) / 2, (high - low) / 2
    smallest = least * max(abs(middle), 1e-6)
    if half < smallest:
        axes.set_ylim(middle - smallest, middle + smallest)


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


def plot_summary(results, *, title=None, fig=None):
    """
    Draw how FWHM, flux scale and pointing change from exposure to exposure.

    Parameters
    ----------
    results : iterable of `~muse_imphot.results.FittedPhotometry`
        The results of all exposures and filters, in the order in which to draw them. The places
        of exposures that failed in all filters stay empty and are marked.
    title : str, optional
        The title.
    fig : `~matplotlib.figure.Figure`, optional
        A figure to clear and draw in; by default a new one of 12 by 4.2 inches.

    Returns
    -------
    `~matplotlib.figure.Figure`

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    results = list(results)
    with style():
        fig = blank_figure(fig, (12.0, 4.2))
        if title:
            heading = write(fig, 0.06, 0.95, clean(title), fontsize=13, weight="bold", va="center")
            fit_text(heading, 0.9)
        boxes = ((0.055, 0.24, 0.27, 0.58), (0.392, 0.24, 0.27, 0.58), (0.735, 0.15, 0.255, 0.67))
        seeing, scale, offsets = (fig.add_axes(box) for box in boxes)
        exposures = list(dict.fromkeys(result.exposure for result in results))
        _draw_series(seeing, results, exposures, "fwhm", "FWHM (arcsec)")
        _draw_series(scale, results, exposures, "scale", "flux scale")
        _draw_offsets(offsets, results)
        handles, labels = scale.get_legend_handles_labels()
        if labels:
            place = {"loc": "upper center", "bbox_to_anchor": (0.36, 0.955), "ncols": 8}
            fig.legend(handles, labels, handletextpad=0.2, columnspacing=1.4, **place)
    return fig


def _by_filter(results):
    """Yield filter, colour, marker and results without failures, in a fixed order."""
    good = [result for result in results if verdict(result) != "failed"]
    names = dict.fromkeys(
        result.filter for result in sorted(good, key=lambda r: (number(r.pivot, 0.0), r.filter))
    )
    for i, name in enumerate(names):
        chosen = [result for result in good if result.filter == name]
        yield name, SERIES[i % len(SERIES)], MARKERS[i % len(MARKERS)], chosen


def _draw_series(axes, results, exposures, attribute, label):
    """Draw one parameter against the exposures, one marker and colour for each filter."""
    position = {exposure: i + 1 for i, exposure in enumerate(exposures)}
    series = list(_by_filter(results))
    for k, (name, color, marker, chosen) in enumerate(series):
        shift = 0.12 * (k - (len(series) - 1) / 2) if len(exposures) <= 20 else 0.0
        x = [position[result.exposure] + shift for result in chosen]
        values = [number(getattr(result, attribute)) for result in chosen]
        errors = [number(getattr(result, attribute).stdev, 0.0) for result in chosen]
        point = {"fmt": marker, "color": color, "markersize": 5, "elinewidth": 1.0}
        axes.errorbar(x, values, errors, label=clean(name) or "no filter", **point)
    done = {result.exposure for *_, chosen in series for result in chosen}
    failed = [position[exposure] for exposure in exposures if exposure not in done]
    if failed:
        cross = {"linestyle": "none", "marker": "x", "color": VERDICT_COLORS["failed"]}
        place = {"transform": axes.get_xaxis_transform(), "clip_on": False}
        axes.plot(failed, [0] * len(failed), gid="failed", **cross, **place)
    if not done:
        axes.set_yticks([])
    axes.set_title(label)
    axes.grid(True, axis="y")
    axes.margins(y=0.15)
    axes.set_xlim(0.4, len(exposures) + 0.6)
    if done:
        _widen(axes)
    _name_exposures(axes, exposures)


def _name_exposures(axes, exposures):
    """Label the exposures by name while there is room, otherwise by number."""
    if len(exposures) > 16:
        axes.set_xlabel("exposure (in the order of the table)")
        return
    names = [clean(exposure) for exposure in exposures]
    names = [n if len(n) <= 14 else f"{n[:5]}\N{HORIZONTAL ELLIPSIS}{n[-8:]}" for n in names]
    turned = {"rotation": 35, "ha": "right", "rotation_mode": "anchor", "parse_math": False}
    axes.set_xticks(range(1, len(names) + 1), names, fontsize=8, **turned)


def _draw_offsets(axes, results):
    """Draw the pointing offsets in the plane of the MUSE pixels, with the origin in view."""
    ends = [(0.0, 0.0)]
    for _, color, marker, chosen in _by_filter(results):
        x, y = ([number(getattr(r, name)) for r in chosen] for name in ("dx", "dy"))
        dx, dy = ([number(getattr(r, name).stdev, 0.0) for r in chosen] for name in ("dx", "dy"))
        axes.errorbar(x, y, dy, dx, fmt=marker, color=color, markersize=5, elinewidth=1.0)
        ends += [place for place in zip(x, y, strict=True) if all(map(math.isfinite, place))]
    axes.axhline(0, color=GREY, linewidth=0.7, zorder=0)
    axes.axvline(0, color=GREY, linewidth=0.7, zorder=0)
    low, high = np.min(ends, axis=0), np.max(ends, axis=0)
    half = 0.6 * max(float(np.max(high - low)), 0.05)
    limits = np.transpose([(low + high) / 2 - half, (low + high) / 2 + half])
    axes.set(xlim=limits[0], ylim=limits[1], aspect="equal")
    axes.grid(True)
    axes.set(xlabel="dx (arcsec)", ylabel="dy (arcsec)", title="pointing, MUSE \N{MINUS SIGN} HST")
