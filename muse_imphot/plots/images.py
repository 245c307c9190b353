# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The three image panels of a fit: data, model and residual on the axes of the sky."""

import functools
import math

import numpy as np

from .marks import draw_excess, draw_outliers
from .style import GREY, INK, PALE, clean, robust_scatter, write
from .words import number

__all__ = ["PULL_LIMIT", "ImageView", "draw_images", "draw_scale_bar", "striped", "unit_label"]

#: The residual is shown between minus and plus this many standard deviations.
PULL_LIMIT = 5.0


class ImageView:
    """
    The part of the images of a result that is worth showing, and what is derived from it.

    The view is the box around the fitted pixels with a margin, so that a template that covers only
    a corner of the field fills the panel.

    Parameters
    ----------
    result : `~muse_imphot.results.FittedImagePhotometry`
        A result with its ``images``.
    """

    def __init__(self, result):
        images = result.images
        data = np.asarray(images.data, dtype=float)
        model = np.asarray(images.model, dtype=float)
        used = np.asarray(images.used, dtype=bool) & np.isfinite(data) & np.isfinite(model)
        self.box = _bounding_box(used)
        self.data, self.model, self.used = data[self.box], model[self.box], used[self.box]
        self.n_pixels, self.n_used = data.size, int(used.sum())
        self.wcs, self.unit = images.wcs, result.unit
        self.pixel_scale = number(images.pixel_scale, 0.2)
        self.background = number(result.bg, 0.0)
        sigma = None if images.sigma is None else np.asarray(images.sigma, dtype=float)[self.box]
        self.noise, self.pull_unit = self._residual_unit(sigma)
        self.pulls = (self.data - self.model) / self.noise
        self.directions = _compass_directions(self)

    def side_of(self, coordinate):
        """Return the side of the panel that a coordinate crosses: "l" (left) or "b" (bottom)."""
        north = self.directions["N"] if self.directions else (0.0, 1.0)
        steep = abs(north[1]) >= abs(north[0])
        return "l" if steep == (coordinate == "latitude") else "b"

    def _residual_unit(self, sigma):
        """
        Return the standard deviation of each pixel by which the residual is divided, and its name.

        Where the variances are far off, the scatter of the residual takes over: the panel would
        be blank or saturated.
        """
        sign = "\N{GREEK SMALL LETTER SIGMA}"
        residual = self.data - self.model
        if sigma is None:
            return np.full(residual.shape, robust_scatter(residual[self.used])), f"measured {sign}"
        sigma = np.where(sigma > 0, sigma, np.nan)
        scatter = robust_scatter((residual / sigma)[self.used])
        if 0.5 < scatter < 2.5 or self.n_used == 0:
            return sigma, sign
        return sigma * scatter, f"({scatter:.2g} {sign})"

    @functools.cached_property
    def stripes(self):
        """The RGBA image that dims what was not fitted."""
        return striped(self.used)

    @property
    def extent(self):
        """Left, right, bottom and top edge of the view, in pixels of the full image."""
        rows, columns = self.box
        return (columns.start - 0.5, columns.stop - 0.5, rows.start - 0.5, rows.stop - 0.5)

    @property
    def frame(self):
        """Left, right, bottom and top edge of the panel: strips get room above and below."""
        left, right, bottom, top = self.extent
        least = max(right - left, top - bottom) / 1.8
        x, y = max(least - (right - left), 0) / 2, max(least - (top - bottom), 0) / 2
        return (left - x, right + x, bottom - y, top + y)

    def limits(self):
        """
        Return the black level, the white level, and the width of the linear part of the stretch.

        Returns
        -------
        low, high, width : float
        """
        values = self.data[self.used]
        if values.size == 0:
            values = self.data[np.isfinite(self.data)]
        if values.size == 0:
            return -1.0, 1.0, 1.0
        noise, middle = robust_scatter(values), float(np.median(values))
        # The sky stays dark however few the sources are, and noise alone is not blown up.
        high = max(float(np.percentile(values, 99.8)), middle + 25.0 * noise)
        high = max(min(high, float(values.max())), middle + 5.0 * noise)
        low = middle - 2.0 * noise
        return low, high, max(2.5 * noise, 1e-3 * (high - low))


