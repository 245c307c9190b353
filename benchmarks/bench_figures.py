# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Figures of the benchmarks.
"""

import numpy as np
from bench_fields import PARAMETERS

from muse_imphot.plots import save_figure
from muse_imphot.plots.style import GREY, MARKERS, PALE, SERIES, blank_figure, style

__all__ = ["draw", "draw_speed"]


def draw(case, table, path):
    """
    Draw the figure of a case, if it has one.

    Parameters
    ----------
    case : object
        The case.
    table : `~astropy.table.Table`
        Its fits.
    path : `~pathlib.Path`
        The file; it is replaced if it exists.
    """
    if case.name not in _FIGURES:
        return
    size, function = _FIGURES[case.name]
    with style():
        fig = blank_figure(None, size)
        fig.set_layout_engine("constrained")
        function(fig, case, table)
        save_figure(fig, path, overwrite=True)


def _bias(fig, case, table):
    axes = fig.add_subplot()
    strong = np.asarray(table["beta"]) < 2.0
    for i, (name, (limit, _, _)) in enumerate(case.limits.items()):
        error = case.relative(table, name) / limit
        for rows, options in ((~strong, {"label": name}), (strong, {"mfc": "none"})):
            axes.plot(np.asarray(table["fwhm"])[rows], error[rows], MARKERS[i], color=SERIES[i],
                      ms=5, **options)  # fmt: skip
    axes.axhline(1.0, color=GREY, lw=1)
    axes.annotate("asked", (0.40, 1.15), xycoords=("axes fraction", "data"), color=GREY)
    axes.set(yscale="log", xlabel="FWHM of the MUSE PSF (arcsec)", ylabel="|error| / error asked")
    axes.legend(ncols=len(case.limits), loc="upper center", bbox_to_anchor=(0.5, 1.14))


def _pulls(fig, case, table):
    left, right = fig.subplots(1, 2)
    left.axhspan(0.9, 1.1, color=PALE, alpha=0.6)
    place = np.arange(len(PARAMETERS))
    edges = np.linspace(-4, 4, 33)
    for i, kind in enumerate(case.kinds):
        pulls = case.pulls(table, kind)
        width = pulls.std(axis=1)
        left.errorbar(
            place + 0.16 * (i - 0.5), width, width / np.sqrt(2 * pulls.shape[1]),
            fmt=MARKERS[i], color=SERIES[i], ms=5, lw=1.2, label=f"{kind} noise",
        )  # fmt: skip
        right.hist(pulls.ravel(), edges, density=True, histtype="step", color=SERIES[i], lw=1.6)
    left.set(xticks=place, xticklabels=PARAMETERS, ylabel="width of the pulls", ylim=(0.6, 1.4))
    left.legend(loc="upper left")
    x = np.linspace(-4, 4, 200)
    gauss = np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)
    right.plot(x, gauss, color=GREY, lw=1, label="normal distribution")
    right.set(xlabel="error / quoted uncertainty, all parameters", ylabel="density", xlim=(-4, 4))
    right.legend(loc="upper left")


def _bound(fig, case, table):
    axes = fig.add_subplot()
    axes.axhline(1.05, color=GREY, lw=1)
    place = np.arange(len(PARAMETERS))
    scatter = {
        which: np.array([case.scatter(table, f"{name}_{which}") for name in PARAMETERS])
        for which in ("fit", "ideal")
    }
    relative = 1.0 / np.sqrt(2.0 * len(table))
    for i, (which, label) in enumerate((("fit", "the fit"), ("ideal", "ideal estimator"))):
        axes.errorbar(
            place + 0.16 * (i - 0.5), scatter[which], relative * scatter[which],
            fmt=MARKERS[i], color=SERIES[i], ms=5, lw=1.2, label=label,
        )  # fmt: skip
    axes.set(xticks=place, xticklabels=PARAMETERS, ylabel="scatter / Cramer-Rao bound")
    axes.set_ylim(0.8, 1.3)
    axes.legend(loc="upper right")


def _depth(fig, case, table):
    panels = fig.subplots(1, 2)
    for axes, (name, factor, unit) in zip(panels, (("fwhm", 1e3, "mas"), ("scale", 100.0, "%"))):
        axes.axhline(0.0, color=GREY, lw=1)
        for i, (corrected, label) in enumerate(((True, "corrected"), (False, "not corrected"))):
            values = [case.bias(table, name, depth, corrected) for depth in case.depths]
            mean = np.array([factor * v.mean() for v in values])
            error = np.array([factor * v.std() / np.sqrt(max(len(v) - 1, 1)) for v in values])
            shifted = np.array(case.depths) + 0.03 * (1 - 2 * i)
            axes.errorbar(shifted, mean, error, fmt=f"{MARKERS[i]}-", color=SERIES[i], ms=5,
                          lw=1.2, label=label)  # fmt: skip
        axes.set(xlabel="5 sigma depth of the HST image (AB)", ylabel=f"bias of {name} ({unit})")
        axes.set_xlim(29.2, 25.9)
    panels[0].legend(loc="upper left")


def _capture(fig, case, table):
    axes = fig.add_subplot()
    found = np.asarray(case.found(table))
    dx, dy = np.asarray(table["dx"]), np.asarray(table["dy"])
    axes.plot(dx[found], dy[found], MARKERS[0], color=SERIES[0], ms=4, label="found")
    if not found.all():
        axes.plot(dx[~found], dy[~found], "x", color=SERIES[1], ms=7, mew=2, label="missed")
    angle = np.linspace(0, 2 * np.pi, 200)
    axes.plot(case.reach * np.cos(angle), case.reach * np.sin(angle), color=GREY, lw=1)
    # The field itself, for comparison.
    axes.plot([-10, 10, 10, -10, -10], [-10, -10, 10, 10, -10], color=PALE, lw=1.5, label="field")
    axes.set(xlabel="dx (arcsec)", ylabel="dy (arcsec)", aspect="equal", xlim=(-13, 13))
    axes.set_ylim(-13, 13)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _stars(fig, case, table):
    axes = fig.add_subplot()
    axes.axhspan(-2, 2, color=PALE, alpha=0.6)
    for i, which in enumerate(("without", "with")):
        pulls = case.pulls(table, which)
        spread = np.linspace(-0.09, 0.09, pulls.shape[1])
        for place, values in enumerate(pulls):
            axes.plot(
                place + 0.3 * (i - 0.5) + spread, values, MARKERS[i], color=SERIES[i], ms=4,
                label=f"{which} stars that moved" if place == 0 else None,
            )  # fmt: skip
    names = range(len(PARAMETERS))
    axes.set(xticks=names, xticklabels=PARAMETERS, ylabel="error / quoted uncertainty")
    axes.legend(ncols=2, loc="upper center", bbox_to_anchor=(0.5, 1.16))


def draw_speed(table, path):
    """
    Draw time and memory of the fit against the size of the field.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Columns ``size`` (pixels along a side), ``fit``, ``fft`` (s) and ``memory`` (images).
    path : `~pathlib.Path`
        The file; it is replaced if it exists.
    """
    with style():
        fig = blank_figure(None, (8.0, 3.2))
        fig.set_layout_engine("constrained")
        left, right = fig.subplots(1, 2)
        left.plot(table["size"], table["fit"], "o-", color=SERIES[0], ms=5, label="one fit")
        left.plot(table["size"], 100 * table["fft"], "s--", color=SERIES[1], ms=5,
                  label="100 transforms")  # fmt: skip
        left.set(xscale="log", yscale="log", ylabel="time (s)")
        left.legend(loc="upper left")
        right.plot(table["size"], table["memory"], "o-", color=SERIES[0], ms=5)
        right.set(xscale="log", ylabel="peak memory (padded images)")
        right.set_ylim(0, 1.15 * max(table["memory"]))
        for axes in (left, right):
            axes.set_xlabel("side of the field (MUSE pixels)")
            axes.set_xticks(table["size"], [str(n) for n in table["size"]])
            axes.minorticks_off()
        save_figure(fig, path, overwrite=True)


_FIGURES = {
    "bias": ((7.0, 3.6), _bias),
    "pulls": ((8.5, 3.4), _pulls),
    "bound": ((6.0, 3.2), _bound),
    "depth": ((8.5, 3.4), _depth),
    "capture": ((6.0, 4.2), _capture),
    "stars": ((7.0, 3.4), _stars),
}
