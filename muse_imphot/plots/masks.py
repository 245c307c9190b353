# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The figure of a mask: what it leaves out of an image, and for which reason."""

import numpy as np
from scipy.ndimage import distance_transform_edt

from .style import GREY, INK, PALE, blank_figure, clean, fit_text, style, write
from .words import count_text

__all__ = ["plot_mask"]

_SIZE = (9.6, 7.6)
_BOX = (0.115, 0.085, 0.60, 0.80)
# Colours of the Okabe-Ito palette that are seen on grey, in the order of the reasons.
_COLORS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_VEIL = 0.42


def plot_mask(image, mask, *, title=None, fig=None):
    """
    Draw a mask over its image.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`
        The image, with a WCS or without.
    mask : `~muse_imphot.masks.PixelMask`
        The mask; each of its reasons has a colour and a number, with the outline of what is left
        out.
    title : str, optional
        The title.
    fig : `~matplotlib.figure.Figure`, optional
        A figure to clear and draw in, of about 9.6 by 7.6 inches. By default a new one is made,
        which needs no display.

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
        celestial = getattr(image.wcs, "has_celestial", False)
        axes = fig.add_axes(_BOX, projection=image.wcs if celestial else None)
        _draw_image(axes, image)
        _label_axes(axes, celestial)
        colors = dict(zip(mask.reasons, _COLORS * (1 + len(mask.reasons) // len(_COLORS))))
        for number, (reason, array) in enumerate(mask.reasons.items(), start=1):
            _draw_reason(axes, array, colors[reason])
            _draw_number(axes, array, number, colors[reason])
        heading = write(fig, 0.03, 0.945, clean(title or "mask"), fontsize=14, weight="bold")
        fit_text(heading, 0.94)
        _draw_legend(fig, mask, colors)
    return fig


def _draw_image(axes, image):
    """Draw the image in grey, with a stretch that shows faint sources; bad pixels are pale."""
    from matplotlib import colormaps
    from matplotlib.colors import AsinhNorm

    data = np.array(image.data, dtype=float)
    if image.mask is not None:
        data[np.asarray(image.mask, dtype=bool)] = np.nan
    values = data[np.isfinite(data)]
    middle = np.median(values) if values.size else 0.0
    noise = 1.4826 * np.median(np.abs(values - middle)) if values.size else 0.0
    noise = noise or (np.std(values) if values.size else 0.0) or 1.0
    high = max(np.percentile(values, 99.7), middle + 10 * noise) if values.size else 10.0
    norm = AsinhNorm(linear_width=3 * noise, vmin=middle - 2 * noise, vmax=high)
    cmap = colormaps["gray_r"].with_extremes(bad=PALE)
    axes.imshow(data, origin="lower", cmap=cmap, norm=norm, interpolation="nearest")


def _draw_reason(axes, array, color):
    """Veil the pixels of one reason and draw the outline of them."""
    from matplotlib.colors import to_rgb

    if not array.any():
        return
    veil = np.zeros((*array.shape, 4))
    veil[array] = (*to_rgb(color), _VEIL)
    axes.imshow(veil, origin="lower", interpolation="nearest")
    x, y = _outline(array)
    axes.plot(x, y, color=color, linewidth=1.1, scalex=False, scaley=False)


def _outline(array):
    """Return the sides of the pixels at which a mask ends, as one line with gaps (NaN)."""
    padded = np.pad(array, 1).astype(np.int8)
    lines = []
    for axis in (0, 1):
        row, column = np.nonzero(np.diff(padded, axis=axis))
        row, column = row - 0.5 - (axis == 1), column - 0.5 - (axis == 0)
        ends = np.zeros((2, row.size)), np.zeros((2, row.size))
        ends[1 - axis][1] = 1
        nothing = np.full(row.size, np.nan)
        lines.append(
            np.stack([[column, column + ends[1][1], nothing], [row, row + ends[0][1], nothing]])
        )
    x, y = np.concatenate(lines, axis=2)
    return x.T.ravel(), y.T.ravel()


def _label_axes(axes, celestial):
    if not celestial:
        axes.set(xlabel="x (pixels)", ylabel="y (pixels)")
        return
    for coordinate, name in zip(axes.coords, ("RA", "Dec"), strict=True):
        coordinate.set_auto_axislabel(False)
        coordinate.set_axislabel(name, fontsize=9.5, minpad=0.7)
        coordinate.set_ticklabel(size=8.5, exclude_overlapping=True)
        coordinate.set_ticks(number=5)
        coordinate.tick_params(direction="out", length=3)


def _draw_number(axes, array, number, color):
    """Write the number of a reason where most of its pixels are, so that no colour is needed."""
    from matplotlib.patheffects import withStroke

    depth = distance_transform_edt(np.pad(array, 1))[1:-1, 1:-1]
    if not depth.max() > 2:  # scattered pixels have no room for a number
        return
    row, column = np.unravel_index(np.argmax(depth), array.shape)
    look = {"color": color, "fontsize": 10, "weight": "bold", "ha": "center", "va": "center"}
    look["path_effects"] = [withStroke(linewidth=3, foreground="white")]
    write(axes, column, row, str(number), **look)


def _draw_legend(fig, mask, colors):
    """Write next to the image how many pixels each reason takes, and how many remain."""
    from matplotlib.patches import Rectangle

    x, y = _BOX[0] + _BOX[2] + 0.03, _BOX[1] + _BOX[3] - 0.03
    # Closer and smaller if they are many, so that all have room.
    part = min(1.0, (y - 0.05) / (0.072 * (len(mask.reasons) + 0.6)))
    small, large = 8.5 * part, 9.5 * part
    size = mask.excluded.size
    for number, (reason, array) in enumerate(mask.reasons.items(), start=1):
        options = {"facecolor": colors[reason], "edgecolor": colors[reason], "alpha": 0.55}
        box = (x, y - 0.004 * part)
        fig.add_artist(Rectangle(box, 0.018, 0.022 * part, transform=fig.transFigure, **options))
        place = {"ha": "center", "va": "center", "fontsize": small, "weight": "bold"}
        write(fig, x + 0.009, y + 0.007 * part, str(number), color=INK, **place)
        label = write(fig, x + 0.026, y, clean(reason), fontsize=large, color=INK)
        fit_text(label, 0.985 - x - 0.026, smallest=min(7.5, large))
        count = f"{count_text(np.count_nonzero(array))} pixels, {100 * array.mean():.1f} %"
        write(fig, x + 0.026, y - 0.026 * part, count, fontsize=small, color=GREY)
        y -= 0.072 * part
    left = size - np.count_nonzero(mask.excluded)
    y -= 0.005
    text = f"{count_text(left)} pixels are left"
    write(fig, x, y, text, fontsize=large, weight="bold", color=INK)
    text = f"of {count_text(size)}, {100 * left / size:.1f} %"
    write(fig, x, y - 0.026 * part, text, fontsize=small, color=GREY)
