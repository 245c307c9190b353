# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the tests of figures share: finding their parts, and checking that nothing collides."""

import itertools

import numpy as np

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


def everything_apart(fig):
    """Check that no texts or panels overlap, and that all is inside of the figure."""
    renderer = fig.canvas.get_renderer()
    fig.draw(renderer)
    texts = [(text.get_text(), text.get_window_extent()) for text in texts_of(fig)]
    panels = [(axes.get_label(), axes.get_tightbbox(renderer)) for axes in fig.axes]
    for boxes in (texts, panels):
        for (first, a), (second, b) in itertools.combinations(boxes, 2):
            assert overlap(a, b) <= 1, f"{first!r} overlaps {second!r}"
    whole = fig.bbox.padded(0.5)
    for name, box in (*texts, *panels):
        assert whole.x0 <= box.x0 <= box.x1 <= whole.x1, f"{name!r} leaves the figure"
        assert whole.y0 <= box.y0 <= box.y1 <= whole.y1, f"{name!r} leaves the figure"
