# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The figure of the covariance: an ellipse for each pair of parameters."""

import math

import numpy as np

from .style import (
    BLUE,
    GREY,
    INK,
    blank_figure,
    default_title,
    style,
    write,
    write_nothing,
    write_title,
)
from .words import error_text, number, value_text

__all__ = ["plot_covariance"]

_LABELS = {
    "scale": ("flux scale", ""),
    "bg": ("background", ""),
    "dx": ("dx", "\N{DOUBLE PRIME}"),
    "dy": ("dy", "\N{DOUBLE PRIME}"),
    "fwhm": ("FWHM", "\N{DOUBLE PRIME}"),
    "beta": ("beta", ""),
}
_SPAN = 3.0  # standard deviations that a panel shows on both sides
_LONGEST = 8  # characters that a tick has room for
_LEFT, _BOTTOM, _WIDTH, _HEIGHT, _GAP = 0.115, 0.085, 0.865, 0.855, 0.012


def plot_covariance(result, *, title=None, fig=None):
    """
    Draw the covariance of the parameters as ellipses of 1 and 2 standard deviations.

    Each pair of free parameters has a panel with its correlation coefficient; on the diagonal is
    the distribution of each parameter. The upper triangle shows the coefficients as numbers.

    Parameters
    ----------
    result : `~muse_imphot.results.FittedPhotometry`
        The result. Of scale, background, dx, dy, FWHM and beta, those that were fitted are shown.
    title : str, optional
        The title; by default the name of the image and the filter.
    fig : `~matplotlib.figure.Figure`, optional
        A figure to clear and draw in; by default a new one of 9 by 9 inches.

    Returns
    -------
    `~matplotlib.figure.Figure`

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    with style():
        fig = blank_figure(fig, (9.0, 9.0))
        write_title(fig, title or default_title(result, "covariance"), _LEFT)
        names = _shown(result)
        if not names:
            write_nothing(fig, result, "The covariance of the parameters is not known.")
            return fig
        center = np.array([number(getattr(result, name)) for name in names])
        covariance = result.covariance_of(*names)
        for row in range(len(names)):
            for column in range(len(names)):
                axes = fig.add_axes(_box(row, column, len(names)), label=f"{row}-{column}")
                if column > row:
                    _draw_coefficient(axes, covariance, row, column)
                    continue
                if column == row:
                    _draw_distribution(axes, result, names[row], center[row], covariance[row, row])
                else:
                    pair = [column, row]
                    _draw_ellipses(axes, center[pair], covariance[np.ix_(pair, pair)])
                _finish(axes, names, (row, column), center, covariance)
    return fig


def _shown(result):
    """Return the names of the parameters whose covariance is known."""
    names = [name for name in _LABELS if name in result.parameter_names]
    diagonal = np.diag(result.covariance_of(*names)) if names else []
    return [
        name
        for name, variance in zip(names, diagonal, strict=True)
        if 0 < variance < math.inf and math.isfinite(number(getattr(result, name)))
    ]


def _box(row, column, n):
    """Return the box of a panel."""
    width, height = (_WIDTH - (n - 1) * _GAP) / n, (_HEIGHT - (n - 1) * _GAP) / n
    left = _LEFT + column * (width + _GAP)
    return (left, _BOTTOM + (n - 1 - row) * (height + _GAP), width, height)


def _draw_distribution(axes, result, name, center, variance):
    """Draw the normal distribution of a parameter, with its value."""
    stdev = math.sqrt(variance)
    x = np.linspace(center - _SPAN * stdev, center + _SPAN * stdev, 121)
    y = np.exp(-0.5 * ((x - center) / stdev) ** 2)
    axes.fill_between(x, y, where=abs(x - center) <= stdev, color=BLUE, alpha=0.25, linewidth=0)
    axes.plot(x, y, color=BLUE)
    axes.set_ylim(0, 1.75)
    label, unit = _LABELS[name]
    fitted = getattr(result, name)
    place = {"ha": "center", "va": "top", "transform": axes.transAxes, "linespacing": 1.35}
    text = f"{label}\n{value_text(fitted)}{unit}\n{error_text(fitted)}{unit}"
    write(axes, 0.5, 0.96, text, fontsize=8, **place)


def _draw_ellipses(axes, center, covariance):
    """Draw the ellipses of a pair of parameters."""
    angle = np.linspace(0, 2 * np.pi, 181)
    values, vectors = np.linalg.eigh(covariance)
    circle = np.sqrt(np.maximum(values, 0))[:, None] * [np.cos(angle), np.sin(angle)]
    x, y = vectors @ circle
    axes.fill(center[0] + x, center[1] + y, color=BLUE, alpha=0.25, linewidth=0)
    axes.plot(center[0] + x, center[1] + y, color=BLUE, linewidth=1.3)
    dashes = {"linestyle": (0, (4, 2)), "linewidth": 1.0}
    axes.plot(center[0] + 2 * x, center[1] + 2 * y, color=BLUE, **dashes)
    axes.plot(*center, marker="+", color=INK, markersize=6)


def _draw_coefficient(axes, covariance, row, column):
    """Write the correlation of a pair, the stronger the larger and darker."""
    size = math.sqrt(covariance[row, row] * covariance[column, column])
    value = covariance[row, column] / size
    axes.axis("off")
    strength = min(abs(value), 1.0)
    place = {"ha": "center", "va": "center", "transform": axes.transAxes}
    look = {"fontsize": 9 + 6 * strength, "color": INK if strength > 0.3 else GREY}
    text = f"{value:+.2f}" if abs(value) >= 0.005 else "0.00"
    write(axes, 0.5, 0.5, text.replace("-", "\N{MINUS SIGN}"), **place, **look)


def _finish(axes, names, place, center, covariance):
    """Set limits and ticks of a panel, and label those at the edges of the figure."""
    row, column = place
    span = _SPAN * np.sqrt(np.diag(covariance))
    ticks = {"labelsize": 7.5, "length": 2.5}
    axes.set_xlim(center[column] - span[column], center[column] + span[column])
    _set_ticks(axes.xaxis, center[column], span[column])
    if row == column:
        axes.set_yticks([])
    else:
        axes.set_ylim(center[row] - span[row], center[row] + span[row])
        _set_ticks(axes.yaxis, center[row], span[row])
    bottom, left = row == len(names) - 1, column == 0 and row > 0
    axes.tick_params(labelbottom=bottom, labelleft=left, **ticks)
    axes.grid(row != column)
    if bottom:
        for label in axes.get_xticklabels():
            label.set(rotation=45, ha="right", rotation_mode="anchor")
        _write_label(axes, names[column], (0.5, 0), (0, -46), va="top")
    if left:
        _write_label(axes, names[row], (0, 0.5), (-58, 0), rotation=90, va="center")


def _write_label(axes, name, place, points, **look):
    """Write the name of an axis some points (1/72 inch) away from it, however large the panel."""
    offset = {"xycoords": "axes fraction", "xytext": points, "textcoords": "offset points"}
    axes.annotate(_label(name), place, fontsize=9, ha="center", **offset, **look)


def _label(name):
    label, unit = _LABELS[name]
    return f"{label} ({unit})" if unit else label


def _set_ticks(axis, center, span):
    """Put ticks at the value and two standard deviations beside it, with the digits they need."""
    step = 2 * span / _SPAN
    decimals = max(0, 1 - math.floor(math.log10(step)))
    places = [center - step, center, center + step]
    texts = [f"{place:.{decimals}f}".replace("-", "\N{MINUS SIGN}") for place in places]
    if max(map(len, texts)) > _LONGEST:
        # The value itself stands on the diagonal.
        sigma = "\N{GREEK SMALL LETTER SIGMA}"
        texts = [f"\N{MINUS SIGN}2 {sigma}", "value", f"+2 {sigma}"]
    axis.set_ticks(places, texts)
    axis.set_tick_params(which="minor", length=0)
