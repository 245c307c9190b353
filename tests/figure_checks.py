# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the tests of figures share: finding their parts, and checking that nothing collides."""

import itertools
from unittest import mock

import numpy as np
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from muse_imphot.plots.style import DPI, style

LONG = "DATACUBE_FINAL_" + "very_long_name_" * 20


def texts_of(fig):
    """Return the visible texts of a figure and its axes (without tick labels)."""
    artists = list(fig.texts)
    for axes in fig.axes:
        artists += [*axes.texts, axes.title, axes.xaxis.label, axes.yaxis.label]
        if axes.get_legend() is not None:
            artists += axes.get_legend().get_texts()
    return [artist for artist in artists if artist.get_visible() and artist.get_text().strip()]


def words_of(fig):
    return [artist.get_text() for artist in texts_of(fig)]


def panel(fig, label):
    return next(axes for axes in fig.axes if axes.get_label() == label)


def png(fig):
    fig.canvas.draw()
    return np.asarray(fig.canvas.buffer_rgba()).copy()


def overlap(a, b):
    """Return how far two boxes overlap, in pixels; negative if they are apart."""
    return min(min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0))


def drawn_texts(fig):
    """
    Return every text that is drawn, tick labels included, with its box turned as it is written.

    Returns
    -------
    list of (str, 4x2 `~numpy.ndarray`, `~matplotlib.axes.Axes` or None)
        The text, the corners of its box in pixels, and the panel that it belongs to.
    """
    found, draw = [], Text.draw

    def noting(self, renderer):
        if self.get_visible() and self.get_text().strip():
            found.append((self.get_text(), _corners(self, renderer), self.axes))
        draw(self, renderer)

    # As it is written to a file.
    fig.set_dpi(DPI)
    with mock.patch.object(Text, "draw", noting), style():
        fig.draw(fig.canvas.get_renderer())
    return found


def _corners(text, renderer):
    outer, angle = text.get_window_extent(renderer), text.get_rotation()
    text.set_rotation(0)
    box = text.get_window_extent(renderer)
    text.set_rotation(angle)
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    half = np.array([box.width, box.height]) / 2
    corners = half * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    # The box around a turned box has the same centre.
    center = np.array([outer.x0 + outer.x1, outer.y0 + outer.y1]) / 2
    return corners @ np.array([[c, s], [-s, c]]) + center


def turned_overlap(a, b):
    """Return how far two boxes, perhaps turned, overlap in pixels; negative if they are apart."""
    depths = []
    for corners in (a, b):
        for edge in (corners[1] - corners[0], corners[2] - corners[1]):
            axis = edge / max(float(np.hypot(*edge)), 1e-9)
            along = [points @ axis for points in (a, b)]
            depths.append(min(p.max() for p in along) - max(p.min() for p in along))
    return min(depths)


def everything_apart(fig):
    """Check that no texts, tick labels or panels overlap, and that all is inside of the figure."""
    found = collisions(fig)
    assert not found, found


def collisions(fig):
    """Say which texts, tick labels and panels overlap or leave the figure."""
    texts = drawn_texts(fig)
    renderer = fig.canvas.get_renderer()
    panels = [(axes.get_label(), axes.get_window_extent(renderer)) for axes in fig.axes]
    reach = [(axes.get_label(), axes.get_tightbbox(renderer)) for axes in fig.axes]
    found = [
        f"{first!r} overlaps {second!r}"
        for (first, a, _), (second, b, _) in itertools.combinations(texts, 2)
        if turned_overlap(a, b) > 1
    ]
    found += [
        f"panel {first!r} overlaps {second!r}"
        for (first, a), (second, b) in itertools.combinations(panels, 2)
        if overlap(a, b) > 1
    ]
    boxes = [(text, Bbox([c.min(axis=0), c.max(axis=0)]), axes) for text, c, axes in texts]
    for text, box, owner in boxes:
        for axes in fig.axes:
            inside = owner is axes or owner in axes.child_axes
            if axes.axison and not inside and overlap(box, axes.get_window_extent(renderer)) > 1:
                found.append(f"{text!r} overlaps panel {axes.get_label()!r}")
    whole = fig.bbox.padded(0.5)
    for name, box in (*((text, box) for text, box, _ in boxes), *reach):
        if box.x0 < whole.x0 or box.x1 > whole.x1 or box.y0 < whole.y0 or box.y1 > whole.y1:
            found.append(f"{name!r} leaves the figure")
    return found
