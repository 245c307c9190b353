# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The figure of a campaign: seeing, flux scale and pointing of many exposures."""

import math
import os

import numpy as np

from .style import (
    GREY,
    MARKERS,
    PALE,
    SERIES,
    VERDICT_COLORS,
    blank_figure,
    clean,
    robust_scatter,
    style,
    widen,
    write,
    write_title,
)
from .words import number, verdict

__all__ = ["plot_campaign"]

_ROWS = (
    ("fwhm", "FWHM (arcsec)"),
    ("scale", "flux scale"),
    ("dx", "dx (arcsec)"),
    ("dy", "dy (arcsec)"),
)
_LEFT, _BOTTOM, _WIDTH, _HEIGHT, _GAP = 0.066, 0.115, 0.54, 0.775, 0.022
_OFFSETS, _SEEING = (0.70, 0.50, 0.285, 0.39), (0.70, 0.115, 0.285, 0.27)

# Up to so many exposures are named, and their filters stand side by side.
_NAMED = 16

# Columns and font size of the legend: the first that leaves it small enough is taken.
_LEGENDS = ((8, 8.5), (6, 8.5), (5, 8), (8, 6.5), (6, 6.5), (5, 6.5), (8, 5), (6, 5), (5, 4.5))

# Values farther from the median than this many robust standard deviations do not set the scale.
_FAR = 12.0
_BEYOND = {"linestyle": "none", "markerfacecolor": "white", "markersize": 7.5, "gid": "beyond"}


