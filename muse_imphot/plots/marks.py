# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What is drawn on images: sources that were left out, and where the residual is not noise."""

import math

import numpy as np
from scipy.ndimage import gaussian_filter

from .style import INK, robust_scatter, write

__all__ = ["draw_excess", "draw_outliers", "outlier_circles"]

# The residual is smoothed with a Gaussian of this many pixels to find where it is more than noise,
# and outlined where it exceeds that many standard deviations.
_SMOOTHING, _EXCESS = 1.0, 5.0


def outlier_circles(view, outliers):
    """
    Find the circles around sources that were left out in a view of the images.

    Parameters
    ----------
    view : ImageView
        The images.
    outliers : `~astropy.table.QTable` or None
        The sources: ``ra``, ``dec`` and ``radius``.

    Returns
    -------
    list of (float, float, float)
        Column, row and radius in pixels of the full image; those outside of the view have NaN.
    """
    if outliers is None or not getattr(view.wcs, "has_celestial", False):
        return []
    if any(name not in outliers.colnames for name in ("ra", "dec", "radius")):
        return []
    lon, lat = (outliers[name].to_value("deg") for name in ("ra", "dec"))
    columns, rows = view.wcs.celestial.world_to_pixel_values(lon, lat)
    radii = outliers["radius"].to_value("arcsec") / view.pixel_scale
    left, right, bottom, top = view.extent
    circles = []
    for column, row, radius in zip(columns, rows, radii, strict=True):
        inside = left - radius < column < right + radius and bottom - radius < row < top + radius
        circles.append((column, row, radius) if inside else (math.nan,) * 3)
    return circles


def draw_outliers(axes, view, outliers, *, numbers=True):
    """
    Draw circles around the sources that were left out, numbered as they are listed.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
        The panel of an image.
    view : ImageView
        The images.
    outliers : `~astropy.table.QTable` or None
        The sources.
    numbers : bool, optional
        Whether to write the numbers.
    """
    from matplotlib.patches import Circle
    from matplotlib.patheffects import withStroke

    outline = [withStroke(linewidth=3.0, foreground="white")]
    left, right, bottom, top = view.extent
    for i, (column, row, radius) in enumerate(outlier_circles(view, outliers)):
        if math.isnan(radius):
            continue
        circle = Circle((column, row), radius, fill=False, color=INK, linewidth=1.3, zorder=3)
        circle.set(path_effects=outline, gid="outlier", clip_on=True)
        axes.add_patch(circle)
        if numbers:
            place = {"ha": "center", "va": "center", "zorder": 4, "path_effects": outline}
            margin = 0.03 * max(right - left, top - bottom)
            x = float(np.clip(column, left + margin, right - margin))
            y = float(np.clip(row, bottom + margin, top - margin))
            write(axes, x, y, str(i + 1), fontsize=9, weight="bold", color=INK, **place)


def draw_excess(axes, pulls, used, corner=(0, 0)):
    """
    Outline where the smoothed residual is more than noise: solid above, dashed below zero.

    The outlines also tell the signs apart where colours do not.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
        The panel of the residual.
    pulls : 2D `~numpy.ndarray`
        The residual in units of its standard deviation.
    used : 2D `~numpy.ndarray` of bool
        The pixels that were fitted.
    corner : (int, int), optional
        Column and row of the first pixel in the coordinates of the panel.

    Returns
    -------
    bool
        Whether there is anything to outline.
    """
    from matplotlib.patheffects import withStroke

    if min(used.shape) < 8:
        return False
    good = used & np.isfinite(pulls)
    pulls = np.where(good, np.clip(pulls, -50, 50), 0.0)
    smooth = gaussian_filter(pulls, _SMOOTHING, mode="constant")
    # Smoothing leaves white noise with this standard deviation, and correlated noise with more.
    white = 1.0 / (2.0 * math.sqrt(math.pi) * _SMOOTHING)
    limit = _EXCESS * max(white, robust_scatter(smooth[good]))
    x, y = (start + np.arange(size) for start, size in zip(corner, used.shape[::-1], strict=True))
    found = False
    for level, line in ((-limit, (0, (3, 2))), (limit, "solid")):
        if smooth.min() < level < smooth.max():
            look = {"colors": INK, "linewidths": 0.8, "linestyles": [line], "zorder": 2.5}
            lines = axes.contour(x, y, smooth, levels=[level], **look)
            # Seen on the dark ends of the colours too, which are where outlines are.
            lines.set_path_effects([withStroke(linewidth=2.4, foreground="white")])
            found = True
    return found