def _bounding_box(used):
    """Return the slices of the fitted pixels, widened by a margin."""
    if not used.any():
        return tuple(slice(0, size) for size in used.shape)
    box = []
    for axis, size in enumerate(used.shape):
        where = np.flatnonzero(used.any(axis=1 - axis))
        first, last = int(where[0]), int(where[-1])
        margin = max(4, round(0.06 * (last - first + 1)))
        box.append(slice(max(first - margin, 0), min(last + 1 + margin, size)))
    return tuple(box)


def draw_images(fig, boxes, view, outliers=None):
    """
    Draw MUSE image, model and residual side by side, with their colour bars.

    Parameters
    ----------
    fig : `~matplotlib.figure.Figure`
        The figure.
    boxes : dict
        Left, bottom, width and height of the panels ``data``, ``model`` and ``residual``.
    view : ImageView
        What to draw.
    outliers : `~astropy.table.QTable`, optional
        Sources that were left out; circles are drawn around them.
    """
    from matplotlib.colors import AsinhNorm, Normalize

    low, high, width = view.limits()
    stretch = {"norm": AsinhNorm(linear_width=width, vmin=low, vmax=high), "cmap": "cividis"}
    data = _image_axes(fig, boxes, "data", view)
    data.set_title("MUSE")
    _show(data, view, view.data, **stretch)
    draw_outliers(data, view, outliers, numbers=False)
    draw_scale_bar(data, view.frame, view.pixel_scale)
    _draw_compass(data, view)

    model = _image_axes(fig, boxes, "model", view)
    model.set_title("model  (scale \N{MULTIPLICATION SIGN} HST \N{CIRCLED TIMES} PSF + background)")
    shown = _show(model, view, view.model, **stretch)
    ticks = _stretch_ticks(low, high, width)
    _draw_colorbar(model, shown, unit_label(view.unit), ticks)

    residual = _image_axes(fig, boxes, "residual", view)
    residual.set_title(f"residual  (MUSE \N{MINUS SIGN} model) / {view.pull_unit}")
    norm = Normalize(-PULL_LIMIT, PULL_LIMIT)
    shown = _show(residual, view, view.pulls, norm=norm, cmap="RdBu_r")
    rows, columns = view.box
    if draw_excess(residual, view.pulls, view.used, (columns.start, rows.start)):
        text = "outlined: more than 5 \N{GREEK SMALL LETTER SIGMA} once smoothed (dashed: below 0)"
        place = {"ha": "center", "va": "top", "transform": residual.transAxes}
        write(residual, 0.5, -0.03, text, fontsize=8.5, color=GREY, **place)
    draw_outliers(residual, view, outliers)
    ticks = PULL_LIMIT * np.array([-1, -0.5, 0, 0.5, 1])
    _draw_colorbar(residual, shown, "", ticks)


def _image_axes(fig, boxes, name, view):
    """Add a panel on the axes of the sky; only the first is labelled, because all agree."""
    celestial = getattr(view.wcs, "has_celestial", False)
    axes = fig.add_axes(boxes[name], projection=view.wcs.celestial if celestial else None)
    axes.set_label(name)
    axes.set_facecolor("#f6f8fa")
    labelled = name == "data"
    if celestial:
        for coordinate in axes.coords:
            _style_coordinate(coordinate, view.side_of(coordinate.coord_type), labelled)
    else:
        axes.tick_params(labelbottom=labelled, labelleft=labelled)
        axes.set(xlabel="x (pixels)" if labelled else "", ylabel="y (pixels)" if labelled else "")
    return axes


def _style_coordinate(coordinate, side, labelled):
    """Give a celestial coordinate few ticks, on one side, where they do not collide."""
    turned = {"rotation": 90, "va": "center"} if side == "l" else {}
    coordinate.set_ticks(number=4)
    coordinate.set_ticks_position(side)
    coordinate.set_ticklabel_position(side)
    coordinate.set_axislabel_position(side)
    coordinate.set_ticklabel(size=8, exclude_overlapping=True, **turned)
    coordinate.set_ticklabel_visible(labelled)
    coordinate.tick_params(direction="out", length=3)
    coordinate.set_auto_axislabel(False)
    if labelled:
        names = {"longitude": "RA", "latitude": "Dec"}
        text = names.get(coordinate.coord_type, "")
        coordinate.set_axislabel(text, minpad=0.8, fontsize=9)