def plot_campaign(results, *, title=None, fig=None):
    """
    Draw FWHM, flux scale and pointing offsets of many exposures against time.

    The time is the modified Julian date, ``meta["mjd"]`` of the results. Where it is not known for
    all of them, exposures are drawn in their order. On the right are the offsets in the plane of
    the MUSE pixels, and how the FWHM is distributed. What is so far from all others that these
    could not be told apart is marked by triangles at the edges, and counted on the right.

    Parameters
    ----------
    results : iterable of `~muse_imphot.results.FittedPhotometry`
        The results of all exposures and filters, in the order in which to draw them. The places
        of exposures that failed in all filters stay empty and are marked.
    title : str, optional
        The title.
    fig : `~matplotlib.figure.Figure`, optional
        A figure to clear and draw in; by default a new one of 12 by 7.4 inches.

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
        fig = blank_figure(fig, (12.0, 7.4))
        write_title(fig, title or "all exposures", _LEFT)
        times = _Times(results)
        series = list(_by_filter(results))
        height = (_HEIGHT - (len(_ROWS) - 1) * _GAP) / len(_ROWS)
        panels = []
        for i, (attribute, label) in enumerate(_ROWS):
            bottom = _BOTTOM + (len(_ROWS) - 1 - i) * (height + _GAP)
            share = panels[0] if panels else None
            axes = fig.add_axes((_LEFT, bottom, _WIDTH, height), label=attribute, sharex=share)
            _draw_series(axes, series, times, attribute)
            axes.set_ylabel(label)
            axes.yaxis.set_label_coords(-0.083, 0.5)
            axes.tick_params(labelbottom=i == len(_ROWS) - 1)
            panels.append(axes)
        times.label(panels[-1])
        _draw_offsets(fig.add_axes(_OFFSETS, label="offsets"), series)
        _draw_seeing(fig.add_axes(_SEEING, label="seeing"), series)
        _draw_legend(fig, panels)
    return fig


def _draw_legend(fig, panels):
    """Explain the series above the panels, in columns and letters that leave room for all."""
    from matplotlib.lines import Line2D

    handles, labels = panels[0].get_legend_handles_labels()
    if any(line.get_gid() == "beyond" for axes in panels for line in axes.lines):
        look = {"marker": "^", "markeredgecolor": GREY}
        handles, labels = [*handles, Line2D([], [], **look, **_BEYOND)], [*labels, "beyond"]
    if not labels:
        return
    place = {"loc": "upper left", "bbox_to_anchor": (_LEFT - 0.005, 0.952), "borderpad": 0}
    dots = "\N{HORIZONTAL ELLIPSIS}"
    labels = [text if len(text) <= 24 else f"{text[:11]}{dots}{text[-12:]}" for text in labels]
    for columns, size in _LEGENDS:
        look = {"ncols": columns, "fontsize": size, "labelspacing": 0.3}
        legend = fig.legend(handles, labels, handletextpad=0.2, columnspacing=1.2, **place, **look)
        for text in legend.get_texts():
            text.set_parse_math(False)
        box = legend.get_window_extent().transformed(fig.transFigure.inverted())
        # One line has room across the whole figure, several above the panels on the left.
        limit = 0.92 if box.height < 0.03 else 0.60
        if (box.width < limit and box.height < 0.055) or (columns, size) == _LEGENDS[-1]:
            return
        legend.remove()


class _Times:
    """Where each exposure stands on the axis of time."""

    def __init__(self, results):
        self.exposures = list(dict.fromkeys(result.exposure for result in results))
        done = {result.exposure for result in results if verdict(result) != "failed"}
        dates = {}
        for result in results:
            date = number(result.meta.get("mjd"))
            if math.isfinite(date):
                dates.setdefault(result.exposure, date)
        self.dated = done <= dates.keys() and len(set(dates.values())) > 1
        self.start = math.floor(min(dates.values())) if self.dated else 0
        order = np.arange(1.0, len(self.exposures) + 1)
        if self.dated:
            # One that could not even be read has no date; it is put between its neighbours.
            known = [exposure in dates for exposure in self.exposures]
            days = [dates[key] - self.start for key in self.exposures if key in dates]
            order = np.interp(order, order[known], days)
        self.place = dict(zip(self.exposures, order.tolist(), strict=True))
        self.failed = [self.place[exposure] for exposure in self.exposures if exposure not in done]

    def shifts(self, count):
        """Return where the filters of an exposure stand; all in one place if there are many."""
        if len(self.exposures) > _NAMED:
            return np.zeros(count)
        low, high = self.limits()
        step = 0.008 * (high - low) if self.dated else min(0.12, 0.8 / max(count, 1))
        return step * (np.arange(count) - (count - 1) / 2)

    def limits(self):
        """Return the ends of the axis."""
        if not self.exposures:
            return 0.0, 1.0
        low, high = min(self.place.values()), max(self.place.values())
        edge = 0.03 * (high - low) if self.dated else 0.6
        return low - edge, high + edge

    def label(self, axes):
        """Label the axis: dates, names while there is room, otherwise numbers."""
        if self.dated:
            axes.set_xlabel(f"MJD \N{MINUS SIGN} {self.start}")
        elif len(self.exposures) > _NAMED:
            axes.set_xlabel("exposure (in the order of the table)")
        else:
            names = _shortened([clean(exposure) for exposure in self.exposures])
            turned = {"rotation": 20, "ha": "right", "rotation_mode": "anchor"}
            places = list(self.place.values())
            axes.set_xticks(places, names, fontsize=8, parse_math=False, **turned)


def _shortened(names):
    """Shorten names to the part in which they differ, the more the less room there is."""
    room = 28 if len(names) <= 2 else 20 if len(names) <= 4 else 14
    start = len(os.path.commonprefix(names))
    while start > 0 and names[0][start - 1].isdigit():  # numbers stay whole
        start -= 1
    dots, short = "\N{HORIZONTAL ELLIPSIS}", []
    for name in names:
        # As much of what they share as there is room for.
        first = max(0, min(start, len(name) - room + 1)) if len(name) > room else 0
        text = dots + name[first:] if first else name
        short.append(text if len(text) <= room else text[: room - 1] + dots)
    return short


def _by_filter(results):
    """Yield label, colour, marker and results of each filter and method, without failures."""
    good = [result for result in results if verdict(result) != "failed"]
    good.sort(key=lambda result: (number(result.pivot, 0.0), result.filter, result.method))
    groups = {}
    for result in good:
        groups.setdefault((result.filter, result.method), []).append(result)
    for i, ((name, method), chosen) in enumerate(groups.items()):
        label = f"{name} {method}".strip() if method != "image" else name
        # With more filters than colours, other markers go with a colour.
        marker = MARKERS[(i + i // len(SERIES)) % len(MARKERS)]
        yield label, SERIES[i % len(SERIES)], marker, chosen


def _bounds(values):
    """Return the least and the largest value that may set the scale."""
    values = np.asarray([value for value in values if math.isfinite(value)])
    if values.size < 8:
        return -math.inf, math.inf
    middle, reach = float(np.median(values)), _FAR * robust_scatter(values)
    return middle - reach, middle + reach


def _draw_series(axes, series, times, attribute):
    """Draw one parameter against time, one marker and colour for each filter."""
    size = 5.0 if len(times.exposures) <= 60 else 3.0
    shifts = times.shifts(len(series))
    points = []
    for shift, (name, color, marker, chosen) in zip(shifts, series, strict=True):
        x = [times.place[result.exposure] + shift for result in chosen]
        values = [number(getattr(result, attribute)) for result in chosen]
        errors = [number(getattr(result, attribute).stdev, 0.0) for result in chosen]
        point = {"fmt": marker, "color": color, "markersize": size, "elinewidth": 0.9}
        axes.errorbar(x, values, errors, label=clean(name) or "no filter", **point)
        points += zip(x, values, errors, [color] * len(x), strict=True)
    if times.failed:
        cross = {"linestyle": "none", "marker": "x", "color": VERDICT_COLORS["failed"]}
        place = {"transform": axes.get_xaxis_transform(), "clip_on": False}
        label = {"gid": "failed", "label": "failed" if attribute == _ROWS[0][0] else None}
        axes.plot(times.failed, [0] * len(times.failed), **label, **cross, **place)
    if attribute in ("dx", "dy"):
        axes.axhline(0, color=GREY, linewidth=0.7, zorder=1)
    axes.grid(True)
    axes.margins(y=0.15)
    _mark_beyond(axes, points)
    axes.set_xlim(*times.limits())
    if series:
        widen(axes)
    else:
        axes.set_yticks([])


def _mark_beyond(axes, points):
    """Mark at the edges of a panel what is so far away that nothing else could be seen."""
    least, largest = _bounds([value for _, value, *_ in points])
    ends = np.array([(value - error, value + error) for _, value, error, _ in points])
    ends = ends[np.isfinite(ends).all(axis=-1)]
    if not ends.size or (least <= ends.min() and ends.max() <= largest):
        return
    near = ends[(ends.mean(axis=1) >= least) & (ends.mean(axis=1) <= largest)]
    low, high = np.clip([near.min(), near.max()], least, largest)
    edge = 0.15 * (high - low)
    axes.set_ylim(low - edge, high + edge)
    place = {"transform": axes.get_xaxis_transform(), "clip_on": False, "zorder": 5}
    for x, value, _, color in points:
        if value > high + edge or value < low - edge:
            marker, y = ("^", 1) if value > high else ("v", 0)
            axes.plot(x, y, marker=marker, markeredgecolor=color, **_BEYOND, **place)


def _draw_offsets(axes, series):
    """Draw the pointing offsets in the plane of the MUSE pixels, with the origin in view."""
    places = [np.zeros((0, 2))]
    for _, color, marker, chosen in series:
        pairs = [(result.dx, result.dy) for result in chosen]
        values = np.array([[number(item) for item in pair] for pair in pairs])
        errors = np.array([[number(item.stdev, 0.0) for item in pair] for pair in pairs])
        point = {"fmt": marker, "color": color, "markersize": 4, "elinewidth": 0.9}
        axes.errorbar(*values.T, *errors.T[::-1], **point)
        places.append(values[np.isfinite(values).all(axis=1)])
    places = np.concatenate(places)
    least, largest = np.transpose([_bounds(values) for values in places.T])
    near = places[np.all((places >= least) & (places <= largest), axis=1)]
    axes.axhline(0, color=GREY, linewidth=0.7, zorder=1)
    axes.axvline(0, color=GREY, linewidth=0.7, zorder=1)
    low, high = (edge(near, axis=0, initial=0.0) for edge in (np.min, np.max))
    half = 0.6 * max(float(np.max(high - low)), 0.05)
    limits = np.transpose([(low + high) / 2 - half, (low + high) / 2 + half])
    axes.set(xlim=limits[0], ylim=limits[1], aspect="equal")
    axes.grid(True)
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(nbins=6)
    axes.set(xlabel="dx (arcsec)", ylabel="dy (arcsec)", title="pointing, MUSE \N{MINUS SIGN} HST")
    _count_beyond(axes, len(places) - len(near))


def _count_beyond(axes, count):
    if count:
        place = {"ha": "right", "va": "top", "transform": axes.transAxes}
        look = {"fontsize": 8.5, "color": VERDICT_COLORS["failed"]}
        write(axes, 0.98, 0.98, f"{count} beyond the panel", **place, **look)


def _draw_seeing(axes, series):
    """Draw how the FWHM is distributed, with its median."""
    axes.set(xlabel="FWHM (arcsec)", ylabel="fits")
    groups = [[number(result.fwhm) for result in chosen] for *_, chosen in series]
    groups = [[value for value in group if math.isfinite(value)] for group in groups]
    values = [value for group in groups for value in group]
    if not values:
        axes.set(xticks=[], yticks=[])
        return
    least, largest = _bounds(values)
    shown = [value for value in values if least <= value <= largest]
    low, high = min(shown), max(shown)
    edge = max(0.05 * (high - low), 0.01)
    bins = np.linspace(low - edge, high + edge, 1 + int(np.clip(2 * len(shown) ** 0.5, 9, 40)))
    axes.hist(shown, bins, color=PALE, edgecolor=GREY, linewidth=0.6)
    _count_beyond(axes, len(values) - len(shown))
    middle = float(np.median(values))
    axes.axvline(middle, color=GREY, linestyle="--", linewidth=1.0)
    axes.set_title(f"median {middle:.3f}\N{DOUBLE PRIME}")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.xaxis.get_major_locator().set_params(nbins=6)
    axes.grid(True, axis="y")
