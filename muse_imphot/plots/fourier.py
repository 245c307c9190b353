# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The figure of Fourier amplitudes: which scales the fit reproduces, and which are noise."""

import math

import numpy as np

from .images import ImageView
from .style import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    PALE,
    blank_figure,
    default_title,
    draw_legend,
    style,
    write,
    write_nothing,
    write_title,
)
from .words import number

__all__ = ["amplitudes", "plot_fourier", "ring_amplitudes"]

_BOXES = {
    "data": (0.064, 0.475, 0.262, 0.40),
    "model": (0.351, 0.475, 0.262, 0.40),
    "residual": (0.638, 0.475, 0.262, 0.40),
    "bar": (0.915, 0.475, 0.013, 0.40),
    "profile": (0.064, 0.075, 0.549, 0.30),
    "psf": (0.690, 0.075, 0.295, 0.30),
}
_FREQUENCY = "frequency (cycles/arcsec)"


def plot_fourier(result, *, title=None, fig=None):
    """
    Draw the Fourier amplitudes of the MUSE image, of the model, and of the residual.

    All three share one logarithmic scale, with frequency zero in the middle. Below are their means
    in rings of frequency, with the level of the noise, and the transform of the fitted PSF.
    Pixels that were not fitted count as zero, and the fitted background is taken off before.

    Parameters
    ----------
    result : `~muse_imphot.results.FittedImagePhotometry`
        A result with its ``images``; without them, only the transform of the PSF is drawn.
    title : str, optional
        The title; by default the name of the image and the filter.
    fig : `~matplotlib.figure.Figure`, optional
        A figure to clear and draw in; by default a new one of 12 by 7.8 inches.

    Returns
    -------
    `~matplotlib.figure.Figure`

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    with style():
        fig = blank_figure(fig, (12.0, 7.8))
        write_title(fig, title or default_title(result, "Fourier amplitudes"), 0.064)
        if result.images is None:
            write_nothing(fig, result, "The result came without its images.", top=0.72)
        else:
            view = ImageView(result)
            planes = amplitudes(view)
            _draw_planes(fig, planes, view)
            _draw_rings(fig.add_axes(_BOXES["profile"], label="profile"), planes, view)
        if number(result.fwhm) > 0:
            _draw_transfer(fig.add_axes(_BOXES["psf"], label="psf"), result)
    return fig


def amplitudes(view):
    """
    Return the Fourier amplitudes of data, model and residual.

    Parameters
    ----------
    view : ImageView
        The images.

    Returns
    -------
    dict
        ``"data"``, ``"model"`` and ``"residual"`` to 2D `~numpy.ndarray`, frequency zero at
        ``[ny//2, nx//2]``.
    """
    used = view.used & np.isfinite(view.data) & np.isfinite(view.model)
    pair = (view.data, view.model)
    data, model = (np.where(used, image - view.background, 0.0) for image in pair)
    images = {"data": data, "model": model, "residual": data - model}
    return {name: np.abs(np.fft.fftshift(np.fft.fft2(image))) for name, image in images.items()}


def _frequencies(view):
    """Return the frequencies along y and x in cycles/arcsec, zero in the middle."""
    return [np.fft.fftshift(np.fft.fftfreq(n, view.pixel_scale)) for n in view.used.shape]


def _draw_planes(fig, planes, view):
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm

    fy, fx = _frequencies(view)
    steps = [f[1] - f[0] if f.size > 1 else 1.0 for f in (fy, fx)]
    edges = [(f[0] - step / 2, f[-1] + step / 2) for f, step in zip((fx, fy), steps[::-1])]
    extent = (*edges[0], *edges[1])
    top, low = _levels(planes)
    cmap = colormaps["cividis"].with_extremes(under=colormaps["cividis"](0.0), bad=PALE)
    titles = {"data": "MUSE", "model": "model", "residual": "MUSE \N{MINUS SIGN} model"}
    shown = None
    for name, plane in planes.items():
        axes = fig.add_axes(_BOXES[name], label=name)
        norm = LogNorm(low, top)
        options = {"origin": "lower", "extent": extent, "norm": norm, "cmap": cmap}
        shown = axes.imshow(np.maximum(plane, 1e-6 * low), aspect="auto", **options)
        axes.set_title(titles[name])
        axes.set_xlabel(_FREQUENCY, fontsize=8.5, labelpad=1)
        axes.tick_params(labelleft=name == "data")
        if name == "data":
            axes.set_ylabel(_FREQUENCY, fontsize=8.5)
    bar = fig.colorbar(shown, cax=fig.add_axes(_BOXES["bar"], label="bar"))
    bar.set_label("amplitude", fontsize=8.5)
    bar.outline.set_linewidth(0.6)


def _levels(planes):
    """Return the brightest and the faintest amplitude that are shown."""
    top = float(np.max(planes["data"]))
    top = top if math.isfinite(top) and top > 0 else 1.0
    values = planes["residual"][planes["residual"] > 0]
    low = float(np.percentile(values, 5)) if values.size else 1e-3 * top
    return top, float(np.clip(low, 1e-5 * top, 0.1 * top))


def ring_amplitudes(planes, view):
    """
    Average the squares of amplitudes in rings of frequency.

    Parameters
    ----------
    planes : dict
        What `amplitudes` returns.
    view : ImageView
        The images.

    Returns
    -------
    frequency : 1D `~numpy.ndarray`
        Mean frequency of each ring (cycles/arcsec), up to the Nyquist frequency along the axes.
    rms : dict
        Name of the plane to the root of the mean square in each ring.
    """
    fy, fx = _frequencies(view)
    radius = np.hypot(fy[:, None], fx[None, :])
    nyquist = 0.5 / view.pixel_scale
    step = max(nyquist / 60, 1.0 / (view.pixel_scale * max(view.used.shape)))
    inside = (radius > 0.5 * step) & (radius < 0.999 * nyquist)
    ring = np.floor(radius[inside] / step).astype(int)
    count = np.bincount(ring)
    keep = count > 0

    def mean(values):
        return np.bincount(ring, weights=values[inside])[keep] / count[keep]

    return mean(radius), {name: np.sqrt(mean(plane**2)) for name, plane in planes.items()}


def _draw_rings(axes, planes, view):
    axes.set_title("amplitude against frequency (root of the mean square in rings)")
    frequency, rms = ring_amplitudes(planes, view)
    looks = {
        "data": {"color": INK, "label": "MUSE", "linewidth": 2.2},
        "model": {"color": BLUE, "label": "model", "linestyle": (0, (5, 2))},
        "residual": {"color": ORANGE, "label": "MUSE \N{MINUS SIGN} model", "linewidth": 1.2},
    }
    for name, look in looks.items():
        if rms[name].size and np.max(rms[name]) > 0:
            axes.plot(frequency, rms[name], **look)
    good = view.used & np.isfinite(view.noise)
    # Of the median pixel: a few at the edge of HST may have a thousand times the noise.
    noise = math.sqrt(good.sum()) * float(np.median(view.noise[good])) if good.any() else 0.0
    if noise > 0:
        label = f"white noise of the median {view.pull_unit}"
        axes.axhline(noise, color=GREY, linestyle=":", linewidth=1.2, label=label)
        lowest = np.min(rms["residual"], initial=noise)
        axes.set_ylim(bottom=max(0.4 * lowest, 1e-3 * noise))
    axes.set_yscale("log")
    axes.set(xlim=(0, 0.5 / view.pixel_scale), xlabel=_FREQUENCY, ylabel="amplitude")
    axes.grid(True)
    draw_legend(axes, loc="upper right", ncols=2)


def _draw_transfer(axes, result):
    """Draw the transform of the fitted PSF, and where it falls to one half."""
    from ..models.moffat import moffat_transform

    axes.set_title("transform of the fitted PSF")
    fwhm, beta = number(result.fwhm), number(result.beta)
    frequency = np.linspace(0, 2.5, 251)
    if fwhm > 0 and beta > 1:
        transfer = moffat_transform(frequency, fwhm, beta)
        axes.plot(frequency, transfer, color=BLUE)
        if transfer[-1] < 0.5:
            _mark_half(axes, float(np.interp(-0.5, -transfer, frequency)))
    axes.set(xlim=(0, 2.5), ylim=(0, 1.05), xlabel=_FREQUENCY, ylabel="transfer")
    axes.grid(True)


def _mark_half(axes, half):
    """Mark the frequency at which the transform has fallen to one half."""
    axes.plot([half, half, 0], [0, 0.5, 0.5], color=GREY, linewidth=0.9, linestyle=":")
    # On the side where there is room, and the curve is not.
    right = half < 1.2
    place = {"fontsize": 8.5, "color": GREY, "va": "bottom" if right else "top"}
    place["ha"] = "left" if right else "right"
    x, y = (half + 0.05, 0.5) if right else (half - 0.05, 0.48)
    write(axes, x, y, f"half at {half:.2f} cycles/arcsec", **place)
