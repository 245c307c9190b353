# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What all figures share: colours, fonts, the canvas, safe texts, and saving."""

import math
import os
import textwrap
from pathlib import Path

import numpy as np

from ..exceptions import MissingDependencyError, OutputError, UserError
from .words import verdict

__all__ = [
    "blank_figure",
    "clean",
    "default_title",
    "draw_legend",
    "fit_text",
    "robust_scatter",
    "save_figure",
    "style",
    "widen",
    "write",
    "write_nothing",
    "write_title",
]

#: Pixels per inch of the files that `save_figure` writes.
DPI = 130

INK, GREY, PALE = "#1b1f24", "#57606a", "#d0d7de"

# Colours of the Okabe-Ito palette, dark ones first; markers differ with them.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#57606a")
MARKERS = "osD^vPX"
BLUE, ORANGE = SERIES[:2]

VERDICT_COLORS = {"good": "#00694f", "check": "#a34a00", "failed": "#a61b1b"}

# Settings that a user's own matplotlibrc must not change, or texts would collide.
_SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.usetex": False,
    "text.color": INK,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.labelsize": 9.5,
    "axes.titlesize": 10.5,
    "axes.titlecolor": INK,
    "axes.titleweight": "normal",
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.grid": False,
    "axes.facecolor": "white",
    "axes.unicode_minus": True,
    "axes.formatter.useoffset": False,
    "figure.facecolor": "white",
    "grid.color": "#e4e8ec",
    "grid.linewidth": 0.7,
    "image.interpolation": "antialiased",
    "legend.fontsize": 8.5,
    "legend.frameon": True,
    "legend.fancybox": False,
    "legend.facecolor": "white",
    "legend.edgecolor": "white",
    "legend.framealpha": 0.85,
    "lines.linewidth": 1.6,
    "mathtext.fontset": "dejavusans",
    "savefig.bbox": None,
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "muse_imphot",
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
}

# File endings, and the metadata that would make two files of one figure differ.
_FORMATS = {
    ".png": {},
    ".pdf": {"CreationDate": None},
    ".svg": {"Date": None},
}


def style():
    """
    Return a context in which the settings of the package's figures hold.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    UserError
        If the environment variable MPLBACKEND names no backend of it.
    """
    try:
        import matplotlib
    except ImportError:
        raise MissingDependencyError("matplotlib", "Figures", "plot") from None
    except ValueError as exc:
        backend = os.environ.get("MPLBACKEND")
        raise UserError(
            f"MPLBACKEND: matplotlib has no backend {backend!r}; unset this environment variable, "
            "or set it to one such as agg or qtagg"
        ) from exc
    return matplotlib.rc_context(_SETTINGS)


def blank_figure(fig, size):
    """
    Return an empty figure.

    Parameters
    ----------
    fig : `~matplotlib.figure.Figure` or None
        A figure to clear and return; None for a new one that needs no display.
    size : (float, float)
        Width and height of a new figure, in inches.

    Returns
    -------
    `~matplotlib.figure.Figure`
    """
    if fig is not None:
        fig.clear()
        return fig
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    fig = Figure(figsize=size, dpi=100)
    FigureCanvasAgg(fig)
    return fig


def clean(text):
    """
    Make any text drawable: one line, with a box in place of what the font does not have.

    Parameters
    ----------
    text : object
        What to write.

    Returns
    -------
    str
    """
    from matplotlib.font_manager import findfont, get_font

    known = get_font(findfont("DejaVu Sans")).get_charmap()
    text = " ".join(str(text).split())
    return "".join(c if ord(c) in known and c.isprintable() else "\N{WHITE SQUARE}" for c in text)


def write(target, x, y, text, **options):
    """
    Write a text as it is: dollar signs in file names start no formula.

    Parameters
    ----------
    target : figure or axes of matplotlib
        Where to write.
    x, y : float
        The place, in the coordinates of ``target.text``.
    text : str
        The text.
    **options
        Passed on to ``target.text``.

    Returns
    -------
    `~matplotlib.text.Text`
    """
    return target.text(x, y, text, parse_math=False, **options)


