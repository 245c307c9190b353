# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The figure of radial profiles: data, model, PSF, and the light within a radius."""

import math

import numpy as np

from .images import ImageView
from .profiles import brightest_source, draw_profile, ring_means
from .style import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    blank_figure,
    default_title,
    draw_legend,
    style,
    write_nothing,
    write_title,
)
from .words import number, verdict

__all__ = ["plot_radial"]

_BOXES = {
    "profile": (0.078, 0.385, 0.4, 0.48),
    "difference": (0.078, 0.115, 0.4, 0.22),
    "energy": (0.565, 0.115, 0.415, 0.75),
}
_PARTS = (0.5, 0.8)


def plot_radial(result, *, title=None, fig=None):
    """
    Draw the fitted PSF against radius, beside the brightest source of the field.

    On the left is the profile of that source in MUSE and in the model, with the PSF, and what
    remains between the two; on the right the part of the light within a radius, for the PSF (with
    its error) and for the source (relative to the light of the model within the panel).

    Parameters
    ----------
    result : `~muse_imphot.results.FittedImagePhotometry`
        The result; without its ``images`` the PSF alone is drawn.
    title : str, optional
        The title; by default the name of the image and the filter.
    fig : `~matplotlib.figure.Figure`, optional
        A figure to clear and draw in; by default a new one of 12 by 5.2 inches.

    Returns
    -------
    `~matplotlib.figure.Figure`

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    with style():
        fig = blank_figure(fig, (12.0, 5.2))
        write_title(fig, title or default_title(result, "radial profiles"), 0.078)
        if verdict(result) == "failed":
            write_nothing(fig, result, "")
            return fig
        view = None if result.images is None else ImageView(result)
        rings = _rings(view, result)
        upper = fig.add_axes(_BOXES["profile"], label="profile")
        lower = fig.add_axes(_BOXES["difference"], label="difference", sharex=upper)
        _draw_profile(upper, view, result)
        _draw_difference(lower, rings)
        upper.set_xlabel("")
        upper.tick_params(labelbottom=False)
        lower.set(xlabel="radius (arcsec)", xlim=(0, _reach(result)))
        _draw_energy(fig.add_axes(_BOXES["energy"], label="energy"), rings, result)
    return fig


def _reach(result):
    """Return the largest radius of the panels, as in the profile of the image fit."""
    fwhm = number(result.fwhm)
    return float(np.clip(5 * fwhm if fwhm > 0 else 3.0, 1.5, 6.0))


def _rings(view, result):
    """Return radius, data, error and model of rings about the brightest source, or None."""
    center = None if view is None else brightest_source(view)
    if center is None:
        return None
    rings = ring_means(view, center, _reach(result))
    return rings if rings[3].size and rings[3][0] > 0 else None


def _draw_profile(axes, view, result):
    if view is not None:
        draw_profile(axes, view, result)
        return
    axes.set_title("fitted PSF")
    fwhm, beta = number(result.fwhm), number(result.beta)
    if fwhm > 0 and beta > 0:
        radius = np.linspace(0, _reach(result), 200)
        alpha = fwhm / (2 * math.sqrt(2 ** (1 / beta) - 1))
        axes.plot(radius, (1 + (radius / alpha) ** 2) ** -beta, color=ORANGE)
        axes.set_yscale("log")
        axes.grid(True)
    axes.set_ylabel("relative to the peak")


def _draw_difference(axes, rings):
    """Draw what remains of the profile, in percent of the peak of the model."""
    axes.axhline(0, color=BLUE, zorder=1)
    axes.set_ylabel("MUSE \N{MINUS SIGN} model\n(% of the peak)")
    axes.yaxis.set_label_coords(-0.105, 0.5)
    axes.grid(True)
    if rings is None:
        return
    radius, data, error, model = rings
    unit = model[0] / 100.0
    points = {"fmt": "o", "markersize": 3.4, "elinewidth": 1.0, "color": INK, "zorder": 3}
    difference, error = (data - model) / unit, error / unit
    axes.errorbar(radius, difference, error, **points)
    sizes = np.abs(difference) + error
    half = 1.3 * max(float(np.max(sizes[np.isfinite(sizes)], initial=0.0)), 0.1)
    axes.set_ylim(-half, half)


def _energy_error(radius, result):
    """Return the standard deviation of the light within a radius that FWHM and beta leave."""
    from ..psf_images import encircled_energy

    fwhm, beta = number(result.fwhm), number(result.beta)
    steps = 1e-4 * fwhm, 1e-4 * (beta - 1)
    slopes = np.array(
        [
            (
                encircled_energy(fwhm + a, beta + b, radius)
                - encircled_energy(fwhm - a, beta - b, radius)
            )
            / (2 * (a + b))
            for a, b in ((steps[0], 0.0), (0.0, steps[1]))
        ]
    )
    covariance = result.covariance_of("fwhm", "beta")
    return np.sqrt(np.einsum("ir,ij,jr->r", slopes, covariance, slopes))


def _draw_energy(axes, rings, result):
    from ..psf_images import encircled_energy

    axes.set_title("light within a radius")
    reach, fwhm, beta = _reach(result), number(result.fwhm), number(result.beta)
    radius = np.linspace(0, reach, 300)
    if fwhm > 0 and beta > 1:
        part, error = encircled_energy(fwhm, beta, radius), _energy_error(radius, result)
        if np.isfinite(error).all():
            axes.fill_between(radius, part - error, part + error, color=ORANGE, alpha=0.2, lw=0)
        dashes = {"linestyle": (0, (4, 2)), "color": ORANGE}
        label = f"fitted PSF: {_mark_parts(axes, fwhm, beta)}"
        axes.plot(radius, part, label=label, zorder=2, **dashes)
    if rings is not None:
        edges, data, error, model = _growth(rings)
        label = "model of the brightest source (1 at the edge)"
        axes.plot(edges, model, color=BLUE, label=label, zorder=3)
        points = {"fmt": "o", "markersize": 3.4, "elinewidth": 1.0, "zorder": 4, "color": INK}
        axes.errorbar(edges, data, error, label="the same in MUSE", **points)
    axes.set(xlim=(0, reach), ylim=(0, 1.12), xlabel="radius (arcsec)", ylabel="part of the light")
    axes.grid(True)
    draw_legend(axes, loc="lower right")


def _growth(rings):
    """Return outer radii, and the light within them relative to that of the whole model."""
    radius, data, error, model = rings
    # Whole rings, as if no pixel of them had been left out.
    edges = np.concatenate([[0.0], (radius[1:] + radius[:-1]) / 2, [radius[-1]]])
    area = np.diff(edges**2)
    total = np.sum(area * model)
    data, model = (np.cumsum(area * values) / total for values in (data, model))
    return edges[1:], data, np.sqrt(np.cumsum((area * error) ** 2)) / abs(total), model


def _mark_parts(axes, fwhm, beta):
    """Mark the radii that hold half and most of the light of the PSF; return them in words."""
    from ..psf_images import energy_radius

    words = []
    for part, radius in zip(_PARTS, energy_radius(fwhm, beta, _PARTS), strict=True):
        axes.plot([0, radius, radius], [part, part, 0], color=GREY, linewidth=0.9, linestyle=":")
        words.append(f"{100 * part:.0f} % within {radius:.2f}\N{DOUBLE PRIME}")
    return ", ".join(words)
