# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The figure of a fit of stars: their pixels against radius, in both images, and what remains."""

import math

import numpy as np

from .imagefit import draw_heading, draw_parameters
from .images import PULL_LIMIT, draw_scale_bar, striped
from .marks import draw_excess
from .style import (
    GREY,
    INK,
    ORANGE,
    PALE,
    blank_figure,
    clean,
    default_title,
    draw_legend,
    robust_scatter,
    style,
    write,
    write_nothing,
)
from .words import number, verdict

__all__ = ["plot_star_fit", "star_pixels"]

_SIZE = (12.0, 8.2)
_BOXES = {
    "muse": (0.064, 0.275, 0.262, 0.285),
    "muse_residual": (0.064, 0.068, 0.262, 0.165),
    "hst": (0.381, 0.275, 0.240, 0.285),
    "hst_residual": (0.381, 0.068, 0.240, 0.165),
    "parameters": (0.664, 0.022, 0.321, 0.572),
}
_NAMES = {"muse": "MUSE", "hst": "HST"}

# Stamps: their row, and how many stars are shown by data and residual.
_TOP, _STAMP, _LEFT, _RIGHT = 0.855, 0.215, 0.064, 0.985
_SHOWN, _MANY = 4, 3000

# Stars are drawn pixel by pixel unless they are noisier than the best one by more than this.
_NOISIER = 4.0


