# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The diagnostic figure of one image fit."""

import math
import textwrap

from .images import ImageView, draw_images, unit_label
from .profiles import draw_histogram, draw_profile
from .style import (
    GREY,
    INK,
    PALE,
    VERDICT_COLORS,
    blank_figure,
    clean,
    fit_text,
    style,
    write,
    write_nothing,
)
from .words import PARAMETERS, count_text, error_text, flag_words, number, value_text, verdict

__all__ = ["draw_heading", "draw_parameters", "plot_image_fit"]

_SIZE = (12.0, 8.2)
_LEFT, _RIGHT = 0.064, 0.985

# Left, bottom, width and height of each panel, as fractions of the figure.
_BOXES = {
    "data": (_LEFT, 0.475, 0.262, 0.383),
    "model": (0.341, 0.475, 0.262, 0.383),
    "residual": (0.687, 0.475, 0.262, 0.383),
    "profile": (_LEFT, 0.068, 0.262, 0.295),
    "histogram": (0.383, 0.068, 0.220, 0.295),
    "parameters": (0.664, 0.022, 0.321, 0.378),
}

# Label and unit of the terms beyond the usual ones, where their names do not say it all.
_EXTRA = {
    "rotation": ("rotation", "\N{DEGREE SIGN}"),
    "bg_x": ("slope of background, x", "/\N{DOUBLE PRIME}"),
    "bg_y": ("slope of background, y", "/\N{DOUBLE PRIME}"),
    "e1": ("ellipticity e1", ""),
    "e2": ("ellipticity e2", ""),
}

# A blank line in the list of parameters.
_GAP = None