def _show(axes, view, values, *, norm, cmap):
    """Draw one image, and stripes over the pixels that were not fitted."""
    from matplotlib import colormaps

    options = {"origin": "lower", "extent": view.extent, "aspect": "equal"}
    cmap = colormaps[cmap].with_extremes(bad=PALE)
    shown = axes.imshow(values, norm=norm, cmap=cmap, **options)
    if not view.used.all():
        axes.imshow(view.stripes, interpolation="nearest", zorder=2, gid="unused", **options)
    axes.set(xlim=view.frame[:2], ylim=view.frame[2:])
    return shown


def striped(used, *, resolution=420):
    """
    Return an RGBA image that veils and stripes the pixels that were not fitted.

    Stripes are painted into an array with the resolution of a panel: hatched contours of a mask
    with many holes would take seconds, and look different in every file format.

    Parameters
    ----------
    used : 2D `~numpy.ndarray` of bool
        The pixels that were fitted.
    resolution : int, optional
        Least number of pixels along the longer side.

    Returns
    -------
    3D `~numpy.ndarray`
    """
    factor = max(1, math.ceil(resolution / max(used.shape)))
    unused = np.kron(~used, np.ones((factor, factor), dtype=bool))
    y, x = np.ogrid[: unused.shape[0], : unused.shape[1]]
    period = max(unused.shape) / 42.0
    on_stripe = (x + y) % period < 0.33 * period
    overlay = np.full((*unused.shape, 4), 0.82, dtype=np.float32)
    overlay[on_stripe, :3] = 0.55
    overlay[..., 3] = unused * np.where(on_stripe, 0.75, 0.62)
    return overlay


def unit_label(unit):
    """
    Return the unit of the images as the label of a colour bar.

    Parameters
    ----------
    unit : `~astropy.units.Unit` or None
        The unit.

    Returns
    -------
    str
        With formulae of matplotlib, in which dollar signs are escaped.
    """
    if unit is None or str(unit) == "":
        return "MUSE units"
    try:
        text = unit.to_string("latex_inline").replace(r"\mathring{A}", "\N{ANGSTROM SIGN}")
        return text.replace(r"\mathrm{1 \times ", r"\mathrm{")
    except (AttributeError, ValueError, KeyError):
        return clean(unit).replace("$", r"\$")


def _stretch_ticks(low, high, width):
    """Choose round values that are spread evenly over an asinh stretch."""
    ends = np.arcsinh([low / width, high / width])
    step = (ends[1] - ends[0]) / 5.0
    if not (np.isfinite(step) and step > 1e-9):
        return [low]
    ticks = [0.0] if low < 0 < high else []
    for value in width * np.sinh(np.arange(ends[0], ends[1] + 1e-9, step)):
        # Subnormal numbers have no power of ten that could be divided by.
        unit = 10.0 ** math.floor(math.log10(abs(value))) if abs(value) > 1e-300 else 1.0
        tick = round(value / unit) * unit
        distance = [abs(math.asinh(tick / width) - math.asinh(t / width)) for t in ticks]
        if low <= tick <= high and min(distance, default=math.inf) > 0.6 * step:
            ticks.append(tick)
    return sorted(ticks)


def _draw_colorbar(axes, shown, label, ticks):
    """Attach a colour bar to the right of a panel, as high as its image."""
    box = axes.inset_axes([1.025, 0.0, 0.04, 1.0])
    bar = axes.get_figure().colorbar(shown, cax=box)
    bar.set_ticks(ticks, labels=[_tick_label(tick) for tick in ticks])
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=8, length=2.5)
    bar.set_label(label, fontsize=8.5, labelpad=3)
    bar.outline.set_linewidth(0.6)