def fit_text(artist, width, *, smallest=9.5):
    """
    Shrink a text to a width, then shorten it in the middle.

    Parameters
    ----------
    artist : `~matplotlib.text.Text`
        The text; changed in place.
    width : float
        The width that is free, as a fraction of the figure.
    smallest : float, optional
        The font size (points) below which the text is rather shortened.
    """
    # In other resolutions letters are a little wider.
    limit = 0.98 * width * artist.get_figure().bbox.width
    while artist.get_window_extent().width > limit and artist.get_fontsize() > smallest:
        artist.set_fontsize(artist.get_fontsize() - 0.5)
    full = artist.get_text()
    keep = (len(full) - 2) // 2
    while artist.get_window_extent().width > limit and keep > 3:
        artist.set_text(f"{full[:keep]}\N{HORIZONTAL ELLIPSIS}{full[-keep:]}")
        keep -= max(1, keep // 20)


def default_title(result, subject=""):
    """
    Return the title of a figure of one result: its name, filter, and what the figure is about.

    Parameters
    ----------
    result : `~muse_imphot.results.FittedPhotometry`
        The result.
    subject : str, optional
        What the figure is about.

    Returns
    -------
    str
    """
    parts = [str(part) for part in (result.name, result.filter, subject) if part]
    return "  \N{MIDDLE DOT}  ".join(parts)


def write_title(fig, text, left):
    """
    Write the title of a figure in its upper left corner, shortened where it is too long.

    Parameters
    ----------
    fig : `~matplotlib.figure.Figure`
        The figure.
    text : str
        The title.
    left : float
        Where it begins, as a fraction of the figure.
    """
    height = fig.get_figheight()
    place = {"va": "center", "fontsize": 13, "weight": "bold"}
    heading = write(fig, left, 1.0 - 0.25 / height, clean(text), **place)
    fit_text(heading, 0.98 - left)


def write_nothing(fig, result, missing, *, top=0.6):
    """
    Say in the middle of a figure why there is nothing to draw.

    Parameters
    ----------
    fig : `~matplotlib.figure.Figure`
        The figure.
    result : `~muse_imphot.results.FittedPhotometry`
        The result; if it failed, its reason is what is written.
    missing : str
        What to write of a result that did not fail.
    top : float, optional
        The height of the heading, as a fraction of the figure.
    """
    failed = verdict(result) == "failed"
    heading = "The fit failed" if failed else "Nothing to show"
    reason = str(result.meta.get("reason", "")) if failed else missing
    write(fig, 0.5, top, heading, fontsize=17, weight="bold", color=GREY, ha="center")
    lines = textwrap.wrap(clean(reason), int(9 * fig.get_figwidth()), max_lines=6)
    place = {"ha": "center", "va": "top", "linespacing": 1.5}
    below = top - 0.18 / fig.get_figheight()
    write(fig, 0.5, below, "\n".join(lines), fontsize=11, **place)


def draw_legend(axes, **options):
    """
    Draw the legend of a panel, if there is anything to explain.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
        The panel.
    **options
        Passed on to ``axes.legend``.
    """
    if axes.get_legend_handles_labels()[0]:
        axes.legend(**options)


def widen(axes, least=0.02):
    """
    Keep an axis from magnifying rounding errors when all values are the same.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
        The panel.
    least : float, optional
        The least half height of the panel, as a fraction of the values.
    """
    low, high = axes.get_ylim()
    middle, half = (low + high) / 2, (high - low) / 2
    smallest = least * max(abs(middle), 1e-6)
    if half < smallest:
        axes.set_ylim(middle - smallest, middle + smallest)


def robust_scatter(values):
    """
    Return a robust standard deviation that can always be divided by.

    Parameters
    ----------
    values : array_like
        The values; what is not finite is left out.

    Returns
    -------
    float
        1 if the values do not scatter at all.
    """
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        middle = float(np.median(values))
        estimates = 1.4826 * float(np.median(np.abs(values - middle))), float(np.std(values))
    smallest = 1e-12 * abs(middle) + 1e-300
    return next((scatter for scatter in estimates if smallest < scatter < math.inf), 1.0)


def save_figure(fig, path, overwrite=False, *, dpi=DPI):
    """
    Write a figure to a file, which appears under its name only when it is complete.

    Parameters
    ----------
    fig : `~matplotlib.figure.Figure`
        The figure.
    path : path-like
        The file; its ending (``.png``, ``.pdf`` or ``.svg``) chooses the format.
    overwrite : bool, optional
        Replace a file that exists.
    dpi : float, optional
        Pixels per inch.

    Raises
    ------
    OutputError
        If the ending is none of these, or the file exists already or cannot be written.
    """
    from ..io import atomic_path

    path = Path(path)
    ending = path.suffix.lower()
    if ending not in _FORMATS:
        raise OutputError(
            f"{path}: a figure cannot be written as {path.suffix or 'a file without an ending'!r}; "
            f"give the file one of the endings {', '.join(_FORMATS)}"
        )
    options = {"format": ending[1:], "dpi": dpi, "metadata": _FORMATS[ending]}
    with atomic_path(path, overwrite=overwrite) as temporary, style():
        fig.savefig(temporary, **options)