def plot_image_fit(result, *, title=None, fig=None):
    """
    Draw the diagnostic figure of one image fit.

    The upper row shows the MUSE image and the model (one common asinh stretch), and the residual
    in units of its standard deviation; pixels that were not fitted are striped, sources that were
    left out are circled, and numbered as they are listed with the result. The lower row
    shows the profile of the brightest source with the fitted PSF, the distribution of the
    residual, and the parameters with their errors. Flags are spelt out below the title.

    Parameters
    ----------
    result : `~muse_imphot.results.FittedImagePhotometry`
        The result of a fit, with its ``images``. Without images (a failed fit, say) the figure
        says so in their place.
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
        draw_heading(fig, result, title or _default_title(result))
        if result.images is None:
            write_nothing(fig, result, "The result came without its images.", top=0.72)
        else:
            view = ImageView(result)
            draw_images(fig, _BOXES, view, result.outliers)
            draw_profile(fig.add_axes(_BOXES["profile"], label="profile"), view, result)
            draw_histogram(fig.add_axes(_BOXES["histogram"], label="histogram"), view)
        if verdict(result) != "failed":
            draw_parameters(fig.add_axes(_BOXES["parameters"], label="parameters"), result)
    return fig


def _default_title(result):
    parts = [str(part) for part in (result.name, result.filter) if part]
    return "  \N{MIDDLE DOT}  ".join(parts) or "image fit"


def draw_heading(fig, result, title):
    """
    Write the title, the verdict as a label, and the flags in words.

    Parameters
    ----------
    fig : `~matplotlib.figure.Figure`
        A figure of 12 by 8.2 inches.
    result : `~muse_imphot.results.FittedPhotometry`
        The result.
    title : str
        The title.
    """
    word, flags = verdict(result), flag_words(result)
    bold = {"weight": "bold", "va": "center"}
    fit_text(write(fig, _LEFT, 0.962, clean(title), fontsize=15, **bold), 0.82)
    _draw_badge(fig, word)
    color = VERDICT_COLORS[word] if flags else GREY
    text = "\n".join(_flag_lines(flags))
    write(fig, _LEFT, 0.935, text, fontsize=9, va="top", color=color, linespacing=1.35)


def _draw_badge(fig, word):
    """Write the verdict in the upper right corner, white on its colour."""
    from matplotlib.patches import FancyBboxPatch

    width, height = 0.068, 0.032
    left, bottom = _RIGHT - width, 0.946
    badge = FancyBboxPatch(
        (left, bottom),
        width,
        height,
        boxstyle="round,pad=0,rounding_size=0.004",
        mutation_aspect=_SIZE[0] / _SIZE[1],
        facecolor=VERDICT_COLORS[word],
        edgecolor="none",
        transform=fig.transFigure,
    )
    fig.add_artist(badge)
    place = {"ha": "center", "va": "center_baseline", "fontsize": 10.5, "weight": "bold"}
    write(fig, left + width / 2, bottom + height / 2, word.upper(), color="white", **place)


def _flag_lines(flags, width=150):
    """Spell out the flags in at most two lines, by their names alone if there are many."""
    if not flags:
        return ["No flags: the fit converged, and nothing stands out."]
    meanings = [f"{name}: {meaning}" for name, meaning in flags]
    for parts in (meanings, [name for name, _ in flags]):
        lines = textwrap.wrap("  \N{BULLET}  ".join(clean(part) for part in parts), width)
        if len(lines) <= 2:
            break
    return [line.strip(" \N{BULLET}") for line in lines[:2]]


def draw_parameters(axes, result):
    """
    Write the parameters with their errors, and the quality of the fit, as a small table.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
        The panel.
    result : `~muse_imphot.results.FittedPhotometry`
        The result.
    """
    from matplotlib.patches import FancyBboxPatch

    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.axis("off")
    shape = "round,pad=0,rounding_size=0.02"
    box = FancyBboxPatch((0, 0), 1, 1, boxstyle=shape, facecolor="#f6f8fa", edgecolor=PALE)
    axes.add_patch(box).set_clip_on(False)
    rows = _parameter_rows(result)
    unit = result.unit is not None and str(result.unit)
    height = 0.93 / ((0.9 if unit else 0) + sum(0.5 if row is _GAP else 1.0 for row in rows))
    y = 0.965
    for row in rows:
        if row is _GAP:
            axes.plot([0.05, 0.95], [y - height / 4] * 2, color=PALE, linewidth=0.8)
            y -= height / 2
            continue
        label, value, error = row
        options = {"va": "center", "y": y - height / 2}
        _write_row(axes, label, value, error, options)
        y -= height
    if unit:
        _write_unit(axes, y - height / 2, result.unit, height)


def _write_unit(axes, y, unit, height):
    """Name the unit of background and rms; as plain text if the formula is too long."""
    words, width = "background and rms in", 0.9 * axes.get_position().width
    # Exponents take more of the height of a row than letters do.
    points = 72.0 * height * axes.get_position().height * axes.get_figure().get_figheight()
    look = {"va": "center", "fontsize": min(8.5, 0.7 * points), "color": GREY}
    note = axes.text(0.05, y, f"{words} {unit_label(unit)}", **look)
    if note.get_window_extent().width > width * axes.get_figure().bbox.width:
        note.remove()
        fit_text(write(axes, 0.05, y, f"{words} {clean(unit)}", **look), width, smallest=6)


def _write_row(axes, label, value, error, options):
    write(axes, 0.05, text=label, fontsize=9.2, color=GREY, **options)
    color = GREY if error == "fixed" else INK
    write(axes, 0.70, text=value, fontsize=9.6, color=color, ha="right", **options)
    write(axes, 0.715, text=error, fontsize=9.2, color=GREY, **options)


def _parameter_rows(result):
    """Return label, value and error of each line; gaps separate what belongs together."""
    rows = []
    for attribute, label, unit in PARAMETERS:
        if attribute in ("dx", "fwhm"):
            rows.append(_GAP)
        fitted = getattr(result, attribute)
        value = value_text(fitted)
        unit = "" if unit is None or math.isnan(number(fitted)) else unit
        rows.append((label, value + unit, error_text(fitted)))
    for name, fitted in result.extra.items():
        label, unit = _EXTRA.get(name, (name, ""))
        rows.append((label, value_text(fitted) + unit, error_text(fitted)))
    pixels = count_text(result.n_pixels)
    quality = [("reduced \N{GREEK SMALL LETTER CHI}\N{SUPERSCRIPT TWO}", result.rchi)]
    quality += [("rms of the residual", result.rms_error)]
    texts = [(label, "\N{EN DASH}" if math.isnan(x) else f"{x:.4g}", "") for label, x in quality]
    return [*rows, _GAP, *texts, ("pixels fitted", pixels, "")]
