# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The figure of a campaign: seeing, flux scale and pointing of many exposures."""

import math

import numpy as np

from .style import (
    GREY,
    MARKERS,
    PALE,
    SERIES,
    VERDICT_COLORS,
    blank_figure,
    clean,
    style,
    widen,
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


def plot_campaign(results, *, title=None, fig=None):
    """
    Draw FWHM, flux scale and pointing offsets of many exposures against time.

    The time is the modified Julian date, ``meta["mjd"]`` of the results. Where it is not known for
    all of them, exposures are drawn in their order. On the right are the offsets in the plane of
    the MUSE pixels, and how the FWHM is distributed.

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
            axes.yaxis.set_label_coords(-0.075, 0.5)
            axes.tick_params(labelbottom=i == len(_ROWS) - 1)
            panels.append(axes)
        times.label(panels[-1])
        _draw_offsets(fig.add_axes(_OFFSETS, label="offsets"), series)
        _draw_seeing(fig.add_axes(_SEEING, label="seeing"), series)
        handles, labels = panels[0].get_legend_handles_labels()
        if labels:
            place = {"loc": "upper left", "bbox_to_anchor": (_LEFT - 0.01, 0.948), "ncols": 8}
            fig.legend(handles, labels, handletextpad=0.2, columnspacing=1.4, **place)
    return fig


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

    @property
    def step(self):
        """How far apart the filters of an exposure stand; all in one place if there are many."""
        if len(self.exposures) > _NAMED:
            return 0.0
        low, high = self.limits()
        return 0.008 * (high - low) if self.dated else 0.12

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
            names = [clean(exposure) for exposure in self.exposures]
            names = [
                n if len(n) <= 14 else f"{n[:5]}\N{HORIZONTAL ELLIPSIS}{n[-8:]}" for n in names
            ]
            turned = {"rotation": 20, "ha": "right", "rotation_mode": "anchor"}
            places = list(self.place.values())
            axes.set_xticks(places, names, fontsize=8, parse_math=False, **turned)


def _by_filter(results):
    """Yield label, colour, marker and results of each filter and method, without failures."""
    good = [result for result in results if verdict(result) != "failed"]
    good.sort(key=lambda result: (number(result.pivot, 0.0), result.filter, result.method))
    groups = {}
    for result in good:
        groups.setdefault((result.filter, result.method), []).append(result)
    for i, ((name, method), chosen) in enumerate(groups.items()):
        label = f"{name} {method}".strip() if method != "image" else name
        yield label, SERIES[i % len(SERIES)], MARKERS[i % len(MARKERS)], chosen


def _draw_series(axes, series, times, attribute):
    """Draw one parameter against time, one marker and colour for each filter."""
    size = 5.0 if len(times.exposures) <= 60 else 3.0
    for k, (name, color, marker, chosen) in enumerate(series):
        shift = times.step * (k - (len(series) - 1) / 2)
        x = [times.place[result.exposure] + shift for result in chosen]
        values = [number(getattr(result, attribute)) for result in chosen]
        errors = [number(getattr(result, attribute).stdev, 0.0) for result in chosen]
        point = {"fmt": marker, "color": color, "markersize": size, "elinewidth": 0.9}
        axes.errorbar(x, values, errors, label=clean(name) or "no filter", **point)
    if times.failed:
        cross = {"linestyle": "none", "marker": "x", "color": VERDICT_COLORS["failed"]}
        place = {"transform": axes.get_xaxis_transform(), "clip_on": False}
        label = {"gid": "failed", "label": "failed" if attribute == _ROWS[0][0] else None}
        axes.plot(times.failed, [0] * len(times.failed), **label, **cross, **place)
    if attribute in ("dx", "dy"):
        axes.axhline(0, color=GREY, linewidth=0.7, zorder=0)
    axes.grid(True)
    axes.margins(y=0.15)
    axes.set_xlim(*times.limits())
    if series:
        widen(axes)
    else:
        axes.set_yticks([])


def _draw_offsets(axes, series):
    """Draw the pointing offsets in the plane of the MUSE pixels, with the origin in view."""
    ends = [(0.0, 0.0)]
    for _, color, marker, chosen in series:
        x, y = ([number(getattr(r, name)) for r in chosen] for name in ("dx", "dy"))
        dx, dy = ([number(getattr(r, name).stdev, 0.0) for r in chosen] for name in ("dx", "dy"))
        axes.errorbar(x, y, dy, dx, fmt=marker, color=color, markersize=4, elinewidth=0.9)
        ends += [place for place in zip(x, y, strict=True) if all(map(math.isfinite, place))]
    axes.axhline(0, color=GREY, linewidth=0.7, zorder=0)
    axes.axvline(0, color=GREY, linewidth=0.7, zorder=0)
    low, high = np.min(ends, axis=0), np.max(ends, axis=0)
    half = 0.6 * max(float(np.max(high - low)), 0.05)
    limits = np.transpose([(low + high) / 2 - half, (low + high) / 2 + half])
    axes.set(xlim=limits[0], ylim=limits[1], aspect="equal")
    axes.grid(True)
    axes.set(xlabel="dx (arcsec)", ylabel="dy (arcsec)", title="pointing, MUSE \N{MINUS SIGN} HST")


def _draw_seeing(axes, series):
    """Draw how the FWHM is distributed, with its median."""
    axes.set(xlabel="FWHM (arcsec)", ylabel="fits")
    groups = [[number(result.fwhm) for result in chosen] for *_, chosen in series]
    groups = [[value for value in group if math.isfinite(value)] for group in groups]
    values = [value for group in groups for value in group]
    if not values:
        axes.set(xticks=[], yticks=[])
        return
    low, high = min(values), max(values)
    edge = max(0.05 * (high - low), 0.01)
    bins = np.linspace(low - edge, high + edge, 1 + int(np.clip(2 * len(values) ** 0.5, 8, 40)))
    axes.hist(values, bins, color=PALE, edgecolor=GREY, linewidth=0.6)
    middle = float(np.median(values))
    axes.axvline(middle, color=GREY, linestyle="--", linewidth=1.0)
    axes.set_title(f"median {middle:.3f}\N{DOUBLE PRIME}")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.grid(True, axis="y")