def plot_star_fit(result, *, title=None, fig=None):
    """
    Draw the fit of one or several stars.

    The upper row shows the stars: of one star, data, model and residual in MUSE and in HST; of
    several, data and residual in MUSE of the brightest ones. Below are the pixels of the bright
    stars against radius, in MUSE and in HST, relative to the flux of each star and without its
    background, with the weighted means in rings of all stars and the fitted model; then the
    residual in units of its standard deviation, and the values. Pixels that were not fitted are
    striped in the stamps.

    Parameters
    ----------
    result : `~muse_imphot.results.FittedStarPhotometry`
        The result of a fit, with its ``stamps``. Without them the figure says so.
    title : str, optional
        The title; by default the name of the image and the filter.
    fig : `~matplotlib.figure.Figure`, optional
        A figure to clear and draw in; it should measure about 12 by 8.2 inches. By default a new
        one is made, which needs no display and opens no window.

    Returns
    -------
    `~matplotlib.figure.Figure`

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    with style():
        fig = blank_figure(fig, _SIZE)
        draw_heading(fig, result, title or default_title(result, _subject(result)) or "star fit")
        stamps = getattr(result, "stamps", None)
        if stamps and any(stamps.get("muse") or ()):
            _draw_stamps(fig, result, stamps)
            for name in _NAMES:
                _draw_radial(fig, name, stamps.get(name) or [])
        else:
            write_nothing(fig, result, "The result came without its stamps.", top=0.77)
        if verdict(result) != "failed":
            draw_parameters(fig.add_axes(_BOXES["parameters"], label="parameters"), result)
    return fig


def _subject(result):
    stars = [stamp for stamp in (result.stamps or {}).get("muse", ()) if stamp is not None]
    return f"{len(stars)} stars" if len(stars) > 1 else "star"


# -------------------------------------------------------------------------------------- stamps


def _draw_stamps(fig, result, stamps):
    """Draw the row of stamps."""
    muse, hst = (list(stamps.get(name) or ()) for name in _NAMES)
    shown = [i for i, stamp in enumerate(muse) if stamp is not None]
    if len(shown) == 1:
        star = shown[0]
        pair = (muse[star], hst[star] if star < len(hst) else None)
        cells = [
            (f"{name}: {kind}", stamp, kind)
            for name, stamp in zip(_NAMES.values(), pair, strict=True)
            for kind in ("data", "model", "residual")
        ]
    else:
        shown.sort(key=lambda i: -number(muse[i].flux, 0.0))
        cells = [
            (f"{_star_name(result, i)}: {kind}", muse[i], kind)
            for i in shown[:_SHOWN]
            for kind in ("data", "residual")
        ]
    gap = 0.012
    width = min(
        (_RIGHT - _LEFT - (len(cells) - 1) * gap) / len(cells), _STAMP * _SIZE[1] / _SIZE[0]
    )
    step = (_RIGHT - _LEFT - width) / max(len(cells) - 1, 1)
    for i, (title, stamp, kind) in enumerate(cells):
        height = width * _SIZE[0] / _SIZE[1]
        box = (_LEFT + i * step, _TOP - height, width, height)
        axes = fig.add_axes(box, label=f"stamp {i}")
        axes.set(xticks=[], yticks=[], facecolor="#f6f8fa", anchor="N")
        axes.set_title(clean(title), fontsize=8.5, pad=3, parse_math=False)
        if stamp is None:
            place = {"ha": "center", "va": "center", "transform": axes.transAxes}
            write(axes, 0.5, 0.5, "not seen\nin HST", fontsize=8.5, color=GREY, **place)
        else:
            _draw_stamp(axes, stamp, kind)
    _explain_stamps(fig, _TOP - height - 0.022, len(shown))


def _explain_stamps(fig, y, count):
    """Say below the stamps how to read them."""
    sigma, minus, dot = "\N{GREEK SMALL LETTER SIGMA}", "\N{MINUS SIGN}", "  \N{MIDDLE DOT}  "
    limit = f"{PULL_LIMIT:g} {sigma}"
    parts = [f"residual from {minus}{limit} (blue) to {limit} (red)"]
    parts += ["outlined: significant (dashed: below 0)", "striped: not fitted"]
    parts += [f"the {_SHOWN} brightest of {count} stars"] if count > _SHOWN else []
    write(fig, _LEFT, y, dot.join(parts), fontsize=8.5, color=GREY, va="center")


def _star_name(result, i):
    """Return the name of a star, at most ten characters of it."""
    stars = result.stars
    name = str(i + 1)
    if stars is not None and "id" in stars.colnames and i < len(stars):
        name = str(stars["id"][i]).strip() or name
    name = f"star {name}" if name.isdigit() and len(name) <= 5 else name
    return name if len(name) <= 10 else f"{name[:4]}\N{HORIZONTAL ELLIPSIS}{name[-5:]}"


def _draw_stamp(axes, stamp, kind):
    """Draw one stamp; data and model share a stretch, the residual is in standard deviations."""
    from matplotlib import colormaps
    from matplotlib.colors import AsinhNorm, Normalize

    options = {"origin": "lower", "interpolation": "nearest"}
    if kind == "residual":
        cmap = colormaps["RdBu_r"].with_extremes(bad=PALE)
        norm = Normalize(-PULL_LIMIT, PULL_LIMIT)
        axes.imshow(_pulls(stamp), norm=norm, cmap=cmap, **options)
        draw_excess(axes, _pulls(stamp), stamp.used)
    else:
        values = stamp.data[stamp.used & np.isfinite(stamp.data)]
        noise = robust_scatter((stamp.data - stamp.model)[stamp.used])
        high = float(np.max(values, initial=stamp.bg + 5 * noise))
        # Of a star without noise, too, the wings are not brighter than grey.
        noise = max(noise, 1e-3 * (high - stamp.bg))
        low = stamp.bg - 2 * noise
        cmap = colormaps["cividis"].with_extremes(bad=PALE)
        norm = AsinhNorm(linear_width=3 * noise, vmin=low, vmax=max(high, low + noise))
        axes.imshow(getattr(stamp, kind), norm=norm, cmap=cmap, **options)
    if not stamp.used.all():
        extent = (-0.5, stamp.used.shape[1] - 0.5, -0.5, stamp.used.shape[0] - 0.5)
        stripes = striped(stamp.used, resolution=150)
        axes.imshow(stripes, extent=extent, zorder=2, gid="unused", **options)
    if kind != "residual":
        axes.plot(stamp.x, stamp.y, marker="+", color="white", markersize=6, markeredgewidth=0.9)
    height, width = stamp.used.shape
    axes.set(xlim=(-0.5, width - 0.5), ylim=(-0.5, height - 0.5))
    if kind == "data":
        frame = (-0.5, width - 0.5, -0.5, height - 0.5)
        draw_scale_bar(axes, frame, stamp.pixel_scale, fontsize=8)


def _pulls(stamp):
    """Return the residual in units of its standard deviation, measured where it is not known."""
    residual = np.asarray(stamp.data - stamp.model, dtype=float)
    if stamp.sigma is None:
        return residual / robust_scatter(residual[stamp.used])
    return residual / np.where(stamp.sigma > 0, stamp.sigma, np.nan)


# ------------------------------------------------------------------------------------ profiles


def star_pixels(stamp):
    """
    Return the pixels of a star against radius, relative to its flux.

    Parameters
    ----------
    stamp : `~muse_imphot.results.StarImages`
        The star.

    Returns
    -------
    radius : 1D `~numpy.ndarray`
        Distance from the fitted centre, arcsec, ascending.
    data, model : 1D `~numpy.ndarray`
        Part of the flux of the star per square arcsec, without the background.
    pulls : 1D `~numpy.ndarray`
        Residual in standard deviations.
    used : 1D `~numpy.ndarray` of bool
        Whether the pixel was fitted.
    """
    y, x = np.indices(np.shape(stamp.data))
    radius = (np.hypot(y - stamp.y, x - stamp.x) * stamp.pixel_scale).ravel()
    unit = (number(stamp.flux, 0.0) or 1.0) * stamp.pixel_scale**2
    data, model = (np.ravel(image - stamp.bg) / unit for image in (stamp.data, stamp.model))
    columns = (radius, data, model, np.ravel(_pulls(stamp)), np.ravel(stamp.used))
    order = np.argsort(radius)
    return tuple(column[order] for column in columns)


def _draw_radial(fig, name, stamps):
    """Draw the pixels of the stars in one image against radius, and their residual."""
    upper = fig.add_axes(_BOXES[name], label=name)
    lower = fig.add_axes(_BOXES[f"{name}_residual"], label=f"{name} residual", sharex=upper)
    upper.set_title(f"{_NAMES[name]}: pixels and model")
    lower.set(xlabel="radius (arcsec)")
    if name == "muse":
        upper.set_ylabel("part of the flux per arcsec\N{SUPERSCRIPT TWO}")
        lower.set_ylabel("residual / \N{GREEK SMALL LETTER SIGMA}")
    shown = [stamp for stamp in stamps if stamp is not None]
    if not shown:
        for axes in (upper, lower):
            axes.set(xticks=[], yticks=[])
        place = {"ha": "center", "va": "center", "transform": upper.transAxes}
        write(upper, 0.5, 0.5, f"no star is seen in {_NAMES[name]}", color=GREY, **place)
        return
    _draw_pixels(upper, lower, [star_pixels(stamp) for stamp in shown])
    upper.tick_params(labelbottom=False)
    for axes in (upper, lower):
        axes.grid(True)
    draw_legend(upper, loc="upper right", markerscale=1.2)


def _draw_pixels(upper, lower, stars):
    """Draw the fitted pixels of all stars as dots, with means in rings and the model."""
    stars = [tuple(column[star[4]] for column in star[:4]) for star in stars]
    stars = [star for star in stars if star[0].size]
    if not stars:
        return
    radius, data, model, pulls = (np.concatenate(columns) for columns in zip(*stars, strict=True))
    # Relative to their fluxes faint stars are noisier than bright ones, and would hide them.
    noises = np.array([robust_scatter(star[1] - star[2]) for star in stars])
    bright = np.flatnonzero(noises <= _NOISIER * noises.min())
    dots = _dots(radius.size)
    columns = (np.concatenate([stars[i][k] for i in bright]) for k in (0, 1))
    upper.plot(*columns, gid="pixels", **dots)
    words = "pixels of the best star" if len(bright) == 1 else f"pixels of {len(bright)} best stars"
    words = "pixels" if len(bright) == len(stars) else words
    upper.plot([], [], **dots | {"markersize": 4.0}, label=words)
    lower.plot(radius, pulls, **dots)
    weights = np.repeat(1 / noises**2, [star[0].size for star in stars])
    middle, mean, error = _ring_means(radius, data, weights)
    points = {"fmt": "o", "markersize": 4, "elinewidth": 1.0, "color": INK, "zorder": 4}
    upper.errorbar(middle, mean, error, label="means in rings", **points)
    for i, (radius_of, _, model_of, _) in enumerate(stars):
        label = "model" if i == 0 else None
        upper.plot(*_curve(radius_of, model_of), color=ORANGE, zorder=3, label=label)
    for axes in (upper, lower):
        axes.axhline(0, color=GREY, linewidth=0.8, zorder=1)
    _scale_flux(upper, noises.min(), np.concatenate([stars[i][1] for i in bright]), model)
    lower.set_ylim(-1.5 * PULL_LIMIT, 1.5 * PULL_LIMIT)
    lower.set_xlim(0, 1.03 * float(np.max(radius)))


def _dots(count):
    """Return how pixels are drawn, the smaller the more they are."""
    size = float(np.clip(160 / math.sqrt(count + 1), 1.2, 4.0))
    look = {"linestyle": "none", "marker": "o", "markersize": size, "markeredgewidth": 0}
    # Thousands of dots would make a vector file of megabytes.
    return look | {"color": GREY, "alpha": 0.7, "rasterized": count > _MANY}


def _scale_flux(axes, noise, data, model):
    """Make an axis linear where noise rules, so that negative pixels are seen, else logarithmic."""
    top = float(np.max(model))
    noise = max(noise, 1e-5 * top)
    top = max(top, 6 * noise)
    axes.set_yscale("asinh", linear_width=2 * noise)
    first = math.ceil(math.log10(3 * noise))
    powers = range(first, math.ceil(math.log10(3 * top)))
    labels = ["0", *(f"{10.0**k:g}" if k >= -3 else f"$10^{{{k}}}$" for k in powers)]
    axes.set_yticks([0.0, *(10.0**k for k in powers)], labels)
    axes.minorticks_off()
    low = min(-5 * noise, 1.3 * float(np.percentile(data, 0.2)))
    axes.set_ylim(low, 5 * max(top, float(np.percentile(data, 99.8))))


def _ring_means(radius, values, weights, count=14):
    """Return mean radius, mean value and its error in rings, each with its share of the radius."""
    # Narrower where the profile is steep.
    edges = np.linspace(0, 1, count + 1) ** 1.5 * (float(np.max(radius)) + 1e-9)
    rings = np.digitize(radius, edges[1:-1])
    kept = []
    for ring in np.unique(rings):
        inside = rings == ring
        part = weights[inside] / weights[inside].sum()
        mean = part @ values[inside]
        # Of few pixels the scatter says little.
        error = max(part**2 @ (values[inside] - mean) ** 2, 1 / weights[inside].sum())
        kept.append((part @ radius[inside], mean, math.sqrt(error)))
    return np.transpose(kept)


def _curve(radius, model, width=0.5):
    """Return the mean of the model in bins of radius, each of a few pixels."""
    n = max(1, min(radius.size, int(math.sqrt(radius.size / math.pi) / width)))
    edges = np.linspace(0, radius[-1] + 1e-9, n + 1)
    index = np.digitize(radius, edges) - 1
    count = np.bincount(index, minlength=n)
    keep = count > 0
    sums = (np.bincount(index, weights=values, minlength=n)[keep] for values in (radius, model))
    return tuple(total / count[keep] for total in sums)
