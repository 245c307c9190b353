# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The figure of filter curves over the range of MUSE."""

import numpy as np

from .style import GREY, PALE, SERIES, blank_figure, clean, fit_text, style, write, write_title

__all__ = ["plot_bandpasses"]

# Seven kinds, as there are colours: curves can be told apart without colour.
_DASHES = ((), (6, 2), (2, 1.5), (6, 2, 1.5, 2), (9, 2), (1.2, 1.2), (6, 1.5, 1.5, 1.5, 1.5, 1.5))


def plot_bandpasses(bandpasses, *, title=None, fig=None):
    """
    Draw filter curves, and the wavelengths that MUSE covers.

    Parameters
    ----------
    bandpasses : dict of str to `~synphot.spectrum.SpectralElement`
        The curves by the names to write.
    title : str, optional
        The title.
    fig : `~matplotlib.figure.Figure`, optional
        A figure to clear and draw in; by default a new one of 9.6 by 4.4 inches.

    Returns
    -------
    `~matplotlib.figure.Figure`

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    with style():
        fig = blank_figure(fig, (9.6, 4.4))
        write_title(fig, title or "Filter curves and the range of MUSE", 0.07)
        axes = fig.add_axes((0.07, 0.125, 0.71, 0.76), label="bandpasses")
        curves = {name: _points(curve) for name, curve in bandpasses.items()}
        limits = _limits(curves.values())
        axes.set(xlim=limits, ylim=(0, 1.12 * max(y.max() for _, y in curves.values())))
        _shade_outside(axes, limits)
        lines = []
        for number, (x, y) in enumerate(curves.values()):
            look = {"color": _color(number), "dashes": _DASHES[number % len(_DASHES)]}
            lines += axes.plot(x, y, linewidth=1.7, zorder=3, **look)
        _explain(fig, lines, curves)
        axes.grid(True)
        axes.set(xlabel="wavelength in vacuum (\N{ANGSTROM SIGN})", ylabel="throughput")
    return fig


def _color(number):
    # With more curves than colours, other dashes go with a colour.
    return SERIES[(number + number // len(SERIES)) % len(SERIES)]


def _explain(fig, lines, curves):
    """List the curves to the right of the panel, by wavelength."""
    order = np.argsort([float(x[y >= 0.5 * y.max()].mean()) for x, y in curves.values()])
    names = [clean(name) for name in curves]
    # Of many curves in smaller letters, so that all have room.
    part = min(1.0, 14 / max(len(names), 1))
    legend = fig.legend(
        [lines[i] for i in order],
        [names[i] for i in order],
        loc="upper left",
        bbox_to_anchor=(0.785, 0.9),
        handlelength=3.4 / part,
        borderaxespad=0.0,
        labelspacing=0.65,
        fontsize=8.5 * part,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
        fit_text(text, 0.14, smallest=6.5)


def _points(bandpass):
    """Return the part of a curve that is not zero, with one point beyond."""
    from ..bandpass import curve_points

    x, y = curve_points(bandpass)
    some = np.flatnonzero(y > 1e-3 * y.max())
    part = slice(max(some[0] - 1, 0), some[-1] + 2)
    return x[part], y[part]


def _limits(curves):
    """Return the range of wavelengths: that of MUSE and whatever the curves need."""
    low, high = _muse_range()
    low = min([low - 250, *(x[0] - 100 for x, _ in curves)])
    return low, max([high + 250, *(x[-1] + 100 for x, _ in curves)])


def _muse_range():
    from ..bandpass import MUSE_RANGES
    from ..io import air_to_vacuum

    return air_to_vacuum(np.array(MUSE_RANGES["nominal"]))


def _shade_outside(axes, limits):
    """Shade what MUSE does not see, and mark where the extended mode begins."""
    from ..bandpass import MUSE_RANGES
    from ..io import air_to_vacuum

    low, high = _muse_range()
    for start, stop in ((limits[0], low), (high, limits[1])):
        axes.axvspan(start, stop, facecolor=PALE, alpha=0.55, linewidth=0, zorder=0)
    for edge in (low, high):
        axes.axvline(edge, color=GREY, linewidth=1.0, zorder=1)
    extended = air_to_vacuum(MUSE_RANGES["extended"][0])
    axes.axvline(extended, color=GREY, linewidth=1.0, linestyle=(0, (2, 2)), zorder=1)
    top = axes.get_ylim()[1]
    place = {"ha": "center", "va": "top", "color": GREY, "fontsize": 8.5}
    write(axes, (low + high) / 2, 0.985 * top, "MUSE, nominal mode", **place)
    # Upright where there is little room beside it.
    angle = 0 if extended - limits[0] > 0.1 * (limits[1] - limits[0]) else 90
    place |= {"ha": "right", "rotation": angle}
    write(axes, extended - 15, 0.985 * top, "extended", **place)