def _tick_label(value):
    """Write a tick of few digits; as a power of ten where it is very large or very small."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.6g}".replace("-", "\N{MINUS SIGN}")
    digits, _, exponent = f"{value:.3g}".partition("e")
    if not exponent:
        digits, _, exponent = f"{value:.0e}".partition("e")
    return rf"${digits}\times10^{{{int(exponent)}}}$"


def _outlined():
    """Return how marks are drawn that have to be seen on any image."""
    from matplotlib.patheffects import withStroke

    return {"color": "white", "path_effects": [withStroke(linewidth=2.8, foreground=INK)]}


def draw_scale_bar(axes, frame, pixel_scale, *, fontsize=9.5):
    """
    Draw a bar of a round length in the lower left corner.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
        The panel.
    frame : tuple of float
        Left, right, bottom and top edge of the panel in pixels.
    pixel_scale : float
        Size of a pixel in arcsec.
    fontsize : float, optional
        Size of the letters (points).
    """
    left, right, bottom, top = frame
    width = (right - left) * pixel_scale
    rounds = np.array([c * 10.0**e for e in range(-3, 4) for c in (1, 2, 5)])
    length = rounds[np.argmin(np.abs(np.log(rounds / (0.22 * width))))]
    start = left + 0.05 * (right - left)
    end = start + length / pixel_scale
    y = bottom + 0.055 * (top - bottom)
    line = {"linewidth": 2.2, "solid_capstyle": "butt", "gid": "scale-bar", "zorder": 4}
    axes.plot([start, end], [y, y], **line, **_outlined())
    label = f"{length:g}\N{DOUBLE PRIME}"
    # In a narrow panel the words may be wider than the bar, and would leave the panel.
    axes.apply_aspect()
    points = axes.get_window_extent().width * 72 / axes.get_figure().dpi
    narrow = 0.65 * fontsize * len(label) > points * length / width
    place = {"xytext": (0, 4), "textcoords": "offset points", "va": "bottom"}
    place["ha"] = "left" if narrow else "center"
    text = {"fontsize": fontsize, "weight": "bold", "zorder": 4, **_outlined()}
    axes.annotate(label, (start if narrow else (start + end) / 2, y), **place, **text)


def _compass_directions(view):
    """Return the directions of north and east in pixels, as unit vectors, or None."""
    if not getattr(view.wcs, "has_celestial", False):
        return None
    left, right, bottom, top = view.extent
    center = (left + right) / 2, (bottom + top) / 2
    # A step on the sky, not of pixels: right also for skewed and mirrored grids, and at the poles.
    position = view.wcs.celestial.pixel_to_world(*center)
    from astropy import units as u

    directions = {}
    for letter, angle in (("N", 0.0), ("E", 90.0)):
        other = position.directional_offset_by(angle * u.deg, 1 * u.arcsec)
        step = np.array(view.wcs.celestial.world_to_pixel(other), dtype=float) - center
        size = float(np.hypot(*step))
        if not (math.isfinite(size) and size > 0):
            return None
        directions[letter] = step / size
    return directions


def _draw_compass(axes, view):
    """Draw arrows towards north and east in the lower right corner."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.transforms import Affine2D, ScaledTranslation

    directions = view.directions
    if directions is None:
        return
    # Points (1/72 inch) from the lower right corner: the same size on every image.
    points = Affine2D().scale(1 / 72) + axes.get_figure().dpi_scale_trans
    points += ScaledTranslation(1, 0, axes.transAxes)
    arm, pad = 25.0, 17.0
    tips = np.array([[0.0, 0.0], *directions.values()]) * arm
    start = np.array([-tips[:, 0].max() - pad, -tips[:, 1].min() + pad])
    arrow = {"arrowstyle": "-|>", "mutation_scale": 9, "linewidth": 1.5, "shrinkA": 0, "zorder": 4}
    text = {"fontsize": 9.5, "weight": "bold", "ha": "center", "va": "center", "zorder": 4}
    for letter, direction in directions.items():
        end = start + arm * direction
        patch = FancyArrowPatch(start, end, transform=points, shrinkB=0, gid=letter, **arrow)
        patch.set(**_outlined())
        axes.add_artist(patch)
        axes.text(*(end + 8.0 * direction), letter, transform=points, **text, **_outlined())
