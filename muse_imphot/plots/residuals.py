# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The figure of the residual: its distribution, and how far its noise is correlated."""

import math

import numpy as np

from .images import ImageView
from .profiles import draw_histogram
from .style import (
    BLUE,
    GREY,
    INK,
    MARKERS,
    ORANGE,
    blank_figure,
    default_title,
    style,
    write,
    write_nothing,
    write_title,
)

__all__ = ["plot_residuals"]

_BOXES = {
    "histogram": (0.06, 0.125, 0.26, 0.70),
    "map": (0.385, 0.125, 0.215, 0.70),
    "bar": (0.609, 0.125, 0.011, 0.70),
    "lags": (0.735, 0.125, 0.25, 0.70),
}
_REACH = 6  # largest lag in pixels


def plot_residuals(result, *, title=None, fig=None):
    """
    Draw the distribution of the residual, and the autocorrelation of its noise.

    The correlation of neighbouring pixels is that of the noise which the cube was drizzled into;
    the errors of the fit account for it. It should fade within a few pixels: a correlation over
    all lags means that something beside noise is left.

    Parameters
    ----------
    result : `~muse_imphot.results.FittedImagePhotometry`
        A result with its ``images``.
    title : str, optional
        The title; by default the name of the image and the filter.
    fig : `~matplotlib.figure.Figure`, optional
        A figure to clear and draw in; by default a new one of 12 by 4 inches.

    Returns
    -------
    `~matplotlib.figure.Figure`

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    with style():
        fig = blank_figure(fig, (12.0, 4.0))
        write_title(fig, title or default_title(result, "residual"), 0.06)
        if result.images is None:
            write_nothing(fig, result, "The result came without its images.")
            return fig
        view = ImageView(result)
        draw_histogram(fig.add_axes(_BOXES["histogram"], label="histogram"), view)
        correlation, pairs = _autocorrelation(view)
        _draw_map(fig, correlation)
        _draw_lags(fig.add_axes(_BOXES["lags"], label="lags"), correlation, pairs)
    return fig


def _autocorrelation(view):
    """Return the correlation of the residual at lags of -n..n pixels, and the number of pixels."""
    from ..fitting.noise import measure_noise

    used = view.used & np.isfinite(view.pulls)
    reach = min(_REACH, *(max(n - 1, 0) for n in used.shape))
    if used.sum() < 4 or reach < 1:
        return None, 0
    pulls = np.where(used, np.clip(view.pulls, -5.0, 5.0), 0.0)
    noise = measure_noise(pulls, used, 0, reach=reach)
    return noise.correlation, int(used.sum())


def _draw_map(fig, correlation):
    """Draw the correlation against both lags, with the numbers of the nearest neighbours."""
    axes = fig.add_axes(_BOXES["map"], label="map")
    axes.set_title("autocorrelation of the residual")
    if correlation is None:
        axes.set(xticks=[], yticks=[])
        return
    reach = correlation.shape[0] // 2
    limit = max(0.1, float(np.max(np.abs(np.where(correlation < 0.999, correlation, 0)))))
    extent = (-reach - 0.5, reach + 0.5) * 2
    options = {"origin": "lower", "extent": extent, "cmap": "RdBu_r", "aspect": "auto"}
    shown = axes.imshow(correlation, vmin=-limit, vmax=limit, **options)
    axes.set(xlabel="lag along x (pixels)", ylabel="lag along y (pixels)")
    for x, y in ((0, 0), (1, 0), (0, 1), (-1, 0), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)):
        value = correlation[reach + y, reach + x]
        color = "white" if abs(value) > 0.6 * limit else INK
        text = "1" if (x, y) == (0, 0) else _short(value)
        place = {"ha": "center", "va": "center", "fontsize": 6.5 if len(text) < 4 else 5.5}
        write(axes, x, y, text, color=color, **place)
    bar = fig.colorbar(shown, cax=fig.add_axes(_BOXES["bar"], label="bar"))
    bar.outline.set_linewidth(0.6)
    bar.ax.tick_params(labelsize=8)


def _short(value):
    """Write a correlation in as few characters as can be read."""
    if abs(value) < 0.005:
        return "0"
    if abs(value) >= 0.995:  # of few pixels
        return f"{value:.0f}".replace("-", "\N{MINUS SIGN}")
    return f"{value:.2f}".replace("0.", ".").replace("-", "\N{MINUS SIGN}")


def _draw_lags(axes, correlation, pairs):
    """Draw the correlation along the axes and the diagonals, with what chance would give."""
    axes.set_title("along the axes and diagonals")
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set(xlabel="lag (pixels)", ylabel="correlation")
    axes.grid(True)
    if correlation is None:
        return
    reach = correlation.shape[0] // 2
    lags = np.arange(1, reach + 1)
    chance = 2 / math.sqrt(pairs)
    label = "chance (2\N{GREEK SMALL LETTER SIGMA})"
    axes.axhspan(-chance, chance, color=GREY, alpha=0.18, linewidth=0, label=label)
    looks = (
        ("along x", lags, correlation[reach, reach + 1 :], BLUE, "solid"),
        ("along y", lags, correlation[reach + 1 :, reach], ORANGE, (0, (4, 2))),
    )
    for (label, x, values, color, line), marker in zip(looks, MARKERS, strict=False):
        axes.plot(x, values, color=color, linestyle=line, marker=marker, markersize=5, label=label)
    diagonal = np.diag(correlation)[reach + 1 :], np.diag(correlation[::-1])[reach + 1 :]
    inside = math.sqrt(2) * lags <= reach + 0.5
    distance = math.sqrt(2) * lags[inside]
    mean = np.mean(diagonal, axis=0)[inside]
    look = {"color": INK, "linestyle": ":", "marker": MARKERS[2], "markersize": 5}
    axes.plot(distance, mean, label="diagonals", **look)
    axes.legend(loc="upper right")
    axes.set_xlim(0.5, reach + 0.5)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -0.06), max(high, 0.15))
